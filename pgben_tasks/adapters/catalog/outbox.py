"""The outbox of alarms: raised once an episode, kept until channels accepted them, and cleared.

A delivery is marked in the transaction that held it while the message went out. A process that is
killed between the two sends the message again: twice is better than never.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.domain.alarm import REFUSALS_APART, Alarm, Delivery, KeptAlarm, wait_after
from pgben_tasks.domain.episodes import COURSES, RETOLD, Pending, Restraint, Settled, restraint

_ALARM: Final = (
    "a.id, a.key, a.episode, a.kind, a.target, a.job, a.happened_at, a.facts, a.raised_at,"
    " a.absent_since, a.cleared_at"
)
_DELIVERY: Final = (
    "d.channel, d.told_at, d.last_sent_at, d.reminders, d.over_at, d.tries, d.next_try_at,"
    " d.last_error"
)
#: The name of the pings among what carries messages out.
HEARTBEAT: Final = "heartbeat"
#: Guards the series of pings; any fixed number that nothing else uses.
_PINGS: Final = 7_290_114_404
#: One message is made of all that waits; should there ever be more, the next takes the rest.
_MOST_AT_ONCE: Final = 5000
#: An alarm is written unless its key has an open episode; what cannot come back, unless it has any.
_INSERT: Final = (
    "INSERT INTO alarm (key, episode, kind, target, job, happened_at, facts, raised_at, cleared_at)"
    " SELECT %(key)s::text, 1 + count(*), %(kind)s::text, %(target)s::text, %(job)s::uuid,"
    " %(happened_at)s::timestamptz, %(facts)s::jsonb, %(now)s::timestamptz,"
    " CASE WHEN %(ends)s = 'at once' THEN %(now)s::timestamptz END"
    " FROM alarm WHERE key = %(key)s::text"
    " HAVING count(*) = 0 OR (%(ends)s = 'absent' AND every(cleared_at IS NOT NULL))"
    " ON CONFLICT (key, episode) DO NOTHING"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRecord:
    """How something that carries messages out of the installation has worked."""

    name: str
    worked_at: datetime | None
    failing_since: datetime | None
    last_error: str | None


class AlarmOutbox:
    """The rows of ``alarm``, ``alarm_delivery`` and ``channel``."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def add_all(self, alarms: Iterable[Alarm], *, now: datetime) -> list[Alarm]:
        """Keep all of these alarms, or none; return those that begin an episode."""
        with self._database.transaction() as cursor:
            return [alarm for alarm in alarms if _insert(cursor, alarm, now)]

    def open(self) -> list[KeptAlarm]:
        """Return the alarms that are not over, oldest first."""
        return self._some("a.cleared_at IS NULL ORDER BY a.id")

    def newest(self, limit: int) -> list[KeptAlarm]:
        """Return the newest alarms first, open or over."""
        return self._some("TRUE ORDER BY a.id DESC LIMIT %s", limit)

    def settle(self, settled: Settled, *, now: datetime) -> None:
        """Write which open alarms are there again, were not found, and are over."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "UPDATE alarm SET absent_since = NULL WHERE id = ANY(%s)", ([*settled.present],)
            )
            cursor.execute(
                "UPDATE alarm SET absent_since = %s WHERE id = ANY(%s) AND absent_since IS NULL",
                (now, [*settled.absent]),
            )
            cursor.execute(
                "UPDATE alarm SET cleared_at = %s WHERE id = ANY(%s) AND cleared_at IS NULL",
                (now, [*settled.over, *settled.replaced]),
            )
            # Whoever heard of these hears of what took their place, and not that they are over.
            cursor.execute(
                "UPDATE alarm_delivery SET over_at = %s WHERE alarm = ANY(%s)"
                " AND told_at IS NOT NULL",
                (now, [*settled.replaced]),
            )

    @contextmanager
    def sending(self, channels: Sequence[str], *, now: datetime) -> Iterator[Sending]:
        """Hold these channels, as far as no other tick does, with what each may have to hear."""
        # Before any channel takes an alarm: then the others have it before them, whatever happens.
        self._database.execute(
            "INSERT INTO alarm_delivery (alarm, channel, next_try_at) SELECT a.id, c, %s"
            " FROM alarm a, unnest(%s::text[]) c WHERE (a.sent_at IS NULL OR a.cleared_at IS NULL)"
            # Nobody is told by a channel that this channel does not work.
            " AND (a.kind <> 'channel' OR a.facts ->> 'channel' <> c) ON CONFLICT DO NOTHING",
            (now, [*channels]),
        )
        self._database.execute(
            "INSERT INTO channel (name) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING",
            ([*channels],),
        )
        with self._database.transaction() as cursor:
            rows = cursor.execute(
                "SELECT name FROM channel WHERE name = ANY(%s) FOR UPDATE SKIP LOCKED",
                ([*channels],),
            ).fetchall()
            yield Sending(cursor, {row["name"] for row in rows}, now)

    def channels(self) -> dict[str, ChannelRecord]:
        """Return how everything that carries messages out has worked, by its name."""
        rows = self._database.fetch_all(
            "SELECT name, worked_at, failing_since, last_error FROM channel ORDER BY name"
        )
        return {row["name"]: ChannelRecord(**row) for row in rows}

    def note_channel(self, name: str, *, error: str | None, now: datetime) -> bool:
        """Write whether a channel worked; return whether that is another answer than before."""
        with self._database.transaction() as cursor:
            return _note_channel(cursor, name, error, now)

    def _some(self, condition: str, *values: object) -> list[KeptAlarm]:
        rows = self._database.fetch_all(
            f"SELECT {_ALARM} FROM alarm a WHERE {condition}".encode(),  # noqa: S608 - constant texts
            values,
        )
        found = self._database.fetch_all(
            f"SELECT d.alarm, {_DELIVERY} FROM alarm_delivery d"  # noqa: S608 - constant columns
            " WHERE d.alarm = ANY(%s) ORDER BY d.channel".encode(),
            ([row["id"] for row in rows],),
        )
        deliveries: dict[int, list[Delivery]] = {}
        for row in found:
            deliveries.setdefault(row["alarm"], []).append(_delivery(row))
        return [
            replace(_kept(row), deliveries=tuple(deliveries.get(row["id"], ()))) for row in rows
        ]


class PingLog:
    """The rows of ``ping``: up to which moment each series was pinged."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    @contextmanager
    def pinging(self) -> Iterator[Pinging | None]:
        """Hold the series; None while another tick does."""
        with self._database.transaction() as cursor:
            row = cursor.execute("SELECT pg_try_advisory_xact_lock(%s) AS held", (_PINGS,))
            held = require(row.fetchone())["held"]
            yield Pinging(cursor) if held else None


class Pinging:
    """The series that one tick pings."""

    def __init__(self, cursor: psycopg.Cursor[Row]) -> None:
        """Use the transaction of ``cursor``, which holds the lock."""
        self._cursor = cursor

    @property
    def upto(self) -> dict[str, datetime]:
        """Up to which moment each series was pinged."""
        rows = self._cursor.execute("SELECT series, upto FROM ping").fetchall()
        return {row["series"]: row["upto"] for row in rows}

    def sent(self, series: str, upto: datetime) -> None:
        """Write that a series was pinged up to a moment."""
        self._cursor.execute(
            "INSERT INTO ping (series, upto) VALUES (%s, %s)"
            " ON CONFLICT (series) DO UPDATE SET upto = excluded.upto",
            (series, upto),
        )


def _insert(cursor: psycopg.Cursor[Row], alarm: Alarm, now: datetime) -> bool:
    cursor.execute(
        _INSERT,
        {
            "key": alarm.key,
            "kind": alarm.kind,
            "target": alarm.target,
            "job": alarm.job,
            "happened_at": alarm.happened_at,
            "facts": Jsonb(dict(alarm.facts)),
            "ends": COURSES[alarm.kind].ends,
            "now": now,
        },
    )
    return cursor.rowcount == 1


class Sending:
    """Channels that one tick holds until it has written what became of its messages."""

    def __init__(
        self, cursor: psycopg.Cursor[Row], channels: AbstractSet[str], now: datetime
    ) -> None:
        """Use the transaction of ``cursor``, which has locked the rows of ``channels``."""
        self._cursor = cursor
        self.now = now
        rows = cursor.execute(
            f"SELECT {_ALARM}, {_DELIVERY} FROM alarm_delivery d"  # noqa: S608 - constant columns
            " JOIN alarm a ON a.id = d.alarm WHERE d.channel = ANY(%s) AND (d.told_at IS NULL"
            " OR (d.over_at IS NULL AND a.kind = ANY(%s)))"
            # However many refusals there are, they keep nothing else back.
            " ORDER BY a.kind IN ('refused', 'message', 'in_place'), a.id"
            " LIMIT %s".encode(),
            ([*channels], [*RETOLD], _MOST_AT_ONCE * max(len(channels), 1)),
        ).fetchall()
        self._waiting: dict[str, list[tuple[KeptAlarm, Delivery]]] = {one: [] for one in channels}
        for row in rows:
            self._waiting[row["channel"]].append((_kept(row), _delivery(row)))

    def waiting(self, channel: str) -> list[tuple[KeptAlarm, Delivery]]:
        """Return the alarms that a channel may have to hear of; none while another tick sends."""
        return self._waiting.get(channel, [])

    def last_sent(self, channel: str) -> dict[Restraint, datetime]:
        """Return when a channel last took an alarm of each restraint, lately."""
        rows = self._cursor.execute(
            "SELECT a.kind, a.facts ->> 'what' AS what, max(d.told_at) AS at"
            " FROM alarm_delivery d JOIN alarm a ON a.id = d.alarm"
            " WHERE d.channel = %s AND d.told_at > %s GROUP BY 1, 2",
            (channel, self.now - REFUSALS_APART),
        ).fetchall()
        last: dict[Restraint, datetime] = {}
        for row in rows:
            if sort := restraint(row["kind"], row["what"]):
                last[sort] = max(row["at"], last.get(sort, row["at"]))
        return last

    def sent(self, channel: str, pending: Sequence[Pending], *, note: str | None) -> None:
        """Write that a channel took a message; ``note`` says for whom it did not."""
        ids: dict[str, list[int]] = {"raised": [], "reminder": [], "over": []}
        for one in pending:
            ids[one.occasion].append(one.kept.id)
        values: dict[str, Any] = {**ids, "channel": channel, "now": self.now, "note": note}
        self._cursor.execute(
            "UPDATE alarm_delivery SET last_sent_at = %(now)s, last_error = %(note)s,"
            " told_at = coalesce(told_at, %(now)s), tries = 0,"
            " reminders = reminders + (alarm = ANY(%(reminder)s::bigint[]))::int,"
            # Who is told of an alarm that is over already needs no second message about that.
            " over_at = CASE WHEN alarm = ANY(%(over)s::bigint[]) OR EXISTS (SELECT FROM alarm a"
            " WHERE a.id = alarm AND a.cleared_at IS NOT NULL) THEN %(now)s END"
            " WHERE channel = %(channel)s"
            " AND alarm = ANY(%(raised)s::bigint[] || %(reminder)s::bigint[]"
            " || %(over)s::bigint[])",
            values,
        )
        self._cursor.execute(
            "UPDATE alarm SET sent_at = %(now)s"
            " WHERE id = ANY(%(raised)s::bigint[]) AND sent_at IS NULL",
            values,
        )
        _note_channel(self._cursor, channel, None, self.now)

    def not_sent(self, channel: str, pending: Sequence[Pending], error: str) -> None:
        """Write why a channel did not take a message; all that was in it waits equally long."""
        tries = max(one.delivery.tries for one in pending) + 1
        self._cursor.execute(
            "UPDATE alarm_delivery SET tries = %s, last_error = %s, next_try_at = %s"
            " WHERE channel = %s AND alarm = ANY(%s)",
            (
                tries,
                error,
                self.now + wait_after(tries),
                channel,
                [one.kept.id for one in pending],
            ),
        )
        _note_channel(self._cursor, channel, error, self.now)


def _note_channel(cursor: psycopg.Cursor[Row], name: str, error: str | None, now: datetime) -> bool:
    before = cursor.execute(
        "SELECT failing_since FROM channel WHERE name = %s FOR UPDATE", (name,)
    ).fetchone()
    was_failing = before is not None and before["failing_since"] is not None
    cursor.execute(
        "INSERT INTO channel (name, worked_at, failing_since, last_error)"
        " VALUES (%(name)s, CASE WHEN %(error)s::text IS NULL THEN %(now)s END,"
        " CASE WHEN %(error)s::text IS NOT NULL THEN %(now)s END, %(error)s)"
        " ON CONFLICT (name) DO UPDATE SET last_error = excluded.last_error,"
        " worked_at = coalesce(excluded.worked_at, channel.worked_at), failing_since ="
        " CASE WHEN %(error)s::text IS NOT NULL THEN coalesce(channel.failing_since, %(now)s) END",
        {"name": name, "error": error, "now": now},
    )
    return was_failing != (error is not None)


def _kept(row: Row) -> KeptAlarm:
    job: UUID | None = row["job"]
    return KeptAlarm(
        id=row["id"],
        alarm=Alarm(
            key=row["key"],
            kind=row["kind"],
            target=row["target"],
            job=job,
            happened_at=row["happened_at"],
            facts=row["facts"],
        ),
        episode=row["episode"],
        raised_at=row["raised_at"],
        absent_since=row["absent_since"],
        cleared_at=row["cleared_at"],
    )


def _delivery(row: Row) -> Delivery:
    return Delivery(
        channel=row["channel"],
        told_at=row["told_at"],
        last_sent_at=row["last_sent_at"],
        reminders=row["reminders"],
        over_at=row["over_at"],
        tries=row["tries"],
        next_try_at=row["next_try_at"],
        last_error=row["last_error"],
    )

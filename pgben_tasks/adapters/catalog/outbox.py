"""The outbox of alarms: raised once, kept until a mail server accepted them.

A row is marked as sent in the transaction that held it while the mail went out. A process that
is killed between the two sends the mail again: twice is better than never.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.domain.alarm import Alarm, KeptAlarm, wait_after

_COLUMNS: Final = (
    "id, key, kind, target, job, happened_at, facts, raised_at, sent_at, tries, next_try_at,"
    " last_error"
)
#: One mail is made of all that wait; should there ever be more, the next tick takes the rest.
_MOST_AT_ONCE: Final = 1000


class AlarmOutbox:
    """The rows of ``alarm``."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def add(self, alarm: Alarm) -> bool:
        """Keep an alarm until it is sent; return whether it is new."""
        with self._database.transaction() as cursor:
            return _insert(cursor, alarm)

    def add_all(self, alarms: Iterable[Alarm]) -> int:
        """Keep all of these alarms, or none; return how many are new."""
        with self._database.transaction() as cursor:
            return sum(_insert(cursor, alarm) for alarm in alarms)

    @contextmanager
    def delivery(self) -> Iterator[Delivery]:
        """Hold all alarms that were not sent, so that no other tick sends them too."""
        with self._database.transaction() as cursor:
            rows = cursor.execute(
                f"SELECT {_COLUMNS} FROM alarm WHERE sent_at IS NULL ORDER BY id"  # noqa: S608 - constant columns
                " LIMIT %s FOR UPDATE SKIP LOCKED",
                (_MOST_AT_ONCE,),
            ).fetchall()
            last = cursor.execute(
                "SELECT clock_timestamp() AS now, max(sent_at) AS sent FROM alarm"
                " WHERE kind = 'refused'"
            ).fetchone()
            yield Delivery(cursor, [_kept(row) for row in rows], require(last))

    def newest(self, limit: int) -> list[KeptAlarm]:
        """Return the newest alarms first, sent or not."""
        rows = self._database.fetch_all(
            f"SELECT {_COLUMNS} FROM alarm ORDER BY id DESC LIMIT %s",  # noqa: S608 - constant columns
            (limit,),
        )
        return [_kept(row) for row in rows]


def _insert(cursor: psycopg.Cursor[Row], alarm: Alarm) -> bool:
    cursor.execute(
        "INSERT INTO alarm (key, kind, target, job, happened_at, facts)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (key) DO NOTHING",
        (
            alarm.key,
            alarm.kind,
            alarm.target,
            alarm.job,
            alarm.happened_at,
            Jsonb(dict(alarm.facts)),
        ),
    )
    return cursor.rowcount == 1


class Delivery:
    """Alarms that one tick holds until it has written what became of their mail."""

    def __init__(self, cursor: psycopg.Cursor[Row], alarms: list[KeptAlarm], last: Row) -> None:
        """Hold ``alarms`` in the transaction of ``cursor``."""
        self._cursor = cursor
        self.alarms = alarms
        self.now: datetime = last["now"]
        self.last_refusal_sent: datetime | None = last["sent"]

    def sent(self, *, note: str | None) -> None:
        """Write that a server took the mail; ``note`` says what it did not take."""
        self._cursor.execute(
            "UPDATE alarm SET sent_at = clock_timestamp(), tries = tries + 1, last_error = %s"
            " WHERE id = ANY(%s)",
            (note, self._ids),
        )

    def not_sent(self, error: str) -> None:
        """Write why the mail did not go; all that waited in it wait equally long."""
        tries = max(one.tries for one in self.alarms) + 1
        self._cursor.execute(
            "UPDATE alarm SET tries = %s, last_error = %s, next_try_at = clock_timestamp() + %s"
            " WHERE id = ANY(%s)",
            (tries, error, wait_after(tries), self._ids),
        )

    @property
    def _ids(self) -> list[int]:
        return [one.id for one in self.alarms]


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
        raised_at=row["raised_at"],
        sent_at=row["sent_at"],
        tries=row["tries"],
        next_try_at=row["next_try_at"],
        last_error=row["last_error"],
    )

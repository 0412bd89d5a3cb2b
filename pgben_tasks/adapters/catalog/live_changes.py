"""What jobs change in live targets: databases swapped or restored beside, and objects in place.

A row is written before anything is touched, so that whoever finds a swap open knows what a process
that ended was about to do. What really happened is read from the protected server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from psycopg import Cursor

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.kept_databases import NOTICE, RestoredDatabase, expiry_key
from pgben_tasks.domain.swap import Swap, SwapState
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import PermanentError

_COLUMNS = ", ".join(one.name for one in fields(Swap))
#: Whether somebody has asked to undo a swap, however long that waits.
_AWAITED: Final = (
    "(EXISTS (SELECT FROM swap undo WHERE undo.undoes = swap.job AND undo.state = 'intended')"
    " OR EXISTS (SELECT FROM job WHERE job.kind = 'undo'"
    " AND job.request ->> 'job' = swap.job::text"
    " AND (job.state IN ('queued', 'running', 'waiting')"
    " OR job.state = 'failed' AND job.retry_at IS NOT NULL)))"
)
#: What may be removed by itself: nobody named it, and nothing says that it stays.
_EXPIRES: Final = "generated AND kept_because IS NULL"
_RESTORED = ", ".join(one.name for one in fields(RestoredDatabase))


class CatalogSwaps:
    """The rows of ``swap`` (``toolbox.SwapRecord``)."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def intend(self, swap: Swap) -> None:
        """Write down a swap before anything is touched; a job may intend again what it gave up."""
        changed = self._database.execute(
            "INSERT INTO swap (job, target, live, incoming, aside, live_oid, incoming_oid,"
            " was_open, undoes) VALUES (%(job)s, %(target)s, %(live)s, %(incoming)s, %(aside)s,"
            " %(live_oid)s, %(incoming_oid)s, %(was_open)s, %(undoes)s)"
            " ON CONFLICT (job) DO UPDATE SET incoming = excluded.incoming,"
            " aside = excluded.aside, live_oid = excluded.live_oid,"
            " incoming_oid = excluded.incoming_oid, was_open = excluded.was_open,"
            " state = 'intended', intended_at = clock_timestamp(), settled_at = NULL"
            " WHERE swap.state = 'abandoned'",
            asdict(swap),
        )
        if changed != 1:
            raise PermanentError(
                f"job '{swap.job}' has a swap already whose end is not settled",
                "the reconciler settles it within two minutes",
            )

    def settle(self, swap: Swap, state: SwapState) -> None:
        """Write how a swap ended; ``done`` also corrects one that was given up too early."""
        with self._database.transaction() as cursor:
            _move(cursor, swap, "intended", state)
            if state == "done":
                _move(cursor, swap, "abandoned", "done")
            if state == "done" and swap.undoes is not None:
                cursor.execute(
                    "UPDATE swap SET state = 'undone' WHERE job = %s AND state = 'done'",
                    (swap.undoes,),
                )

    def dropped(self, swap: Swap) -> None:
        """Write that the database that ``swap`` set aside is gone."""
        with self._database.transaction() as cursor:
            _move(cursor, swap, "done", "dropped")

    def swap_of_job(self, job: UUID) -> Swap | None:
        """Return the swap of a job, None when it has none."""
        found = self._some("job = %s", (job,))
        return found[0] if found else None

    def states(self, jobs: Sequence[Job]) -> dict[UUID, SwapState]:
        """Return what became of the swaps of jobs, of those that have one.

        A restore of everything is ``undone`` when its parts have swaps and none of them stands.
        """
        own = self._some("job = ANY(%s)", ([one.id for one in jobs],))
        found = {one.job: one.state for one in own}
        wholes = [one.id for one in jobs if one.kind == "restore_all"]
        for whole, parts in self.of_parts(wholes).items():
            states = {one.state for one in parts} - {"abandoned"}
            if states == {"undone"}:
                found[whole] = "undone"
        return found

    def of_parts(self, wholes: Sequence[UUID]) -> dict[UUID, list[Swap]]:
        """Return the swaps of the parts of these jobs, of all attempts, oldest first.

        Jobs whose parts have none are left out.
        """
        if not wholes:
            return {}
        asked = self._database.fetch_all(
            "SELECT id, request ->> 'part_of' AS whole FROM job"
            " WHERE request ->> 'part_of' = ANY(%s)",
            ([str(one) for one in wholes],),
        )
        whole_of = {row["id"]: UUID(row["whole"]) for row in asked}
        found: dict[UUID, list[Swap]] = {}
        for swap in self._some("job = ANY(%s)", ([*whole_of],)):
            found.setdefault(whole_of[swap.job], []).append(swap)
        return found

    def open(self, target: str | None = None) -> list[Swap]:
        """Return the swaps (of one target) whose end is not settled, oldest first."""
        return self._some(
            "state = 'intended' AND (%s::text IS NULL OR target = %s)", (target, target)
        )

    def expired(self, keep: timedelta) -> list[Swap]:
        """Return the swaps that are done, whose replaced database was kept for ``keep``.

        One that somebody has asked to undo is none of these, however long the undo waits.
        """
        return self._some(
            "state = 'done' AND aside IS NOT NULL AND kept_because IS NULL"
            " AND settled_at < clock_timestamp() - %s"
            f" AND NOT {_AWAITED}",
            (keep,),
        )

    def done(self) -> list[Swap]:
        """Return the swaps that are done and set a database aside, oldest first."""
        return self._some("state = 'done' AND aside IS NOT NULL", ())

    def is_awaited(self, swap: Swap) -> bool:
        """Return whether somebody has asked to undo a swap."""
        return bool(self._some(f"job = %s AND {_AWAITED}", (swap.job,)))

    def keep(self, swap: Swap, why: str) -> None:
        """Write why the database that ``swap`` set aside is never removed by itself."""
        self._database.execute("UPDATE swap SET kept_because = %s WHERE job = %s", (why, swap.job))

    def _some(self, condition: str, values: tuple[object, ...]) -> list[Swap]:
        rows = self._database.fetch_all(
            f"SELECT {_COLUMNS} FROM swap WHERE {condition} ORDER BY intended_at".encode(),  # noqa: S608 - constant texts
            values,
        )
        return [Swap(**row) for row in rows]


def _move(cursor: Cursor[Row], swap: Swap, old: SwapState, new: SwapState) -> None:
    """Change the state of this very swap, and not of what its job intended since."""
    cursor.execute(
        "UPDATE swap SET state = %s, settled_at = clock_timestamp() WHERE job = %s AND state = %s"
        " AND (aside, live_oid, incoming_oid) IS NOT DISTINCT FROM (%s::text, %s::bigint, %s)",
        (new, swap.job, old, swap.aside, swap.live_oid, swap.incoming_oid),
    )


class CatalogRestored:
    """The rows of ``restored_database`` (``toolbox.RestoredRecord``)."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def add(self, one: RestoredDatabase) -> None:
        """Write a copy that is open now; a step that runs again changes nothing."""
        self._database.execute(
            "INSERT INTO restored_database (job, target, name, oid, checked_at, contents,"
            " generated) VALUES (%(job)s, %(target)s, %(name)s, %(oid)s, %(checked_at)s,"
            " %(contents)s, %(generated)s) ON CONFLICT (job) DO NOTHING",
            asdict(one),
        )

    def all(self) -> list[RestoredDatabase]:
        """Return the copies that are not known to be gone, oldest first."""
        return self._some("TRUE", ())

    def expiring(self, keep: timedelta) -> list[RestoredDatabase]:
        """Return the copies whose time of ``keep`` is over in ``NOTICE`` or is over already."""
        return self._some(f"{_EXPIRES} AND made_at + %s <= clock_timestamp() + %s", (keep, NOTICE))

    def expired(self, keep: timedelta) -> list[RestoredDatabase]:
        """Return the copies whose time of ``keep`` is over, and whose alarm is old enough."""
        return self._some(
            f"{_EXPIRES} AND made_at + %s <= clock_timestamp() AND EXISTS (SELECT FROM alarm"
            " WHERE key = %s || restored_database.job::text AND cleared_at IS NULL"
            " AND raised_at <= clock_timestamp() - %s)",
            (keep, expiry_key(""), NOTICE),
        )

    def keep(self, one: RestoredDatabase, why: str) -> None:
        """Write why a copy is never removed by itself."""
        self._database.execute(
            "UPDATE restored_database SET kept_because = %s WHERE job = %s", (why, one.job)
        )

    def gone(self, one: RestoredDatabase) -> None:
        """Write that a copy was removed, or is not there under its name any more."""
        self._database.execute(
            "UPDATE restored_database SET gone_at = clock_timestamp() WHERE job = %s", (one.job,)
        )

    def _some(self, condition: str, values: tuple[object, ...]) -> list[RestoredDatabase]:
        rows = self._database.fetch_all(
            f"SELECT {_RESTORED} FROM restored_database WHERE gone_at IS NULL"  # noqa: S608 - constant texts
            f" AND {condition} ORDER BY made_at".encode(),
            values,
        )
        return [RestoredDatabase(**row) for row in rows]


class CatalogOwnWrites:
    """The rows of ``own_write`` (``toolbox.OwnWrites``)."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def intend(self, job: Job, part: str, objects: int) -> None:
        """Write down that a part of a job's work is about to change so many objects.

        A part that is begun again after a crash counts once, at its latest beginning.
        """
        self._database.execute(
            "INSERT INTO own_write (job, attempt, part, target, objects)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (job, attempt, part)"
            " DO UPDATE SET objects = excluded.objects, at = clock_timestamp()",
            (job.id, job.attempt, part, job.target, objects),
        )

    def since(self, target: Target, moment: datetime) -> int:
        """Return how many objects of a target were changed by ourselves since then, at most."""
        row = require(
            self._database.fetch_one(
                "SELECT coalesce(sum(objects), 0)::bigint AS objects FROM own_write"
                " WHERE target = %s AND at >= %s",
                (str(target), moment),
            )
        )
        return int(row["objects"])

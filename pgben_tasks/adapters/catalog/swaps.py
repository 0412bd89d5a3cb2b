"""The catalog's record of swaps: what was intended, and how it ended.

A row is written before the live database is touched, so that whoever finds it open knows what a
dead process was about to do. What really happened is asked of the protected server.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from psycopg import Cursor

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row
from pgben_tasks.domain.swap import Swap, SwapState
from pgben_tasks.errors import PermanentError

_COLUMNS = (
    "job, target, live, incoming, aside, live_oid, incoming_oid, was_open, undoes, state,"
    " settled_at"
)


class CatalogSwaps:
    """The rows of ``swap`` (``toolbox.SwapRecord``)."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def intend(self, swap: Swap) -> None:
        """Write down a swap before anything is touched; a job may intend again what it gave up."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO swap (job, target, live, incoming, aside, live_oid, incoming_oid,"
                " was_open, undoes) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (job) DO UPDATE SET incoming = excluded.incoming,"
                " aside = excluded.aside, live_oid = excluded.live_oid,"
                " incoming_oid = excluded.incoming_oid, was_open = excluded.was_open,"
                " state = 'intended', intended_at = clock_timestamp(), settled_at = NULL"
                " WHERE swap.state = 'abandoned'",
                (
                    swap.job,
                    swap.target,
                    swap.live,
                    swap.incoming,
                    swap.aside,
                    swap.live_oid,
                    swap.incoming_oid,
                    swap.was_open,
                    swap.undoes,
                ),
            )
            if cursor.rowcount != 1:
                raise PermanentError(
                    f"job '{swap.job}' has a swap already whose end is not settled",
                    "the reconciler settles it within two minutes",
                )

    def settle(self, swap: Swap, state: SwapState) -> None:
        """Write how a swap ended; ``done`` also corrects one that was given up too early."""
        with self._database.transaction() as cursor:
            _move(cursor, swap.job, "intended", state)
            if state == "done":
                _move(cursor, swap.job, "abandoned", "done")
            if state == "done" and swap.undoes is not None:
                _move(cursor, swap.undoes, "done", "undone")

    def dropped(self, swap: Swap) -> None:
        """Write that the database that ``swap`` set aside is gone."""
        with self._database.transaction() as cursor:
            _move(cursor, swap.job, "done", "dropped")

    def of(self, job: UUID) -> Swap | None:
        """Give the swap of a job, None when it has none."""
        with self._database.transaction() as cursor:
            row = cursor.execute(
                f"SELECT {_COLUMNS} FROM swap WHERE job = %s",  # noqa: S608 - constant columns
                (job,),
            ).fetchone()
        return None if row is None else Swap(**row)

    def open(self) -> list[Swap]:
        """Give the swaps whose end is not settled, oldest first."""
        return self._some("state = 'intended'", ())

    def expired(self, keep: timedelta) -> list[Swap]:
        """Give the swaps that are done and whose replaced database was kept for ``keep``."""
        return self._some("state = 'done' AND settled_at < clock_timestamp() - %s", (keep,))

    def _some(self, condition: str, values: tuple[object, ...]) -> list[Swap]:
        with self._database.transaction() as cursor:
            rows = cursor.execute(
                f"SELECT {_COLUMNS} FROM swap WHERE {condition} ORDER BY intended_at".encode(),  # noqa: S608 - constant texts
                values,
            ).fetchall()
        return [Swap(**row) for row in rows]


def _move(cursor: Cursor[Row], job: UUID, old: SwapState, new: SwapState) -> None:
    cursor.execute(
        "UPDATE swap SET state = %s, settled_at = clock_timestamp() WHERE job = %s AND state = %s",
        (new, job, old),
    )

"""The ends of attempts, as the catalog's triggers noted them, and how far which folder has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.adapters.catalog.locks import holding
from pgben_tasks.adapters.postgres.server import Lock
from pgben_tasks.domain.history import End, FolderNote, Outage

#: Held by the process that writes the history.
HISTORY_LOCK: Final = Lock("history")
_ENDS: Final = (
    "SELECT e.number, e.at, e.began_at, e.job, job.kind, job.target, e.state, e.attempt, e.backup,"
    " job.requested_by, job.request,"
    " CASE WHEN e.state = 'succeeded' THEN job.result ELSE '{}' END AS result, e.error, e.retry_at"
    " FROM job_end e JOIN job ON job.id = e.job"
)
#: How many ends are read at a time.
_PAGE: Final = 500
#: A node that has not tried for this long has left, or lies still: others tell of that.
_FORGOTTEN_AFTER: Final = timedelta(hours=1)


class CatalogHistory:
    """The rows of ``job_end``, ``history_folder`` and ``history_outage``."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def newest(self) -> int:
        """Return the number of the newest end; 0 when there is none."""
        row = self._database.fetch_one("SELECT coalesce(max(number), 0) AS newest FROM job_end")
        return int(require(row)["newest"])

    def ends(self, *, after: int, until: int) -> Iterator[End]:
        """Yield the ends with numbers above ``after``, up to ``until``, in their order."""
        while rows := self._database.fetch_all(
            _ENDS + " WHERE e.number > %s AND e.number <= %s ORDER BY e.number LIMIT %s",
            (after, until, _PAGE),
        ):
            yield from map(_end, rows)
            after = rows[-1]["number"]

    def newest_ends(
        self, *, since: datetime | None = None, target: str | None = None
    ) -> Iterator[End]:
        """Yield the ends from the newest back to ``since``: of a target, or of all."""
        before: int | None = None
        while rows := self._database.fetch_all(
            _ENDS + " WHERE (%(before)s::bigint IS NULL OR e.number < %(before)s)"
            " AND (%(since)s::timestamptz IS NULL OR e.at >= %(since)s)"
            " AND (%(target)s::text IS NULL OR job.target = %(target)s)"
            " ORDER BY e.number DESC LIMIT %(limit)s",
            {"before": before, "since": since, "target": target, "limit": _PAGE},
        ):
            yield from map(_end, rows)
            before = rows[-1]["number"]

    def note(self, identity: str) -> FolderNote | None:
        """Return what is noted of a folder; None for one that is new."""
        row = self._database.fetch_one(
            "SELECT number, rewrite FROM history_folder WHERE id = %s", (identity,)
        )
        return None if row is None else FolderNote(**row)

    def wrote(self, identity: str, *, number: int, node: str, path: Path) -> None:
        """Note that the files of a folder have every end up to this number."""
        self._database.execute(
            "INSERT INTO history_folder (id, number, node, path) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (id) DO UPDATE SET number = excluded.number, node = excluded.node,"
            " path = excluded.path, written_at = clock_timestamp(), rewrite = false",
            (identity, number, node, str(path)),
        )

    def ask_rewrite(self) -> int:
        """Ask for the files of every known folder to be written anew; return how many there are."""
        return self._database.execute("UPDATE history_folder SET rewrite = true")

    @contextmanager
    def alone(self) -> Iterator[Callable[[], None]]:
        """Keep every other process from writing; raise ``TargetBusy`` where one does.

        What is yielded is called before each write, and raises when that does not hold any more.
        """
        with holding(self._database, [HISTORY_LOCK]) as held:
            yield held.keep

    def failed(self, *, node: str, path: Path, why: str) -> bool:
        """Note that a folder cannot be written; return whether that is new."""
        row = self._database.fetch_one(
            "INSERT INTO history_outage (node, path, why) VALUES (%s, %s, %s)"
            " ON CONFLICT (node, path) DO UPDATE SET why = excluded.why,"
            " seen_at = clock_timestamp() RETURNING since = seen_at AS new",
            (node, str(path), why),
        )
        return bool(require(row)["new"])

    def recovered(self, *, node: str, path: Path) -> bool:
        """Note that a folder is well; return whether it was not."""
        return (
            self._database.execute(
                "DELETE FROM history_outage WHERE node = %s AND path = %s", (node, str(path))
            )
            > 0
        )

    def outages(self) -> list[Outage]:
        """Return the folders that cannot be written now, the longest outage first."""
        rows = self._database.fetch_all(
            "SELECT node, path, why, since FROM history_outage"
            " WHERE seen_at > clock_timestamp() - %s ORDER BY since, node, path",
            (_FORGOTTEN_AFTER,),
        )
        return [Outage(**row) for row in rows]


def _end(row: Row) -> End:
    return End(**row)

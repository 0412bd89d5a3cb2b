"""What alarms are decided from: looks at ledger, index and signs of life. Changes nothing.

Kept apart from the ledger, because nothing that steers a job may depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pgben_tasks.adapters.catalog.database import CatalogDatabase, require
from pgben_tasks.adapters.catalog.recovery import BEAT
from pgben_tasks.domain.overdue import Restorable

#: The migration that brought the outbox: what happened before it is nobody's alarm.
_MIGRATION: Final = 4


class Watch:
    """Reads for the tick that raises alarms."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def since(self) -> datetime:
        """Return when this catalog began to keep alarms."""
        with self._database.transaction() as cursor:
            row = cursor.execute(
                "SELECT applied_at FROM migration WHERE version = %s", (_MIGRATION,)
            ).fetchone()
        return require(row)["applied_at"]  # type: ignore[no-any-return]

    def bad_ends(self, *, since: datetime) -> list[UUID]:
        """Name the jobs that ended badly, or suspect, and have no alarm for that end."""
        with self._database.transaction() as cursor:
            rows = cursor.execute(
                "SELECT id FROM job WHERE ended_at >= %s AND (state IN ('failed', 'refused')"
                " OR (state = 'succeeded' AND result ->> 'suspect' IS NOT NULL))"
                " AND NOT EXISTS (SELECT FROM alarm WHERE alarm.job = job.id"
                " AND alarm.happened_at >= job.ended_at) ORDER BY ended_at",
                (since,),
            ).fetchall()
        return [row["id"] for row in rows]

    def open_windows(self) -> list[UUID]:
        """Name the scheduled jobs that have not ended."""
        with self._database.transaction() as cursor:
            rows = cursor.execute(
                "SELECT id FROM job WHERE window_at IS NOT NULL"
                " AND state IN ('queued', 'running', 'waiting') ORDER BY created_at"
            ).fetchall()
        return [row["id"] for row in rows]

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return which of these keys have a job."""
        with self._database.transaction() as cursor:
            rows = cursor.execute("SELECT key FROM job WHERE key = ANY(%s)", (list(keys),))
            return {row["key"] for row in rows.fetchall()}

    def under_way(self, *, within: timedelta) -> set[str]:
        """Name the targets with a backup that runs, or will, and was not asked for too long ago."""
        with self._database.transaction() as cursor:
            rows = cursor.execute(
                "SELECT DISTINCT target FROM job WHERE kind = 'backup'"
                " AND created_at > clock_timestamp() - %s AND (state IN"
                " ('queued', 'running', 'waiting') OR (state = 'failed' AND retry_at IS NOT NULL))",
                (within,),
            ).fetchall()
        return {row["target"] for row in rows}

    def restorable(self, target: str) -> Restorable | None:
        """Return the newest verified backup of a target that is not suspect, or was acknowledged.

        It is read from the index without opening the repository, which may be what is away.
        """
        with self._database.transaction() as cursor:
            row = cursor.execute(
                "SELECT id AS backup, state, snapshot_at FROM backup WHERE target = %s"
                " AND starts_with(state, 'verified') AND (suspect IS NULL OR acknowledged)"
                " ORDER BY snapshot_at DESC LIMIT 1",
                (target,),
            ).fetchone()
        return None if row is None else Restorable(**row)

    def last_beat(self) -> datetime | None:
        """Return when the last tick ran that beat had sent."""
        with self._database.transaction() as cursor:
            row = cursor.execute(
                "SELECT heartbeat_at FROM worker WHERE name = %s", (BEAT,)
            ).fetchone()
        return None if row is None else row["heartbeat_at"]

"""What the catalog remembers that tells how well things go: ends of jobs, workers, the audit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pgben_tasks.adapters.catalog.database import CatalogDatabase, require
from pgben_tasks.adapters.catalog.recovery import BEAT, TICK


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRecord:
    """How the jobs of one target ended.

    ``failures`` are backups that failed or were refused since the last one that succeeded, and
    ``last_failure`` is what the newest of them said.
    """

    failures: int
    last_failure: str | None
    last_full_verification: datetime | None
    last_restore: timedelta | None


class Records:
    """Questions to the catalog that change nothing."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def target_record(self, target: str) -> TargetRecord:
        """Return how the jobs of ``target`` ended."""
        with self._database.transaction() as cursor:
            failed = require(
                cursor.execute(
                    "SELECT count(*) AS failures, (array_agg(error ->> 'sentence'"
                    " ORDER BY ended_at DESC))[1] AS sentence FROM job WHERE kind = 'backup'"
                    " AND target = %(target)s AND state IN ('failed', 'refused') AND ended_at >"
                    " coalesce((SELECT max(ended_at) FROM job WHERE kind = 'backup'"
                    " AND target = %(target)s AND state = 'succeeded'), '-infinity')",
                    {"target": target},
                ).fetchone()
            )
            verified = require(
                cursor.execute(
                    "SELECT max(ended_at) AS at FROM job WHERE kind = 'verify'"
                    " AND state = 'succeeded' AND request ->> 'level' = 'full'"
                    " AND request ->> 'backup' IS NULL AND target IN ('*', %s)",
                    (target,),
                ).fetchone()
            )
            restored = cursor.execute(
                "SELECT ended_at - started_at AS took FROM job WHERE kind = 'restore'"
                " AND state = 'succeeded' AND target = %s ORDER BY ended_at DESC LIMIT 1",
                (target,),
            ).fetchone()
        return TargetRecord(
            failures=failed["failures"],
            last_failure=failed["sentence"],
            last_full_verification=verified["at"],
            last_restore=restored["took"] if restored else None,
        )

    def last_tick(self) -> datetime | None:
        """Return when the reconciler last ran."""
        return self._last_life(TICK)

    def last_beat(self) -> datetime | None:
        """Return when the reconciler last ran because beat had woken it."""
        return self._last_life(BEAT)

    def _last_life(self, name: str) -> datetime | None:
        with self._database.transaction() as cursor:
            row = cursor.execute(
                "SELECT heartbeat_at AS at FROM worker WHERE name = %s", (name,)
            ).fetchone()
        return row["at"] if row else None

    def unstored_entries(self) -> tuple[int, timedelta]:
        """Count the audit entries that the repository lacks; say how old the oldest is."""
        with self._database.transaction() as cursor:
            row = require(
                cursor.execute(
                    "SELECT count(*) AS n, coalesce(clock_timestamp() - min(at),"
                    " interval '0') AS age FROM audit WHERE NOT stored"
                ).fetchone()
            )
        return row["n"], row["age"]

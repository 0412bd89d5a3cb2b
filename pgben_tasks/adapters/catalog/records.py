"""What verdicts and alarms are decided from: ends of jobs, the index, heartbeats, the audit.

Nothing is changed here. Kept apart from the ledger, because nothing that steers a job may depend
on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pgben_tasks.adapters.catalog.database import CatalogDatabase, require
from pgben_tasks.adapters.catalog.workers import BEAT, TICK
from pgben_tasks.domain.alarm import NO_ALARM
from pgben_tasks.domain.nights import WindowJob
from pgben_tasks.domain.overdue import Restorable

#: The migration that brought the outbox: what happened before it is nobody's alarm.
_OUTBOX_MIGRATION: Final = 4


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
    last_restore_at: datetime | None


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
                "SELECT ended_at - started_at AS took, ended_at AS at FROM job"
                " WHERE kind = 'restore' AND state = 'succeeded' AND target = %s"
                " ORDER BY ended_at DESC LIMIT 1",
                (target,),
            ).fetchone()
        return TargetRecord(
            failures=failed["failures"],
            last_failure=failed["sentence"],
            last_full_verification=verified["at"],
            last_restore=restored["took"] if restored else None,
            last_restore_at=restored["at"] if restored else None,
        )

    def last_tick(self) -> datetime | None:
        """Return when the reconciler last ran."""
        return self._heartbeat(TICK)

    def last_beat(self) -> datetime | None:
        """Return when the reconciler last ran because beat had sent it."""
        return self._heartbeat(BEAT)

    def _heartbeat(self, name: str) -> datetime | None:
        row = self._database.fetch_one(
            "SELECT heartbeat_at AS at FROM worker WHERE name = %s", (name,)
        )
        return row["at"] if row else None

    def unstored_entries(self) -> tuple[int, timedelta]:
        """Return how many audit entries the repository lacks, and how old the oldest is."""
        row = require(
            self._database.fetch_one(
                "SELECT count(*) AS n, coalesce(clock_timestamp() - min(at),"
                " interval '0') AS age FROM audit WHERE NOT stored"
            )
        )
        return row["n"], row["age"]

    def since(self) -> datetime:
        """Return when this catalog began to keep alarms."""
        row = self._database.fetch_one(
            "SELECT applied_at FROM migration WHERE version = %s", (_OUTBOX_MIGRATION,)
        )
        return require(row)["applied_at"]  # type: ignore[no-any-return]

    def bad_ends(self, *, since: datetime) -> list[UUID]:
        """Return the jobs that ended badly, or not quite well, and have no alarm for that end."""
        rows = self._database.fetch_all(
            "SELECT id FROM job WHERE ended_at >= %s AND (state IN ('failed', 'refused')"
            " OR (state = 'succeeded' AND coalesce(result ->> 'suspect',"
            " result ->> 'after_swap_failed') IS NOT NULL))"
            " AND NOT EXISTS (SELECT FROM alarm WHERE alarm.job = job.id"
            " AND alarm.happened_at >= job.ended_at)"
            " AND NOT coalesce(error ->> 'type' = ANY(%s), FALSE) ORDER BY ended_at",
            (since, list(NO_ALARM)),
        )
        return [row["id"] for row in rows]

    def open_windows(self) -> list[UUID]:
        """Return the scheduled jobs that have not ended."""
        rows = self._database.fetch_all(
            "SELECT id FROM job WHERE window_at IS NOT NULL"
            " AND state IN ('queued', 'running', 'waiting') ORDER BY created_at"
        )
        return [row["id"] for row in rows]

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return which of these keys have a job."""
        rows = self._database.fetch_all("SELECT key FROM job WHERE key = ANY(%s)", (list(keys),))
        return {row["key"] for row in rows}

    def windows(self, *, since: datetime) -> list[WindowJob]:
        """Return the jobs of the scheduled windows since then, oldest first.

        Without reports: they tell of nights, and are due on none.
        """
        rows = self._database.fetch_all(
            "SELECT id AS job, kind, target, window_at AS window, state,"
            " state = 'failed' AND retry_at IS NOT NULL AS again,"
            " result ->> 'suspect' IS NOT NULL AS suspect FROM job"
            " WHERE window_at >= %s AND kind <> 'report' ORDER BY window_at, created_at",
            (since,),
        )
        return [WindowJob(**row) for row in rows]

    def last_restore_of_everything(self) -> timedelta | None:
        """Return how long the newest restore of a recovery point took; None when none succeeded."""
        row = self._database.fetch_one(
            "SELECT ended_at - started_at AS took FROM job WHERE kind = 'restore_all'"
            " AND state = 'succeeded' ORDER BY ended_at DESC LIMIT 1"
        )
        return None if row is None else row["took"]

    def under_way(self, *, within: timedelta) -> set[str]:
        """Return the targets with a backup that runs or will, asked for ``within`` so long."""
        rows = self._database.fetch_all(
            "SELECT DISTINCT target FROM job WHERE kind = 'backup'"
            " AND created_at > clock_timestamp() - %s AND (state IN"
            " ('queued', 'running', 'waiting') OR (state = 'failed' AND retry_at IS NOT NULL))",
            (within,),
        )
        return {row["target"] for row in rows}

    def restore_bytes(self, target: str, *, in_flight: int) -> int | None:
        """Return what a restore of a target's newest verified backup holds in the spool, at most.

        That is the dump, and ``in_flight`` bytes of packs, or all of them. None without a backup.
        It is read from the index without opening the repository, which may be what is away.
        """
        row = self._database.fetch_one(
            "SELECT plain_bytes + least(stored_bytes, %s) AS bytes FROM backup WHERE target = %s"
            " AND starts_with(state, 'verified') ORDER BY snapshot_at DESC LIMIT 1",
            (in_flight, target),
        )
        return None if row is None else row["bytes"]

    def restorable(self, target: str) -> Restorable | None:
        """Return the newest verified backup of a target that is not suspect, or was acknowledged.

        It is read from the index without opening the repository, which may be what is away.
        """
        row = self._database.fetch_one(
            "SELECT id AS backup, state, snapshot_at FROM backup WHERE target = %s"
            " AND starts_with(state, 'verified') AND (suspect IS NULL OR acknowledged)"
            " ORDER BY snapshot_at DESC LIMIT 1",
            (target,),
        )
        return None if row is None else Restorable(**row)

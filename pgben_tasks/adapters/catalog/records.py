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
from pgben_tasks.domain.episodes import GoodEnd
from pgben_tasks.domain.nights import WindowJob
from pgben_tasks.domain.overdue import Restorable
from pgben_tasks.domain.pings import AttemptRun

#: The migration that brought the outbox: what happened before it is nobody's alarm.
_OUTBOX_MIGRATION: Final = 4
#: Since when verifications that were cancelled, and all that is replaced, are alarms.
_SINCE_EPISODES: Final = "(SELECT applied_at FROM migration WHERE version = 17)"
#: ``domain.alarm.is_in_place`` in SQL.
_IN_PLACE: Final = (
    "(request ->> 'part_of' IS NULL AND (error ->> 'in_place' IS NOT NULL"
    " OR kind IN ('undo', 'undo_all') OR kind IN ('restore', 'restore_all')"
    " AND 'true' IN (coalesce(request ->> 'swap', ''), coalesce(request ->> 'in_place', ''))))"
)
#: Whether a job did what it is named after; a request that an existing backup answers made none.
NEW_WORK: Final = "job.result ->> 'existing' IS NULL"
#: Jobs with their last attempts, and how long these took: not the waits between attempts.
ATTEMPTED: Final = "job LEFT JOIN attempt ON attempt.job = job.id AND attempt.n = job.attempt"
TOOK: Final = (
    "coalesce(attempt.ended_at, job.ended_at) - coalesce(attempt.started_at, job.started_at)"
)
#: The most jobs that one tick raises alarms for.
_MOST_ENDS: Final = 2000


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
                    "SELECT count(*) AS failures, (array_agg(error ->> 'sentence'"  # noqa: S608 - constant texts
                    " ORDER BY ended_at DESC))[1] AS sentence FROM job WHERE kind = 'backup'"
                    " AND target = %(target)s AND state IN ('failed', 'refused') AND ended_at >"
                    " coalesce((SELECT max(ended_at) FROM job WHERE kind = 'backup'"
                    " AND target = %(target)s AND state = 'succeeded'"
                    f" AND {NEW_WORK}), '-infinity')",
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
                # The attempt that ended well, and only of what brought all of a target back.
                f"SELECT {TOOK} AS took, job.ended_at AS at FROM {ATTEMPTED}"  # noqa: S608 - constant texts
                " WHERE kind = 'restore' AND job.state = 'succeeded' AND target = %s"
                " AND coalesce(request ->> 'prefix', '') = ''"
                " AND coalesce(request -> 'keys', 'null') IN ('null', '[]')"
                " AND request ->> 'in_place' IS DISTINCT FROM 'true'"
                " ORDER BY job.ended_at DESC LIMIT 1",
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
        """Return the jobs that ended badly, or not quite well, and have no alarm for that end.

        Should there be very many, the next tick gets the rest: refusals, which anybody can provoke.
        """
        rows = self._database.fetch_all(
            "SELECT id FROM job WHERE ended_at >= %(since)s AND (state IN ('failed', 'refused')"  # noqa: S608 - constant texts
            " OR (state = 'succeeded' AND coalesce(result ->> 'suspect',"
            " result ->> 'after_swap_failed') IS NOT NULL)"
            " OR (kind = 'verify' AND window_at IS NOT NULL"
            f" AND ended_at >= {_SINCE_EPISODES} AND (state = 'cancelled'"
            " OR state = 'succeeded' AND result ->> 'backups' = '0')))"
            " AND NOT EXISTS (SELECT FROM alarm WHERE alarm.job = job.id"
            " AND alarm.happened_at >= job.ended_at)"
            f" AND NOT {_IN_PLACE}"
            " AND NOT coalesce(error ->> 'type' = ANY(%(none)s), FALSE)"
            " ORDER BY state = 'refused', ended_at LIMIT %(most)s",
            {"since": since, "none": list(NO_ALARM), "most": _MOST_ENDS},
        )
        rows += self._database.fetch_all(
            "SELECT id FROM job WHERE ended_at >= %s AND state = 'succeeded'"  # noqa: S608 - constant texts
            " AND result ->> 'after_swap_failed' IS NOT NULL AND NOT EXISTS (SELECT FROM alarm"
            " WHERE alarm.job = job.id AND kind = 'after_swap')"
            f" AND {_IN_PLACE}",
            (since,),
        )
        return [row["id"] for row in rows]

    def in_place(self) -> list[UUID]:
        """Return the jobs that replace something, and were asked for or ended without an alarm."""
        rows = self._database.fetch_all(
            f"SELECT id FROM job WHERE {_IN_PLACE}"  # noqa: S608 - constant texts
            f" AND coalesce(ended_at, created_at) >= {_SINCE_EPISODES}"
            " AND NOT EXISTS (SELECT FROM alarm"
            " WHERE alarm.job = job.id AND alarm.kind = 'in_place'"
            " AND alarm.happened_at >= coalesce(job.ended_at, job.created_at))"
            " ORDER BY state = 'refused', created_at LIMIT %s",
            (_MOST_ENDS,),
        )
        return [row["id"] for row in rows]

    def good_ends(self, *, since: datetime) -> list[GoodEnd]:
        """Return when work last ended well, by kind and target; of verifications, whole ones."""
        rows = self._database.fetch_all(
            "SELECT kind AS work, target, max(ended_at) AS at FROM job"  # noqa: S608 - constant texts
            f" WHERE state = 'succeeded' AND ended_at > %s AND {NEW_WORK}"
            " AND result ->> 'suspect' IS NULL"
            " AND result ->> 'after_swap_failed' IS NULL AND (kind <> 'verify'"
            " OR (request ->> 'level' = 'full' AND request ->> 'backup' IS NULL"
            " AND result ->> 'backups' IS DISTINCT FROM '0')) GROUP BY 1, 2",
            (since,),
        )
        return [GoodEnd(**row) for row in rows]

    def attempts(self, *, since: datetime) -> list[AttemptRun]:
        """Return the attempts that began or ended since then, and windows that nobody could begin.

        Refusals are none: anybody can provoke them.
        """
        rows = self._database.fetch_all(
            "SELECT job.kind, job.target, job.id AS job, a.state, a.started_at, a.ended_at,"  # noqa: S608 - constant texts
            " a.error ->> 'type' AS error, a.error ->> 'step' AS step"
            " FROM attempt a JOIN job ON job.id = a.job"
            f" WHERE greatest(a.started_at, a.ended_at) > %(since)s AND {NEW_WORK}"
            " UNION ALL SELECT kind, target, id, state, NULL, ended_at, error ->> 'type',"
            " error ->> 'step' FROM job WHERE ended_at > %(since)s AND window_at IS NOT NULL"
            " AND state <> 'succeeded' AND NOT EXISTS (SELECT FROM attempt a WHERE a.job = job.id"
            " AND a.n = job.attempt)",
            {"since": since},
        )
        return [AttemptRun(**row) for row in rows]

    def standing(self) -> dict[tuple[str, str], str]:
        """Return how the newest attempt that ended went, by kind and target."""
        rows = self._database.fetch_all(
            "SELECT DISTINCT ON (kind, target) kind, target, state FROM job"  # noqa: S608 - constant texts
            " WHERE ended_at IS NOT NULL AND (started_at IS NOT NULL OR window_at IS NOT NULL)"
            f" AND {NEW_WORK} ORDER BY kind, target, ended_at DESC"
        )
        return {(row["kind"], row["target"]): row["state"] for row in rows}

    def open_windows(self) -> list[UUID]:
        """Return the scheduled jobs that have not ended."""
        rows = self._database.fetch_all(
            "SELECT id FROM job WHERE window_at IS NOT NULL"
            " AND state IN ('queued', 'running', 'waiting') ORDER BY created_at"
        )
        return [row["id"] for row in rows]

    def known(self, keys: Sequence[str]) -> dict[str, bool]:
        """Return which of these keys have a job, and whether it has ended."""
        rows = self._database.fetch_all(
            "SELECT key, ended_at IS NOT NULL AS ended FROM job WHERE key = ANY(%s)", (list(keys),)
        )
        return {row["key"]: row["ended"] for row in rows}

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
            f"SELECT {TOOK} AS took FROM {ATTEMPTED} WHERE kind = 'restore_all'"  # noqa: S608 - constant texts
            " AND job.state = 'succeeded' ORDER BY job.ended_at DESC LIMIT 1"
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

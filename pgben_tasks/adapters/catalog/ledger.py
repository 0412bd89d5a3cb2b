"""The job ledger: who may do what next. One row per asked-for run; the row decides.

Every change of a running job names the fence it was made under and must hit exactly one row;
otherwise somebody else owns the job and ``FenceLost`` is raised. Time is the server's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.contracts import JSON, JobRef
from pgben_tasks.domain.job import Job, JobKind, JobState, StepRun
from pgben_tasks.domain.space import NIGHTS, Night
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import FenceLost, JobNotFound, TargetBusy

#: Every job with the progress of its present step.
_JOB_ROWS: Final = (
    "SELECT job.*, s.progress FROM job LEFT JOIN step s"
    " ON s.job = job.id AND s.attempt = job.attempt AND s.name = job.step"
)
#: Backups of longer ago say nothing of what the next one will write.
_NIGHTS_WITHIN: Final = timedelta(days=30)
_SAME_NAMES: Final = tuple(one.name for one in fields(Job) if one.name != "window")


class Ledger:
    """The rows of ``job``, ``attempt``, ``step`` and ``lease``, and who may change them."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self.database = database

    def request(
        self,
        kind: JobKind,
        *,
        target: str,
        key: str,
        request: JSON,
        requested_by: str,
        window: datetime | None = None,
        published: bool = False,
        root_task: str | None = None,
    ) -> tuple[Job, bool]:
        """Write a job unless its key is known; return it and whether it is new.

        ``root_task`` is the id of the message that asks, which its sender may wait on.
        """
        with self.database.transaction() as cursor:
            made = cursor.execute(
                "INSERT INTO job (kind, target, key, window_at, request, requested_by,"
                " root_task, published_at) VALUES (%s, %s, %s, %s, %s, %s, %s,"
                " CASE WHEN %s THEN clock_timestamp() END)"
                " ON CONFLICT (key) DO NOTHING RETURNING id",
                (kind, target, key, window, Jsonb(request), requested_by, root_task, published),
            ).fetchone()
            row = cursor.execute(_JOB_ROWS + " WHERE job.key = %s", (key,)).fetchone()
        return _job(require(row)), made is not None

    def job(self, job: UUID) -> Job:
        """Return one job; ``JobNotFound`` when there is none."""
        row = self.database.fetch_one(_JOB_ROWS + " WHERE job.id = %s", (job,))
        if row is None:
            raise JobNotFound(f"there is no job '{job}'", "`pgben jobs` lists them")
        return _job(row)

    def by_key(self, key: str) -> Job | None:
        """Return the job with this key, None when there is none."""
        row = self.database.fetch_one(_JOB_ROWS + " WHERE job.key = %s", (key,))
        return None if row is None else _job(row)

    def open_backup(self, target: Target) -> Job | None:
        """Return a backup of a target that has not ended, the oldest of several."""
        row = self.database.fetch_one(
            _JOB_ROWS + " WHERE job.kind = 'backup' AND job.target = %s"
            " AND job.state IN ('queued', 'running', 'waiting') ORDER BY job.created_at LIMIT 1",
            (str(target),),
        )
        return None if row is None else _job(row)

    def restore_rate(self, target: Target) -> float | None:
        """Return the bytes per second of the last restore of a target; None when there was none.

        One that waits as a part of a whole says nothing of time, and one of objects in place
        little of bytes.
        """
        row = self.database.fetch_one(
            "SELECT coalesce(result->>'loaded_bytes', result->>'bytes')::float8"
            " / greatest(extract(epoch FROM ended_at - started_at), 0.1) AS rate FROM job"
            " WHERE kind = 'restore' AND target = %s AND state = 'succeeded' AND attempt = 1"
            " AND request->>'part_of' IS NULL AND request->>'in_place' IS DISTINCT FROM 'true'"
            " ORDER BY ended_at DESC LIMIT 1",
            (str(target),),
        )
        return None if row is None else row["rate"]

    def nights(self, target: Target) -> list[Night]:
        """Return what the last backups of a target wrote, the newest first.

        The first snapshot of a bucket holds everything, and says nothing of the nights after it.
        Backups of versions that did not measure it: a spool holds the dump and its packs.
        """
        rows = self.database.fetch_all(
            "SELECT coalesce(result->>'spool_bytes', ((result->>'dump_bytes')::bigint"
            " + (result->>'stored_bytes')::bigint)::text)::bigint AS spool,"
            " coalesce(result->>'new_bytes', CASE WHEN result ? 'dump_bytes'"
            " THEN result->>'stored_bytes' END)::bigint AS repository,"
            " (result->>'database_bytes')::bigint AS database"
            " FROM job WHERE kind = 'backup' AND target = %s AND state = 'succeeded'"
            " AND (result ? 'dump_bytes' OR result->>'compared_with' IS NOT NULL)"
            " AND ended_at > clock_timestamp() - %s ORDER BY ended_at DESC LIMIT %s",
            (str(target), _NIGHTS_WITHIN, NIGHTS),
        )
        return [Night(**row) for row in rows]

    def find(self, text: str) -> Job:
        """Return the job whose id begins with ``text``; ``JobNotFound`` when none or several do."""
        rows = self.database.fetch_all(
            _JOB_ROWS + " WHERE starts_with(job.id::text, %s) LIMIT 2", (text.lower(),)
        )
        if len(rows) != 1:
            found = "several jobs begin" if rows else "no job begins"
            raise JobNotFound(f"{found} with '{text[:36]}'", "`pgben jobs` lists them")
        return _job(rows[0])

    def jobs(
        self,
        *,
        limit: int = 20,
        open_only: bool = False,
        target: str | None = None,
        kind: JobKind | None = None,
        before: UUID | None = None,
    ) -> list[Job]:
        """Return the newest jobs first: those of a target, of a kind, older than ``before``.

        Raises ``JobNotFound`` when there is no job ``before``.
        """
        since = None if before is None else self.job(before).created_at
        rows = self.database.fetch_all(
            _JOB_ROWS + " WHERE (NOT %(open)s OR job.state IN ('queued', 'running', 'waiting'))"
            " AND (%(target)s::text IS NULL OR job.target = %(target)s)"
            " AND (%(kind)s::text IS NULL OR job.kind = %(kind)s)"
            " AND (%(before)s::uuid IS NULL"
            " OR (job.created_at, job.id) < (%(since)s::timestamptz, %(before)s))"
            " ORDER BY job.created_at DESC, job.id DESC LIMIT %(limit)s",
            {
                "open": open_only,
                "target": target,
                "kind": kind,
                "before": before,
                "since": since,
                "limit": limit,
            },
        )
        return [_job(row) for row in rows]

    def running(self, target: Target) -> frozenset[str]:
        """Return the backup ids of a target's jobs that have not ended."""
        rows = self.database.fetch_all(
            "SELECT backup FROM job WHERE target = %s AND backup IS NOT NULL"
            " AND state IN ('queued', 'running', 'waiting')",
            (str(target),),
        )
        return frozenset(row["backup"] for row in rows)

    def named(self, target: Target) -> frozenset[str]:
        """Return every backup id that a target's jobs which have not ended work on, or ask for.

        A further attempt forgets its backup until it has selected it again from its context. What
        stands in a request may also be ``latest``, which is no id. A recovery point that forms
        names what it has found so far, a request for a backup the one that answers it.
        """
        rows = self.database.fetch_all(
            "SELECT DISTINCT one.backup FROM job, unnest(CASE WHEN job.target = %(target)s"
            " THEN ARRAY[job.backup, job.context->>'snapshot', job.context->>'existing',"
            " job.request->>'backup']"
            " ELSE ARRAY[job.context->'members'->>%(target)s] END) AS one (backup)"
            " WHERE one.backup IS NOT NULL AND job.state IN ('queued', 'running', 'waiting')",
            {"target": str(target)},
        )
        return frozenset(row["backup"] for row in rows)

    def known_since(self, target: Target) -> datetime | None:
        """Return when the first job of a target was asked for; None when there is none."""
        row = self.database.fetch_one(
            "SELECT min(created_at) AS first FROM job WHERE target = %s", (str(target),)
        )
        return require(row)["first"]  # type: ignore[no-any-return]

    def steps(self, job: UUID, *, shards: bool = False) -> list[StepRun]:
        """Return the steps of a job as they began; with ``shards`` those of a copy, too."""
        rows = self.database.fetch_all(
            "SELECT attempt, name, state, node, started_at, ended_at, result FROM step"
            " WHERE job = %s AND (%s OR strpos(name, '/') = 0) ORDER BY started_at",
            (job, shards),
        )
        return [StepRun(**row) for row in rows]

    def to_clean(self) -> list[Job]:
        """Return the ended jobs whose remains were not removed when they ended."""
        rows = self.database.fetch_all(
            _JOB_ROWS + " WHERE job.cleanup AND job.state NOT IN ('queued', 'running', 'waiting')"
        )
        return [_job(row) for row in rows]

    def claim(
        self,
        job: UUID,
        *,
        node: str,
        first_step: str,
        lease: tuple[str, str],
        context: JSON,
        root_task: str,
        wait: timedelta,
    ) -> JobRef:
        """Take a queued job: next attempt, next fence, its lease, its first step due in ``wait``.

        ``lease`` is (target, kind). Raises ``TargetBusy`` when another open job has the lease,
        ``FenceLost`` when the job is no longer queued.
        """
        target, kind = lease
        with self.database.transaction() as cursor:
            # A busy target keeps the job queued; the message comes back by itself.
            row = cursor.execute(
                "UPDATE job SET state = 'waiting', fence = fence + 1, attempt = attempt + 1,"
                " node = %s, step = %s, step_due_at = clock_timestamp() + %s, backup = NULL,"
                " waiting_since = clock_timestamp(), cleanup = false,"
                " root_task = %s,"
                " context = %s, result = '{}', error = NULL, retry_at = NULL, ended_at = NULL,"
                " started_at = coalesce(started_at, clock_timestamp())"
                " WHERE id = %s AND state = 'queued' RETURNING fence, attempt",
                (node, first_step, wait, root_task, Jsonb(context), job),
            ).fetchone()
            if row is None:
                raise FenceLost(f"job '{job}' is not queued any more")
            owner = require(
                cursor.execute(
                    "INSERT INTO lease (target, kind, job, fence) VALUES (%s, %s, %s, %s)"
                    " ON CONFLICT (target, kind) DO UPDATE SET fence ="
                    " CASE WHEN lease.job = excluded.job THEN excluded.fence ELSE lease.fence END"
                    " RETURNING job",
                    (target, kind, job, row["fence"]),
                ).fetchone()
            )
            if owner["job"] != job:
                raise TargetBusy(
                    f"'{target}' is taken by job '{owner['job']}'",
                    "wait for it to end; `pgben jobs` shows it",
                )
            cursor.execute(
                "INSERT INTO attempt (job, n, state, node) VALUES (%s, %s, 'running', %s)",
                (job, row["attempt"], node),
            )
        return JobRef(job=job, fence=row["fence"])

    def begin_step(self, ref: JobRef, step: str, *, node: str) -> JobRef:
        """Begin a waiting step, or take over a running one whose process has ended.

        The caller holds the job's lock, which is why a step that the ledger still calls running
        has lost its process; its fence is raised. Returns the reference to go on with. ``node`` is
        noted with the step only: the job's node stays the one that claimed it and has its files.
        """
        with self.database.transaction() as cursor:
            row = cursor.execute(
                "UPDATE job SET fence = fence + (state = 'running')::int, state = 'running',"
                " step_due_at = NULL WHERE id = %s AND fence = %s AND step = %s"
                " AND state IN ('waiting', 'running') RETURNING fence, attempt",
                (ref.job, ref.fence, step),
            ).fetchone()
            if row is None:
                raise FenceLost(f"step '{step}' of job '{ref.job}' is no longer wanted")
            cursor.execute(
                "INSERT INTO step (job, attempt, name, fence, state, node)"
                " VALUES (%s, %s, %s, %s, 'running', %s)"
                " ON CONFLICT (job, attempt, name) DO UPDATE SET fence = excluded.fence,"
                " state = 'running', node = excluded.node, heartbeat_at = clock_timestamp(),"
                " ended_at = NULL",
                (ref.job, row["attempt"], step, row["fence"], node),
            )
            cursor.execute("UPDATE lease SET fence = %s WHERE job = %s", (row["fence"], ref.job))
        return JobRef(job=ref.job, fence=row["fence"])

    def heartbeat(self, ref: JobRef, step: str, progress: Mapping[str, Any]) -> None:
        """Write a step's heartbeat and how far it is; ``FenceLost`` when it lost the job.

        A shard may be done by now: then its progress is what it counted, and stays.
        """
        changed = self.database.execute(
            "UPDATE step SET heartbeat_at = clock_timestamp(),"
            " progress = CASE WHEN step.state = 'done' THEN step.progress ELSE %s END FROM job"
            " WHERE job.id = %s AND job.fence = %s AND job.state = 'running'"
            " AND step.job = job.id AND step.attempt = job.attempt AND step.name = %s",
            (Jsonb(dict(progress)), ref.job, ref.fence, step),
        )
        _require_one(changed, ref)

    def hold(self, ref: JobRef) -> None:
        """Raise ``FenceLost`` unless ``ref`` still owns its running job."""
        changed = self.database.execute(
            "UPDATE job SET fence = fence WHERE id = %s AND fence = %s AND state = 'running'",
            (ref.job, ref.fence),
        )
        _require_one(changed, ref)

    def keep(self, ref: JobRef, *, context: JSON, backup: str | None = None) -> None:
        """Merge ``context`` into what the job's later steps will find."""
        changed = self.database.execute(
            "UPDATE job SET context = context || %s, backup = coalesce(%s, backup)"
            " WHERE id = %s AND fence = %s AND state = 'running'",
            (Jsonb(context), backup, ref.job, ref.fence),
        )
        _require_one(changed, ref)

    def end_step(
        self, ref: JobRef, step: str, *, result: JSON, following: str | None, wait: timedelta
    ) -> Job:
        """End a running step: wait for the ``following`` one, or succeed when it was the last."""
        with self.database.transaction() as cursor:
            row = cursor.execute(
                "UPDATE job SET state = CASE WHEN %(next)s::text IS NULL THEN 'succeeded'"
                " ELSE 'waiting' END, losses = 0, waiting_since = clock_timestamp(),"
                " step = coalesce(%(next)s::text, step), step_due_at ="
                " CASE WHEN %(next)s::text IS NOT NULL THEN clock_timestamp() + %(wait)s END,"
                " ended_at = CASE WHEN %(next)s::text IS NULL THEN clock_timestamp() END,"
                " result = result || %(result)s WHERE id = %(job)s AND fence = %(fence)s"
                " AND state = 'running' AND step = %(step)s RETURNING attempt",
                {
                    "next": following,
                    "wait": wait,
                    "result": Jsonb(result),
                    "job": ref.job,
                    "fence": ref.fence,
                    "step": step,
                },
            ).fetchone()
            if row is None:
                raise _lost(ref)
            _close_step(cursor, ref, row["attempt"], step, "done", result)
            if following is None:
                _close_attempt(cursor, ref, row["attempt"], "succeeded", None)
            ended = require(cursor.execute(_JOB_ROWS + " WHERE job.id = %s", (ref.job,)).fetchone())
        return _job(ended)

    def retries(self, ref: JobRef, step: str) -> int:
        """Return how often the present attempt tried a step again after a passing failure."""
        row = self.database.fetch_one(
            "SELECT s.retries FROM step s JOIN job ON job.id = s.job AND job.attempt ="
            " s.attempt WHERE job.id = %s AND s.name = %s",
            (ref.job, step),
        )
        return int(row["retries"]) if row is not None else 0

    def release_step(
        self, ref: JobRef, step: str, *, state: str, wait: timedelta, why: str | None = None
    ) -> None:
        """Release a running step to be begun again within ``wait``.

        ``state`` is ``retrying``, which is counted, ``interrupted`` by a shutdown, or ``waiting``
        for what ``why`` says. A lost fence is no error here: there is nothing to release.
        """
        with self.database.transaction() as cursor:
            row = cursor.execute(
                # One that waits well has lost nothing.
                "UPDATE job SET state = 'waiting', waiting_since = clock_timestamp(),"
                " losses = CASE WHEN %s THEN 0 ELSE losses END,"
                " step_due_at = clock_timestamp() + %s"
                " WHERE id = %s AND fence = %s AND state = 'running' AND step = %s"
                " RETURNING attempt",
                (state == "waiting", wait, ref.job, ref.fence, step),
            ).fetchone()
            if row is not None:
                told = {} if why is None else {"waits": why}
                _close_step(cursor, ref, row["attempt"], step, state, told)
                cursor.execute(
                    # One that waits well has tried nothing in vain.
                    "UPDATE step SET retries = CASE state WHEN 'waiting' THEN 0"
                    " ELSE retries + (state = 'retrying')::int END"
                    " WHERE job = %s AND attempt = %s AND name = %s",
                    (ref.job, row["attempt"], step),
                )

    def wait_on(self, ref: JobRef, *, wait: timedelta) -> None:
        """Postpone a waiting step whose locks another job holds."""
        self.database.execute(
            "UPDATE job SET step_due_at = clock_timestamp() + %s WHERE id = %s AND fence = %s"
            " AND state = 'waiting'",
            (wait, ref.job, ref.fence),
        )

    def fail(
        self,
        ref: JobRef,
        *,
        state: JobState,
        error: JSON,
        retry_at: datetime | None = None,
    ) -> None:
        """End a job as ``failed`` or ``refused``; raises ``FenceLost`` when it is not ours."""
        with self.database.transaction() as cursor:
            row = cursor.execute(
                "UPDATE job SET state = %s, error = %s, retry_at = %s, step_due_at = NULL,"
                " cleanup = kind IN ('restore', 'restore_all', 'undo_all'), losses = 0,"
                " ended_at = clock_timestamp() WHERE id = %s AND fence = %s"
                " AND state IN ('running', 'waiting') RETURNING attempt, step",
                (state, Jsonb(error), retry_at, ref.job, ref.fence),
            ).fetchone()
            if row is None:
                raise _lost(ref)
            _close_step(cursor, ref, row["attempt"], row["step"], "failed", {})
            _close_attempt(cursor, ref, row["attempt"], state, error)

    def cancel(self, job: UUID, *, error: JSON) -> bool:
        """End a job that has not ended, or that is to be tried again; return whether it was so.

        Its fence is raised: whatever works on it stops before its next irreversible action. What
        it left is removed once its lock is free. A job that swaps, or has swapped, is not ended.
        """
        with self.database.transaction() as cursor:
            row = cursor.execute(
                "UPDATE job SET state = 'cancelled', fence = fence + 1, error = %s,"
                " retry_at = NULL, step_due_at = NULL, losses = 0,"
                " cleanup = started_at IS NOT NULL, ended_at = clock_timestamp() WHERE id = %s"
                " AND (state IN ('queued', 'running', 'waiting')"
                " OR state = 'failed' AND retry_at IS NOT NULL)"
                " AND NOT EXISTS (SELECT FROM swap WHERE swap.job = job.id"
                " AND swap.state IN ('intended', 'done')) RETURNING attempt",
                (Jsonb(error), job),
            ).fetchone()
            if row is None:
                return False
            cursor.execute(
                "UPDATE step SET state = 'interrupted', ended_at = clock_timestamp()"
                " WHERE job = %s AND attempt = %s AND state = 'running'",
                (job, row["attempt"]),
            )
            cursor.execute(
                "UPDATE attempt SET state = 'cancelled', error = %s, ended_at = clock_timestamp()"
                " WHERE job = %s AND n = %s AND state = 'running'",
                (Jsonb(error), job, row["attempt"]),
            )
            cursor.execute("DELETE FROM lease WHERE job = %s", (job,))
        return True

    def queue_again(self, job: UUID) -> bool:
        """Queue a failed or cancelled job for a new attempt; return whether it was one."""
        changed = self.database.execute(
            "UPDATE job SET state = 'queued', step = NULL, error = NULL, retry_at = NULL,"
            " ended_at = NULL, published_at = NULL WHERE id = %s"
            " AND state IN ('failed', 'cancelled')",
            (job,),
        )
        return changed == 1

    def cleaned(self, job: UUID) -> None:
        """Note that nothing of a failed job is left behind."""
        self.database.execute("UPDATE job SET cleanup = false WHERE id = %s", (job,))

    def postpone(self, job: UUID) -> None:
        """Note that a queued job's message is under way, so that it is not sent again early."""
        self.database.execute(
            "UPDATE job SET published_at = clock_timestamp() WHERE id = %s AND state = 'queued'",
            (job,),
        )

    def fail_unclaimed(
        self, job: UUID, *, state: JobState, error: JSON, retry_at: datetime | None = None
    ) -> None:
        """End a job that was refused or failed before any worker claimed it."""
        self.database.execute(
            "UPDATE job SET state = %s, error = %s, retry_at = %s,"
            " ended_at = clock_timestamp() WHERE id = %s AND state = 'queued'",
            (state, Jsonb(error), retry_at, job),
        )


def _job(row: Row) -> Job:
    """Return the job of one of ``_JOB_ROWS``."""
    return Job(window=row["window_at"], **{name: row[name] for name in _SAME_NAMES})


def _lost(ref: JobRef) -> FenceLost:
    return FenceLost(f"job '{ref.job}' is owned by another attempt")


def _require_one(changed: int, ref: JobRef) -> None:
    if changed != 1:
        raise _lost(ref)


def _close_step(
    cursor: psycopg.Cursor[Row], ref: JobRef, attempt: int, step: str, state: str, result: JSON
) -> None:
    cursor.execute(
        "UPDATE step SET state = %s, ended_at = clock_timestamp(), result = result || %s"
        " WHERE job = %s AND attempt = %s AND name = %s AND state = 'running'",
        (state, Jsonb(result), ref.job, attempt, step),
    )


def _close_attempt(
    cursor: psycopg.Cursor[Row], ref: JobRef, attempt: int, state: str, error: JSON | None
) -> None:
    cursor.execute(
        "UPDATE attempt SET state = %s, error = %s, ended_at = clock_timestamp()"
        " WHERE job = %s AND n = %s",
        (state, None if error is None else Jsonb(error), ref.job, attempt),
    )
    cursor.execute("DELETE FROM lease WHERE job = %s", (ref.job,))

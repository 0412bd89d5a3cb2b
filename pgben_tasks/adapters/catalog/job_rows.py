"""Jobs as the ledger has them: written once when asked for, and read. Nothing here changes one."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg.types.json import Jsonb

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.contracts import JSON
from pgben_tasks.domain.job import Job, JobKind, StepRun
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import JobNotFound

#: Every job with the progress of its present step.
JOB_ROWS: Final = (
    "SELECT job.*, s.progress FROM job LEFT JOIN step s"
    " ON s.job = job.id AND s.attempt = job.attempt AND s.name = job.step"
)
_SAME_NAMES: Final = tuple(one.name for one in fields(Job) if one.name != "window")


class JobRows:
    """The rows of ``job`` and ``step``, to be looked at."""

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
            row = cursor.execute(JOB_ROWS + " WHERE job.key = %s", (key,)).fetchone()
        return job_of(require(row)), made is not None

    def job(self, job: UUID) -> Job:
        """Return one job; ``JobNotFound`` when there is none."""
        row = self.database.fetch_one(JOB_ROWS + " WHERE job.id = %s", (job,))
        if row is None:
            raise JobNotFound(f"there is no job '{job}'", "`pgben jobs` lists them")
        return job_of(row)

    def find(self, text: str) -> Job:
        """Return the job whose id begins with ``text``; ``JobNotFound`` when none or several do."""
        rows = self.database.fetch_all(
            JOB_ROWS + " WHERE starts_with(job.id::text, %s) LIMIT 2", (text.lower(),)
        )
        if len(rows) != 1:
            found = "several jobs begin" if rows else "no job begins"
            raise JobNotFound(f"{found} with '{text[:36]}'", "`pgben jobs` lists them")
        return job_of(rows[0])

    def jobs(self, *, limit: int = 20, open_only: bool = False) -> list[Job]:
        """Return the newest jobs first."""
        where = " WHERE job.state IN ('queued', 'running', 'waiting')" if open_only else ""
        rows = self.database.fetch_all(
            JOB_ROWS + where + " ORDER BY job.created_at DESC LIMIT %s", (limit,)
        )
        return [job_of(row) for row in rows]

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
        stands in a request may also be ``latest``, which is no id.
        """
        rows = self.database.fetch_all(
            "SELECT DISTINCT one.backup FROM job, unnest(ARRAY[job.backup,"
            " job.context->>'snapshot', job.request->>'backup']) AS one (backup)"
            " WHERE job.target = %s AND one.backup IS NOT NULL"
            " AND job.state IN ('queued', 'running', 'waiting')",
            (str(target),),
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
            JOB_ROWS + " WHERE job.cleanup AND job.state NOT IN ('queued', 'running', 'waiting')"
        )
        return [job_of(row) for row in rows]


def job_of(row: Row) -> Job:
    """Return the job of one of ``JOB_ROWS``."""
    return Job(window=row["window_at"], **{name: row[name] for name in _SAME_NAMES})

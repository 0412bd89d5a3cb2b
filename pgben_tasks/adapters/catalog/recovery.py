"""What the reconciler reads and changes in the ledger: jobs that stand still or were lost.

Staleness is never counted from before the catalog's server started: after an outage of the
catalog every running step gets the time to send its heartbeat again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.workers import TICK
from pgben_tasks.contracts import JobRef
from pgben_tasks.domain.job import (
    BEAT_SILENCE,
    REPUBLISH_AFTER,
    STALE_AFTER,
    JobKind,
)

#: The role whose workers take the entry message of a job.
_ROLE = (
    "CASE WHEN job.kind IN ('prune', 'acknowledge', 'hold', 'sweep', 'report') THEN 'maintenance'"
    " WHEN job.kind IN ('restore_all', 'undo', 'undo_all') THEN 'restore'"
    " WHEN job.kind = 'point' THEN 'backup'"
    " ELSE job.kind END"
)
_SINCE = "greatest({}, pg_postmaster_start_time())"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalled:
    """A job that nobody works on: where it stood and whether its node sends heartbeats.

    ``overdue`` says that its next step should have begun by now, or was lost with its node.
    """

    job: UUID
    kind: JobKind
    fence: int
    step: str
    node: str
    state: str
    node_alive: bool
    overdue: bool
    losses: int
    why: str


class Recovery:
    """Finds jobs that stand still, and takes over those of workers without heartbeats."""

    def __init__(self, database: CatalogDatabase, *, stale_after: timedelta = STALE_AFTER) -> None:
        """Use the catalog at ``database``; a worker with an older heartbeat is lost."""
        self._database = database
        self._stale_after = stale_after

    def stalled(self, *, broker_since: datetime | None = None) -> list[Stalled]:
        """Return running steps without a heartbeat, and waiting ones that did not begin in time.

        A broker that was started since may have lost a waiting step's message: when it is killed,
        what it was told in its last second is gone, and what waited for its time in a worker is
        given back hours later. ``broker_since`` is when it was started, None where that is not
        known. The caller checks that the job's lock is free before it acts.
        """
        rows = self._database.fetch_all(
            "SELECT job.id AS job, job.kind, job.fence, job.step, job.node, job.state,"  # noqa: S608 - constant columns
            " job.losses,"
            f" coalesce({_SINCE.format('node.heartbeat_at')} > clock_timestamp() - %(stale)s,"
            " false) AND node.heartbeat_at IS NOT NULL AS node_alive,"
            " coalesce(job.step_due_at < clock_timestamp()"
            " OR node.started_at > job.waiting_since"
            " OR %(broker)s::timestamptz > job.waiting_since, false) AS overdue,"
            " CASE WHEN job.state = 'running' THEN 'its step stopped showing a heartbeat'"
            " WHEN job.step_due_at < clock_timestamp() THEN 'its next step did not begin'"
            " WHEN node.started_at > job.waiting_since THEN 'its node was started anew'"
            " WHEN %(broker)s::timestamptz > job.waiting_since THEN 'the broker was started anew'"
            " ELSE 'its node stopped showing a heartbeat' END AS why"
            f" FROM job LEFT JOIN worker node ON node.name = {_ROLE} || '.' || job.node"
            " LEFT JOIN step s ON s.job = job.id AND s.attempt = job.attempt"
            " AND s.name = job.step WHERE"
            f" (job.state = 'running' AND {_SINCE.format('s.heartbeat_at')}"
            " < clock_timestamp() - %(stale)s)"
            " OR (job.state = 'waiting' AND (job.step_due_at < clock_timestamp()"
            " OR node.started_at > job.waiting_since"
            " OR %(broker)s::timestamptz > job.waiting_since"
            f" OR {_SINCE.format('coalesce(node.heartbeat_at, job.started_at)')}"
            " < clock_timestamp() - %(stale)s)) ORDER BY job.created_at",
            {"stale": self._stale_after, "broker": broker_since},
        )
        return [Stalled(**row) for row in rows]

    def take_over(self, stalled: Stalled, *, wait: timedelta) -> JobRef | None:
        """Raise the fence and let the same step begin again; None when the job moved meanwhile.

        A step that had not begun has cost no worker: its worker is busy, or its message was lost.
        """
        with self._database.transaction() as cursor:
            row = cursor.execute(
                "UPDATE job SET fence = fence + 1, state = 'waiting',"
                " losses = losses + (state = 'running')::int,"
                " waiting_since = clock_timestamp(), step_due_at = clock_timestamp() + %s"
                " WHERE id = %s AND fence = %s AND step = %s AND state = %s"
                " RETURNING fence, attempt",
                (wait, stalled.job, stalled.fence, stalled.step, stalled.state),
            ).fetchone()
            if row is None:
                return None
            cursor.execute(
                "UPDATE step SET state = 'interrupted', ended_at = clock_timestamp()"
                " WHERE job = %s AND attempt = %s AND name = %s AND state = 'running'",
                (stalled.job, row["attempt"], stalled.step),
            )
            cursor.execute(
                "UPDATE lease SET fence = %s WHERE job = %s", (row["fence"], stalled.job)
            )
        return JobRef(job=stalled.job, fence=row["fence"])

    def begin_again(self, stalled: Stalled) -> bool:
        """Queue the job for a new attempt on any node; return whether it was still the same."""
        with self._database.transaction() as cursor:
            row = cursor.execute(
                "UPDATE job SET fence = fence + 1, state = 'queued', step = NULL,"
                " losses = losses + 1, step_due_at = NULL, published_at = NULL WHERE id = %s"
                " AND fence = %s AND step = %s AND state = %s RETURNING attempt",
                (stalled.job, stalled.fence, stalled.step, stalled.state),
            ).fetchone()
            if row is not None:
                cursor.execute(
                    "UPDATE attempt SET state = 'lost', ended_at = clock_timestamp()"
                    " WHERE job = %s AND n = %s",
                    (stalled.job, row["attempt"]),
                )
                cursor.execute(
                    "UPDATE step SET state = 'interrupted', ended_at = clock_timestamp()"
                    " WHERE job = %s AND attempt = %s AND state = 'running'",
                    (stalled.job, row["attempt"]),
                )
                cursor.execute("DELETE FROM lease WHERE job = %s", (stalled.job,))
        return row is not None

    def to_publish(self, *, broker_since: datetime | None = None) -> list[tuple[UUID, JobKind]]:
        """Mark and return the jobs whose entry message must be sent (again).

        Queued ones that nobody claimed, and failed ones whose next attempt is due. A worker that
        was started since the message was sent may have taken it along when it died, and so may a
        broker, which was started at ``broker_since``.
        """
        with self._database.transaction() as cursor:
            cursor.execute(
                "UPDATE job SET state = 'queued', published_at = NULL, retry_at = NULL,"
                " ended_at = NULL WHERE state = 'failed' AND retry_at <= clock_timestamp()"
            )
            rows = cursor.execute(
                "UPDATE job SET published_at = clock_timestamp() WHERE state = 'queued'"  # noqa: S608 - constant columns
                " AND (coalesce(published_at, created_at - %(after)s)"
                " <= clock_timestamp() - %(after)s"
                " OR published_at < %(broker)s::timestamptz"
                " OR EXISTS (SELECT 1 FROM worker WHERE started_at > published_at"
                f" AND name LIKE {_ROLE} || '.%%')) RETURNING id, kind",
                {"after": REPUBLISH_AFTER, "broker": broker_since},
            ).fetchall()
        return [(row["id"], row["kind"]) for row in rows]

    def step_not_sent(self, ref: JobRef) -> None:
        """Note that a step's message could not be sent, so that the next tick sends it."""
        self._database.execute(
            "UPDATE job SET step_due_at = clock_timestamp() WHERE id = %s AND fence = %s"
            " AND state = 'waiting'",
            (ref.job, ref.fence),
        )

    def tick_is_overdue(self, silence: timedelta = BEAT_SILENCE) -> bool:
        """Return whether no tick has run for longer than beat may be silent."""
        row = self._database.fetch_one(
            "SELECT 1 FROM worker WHERE name = %s"
            " AND greatest(heartbeat_at, pg_postmaster_start_time()) > clock_timestamp() - %s",
            (TICK, silence),
        )
        return row is None

"""The reconciler: what the broker lost, the ledger gives back. Every minute, cheap, idempotent.

Two ticks at once, two beats, a lost schedule file or a lost broker change nothing but time: every
change is one conditional UPDATE, and every message reaches the same row.
"""

from __future__ import annotations

import structlog
from celery import Celery

from pgben_tasks import canvases, runtime
from pgben_tasks.adapters.catalog.locks import is_free, job_lock
from pgben_tasks.adapters.catalog.recovery import TICK, Stalled
from pgben_tasks.contracts import JSON, BackupRequest, Request, VerifyRequest
from pgben_tasks.domain.job import Job, window_key
from pgben_tasks.errors import PgbenError

log = structlog.get_logger(__name__)


def tick(work: runtime.Workplace, app: Celery) -> JSON:
    """Do what is due at this moment; returns how much of each was done."""
    work.recovery.show_life([TICK])
    due = sum(_begin_window(work, kind, target) for kind, target in work.timetable())
    taken = sum(_revive(work, app, one) for one in work.recovery.stalled())
    published = 0
    for job_id, _ in work.recovery.to_publish():
        publish(app, work.ledger.job(job_id))
        published += 1
    try:
        audited = work.trail.store_missing()
    except PgbenError as exc:
        log.warning("audit_not_stored", why=exc.sentence)
        audited = 0
    done = {"windows": due, "taken_over": taken, "published": published, "audited": audited}
    if any(done.values()):
        log.info("ticked", **done)
    return done


def publish(app: Celery, job: Job) -> None:
    """Send the entry message of a queued job; the ledger has its request."""
    entry, queue = canvases.ENTRIES[job.kind]
    request = {**job.request, "scheduled": False} if "scheduled" in job.request else job.request
    app.send_task(
        entry, args=({**request, "idempotency_key": job.key},), queue=queue, task_id=job.root_task
    )
    log.info("job_published", job=str(job.id), key=job.key)


def _begin_window(work: runtime.Workplace, kind: str, target: str) -> int:
    """Write the job of the due window unless it is there; ``to_publish`` sends it."""
    schedule = work.schedule(kind, target)
    window = schedule.due(work.tools.clock.now(), work.tools.catch_up) if schedule else None
    if window is None:
        return 0
    request: Request
    if kind == "backup":
        request = BackupRequest(target=target, requested_by="schedule")
    else:
        request = VerifyRequest(level="full", requested_by="schedule")
    _, new = work.ledger.request(
        kind,  # type: ignore[arg-type]
        target=target,
        key=window_key(kind, target, window),
        request=request.model_dump(mode="json"),
        requested_by="schedule",
        window=window,
    )
    return int(new)


def _revive(work: runtime.Workplace, app: Celery, stalled: Stalled) -> int:
    """Let a job go on where it stood when its node lives, else begin it again on any node."""
    if not is_free(work.database, job_lock(stalled.job)):
        # Its process lives and is only cut off from the catalog; it will be heard of again.
        return 0
    if stalled.node_alive:
        ref = work.recovery.take_over(stalled, wait=work.step_wait)
        if ref is None:
            return 0
        job = work.ledger.job(stalled.job)
        canvases.build(
            app,
            job.kind,
            ref.to_json(),
            node=stalled.node,
            start=stalled.step,
            root_task=job.root_task,
        ).apply_async()
        log.warning("step_taken_over", job=str(job.id), step=stalled.step, why=stalled.why)
        return 1
    if not work.recovery.begin_again(stalled):
        return 0
    publish(app, work.ledger.job(stalled.job))
    log.warning("job_begun_again", job=str(stalled.job), step=stalled.step, why=stalled.why)
    return 1

"""Call a job off, or give it a new attempt: the ledger's row first, then whoever waits for it."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from typing import TYPE_CHECKING

from pgben_tasks.cli.ask.enqueue import requester
from pgben_tasks.cli.view import output
from pgben_tasks.domain.job import Job, uncancellable, unrepeatable
from pgben_tasks.errors import JobCancelled, RequestRefused, TransientError

if TYPE_CHECKING:
    from pgben_tasks.runtime import Workplace


def cancel(work: Workplace, job: Job) -> Job:
    """Call ``job`` off and give it as the ledger has it then.

    Nobody takes it up again by itself. A step that runs learns of it with its next heartbeat, stops
    and removes what it made. Raises ``RequestRefused`` when the job has ended.
    """
    from pgben_tasks.tasks.failures import described

    swapped = work.swaps.swap_of_job(job.id)
    if swapped is not None and swapped.state in {"intended", "done"}:
        doing = "changes" if swapped.state == "intended" else "has changed"
        raise RequestRefused(
            f"job '{job.id}' {doing} '{swapped.live}' already, so it is too late to cancel it",
            f"let it end; `pgben undo {job.id} --confirm {swapped.live}` turns it back",
        )
    who = requester()
    error = JobCancelled(
        f"job '{job.id}' was cancelled by '{who}'", f"`pgben jobs retry {job.id}` begins it again"
    )
    if not work.ledger.cancel(job.id, error=described(error, job.step or "")):
        now = work.ledger.job(job.id)
        raise RequestRefused(
            uncancellable(now) or f"job '{job.id}' had ended",
            "only a job that is queued, running, waiting or to be tried again can be cancelled",
        )
    work.audit(job, result="cancelled", detail=error.sentence, who=who)
    if job.root_task is not None:
        _tell(work, job.root_task, error)
    return work.ledger.job(job.id)


def retry(work: Workplace, job: Job) -> Job:
    """Queue a failed or cancelled ``job`` for a new attempt, under its key and window.

    Raises ``RequestRefused`` for any other, and when the request itself was the fault. A broker
    that is away is said and no failure: the reconciler sends the message as soon as it is back.
    """
    from pgben_tasks.client import Client
    from pgben_tasks.contracts import request_model

    why = unrepeatable(job)
    if why is None:
        request = request_model(job.kind, job.target).parse(job.request_again)
        if not work.ledger.queue_again(job.id):
            why = f"job '{job.id}' was begun again by somebody else"
    if why is not None:
        raise RequestRefused(why, "`pgben jobs` shows it; ask for a new job instead")
    work.audit(job, result="queued again", who=requester())
    try:
        Client(_broker(work)).send(job.kind, request, task_id=job.root_task)
    except TransientError as exc:
        output.say(f"{exc.sentence}; the reconciler sends it when the broker is back")
    else:
        work.ledger.postpone(job.id)
    return work.ledger.job(job.id)


def _tell(work: Workplace, task_id: str, error: JobCancelled) -> None:
    """Tell whoever waits for the job's result; a broker that is away keeps nothing from it."""
    from pgben_tasks.client import Client

    try:
        Client(_broker(work)).tell_end(task_id, error)
    except TransientError as exc:
        output.say(f"{exc.sentence}, so whoever waits for this job's result does not know yet")


def _broker(work: Workplace) -> str:
    return work.settings.redis_url.get_secret_value()

"""How a job is cancelled, for the command line and for the task of services."""

# ruff: noqa: PLC0415 - a process that only asks whether a worker is ready needs no Celery

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pgben_tasks.domain.failures import error_record
from pgben_tasks.domain.job import Job, uncancellable
from pgben_tasks.domain.swap import way_back, way_back_of
from pgben_tasks.errors import (
    ConfigurationError,
    JobCancelled,
    PgbenError,
    RequestRefused,
    TransientError,
)
from pgben_tasks.events import NO_WORKER
from pgben_tasks.runtime.process import Workplace

#: What happens to a job whose step runs.
STOPS: Final = (
    "its step stops within seconds and removes what it made; packs that it stored without a "
    "manifest stay until they are swept"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What a cancelled job leaves: databases that it replaced, and what turns that back."""

    replaced: tuple[str, ...] = ()
    way_back: str = ""


def cancel_job(
    work: Workplace, job: Job, *, who: str, hostname: str = NO_WORKER
) -> tuple[Job, PgbenError | None]:
    """Cancel ``job``; return it as the ledger has it then, and why callers could not be told.

    Nothing begins it again by itself. A step that runs learns of it with its next heartbeat, stops
    and removes what it made. ``who`` stands in the audit trail; ``hostname`` is Celery's name of
    the worker that does so. Raises ``RequestRefused`` when the job has ended.
    """
    swapped = work.swaps.swap_of_job(job.id)
    if swapped is not None and swapped.state in {"intended", "done"}:
        raise RequestRefused(
            f"job '{job.id}' changes '{swapped.live}' already, so it is too late to cancel it"
            if swapped.state == "intended"
            else f"job '{job.id}' has changed '{swapped.live}', so it is too late to cancel it",
            way_back(swapped) if job.ended else f"let it end; {way_back(swapped)}",
        )
    error = JobCancelled(
        f"job '{job.id}' was cancelled by '{who}'", f"`pgben jobs retry {job.id}` begins it again"
    )
    if not work.ledger.cancel(job.id, error=error_record(error, job.step or "")):
        now = work.ledger.job(job.id)
        raise RequestRefused(
            uncancellable(now) or f"job '{job.id}' had ended",
            "only a job that is queued, running, waiting or to be tried again can be cancelled",
        )
    work.audit(job, result="cancelled", detail=error.sentence, who=who)
    untold = None if job.root_task is None else _tell(work, job.root_task, error, hostname)
    return work.ledger.job(job.id), untold


def remains(work: Workplace, job: Job) -> Remains:
    """Return what stays replaced by a cancelled job: a restore of everything may have swapped."""
    if job.kind != "restore_all":
        return Remains()
    swaps = work.swaps.of_parts([job.id]).get(job.id, [])
    stay = [one for one in swaps if one.state == "done" and one.aside is not None]
    if not stay:
        return Remains()
    return Remains(replaced=tuple(one.live for one in stay), way_back=way_back_of(job.id, stay))


def _tell(work: Workplace, task_id: str, error: JobCancelled, hostname: str) -> PgbenError | None:
    """Write the job's end to the broker, for callers that wait; one that is away is no failure."""
    from pgben_tasks.client import Client

    try:
        Client(work.settings.redis_url.get_secret_value()).tell_end(
            task_id, error, hostname=hostname
        )
    except (ConfigurationError, TransientError) as exc:
        return exc
    return None

"""What is told of an end: to callers, the ledger, the result backend and Flower.

A stranger's message may hold anything, so of an error that is not ours only the type is told.
"""

from __future__ import annotations

from pgben_tasks import errors
from pgben_tasks.contracts import JSON, JobOutcome
from pgben_tasks.domain.job import Job
from pgben_tasks.errors import IntegrityError, PermanentError, PgbenError


def outcome(job: Job) -> JSON:
    """Return what callers of an ended job receive."""
    return JobOutcome(
        job=job.id,
        state=job.state,
        target=job.target,
        backup=job.backup,
        ended=job.ended_at,
        result=job.result,
    ).to_json()


def sentence(error: Exception) -> str:
    """Return one sentence for an error; of an error that is not ours, only its type."""
    if isinstance(error, PgbenError):
        return error.sentence
    return f"an unexpected {type(error).__name__} ended the step"


def told(error: Exception) -> PgbenError:
    """Return what the result backend and Flower may hold of an error."""
    if isinstance(error, PgbenError):
        return error
    return PermanentError(sentence(error), "the worker's log has the traceback")


def final(job: Job, error: Exception) -> bool:
    """Say that trying again cannot help: a verification that found damage has done its work."""
    return job.kind == "verify" and isinstance(error, IntegrityError)


def described(error: Exception, step: str) -> JSON:
    """Describe an error for the ledger."""
    hint = error.hint if isinstance(error, PgbenError) else "the worker's log has the traceback"
    return {
        "type": type(error).__name__,
        "sentence": sentence(error),
        "hint": hint,
        "step": step,
    }


def rebuilt(job: Job) -> PgbenError:
    """Rebuild the error that ended a job."""
    recorded = job.error or {}
    kind = errors.named(str(recorded.get("type"))) or errors.PermanentError
    return kind(
        str(recorded.get("sentence", f"job '{job.id}' {job.state}")),
        str(recorded.get("hint", "")),
    )

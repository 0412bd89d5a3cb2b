"""How a job that failed is recorded, shown and raised again.

A stranger's message may hold anything, so of an error that is not ours only the type is shown.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pgben_tasks import errors
from pgben_tasks.domain.job import Job
from pgben_tasks.errors import (
    IntegrityError,
    NotRestorable,
    PermanentError,
    PgbenError,
    RequestRefused,
)

_UNEXPECTED_HINT: Final = "the worker's log has the traceback"


def failed_state(error: Exception) -> Literal["failed", "refused"]:
    """Return the state of a job that an error ended."""
    return "refused" if isinstance(error, RequestRefused) else "failed"


def as_public_error(error: Exception) -> PgbenError:
    """Return the error that the result backend and Flower may hold."""
    if isinstance(error, PgbenError):
        return error
    return PermanentError(f"an unexpected {type(error).__name__} ended the step", _UNEXPECTED_HINT)


def public_sentence(error: Exception) -> str:
    """Return the sentence of an error as people may read it."""
    return as_public_error(error).sentence


def is_final(job: Job, error: Exception) -> bool:
    """Return whether a new attempt cannot help.

    A verification that found damage is done, and another dump needs the same missing client.
    """
    damage = job.kind == "verify" and isinstance(error, IntegrityError)
    return damage or isinstance(error, NotRestorable)


def error_record(error: Exception, step: str) -> dict[str, Any]:
    """Return what the ledger keeps of an error that ended a job in ``step``."""
    public = as_public_error(error)
    return {
        "type": type(error).__name__,
        "sentence": public.sentence,
        "hint": public.hint,
        "step": step,
    }


def recorded_error(job: Job) -> PgbenError:
    """Return the error that ended a job, from what the ledger kept of it."""
    recorded = job.error or {}
    kind = errors.error_class(str(recorded.get("type"))) or PermanentError
    return kind(
        str(recorded.get("sentence", f"job '{job.id}' {job.state}")),
        str(recorded.get("hint", "")),
    )

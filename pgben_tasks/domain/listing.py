"""What lists show of jobs, backups and recovery points, as JSON. Pure.

The command line prints these documents, and the tasks `pgben.catalog.*` answer with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.job import Job, StepRun
from pgben_tasks.domain.swap import SwapState
from pgben_tasks.redaction import HIDDEN

if TYPE_CHECKING:
    from pgben_tasks.domain.points import KnownPoint

#: States of a swap whose names were exchanged.
_SWAPPED: Final = frozenset({"done", "undone", "dropped"})
#: Fields of requests that may name people, or tell of them.
_PERSONAL: Final = ("keys", "prefix", "put_below", "reason")
#: Where a job's document has sentences, and names that somebody chose.
_PROSE: Final = ("error", "result")
#: What no key, prefix or reason stands in: moments, ids of backups and jobs, targets.
_NO_PROSE: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|[+-]\d\d:\d\d)?|\d{8}T\d{6}Z-[0-9a-f]{6}"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?:postgres|bucket)/\S+"
)
#: A shorter value may be a part of any word, so it is hidden between quotes only.
_SHORT: Final = 4
#: A page of a list ends early rather than being larger than this.
PAGE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of `pgben list`; sizes in bytes, None where a manifest cannot be believed.

    ``hold`` is what keeps it from being pruned now.
    """

    target: str
    backup: str
    state: str
    needs: str | None = None
    suspect: str | None = None
    acknowledged: bool = False
    taken: datetime | None = None
    stored_bytes: int | None = None
    tables: int | None = None
    rows: int | None = None
    objects: int | None = None
    verified_at: datetime | None = None
    hold: Hold | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        moments = {"taken": _moment(self.taken), "verified_at": _moment(self.verified_at)}
        return {**asdict(self), **moments, "hold": self.hold and self.hold.to_json()}


def moment_text(at: datetime) -> str:
    """Write a moment in UTC: ``2026-11-23T05:00:00Z``."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def job_document(
    job: Job, steps: Sequence[StepRun] = (), *, swap: SwapState | None = None
) -> dict[str, Any]:
    """Return a job as JSON; ``swap`` is what became of its swap."""
    took = time_taken(job)
    return {
        "job": str(job.id),
        "kind": job.kind,
        "target": job.target,
        "state": job.state,
        "attempt": job.attempt,
        "step": job.step,
        "backup": job.backup,
        "requested_by": job.requested_by,
        "created_at": moment_text(job.created_at),
        "started_at": _moment(job.started_at),
        "ended_at": _moment(job.ended_at),
        "retry_at": _moment(job.retry_at),
        "seconds": None if took is None else round(took.total_seconds(), 3),
        "result": true_result(job),
        "restored": restored(job, swap),
        "error": job.error,
        "progress": None if job.ended else job.progress,
        "steps": [
            {
                "name": step.name,
                "attempt": step.attempt,
                "state": step.state,
                "node": step.node,
                "seconds": None if step.seconds is None else round(step.seconds, 3),
            }
            for step in steps
        ],
    }


def impersonal(document: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job's document without what its request says of people.

    Texts of its error and its result may repeat keys, prefixes and reasons; each is hidden there.
    Moments, ids and targets are none, whatever a prefix looks like.
    """
    values: set[str] = set()
    for field in _PERSONAL:
        value = request.get(field) or ()
        values |= {value} if isinstance(value, str) else set(value)
    if not values:
        return dict(document)
    # The longest first: a prefix may be the beginning of a key.
    ordered = sorted(values, key=len, reverse=True)
    found = re.compile("|".join(_mention(value) for value in ordered))
    hidden = {name: _replaced(document[name], found) for name in _PROSE if name in document}
    return {**document, **hidden}


def point_document(one: KnownPoint, now: datetime) -> dict[str, Any]:
    """Return a recovery point as JSON; holds as they are ``now``."""
    held = one.hold_at(now)
    return {
        "id": str(one.id),
        "state": one.state,
        "moment": moment_text(one.moment),
        "formed": moment_text(one.started),
        "job": one.job,
        "hold": held and held.to_json(),
        "members": [
            {
                "target": member.target,
                "backup": member.backup,
                "state": state,
                "snapshot_time": moment_text(member.snapshot_time),
            }
            for member, state in zip(one.members, one.states, strict=True)
        ],
        "check": one.check and one.check.model_dump(exclude={"faults"}),
        "faults": one.faults if one.check else None,
    }


def page(documents: Iterable[dict[str, Any]], limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Return the first ``limit`` documents, and whether there are more.

    It is fewer where these would be large; one is always returned.
    """
    chosen: list[dict[str, Any]] = []
    size = 0
    for document in documents:
        size += len(json.dumps(document))
        if len(chosen) == limit or (chosen and size > PAGE_BYTES):
            return chosen, True
        chosen.append(document)
    return chosen, False


def true_result(job: Job) -> dict[str, Any]:
    """Return a job's result; of a restore that did not succeed, without a place that is not there.

    The first step names the place that is meant: it is there from a database's last step on (or
    from the swap), and a bucket from the first object on.
    """
    if job.state == "succeeded" or not job.ended:
        return job.result
    begun = "database" in job.result or "written" in job.result or "copying" in job.context
    return {key: value for key, value in job.result.items() if begun or key != "into"}


def restored(job: Job, swap: SwapState | None) -> dict[str, str] | None:
    """Return what a restore did: how, and into which database or bucket.

    ``swap`` is what became of its swap. None for other jobs, and for a restore that did nothing or
    has not ended.
    """
    if job.kind != "restore" or not (job.state == "succeeded" or swap in _SWAPPED):
        return None
    into = str(job.result.get("into") or job.target.partition("/")[2])
    if swap == "undone":
        return {"how": "undone", "into": into}
    replaced = job.request.get("in_place") or job.request.get("swap")
    return {"how": "in place" if replaced else "beside", "into": into}


def time_taken(job: Job) -> timedelta | None:
    """Return how long an ended job took; None while it has not ended."""
    if job.ended_at is None:
        return None
    return job.ended_at - (job.started_at or job.created_at)


def _moment(at: datetime | None) -> str | None:
    return None if at is None else moment_text(at)


def _mention(value: str) -> str:
    """Return a pattern of how a value stands in a sentence: as it is, or as Python writes it."""
    forms = {value, repr(value)[1:-1]}
    if len(value) < _SHORT:
        return "|".join(f"(?<=['\"]){re.escape(form)}(?=['\"])" for form in forms)
    return "|".join(re.escape(form) for form in forms)


def _replaced(value: Any, found: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return value if _NO_PROSE.fullmatch(value) else found.sub(HIDDEN, value)
    if isinstance(value, Mapping):
        return {key: _replaced(one, found) for key, one in value.items()}
    return [_replaced(one, found) for one in value] if isinstance(value, list | tuple) else value

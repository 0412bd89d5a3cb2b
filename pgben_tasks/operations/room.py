"""Whether a backup fits, before anything of it is written; and what is done when it does not.

What a run needs is known from earlier nights alone (``domain/space``). Where even the largest of
them and a margin fits, nothing is done. Else retention and sweep of the target run first, as jobs
of the worker that may remove things; then it is measured again. Refused is only a run of which
even the smallest of the earlier nights does not fit, and would not when no other job runs: one that
finds too little room left by others fails for now, and is tried again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from pgben_tasks.contracts import PruneRequest, SweepRequest
from pgben_tasks.domain.job import Job, JobKind
from pgben_tasks.domain.space import Place, Shortage, Usage, need
from pgben_tasks.errors import JobNotFound, RoomRefused, StepWaits
from pgben_tasks.language import size
from pgben_tasks.operations import spool
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)

#: A job that nobody began after this is not waited for: no maintenance worker is there.
BEGINS_WITHIN: Final = timedelta(minutes=10)
#: Why a job that was to make room does nothing.
NOT_AWAITED: Final = "the backup that asked for room does not wait for it any more"
#: What makes room, in this order.
_MAKING_ROOM: Final[tuple[JobKind, ...]] = ("prune", "sweep")


def require_room(run: Run, tools: Toolbox) -> int | None:
    """Return the most that the run will hold in the spool by earlier nights, None if there is none.

    Raises ``StepWaits`` while retention and sweep make room first, and ``RoomRefused`` when the run
    surely does not fit after that. What is not known refuses nothing.
    """
    nights = tools.jobs.nights(run.target)
    peak, added = need(one.spool for one in nights), need(one.repository for one in nights)
    likely = list(
        _shortages(
            tools,
            spool_bytes=None if peak is None else peak.likely,
            new_bytes=None if added is None else added.likely,
        )
    )
    if likely and not _made_room(run, tools):
        raise StepWaits(f"waits for room: retention and sweep of '{run.target}' run first")
    if likely:
        surely = _shortages(
            tools,
            spool_bytes=None if peak is None else peak.surely,
            new_bytes=None if added is None else added.surely,
            alone=True,
        )
        for short in surely:
            raise _refusal(run, short)
        log.warning("room_is_short", needed=likely[0].needed, free=likely[0].free)
    return None if peak is None else peak.likely


def is_awaited(run: Run, tools: Toolbox) -> bool:
    """Return whether the backup that asked for this job, to have room, still waits for its end.

    Under the target's lock, so that it cannot go on meanwhile. A job that nobody asked for as a
    part is wanted for its own sake.
    """
    part_of = run.job.request.get("part_of")
    if part_of is None:
        return True
    try:
        whole = tools.jobs.job(UUID(part_of))
    except JobNotFound:
        return False
    asked = whole.context.get("room", {"jobs": ()})
    if whole.target != run.job.target or run.job.key not in asked["jobs"]:
        return False
    return whole.state == "waiting" and whole.step == asked["step"]


def _shortages(
    tools: Toolbox, *, spool_bytes: int | None, new_bytes: int | None, alone: bool = False
) -> Iterator[Shortage]:
    """Yield what is too small; ``alone`` is how it will be when no other job holds the spool."""
    if spool_bytes is not None:
        others = spool.jobs(tools.spool) if alone else ()
        found = spool.usage(tools.spool, limit=tools.limits.spool_limit, running=others)
        if alone:
            found = Usage(used=found.settled, capacity=found.capacity)
        yield from _short("spool", str(tools.spool), spool_bytes, found)
    if new_bytes is not None and (stored := _repository(tools)) is not None:
        yield from _short("repository", tools.repository.describe(), new_bytes, stored)


def _short(place: Place, where: str, needed: int, usage: Usage) -> Iterator[Shortage]:
    if usage.free is not None and usage.capacity is not None and needed > usage.free:
        yield Shortage(
            place=place, where=where, needed=needed, free=usage.free, capacity=usage.capacity
        )


def _repository(tools: Toolbox) -> Usage | None:
    """Return how full the repository is; None where nobody said how much it may hold."""
    volume = tools.repository.volume()
    quota = tools.limits.repository_quota
    if volume is not None or quota is None:
        return volume
    return Usage(used=tools.repository.stored_bytes(), capacity=quota)


def _made_room(run: Run, tools: Toolbox) -> bool:
    """Return whether all that makes room has ended; one after the other is asked for."""
    keys = {
        kind: f"{kind}:{run.target}:room:{run.job_id}:{run.job.attempt}" for kind in _MAKING_ROOM
    }
    if "room" not in run.context:
        # Before they are asked for: they are refused where this job does not name them.
        asked = {"step": run.job.step, "jobs": list(keys.values())}
        run.ledger.keep(context={"room": asked})
    for kind, key in keys.items():
        job = tools.jobs.by_key(key) or _ask(run, tools, kind, key)
        if not (job.ended or _nobody_begins(job, tools)):
            return False
    return True


def _ask(run: Run, tools: Toolbox, kind: JobKind, key: str) -> Job:
    model = PruneRequest if kind == "prune" else SweepRequest
    who = run.job.requested_by
    asked = model(target=str(run.target), part_of=run.job_id, requested_by=who)
    job, _ = tools.jobs.request(
        kind,
        target=str(run.target),
        key=key,
        request=asked.model_dump(mode="json"),
        requested_by=who,
    )
    log.info("room_asked_for", kind=kind, asked=str(job.id))
    return job


def _nobody_begins(job: Job, tools: Toolbox) -> bool:
    return job.state == "queued" and tools.clock.now() - job.created_at > BEGINS_WITHIN


def _refusal(run: Run, short: Shortage) -> RoomRefused:
    needed, free, capacity = size(short.needed), size(short.free), size(short.capacity)
    if short.place == "spool":
        return RoomRefused(
            f"the backup of '{run.target}' does not fit into the spool '{short.where}': by earlier "
            f"nights it needs {needed} at least, and {free} of {capacity} are free",
            "make room below PGBEN_SPOOL_DIR, use a larger volume, or raise PGBEN_SPOOL_LIMIT; "
            f"then `pgben backup {run.target}`",
        )
    return RoomRefused(
        f"the backup of '{run.target}' does not fit into the repository '{short.where}': by "
        f"earlier nights it needs {needed} at least, and {free} of {capacity} are free after "
        "retention and sweep",
        "enlarge its volume or quota (PGBEN_REPOSITORY_QUOTA), or keep less with "
        f"PGBEN_RETENTION_DAYS; then `pgben backup {run.target}`",
    )

"""What every step of every chain does, and the one function that runs a step.

In which order a chain's steps run, and where, is ``canvases.CHAINS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from pgben_tasks import names
from pgben_tasks.contracts import (
    JSON,
    BucketRestoreRequest,
    PruneRequest,
    ReportRequest,
    Request,
    RestoreAllRequest,
    RestoreRequest,
    SweepRequest,
    UndoAllRequest,
)
from pgben_tasks.domain.buckets.capture import places
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.swap import restored_name
from pgben_tasks.domain.target import Target, check_name
from pgben_tasks.operations import report, spool
from pgben_tasks.operations.buckets import (
    backup as backup_bucket,
    in_place,
    restore as restore_bucket,
)
from pgben_tasks.operations.points import form as form_point, restore as restore_point
from pgben_tasks.operations.postgres import (
    backup as backup_postgres,
    restore as restore_postgres,
    swap as swap_postgres,
)
from pgben_tasks.operations.repository import acknowledge, commit, hold, prune, sweep, verify
from pgben_tasks.operations.toolbox import JobRow, Run, Toolbox
from pgben_tasks.ports import Progress, Sharing

Operation = Callable[[Run, Toolbox], JSON]
LockNames = tuple[tuple[Literal["write", "read", "live"], bool], ...]

#: The repository's side of the target is this job's alone.
_WRITE: Final[LockNames] = (("write", False),)
#: While dumping, nobody may swap the live database.
_WRITE_AND_LIVE: Final[LockNames] = (("write", False), ("live", True))
#: While packs are read, nothing may be pruned.
_READ: Final[LockNames] = (("read", True),)
#: While the live database is replaced, nobody may dump it.
_LIVE: Final[LockNames] = (("live", False),)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step does, and which locks of its target it holds meanwhile: (kind, shared)."""

    operation: Operation
    locks: LockNames = ()


#: Every step by the name of its task.
STEPS: Final[Mapping[str, Step]] = {
    names.BACKUP_POSTGRES_DUMP: Step(backup_postgres.dump, _WRITE_AND_LIVE),
    names.BACKUP_POSTGRES_CHECKSUM: Step(backup_postgres.checksum, _WRITE),
    names.BACKUP_POSTGRES_UPLOAD: Step(backup_postgres.upload, _WRITE),
    names.BACKUP_POSTGRES_PRUNE: Step(prune.after_backup, _WRITE),
    names.BACKUP_POSTGRES_RECORD: Step(commit.record, _WRITE),
    names.BACKUP_BUCKET_SNAPSHOT: Step(backup_bucket.snapshot, _WRITE_AND_LIVE),
    names.BACKUP_BUCKET_COPY: Step(backup_bucket.copy, _WRITE_AND_LIVE),
    names.BACKUP_BUCKET_CHECKSUM: Step(backup_bucket.checksum, _WRITE),
    names.BACKUP_BUCKET_UPLOAD: Step(backup_bucket.upload, _WRITE),
    names.BACKUP_BUCKET_PRUNE: Step(acknowledge.then_prune, _WRITE),
    names.BACKUP_BUCKET_RECORD: Step(commit.record, _WRITE),
    # What they read and wait for is other jobs' work, under the locks of those.
    names.BACKUP_ALL_DATABASES: Step(form_point.databases),
    names.BACKUP_ALL_BUCKETS: Step(form_point.buckets),
    names.BACKUP_ALL_JOIN: Step(form_point.join),
    names.BACKUP_ALL_RECORD: Step(form_point.record),
    names.RESTORE_POSTGRES_SELECT: Step(restore_postgres.select, _READ),
    names.RESTORE_POSTGRES_FETCH: Step(restore_postgres.fetch, _READ),
    names.RESTORE_POSTGRES_LOAD: Step(restore_postgres.load),
    names.RESTORE_POSTGRES_CHECK: Step(restore_postgres.check),
    names.RESTORE_POSTGRES_SWAP: Step(swap_postgres.swap, _LIVE),
    names.RESTORE_POSTGRES_FINISH: Step(restore_postgres.finish),
    names.RESTORE_BUCKET_SELECT: Step(restore_bucket.select, _READ),
    names.RESTORE_BUCKET_PLAN: Step(restore_bucket.plan, _READ),
    names.RESTORE_BUCKET_COPY: Step(restore_bucket.copy, _READ),
    names.RESTORE_BUCKET_FINISH: Step(restore_bucket.finish),
    names.RESTORE_BUCKET_REPLACE_PLAN: Step(in_place.plan, _READ),
    names.RESTORE_BUCKET_REPLACE_ADD: Step(in_place.add, _READ),
    names.RESTORE_BUCKET_REPLACE_ASIDE: Step(in_place.aside, _READ),
    names.RESTORE_BUCKET_REPLACE_WRITE: Step(in_place.write, _READ + _LIVE),
    names.RESTORE_BUCKET_REPLACE_FINISH: Step(in_place.finish, _LIVE),
    # What they ask for and wait for is other jobs' work, under the locks of those.
    names.RESTORE_ALL_SELECT: Step(restore_point.select),
    names.RESTORE_ALL_DATABASES: Step(restore_point.databases),
    names.RESTORE_ALL_BUCKETS: Step(restore_point.buckets),
    names.RESTORE_ALL_CHECK: Step(restore_point.check),
    names.RESTORE_ALL_SWAP: Step(restore_point.swap),
    names.RESTORE_ALL_OBJECTS: Step(restore_point.objects),
    names.RESTORE_ALL_FINISH: Step(restore_point.finish),
    names.UNDO_RUN_FINISH: Step(swap_postgres.undo, _LIVE),
    names.UNDO_ALL_FINISH: Step(restore_point.undo),
    names.VERIFY_RUN_EXAMINE: Step(verify.examine, _READ),
    names.VERIFY_RUN_FINISH: Step(verify.finish),
    names.PRUNE_RUN_FINISH: Step(prune.on_demand, _WRITE),
    names.ACKNOWLEDGE_RUN_FINISH: Step(acknowledge.finish),
    # Meanwhile nothing is pruned, so that a hold is seen before the backup is removed.
    names.HOLD_RUN_FINISH: Step(hold.finish, _READ),
    names.SWEEP_RUN_FINISH: Step(sweep.finish, _WRITE),
    names.REPORT_RUN_FINISH: Step(report.finish),
}

#: What a step does in one chain only, where two chains share its name.
STEPS_OF_CHAIN: Final[Mapping[tuple[str, str], Step]] = {
    ("existing", names.BACKUP_POSTGRES_RECORD): Step(hold.answer, _READ),
    ("existing_bucket", names.BACKUP_BUCKET_RECORD): Step(hold.answer, _READ),
    ("swap", names.RESTORE_POSTGRES_SELECT): Step(swap_postgres.select, _READ),
    ("swap", names.RESTORE_POSTGRES_FINISH): Step(swap_postgres.finish),
    ("replace", names.RESTORE_BUCKET_SELECT): Step(restore_bucket.select_in_place, _READ),
    ("replace_part", names.RESTORE_BUCKET_SELECT): Step(restore_bucket.select_in_place, _READ),
    ("replace_part", names.RESTORE_BUCKET_REPLACE_ASIDE): Step(in_place.aside_in_turn, _READ),
}


#: What a further attempt of a restore of everything finds of the one before.
_KEPT_OF_ALL: Final = ("point", "moment", "faults", "members", "parts")
#: … and one of a report: the report itself, and whether its mail went.
_KEPT_OF_REPORT: Final = ("report", "mailed")


def first_context(
    target: str, request: Request, *, now: datetime, kept: Mapping[str, Any] = MappingProxyType({})
) -> JSON:
    """Return what the first step of a job finds.

    ``now`` is local to the reader of names. A further attempt takes the names of the one before,
    whose context is ``kept``: what that one left under them is found, and removed or gone on with.
    """
    if isinstance(request, RestoreRequest):
        into = request.into or kept.get("into") or restored_name(Target.parse(target).name, now)
        return {"into": check_name(into)}
    if isinstance(request, BucketRestoreRequest):
        return places(target, now, into=request.into, in_place=request.in_place, kept=kept)
    if isinstance(request, RestoreAllRequest | UndoAllRequest):
        return {name: kept[name] for name in _KEPT_OF_ALL if name in kept}
    if isinstance(request, ReportRequest):
        return {name: kept[name] for name in _KEPT_OF_REPORT if name in kept}
    return {}


def lease_of(job: Job, request: Request, context: JSON) -> tuple[str, str]:
    """Return what a job owns from claim to end: (target, kind)."""
    if isinstance(request, RestoreRequest):
        return (job.target, "swap") if request.swap else (f"postgres/{context['into']}", "new")
    if isinstance(request, BucketRestoreRequest):
        # A bucket that is written to in place is there already, under its own name.
        return f"bucket/{context['into']}", "replace" if request.in_place else "new"
    if isinstance(request, PruneRequest | SweepRequest) and request.part_of is not None:
        # The backup that waits for it has the target, and the step looks whether that is so.
        return job.target, job.kind
    if job.kind in {"point", "report"}:
        # The backups have leases; points that form at the same time are in nobody's way, nor are
        # reports.
        return str(job.id), job.kind
    # A statement about a backup is in nobody's way.
    own = {"verify": "verify", "acknowledge": "acknowledge", "hold": "hold"}
    if "existing" in context:
        return job.target, "hold"
    own |= dict.fromkeys(("undo", "restore_all", "undo_all"), "swap")
    return job.target, own.get(job.kind, "write")


def step_of(chain: str, name: str) -> Step:
    """Return what the step ``name`` does in ``chain``."""
    return STEPS_OF_CHAIN.get((chain, name)) or STEPS[name]


def run_step(
    row: JobRow, name: str, tools: Toolbox, progress: Progress, *, sharing: Sharing | None = None
) -> JSON:
    """Run the step ``name`` of the job of ``row``, which has begun it; returns its result."""
    job = row.job
    run = Run(
        job=job,
        ledger=row,
        progress=progress,
        folder=spool.job_folder(tools.spool, job.id),
        try_lock=row.try_lock,
        sharing=sharing,
    )
    return step_of(job.chain, name).operation(run, tools)

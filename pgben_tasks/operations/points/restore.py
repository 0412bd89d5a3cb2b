"""Restore everything of a recovery point: databases and buckets, which are jobs of their own.

Beside: new databases and new buckets, whose rows and objects are compared. In place: databases are
loaded beside and checked, and objects that are missing are added to their buckets; rows and objects
are compared; only then each database trades places with its copy, and at last objects that differ
are put back. What ends before the swaps has changed no row and no existing object.

A step that waits for the jobs gives its place back (``StepWaits``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import structlog

from pgben_tasks.contracts import (
    JSON,
    BucketRestoreRequest,
    RestoreAllRequest,
    RestoreRequest,
    UndoAllRequest,
    UndoRequest,
)
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.job import Job, JobKind
from pgben_tasks.domain.points import KnownPoint, choose_point
from pgben_tasks.domain.references import FAULTS
from pgben_tasks.domain.swap import Swap, check_confirmations
from pgben_tasks.domain.target import LATEST, BackupId, Target
from pgben_tasks.errors import (
    BackupNotFound,
    ConfigurationError,
    IntegrityError,
    PermanentError,
    RequestMistaken,
    RestoreRefused,
    StepWaits,
)
from pgben_tasks.operations import hooks, spool
from pgben_tasks.operations.points.check import check_copies, not_comparable
from pgben_tasks.operations.repository.points import surveyed_points
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)

#: What keys of parts have between their target and the whole.
PART: Final = ":all:"
#: What callers are told of the result of a part.
_TOLD: Final = (
    "database",
    "replaced",
    "kept_until",
    "aside",
    "added",
    "added_list",
    "written",
    "retagged",
    "extra",
    "tags_not_kept",
    "settings_refused",
    "roles_refused",
)
#: What whoever brings a platform back to an earlier moment has to know (docs/operations.md).
WARNING: Final = (
    "payments that were released, messages that were sent and entries of queues since that moment "
    "are not in the rows any more: reconcile them"
)


def select(run: Run, tools: Toolbox) -> JSON:
    """Choose the recovery point, and refuse what cannot be restored whole or was not confirmed."""
    run.progress.begin("select")
    request = RestoreAllRequest.parse(run.job.request)
    # A further attempt goes on with the point of the one before, whatever became of its document.
    if "members" not in run.context:
        named = None if request.point == LATEST else BackupId.parse(request.point)
        point = choose(tools, named or request.at)
        run.ledger.keep(
            context={
                "point": str(point.id),
                "moment": point.moment.isoformat(),
                "faults": point.check.rows if point.check else None,
                "members": {one.target: one.backup for one in point.members},
            }
        )
        log.info("point_selected", point=str(point.id), members=len(point.members))
    context = run.ledger.job.context
    members: dict[str, str] = context["members"]
    # Found out now, and not after hours of loading.
    tools.hooks.check()
    strange = sorted(target for target in members if Target.parse(target) not in tools.protected)
    if strange:
        raise RestoreRefused(
            f"recovery point '{context['point']}' has members that this installation does not "
            f"protect: {', '.join(strange)}",
            "name them in PGBEN_DB_NAME, PGBEN_SERVERS_FILE or PGBEN_BUCKETS; nothing was changed",
        )
    if request.in_place:
        check_confirmations({Target.parse(one).name for one in members}, request.confirm)
    left = sorted(str(one) for one in tools.protected if str(one) not in members)
    return {
        "point": context["point"],
        "moment": context["moment"],
        "in_place": request.in_place,
        **({"not_in_point": left} if left else {}),
    }


def databases(run: Run, tools: Toolbox) -> JSON:
    """Restore every database beside; in place, wait until each is checked and could be swapped."""
    run.progress.begin("databases")
    _ask_all(run, tools)
    return {"databases": _awaited(run, tools, "postgres", _is_ready)}


def buckets(run: Run, tools: Toolbox) -> JSON:
    """Restore every bucket beside; in place, wait until what is missing was added to each."""
    run.progress.begin("buckets")
    _ask_all(run, tools)
    return {"buckets": _awaited(run, tools, "bucket", _is_ready)}


def check(run: Run, tools: Toolbox) -> JSON:
    """Compare the rows of the restored databases with the objects of the restored buckets."""
    run.progress.begin("check")
    manifests = [manifest_of(tools, target, backup) for target, backup in _members(run).items()]
    why = not_comparable(tools, manifests)
    if why is not None:
        return {"not_checked": why}
    places = {job.target: _place(job, tools) for job in _parts(run, tools)}
    for target, place in places.items():
        if target.startswith("postgres/"):
            _require_there(tools, Target.parse(target), place)
    point = BackupId.parse(run.job.context["point"])
    try:
        checked = check_copies(run, tools, manifests, places, point)
    except ConfigurationError as exc:
        log.error("copies_not_checked", why=exc.sentence, hint=exc.hint)  # noqa: TRY400 - a sentence
        return {"not_checked": exc.sentence}
    if checked is None:
        return {}
    found, new = checked
    counts = found.model_dump(exclude={"faults", "recoverable"})
    known = run.job.context["faults"]
    if known is not None and (found.rows > known if new is None else new):
        kinds = ", ".join(f"{kind} {counts[kind]}" for kind in FAULTS[:-1] if counts[kind])
        raise IntegrityError(
            f"rows of the copies whose objects are not as they say: {found.rows} ({kinds}); in "
            f"recovery point '{point}' there were {known}"
            if new is None
            else f"rows of the copies whose objects are not as they say: {found.rows} ({kinds}), "
            f"of which {new} were as they say in recovery point '{point}'",
            "`pgben verify --level full` reads every backup of the point",
        )
    return {"check": counts}


def swap(run: Run, tools: Toolbox) -> JSON:
    """Let every database trade places with its copy, and wait until all have.

    Before the first may, every part is ready: what was lost meanwhile is made ready again.
    """
    run.progress.begin("swap")
    going = run.ledger.job.context.get("go", [])
    waiting = [
        job for job in _parts(run, tools) if job.key not in going and not _stands(job, tools)
    ]
    names = _names(waiting)
    if names:
        _awaited(run, tools, "postgres", _is_ready)
        _awaited(run, tools, "bucket", _is_ready)
        hooks.before_swap(run, tools, names)
    with hooks.paused(run, tools):
        return {"databases": _let_go(run, tools, "postgres")}


def objects(run: Run, tools: Toolbox) -> JSON:
    """Let differing objects be put back, and wait until every bucket is compared."""
    run.progress.begin("objects")
    with hooks.paused(run, tools):
        return {"buckets": _let_go(run, tools, "bucket")}


def finish(run: Run, tools: Toolbox) -> JSON:
    """Return what is where now, and what is newer than the recovery point and was left."""
    run.progress.begin("finish")
    spool.remove(run.folder)
    if not RestoreAllRequest.parse(run.job.request).in_place:
        return {"state": "restored"}
    resumed = hooks.after_swap(run, tools, _names(_parts(run, tools)))
    extra = sum(int(job.result.get("extra", 0)) for job in _parts(run, tools))
    return {"state": "replaced", "newer_objects": extra, "warning": WARNING, **resumed}


def undo(run: Run, tools: Toolbox) -> JSON:
    """Turn every swap of a restore of everything back, and wait until all are.

    Objects that were put back stay; what they overwrote lies aside.
    """
    run.progress.begin("undo")
    request = UndoAllRequest.parse(run.job.request)
    whole = tools.jobs.job(request.job)
    if whole.kind != "restore_all":
        raise RequestMistaken(
            f"job '{whole.id}' is no restore of everything",
            "`pgben jobs` shows them; a single swap is turned back by its own job",
        )
    if not whole.ended:
        raise RequestMistaken(
            f"job '{whole.id}' has not ended",
            f"`pgben cancel {whole.id}` ends it before it swaps; try again then",
        )
    done = [
        (job, found)
        for job in _parts_of(whole, tools)
        if (found := tools.swaps.swap_of_job(job.id)) is not None and found.state == "done"
    ]
    swapped = [job for job, found in done if found.aside is not None]
    # Where there was no database before, there is none to put back.
    left = [job.target for job, found in done if found.aside is None]
    asked = _asked(run)
    if not swapped and not asked:
        raise RequestMistaken(
            f"job '{whole.id}' has swapped nothing that is still in its place",
            "nothing was changed; `pgben jobs` shows what happened since",
        )
    names = {Target.parse(target).name for target in {*asked, *(job.target for job in swapped)}}
    check_confirmations(names, request.confirm)
    if swapped and run.context.get("paused") != run.job.attempt:
        # The first look stops what must stand still, and those that wait do not once more.
        hooks.before_swap(run, tools, _names(swapped))
        run.ledger.keep(context={"paused": run.job.attempt})
    for job in swapped:
        name = Target.parse(job.target).name
        fields = UndoRequest(
            target=job.target,
            job=job.id,
            confirm=name,
            part_of=run.job_id,
            requested_by=run.job.requested_by,
        )
        _ask(run, tools, "undo", job.target, fields.model_dump(mode="json"))
    with hooks.paused(run, tools):
        undone = _awaited(run, tools, "postgres", _has_succeeded)
    resumed = hooks.after_swap(run, tools, _names(_parts(run, tools)))
    return {
        "databases": undone,
        "state": "undone",
        **({"replaced_nothing": left} if left else {}),
        **resumed,
    }


def choose(tools: Toolbox, wanted: BackupId | datetime | None) -> KnownPoint:
    """Return the recovery point that a restore takes: by its id, by a moment, or the newest.

    Raises ``BackupNotFound``; ``RestoreRefused`` for one that is not whole, or not to be believed;
    ``RequestMistaken`` for a moment that has not come.
    """
    if isinstance(wanted, datetime) and wanted > tools.clock.now():
        raise RequestMistaken(
            f"{wanted.isoformat(timespec='seconds')} has not come yet",
            "name a moment that is past, or none for the newest recovery point",
        )
    found = surveyed_points(tools.repository, only=wanted if isinstance(wanted, BackupId) else None)
    for point, finding in found.unreadable:
        if point == wanted:
            raise RestoreRefused(
                f"recovery point '{point}' cannot be believed: {finding.detail}",
                "take another point; `pgben verify` says more",
            )
    return choose_point(found.points, wanted)


def give_up(job: Job, tools: Toolbox) -> None:
    """Cancel the parts of a restore, or undo, of everything that ended without success."""
    job = tools.jobs.job(job.id)
    error = {
        "type": "PermanentError",
        "sentence": f"job '{job.id}', which asked for it, has ended without success",
        "hint": f"`pgben jobs {job.id}` says why; it is begun again by `pgben jobs retry {job.id}`",
        "step": "",
    }
    for part in _parts_of(job, tools):
        if not part.ended and tools.jobs.cancel(part.id, error=error):
            log.info("part_cancelled", part=str(part.id), target=part.target)


def _ask_all(run: Run, tools: Toolbox) -> None:
    """Ask for the restore of every member, once per attempt; what has succeeded stays."""
    request = RestoreAllRequest.parse(run.job.request)
    _drop_undone(run, tools)
    for target, backup in _members(run).items():
        common: dict[str, Any] = {
            "target": target,
            "backup": backup,
            "requested_by": run.job.requested_by,
        }
        if request.in_place:
            common |= {"part_of": run.job_id, "confirm": Target.parse(target).name}
        fields: RestoreRequest | BucketRestoreRequest
        if target.startswith("bucket/"):
            fields = BucketRestoreRequest(
                **common, in_place=request.in_place, settings=request.settings
            )
        else:
            fields = RestoreRequest(**common, swap=request.in_place, roles=request.roles)
        _ask(run, tools, "restore", target, fields.model_dump(mode="json"))


def _ask(run: Run, tools: Toolbox, kind: JobKind, target: str, request: JSON) -> None:
    """Ask for a part, unless the one of this attempt, or of an earlier one, needs no other."""
    asked = _asked(run)
    before = asked.get(target)
    if before is not None:
        known = tools.jobs.by_key(before)
        if known is not None and (not known.ended or _stands(known, tools)):
            return
    key = f"{kind}:{target}{PART}{run.job_id}:{run.job.attempt}"
    # Before the job is there: whoever begins it looks whether it is a part.
    run.ledger.keep(context={"parts": {**asked, target: key}})
    job, new = tools.jobs.request(
        kind, target=target, key=key, request=request, requested_by=run.job.requested_by
    )
    if new:
        log.info("part_asked_for", target=target, asked=str(job.id))


def _drop_undone(run: Run, tools: Toolbox) -> None:
    """Forget all parts where a swap was turned back since: what was done no longer stands."""
    swaps = [tools.swaps.swap_of_job(job.id) for job in _parts(run, tools)]
    if any(one is not None and one.state == "undone" for one in swaps):
        run.ledger.keep(context={"parts": {}})


def _stands(job: Job, tools: Toolbox) -> bool:
    """Return whether what an ended part in place has done needs no other one.

    A copy beside is made anew by a further attempt: the one before may be what was wrong.
    """
    if job.target.startswith("bucket/"):
        return job.state == "succeeded" and bool(job.request.get("in_place"))
    return _swapped(job, tools) is not None


def _swapped(job: Job, tools: Toolbox) -> Swap | None:
    """Return the swap of a part that stands, also where what it replaced was removed since."""
    swap = tools.swaps.swap_of_job(job.id)
    return swap if swap is not None and swap.state in {"done", "dropped"} else None


def _asked(run: Run) -> dict[str, str]:
    """Return the keys of the parts by target, as the ledger has them now."""
    return dict(run.ledger.job.context.get("parts", {}))


def _names(jobs: Iterable[Job]) -> list[str]:
    """Return the names of the databases among the targets of jobs."""
    targets = (Target.parse(job.target) for job in jobs)
    return [one.name for one in targets if one.kind == "postgres"]


def _parts(run: Run, tools: Toolbox) -> list[Job]:
    return _parts_of(run.ledger.job, tools)


def _parts_of(whole: Job, tools: Toolbox) -> list[Job]:
    keys: Mapping[str, str] = whole.context.get("parts", {})
    found = (tools.jobs.by_key(key) for _, key in sorted(keys.items()))
    return [job for job in found if job is not None]


def _awaited(run: Run, tools: Toolbox, kind: str, come: Callable[[Job, Toolbox], bool]) -> JSON:
    """Return what is told of the parts of a kind of target.

    Raises ``StepWaits`` until all have come, ``PermanentError`` when any ended without success;
    those that were let go have ended by then.
    """
    every = _parts(run, tools)
    failed = [job for job in every if job.ended and not _has_succeeded(job, tools)]
    if failed:
        going = run.ledger.job.context.get("go", [])
        under_way = [job for job in every if job.key in going and not job.ended]
        if under_way:
            raise StepWaits(f"waits for restores: {', '.join(job.target for job in under_way)}")
        error = failed[0].error or {}
        raise PermanentError(_failure(failed[0], every, tools), error.get("hint", ""))
    wanted = [job for job in every if job.target.startswith(f"{kind}/")]
    missing = [job for job in wanted if not come(job, tools)]
    if missing:
        raise StepWaits(f"waits for restores: {', '.join(job.target for job in missing)}")
    return {job.target: _told(job) for job in wanted}


def _is_ready(job: Job, tools: Toolbox) -> bool:
    waits = not job.ended and job.state != "queued" and job.context.get("ready") == job.attempt
    return waits or _has_succeeded(job, tools)


def _has_succeeded(job: Job, tools: Toolbox) -> bool:
    """Return whether a part has done its work.

    A database that was swapped and did not answer then is looked at again: it is in its place.
    """
    if job.state == "succeeded":
        return True
    if job.state == "failed" and job.kind == "restore" and _swapped(job, tools) is not None:
        tools.sources[Target.parse(job.target)].preflight()
        return True
    return False


def _let_go(run: Run, tools: Toolbox, kind: str) -> JSON:
    """Let the parts of a kind of target go on, and wait for their end."""
    keys = [job.key for job in _parts(run, tools) if job.target.startswith(f"{kind}/")]
    going = run.ledger.job.context.get("go", [])
    if not set(keys) <= set(going):
        run.ledger.hold()
        run.ledger.keep(context={"go": sorted({*going, *keys})})
    return _awaited(run, tools, kind, _has_succeeded)


def _failure(job: Job, every: list[Job], tools: Toolbox) -> str:
    """Return why a part ended, and what was replaced by then."""
    said = (job.error or {}).get("sentence", "no reason was recorded")
    done = sorted(one.target for one in every if _swapped(one, tools) is not None)
    replaced = f"swapped already: {', '.join(done)}" if done else "no database was replaced"
    return f"job '{job.id}' for '{job.target}' is {job.state}: {said} ({replaced})"


def _place(job: Job, tools: Toolbox) -> str:
    """Return in which database or bucket a part lies now: a swapped copy was renamed."""
    swap = _swapped(job, tools)
    return str(job.context["into"]) if swap is None else swap.live


def _require_there(tools: Toolbox, target: Target, place: str) -> None:
    if tools.swapping[target].occupied(place) is None:
        raise IntegrityError(
            f"the copy '{place}' of '{target}' is gone",
            "somebody removed or renamed it; a new attempt makes another",
        )


def _told(job: Job) -> JSON:
    """Return what callers are told of a part."""
    told = {name: job.result[name] for name in _TOLD if job.result.get(name) not in (None, [])}
    # After a swap, and after an undo, that is the name of the original.
    into = job.result.get("into") or job.result.get("database") or job.context.get("into")
    return {"job": str(job.id), "into": into, **told}


def _members(run: Run) -> dict[str, str]:
    return dict(run.ledger.job.context["members"])


def manifest_of(tools: Toolbox, target: str, backup: str) -> Manifest:
    """Return the manifest of a member; ``PermanentError`` when it cannot be believed."""
    try:
        return tools.repository.manifest(Target.parse(target), BackupId.parse(backup))
    except (BackupNotFound, IntegrityError) as exc:
        raise PermanentError(
            f"backup '{backup}' of '{target}' cannot be restored: {exc.sentence}", exc.hint
        ) from exc

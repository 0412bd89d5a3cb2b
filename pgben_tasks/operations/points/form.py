"""Form a recovery point: databases first, then every bucket, then the document that joins them.

The backups are jobs of their own. A step that waits for them gives its place back (``StepWaits``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import structlog

from pgben_tasks.contracts import JSON, BackupAllRequest, BackupRequest, HoldRequest
from pgben_tasks.domain.documents import (
    RECOVERY_POINTS,
    CrossCheck,
    Manifest,
    PointMember,
    RecoveryPoint,
)
from pgben_tasks.domain.holds import Hold, in_force, says_as_much, shortest
from pgben_tasks.domain.job import Job, window_key
from pgben_tasks.domain.points import Candidate, KnownPoint, first_fitting, newest_good
from pgben_tasks.domain.references import FAULTS
from pgben_tasks.domain.states import GOOD_LABELS
from pgben_tasks.domain.target import BackupId, Target, require_utc
from pgben_tasks.errors import (
    BackupNotFound,
    ConfigurationError,
    IntegrityError,
    ObjectMissing,
    PermanentError,
    RequestRefused,
    StepWaits,
)
from pgben_tasks.operations.points.check import cross_check, not_comparable
from pgben_tasks.operations.repository.hold import (
    require_new_workers as require_workers_that_hold,
)
from pgben_tasks.operations.repository.points import surveyed_points
from pgben_tasks.operations.toolbox import Run, Toolbox, Workers

log = structlog.get_logger(__name__)

#: A bucket's scheduled backup is waited for when it comes this soon; else one more is asked for.
_WORTH_WAITING: Final = timedelta(hours=3)
#: How long after its time a scheduled job is written at the latest, by beat or a tick.
_BEGINS_WITHIN: Final = timedelta(minutes=3)


def require_new_workers(workers: Workers) -> None:
    """Raise ``RequestRefused`` while a worker counts whose version would call points foreign."""
    if not workers.may_use_new_fields(RECOVERY_POINTS, in_use=False):
        raise RequestRefused(
            "a recovery point cannot be written while a worker runs, or ran within a day, whose "
            "version of pgben knows none",
            "update every worker; the next night forms one",
        )


def databases(run: Run, tools: Toolbox) -> JSON:
    """Back up every database, or find the backups of the same window, and wait for all of them.

    Where a verified point is new enough for the request, its members are taken instead.
    """
    run.progress.begin("databases")
    _require_time_left(run, tools)
    existing = _existing(run, tools)
    if existing is not None:
        members = {one.target: one.backup for one in existing.members}
        told: JSON = {"existing": True}
        run.ledger.keep(context={"members": members, "point": str(existing.id), "told": told})
        return {"databases": {one: members[one] for one in members if _is_database(one)}}
    jobs = [_ask_database(run, tools, target) for target in _protected(tools, "postgres")]
    _require_none_failed(jobs)
    # A failed one with another attempt to come has ended, and is no backup yet.
    running = [job for job in jobs if job.state != "succeeded"]
    if running:
        raise _waits_for(running)
    found = {job.target: job.backup for job in jobs}
    run.ledger.keep(context={"members": found})
    return {"databases": found}


def buckets(run: Run, tools: Toolbox) -> JSON:
    """Find, per bucket, the first good snapshot listed long enough after; ask for one if needed."""
    run.progress.begin("buckets")
    _require_time_left(run, tools)
    members: dict[str, str] = dict(run.job.context["members"])
    if "point" in run.job.context:
        return {"buckets": {one: members[one] for one in members if not _is_database(one)}}
    after = _data_of_databases(tools, members) + tools.limits.point_settle
    missing = []
    for target in _protected(tools, "bucket"):
        found = _fitting(tools, target, after)
        if found is None:
            missing.append(target)
        else:
            members[str(target)] = found.backup
    run.ledger.keep(context={"members": members})
    if not missing:
        return {"buckets": {str(one): members[str(one)] for one in _protected(tools, "bucket")}}
    if tools.clock.now() < after:
        raise StepWaits(f"waits until {_shown(after)}: uploads in flight are stored by then")
    asked = [_ask_bucket(run, tools, target, after) for target in missing]
    awaited = [job for job in asked if job is not None]
    _require_none_failed(awaited)
    # One that has ended by now may have been under way when the snapshots were looked at.
    late = [
        job
        for job in awaited
        if job.state == "succeeded" and _fitting(tools, Target.parse(job.target), after) is None
    ]
    if late:
        raise PermanentError(
            f"the snapshot of '{late[0].target}' that job '{late[0].id}' made joins no recovery "
            "point: it does not count as good",
            f"`pgben list {late[0].target}` says why; the next backup of everything forms another",
        )
    if awaited:
        raise _waits_for(awaited)
    raise StepWaits("waits for the scheduled backups of buckets")


def join(run: Run, tools: Toolbox) -> JSON:
    """Write the signed document that names every member with the digest of its manifest."""
    run.progress.begin("join")
    kept = run.job.context.get("point")
    point = BackupId.parse(kept) if kept else BackupId.make(tools.clock.now(), tools.suffix())
    if point in tools.repository.points():
        # An earlier run of this step got so far; a point is written once.
        return _joined(tools, tools.repository.point(point), run.job.context["told"])
    run.ledger.keep(context={"point": str(point)})
    require_new_workers(tools.workers)
    members = sorted(
        (Target.parse(target), BackupId.parse(backup))
        for target, backup in run.job.context["members"].items()
    )
    manifests = [_manifest(tools, target, backup) for target, backup in members]
    check, told = _checked(run, tools, point, manifests)
    document = RecoveryPoint(
        repository=tools.repository.id,
        id=str(point),
        job=str(run.job_id),
        settle=int(tools.limits.point_settle.total_seconds()),
        members=tuple(_member(tools, one) for one in manifests),
        check=check,
    )
    run.ledger.keep(context={"told": told})
    run.ledger.hold()
    tools.repository.store_point(document)
    return _joined(tools, document, told)


def _joined(tools: Toolbox, document: RecoveryPoint, told: JSON) -> JSON:
    tools.index.add_point(document)
    log.info("point_formed", point=document.id, members=len(document.members))
    return {"point": document.id, "moment": document.moment.isoformat(), **told}


def record(run: Run, tools: Toolbox) -> JSON:
    """Read the point and the statements about its members back: that is its state.

    With a hold asked for, every member is held first, by jobs of their own.
    """
    run.progress.begin("record")
    wanted = run.job.context["point"]
    found = surveyed_points(tools.repository, only=BackupId.parse(wanted))
    found.require_readable(PermanentError)
    (point,) = found.points
    held = _held(run, tools, point)
    log.info("point_recorded", point=wanted, state=point.state)
    return {
        "state": point.state,
        **held,
        "members": [
            {"target": one.target, "backup": one.backup, "state": state}
            for one, state in zip(point.members, point.states, strict=True)
        ],
    }


def _existing(run: Run, tools: Toolbox) -> KnownPoint | None:
    """Return the verified point that is new enough for the request; None where none is.

    Its age is that of its oldest backup. One answers nobody whose rows lack objects, or could not
    be compared with them, or that was formed before something else was protected.
    """
    request = BackupAllRequest.parse(run.job.request)
    if request.max_age is None:
        return None
    now = tools.clock.now()
    points = surveyed_points(tools.repository).points
    return newest_good(
        one
        for one in points
        if now - request.max_age <= min(backup.started for _, backup in one.backups) <= now
        and tools.protected <= {target for target, _ in one.backups}
        and not one.faults
        and (one.check is not None or not tools.references)
    )


def _held(run: Run, tools: Toolbox, point: KnownPoint) -> JSON:
    """Return the hold of a point whose request asks for one: that of the member held shortest.

    Only the maintenance worker may hold a backup. Members that their own backups did not hold are
    held by jobs, which are waited for.
    """
    request = BackupAllRequest.parse(run.job.request)
    if request.hold_for is None:
        return {}
    begun = require_utc(run.job.started_at or run.job.created_at)
    wanted = Hold(until=begun + request.hold_for, label=request.label, who=run.job.requested_by)
    now = tools.clock.now()
    held = [in_force(one, now) for one in point.holds]
    if not all(says_as_much(hold, wanted) for hold in held):
        # The tick of an older one could not send their jobs.
        require_workers_that_hold(tools.workers)
    asked = [
        _ask_hold(run, tools, member, wanted, request.reason)
        for member, hold in zip(point.members, held, strict=True)
        if not says_as_much(hold, wanted)
    ]
    _require_none_failed(asked)
    waiting = [job for job in asked if job.state != "succeeded"]
    if waiting:
        raise StepWaits(f"waits for holds: {', '.join(job.target for job in waiting)}")
    first_to_end = shortest(held)
    return {} if first_to_end is None else {"hold": first_to_end.to_json()}


def _ask_hold(run: Run, tools: Toolbox, member: PointMember, hold: Hold, reason: str | None) -> Job:
    request = HoldRequest(
        target=member.target,
        backup=member.backup,
        until=hold.until,
        label=hold.label,
        reason=reason or f"of recovery point {run.job.context['point']}",
        requested_by=run.job.requested_by,
    )
    job, new = tools.jobs.request(
        "hold",
        target=member.target,
        key=f"hold:{member.target}:point:{run.job_id}:{run.job.attempt}",
        request=request.model_dump(mode="json"),
        requested_by=run.job.requested_by,
    )
    if new:
        log.info("hold_asked_for", target=member.target, asked=str(job.id))
    return job


def _is_database(target: str) -> bool:
    return Target.parse(target).kind == "postgres"


def _checked(
    run: Run, tools: Toolbox, point: BackupId, manifests: list[Manifest]
) -> tuple[CrossCheck | None, JSON]:
    """Compare rows and objects; return what was found, and what to tell of it.

    A comparison that cannot be made is told and alarmed; the backups are as good without it.
    """
    why = not_comparable(tools, manifests)
    if why is not None:
        return None, _not_checked(why)
    try:
        check = cross_check(run, tools, point, manifests)
    except (ConfigurationError, IntegrityError, ObjectMissing) as exc:
        log.error("point_not_checked", why=exc.sentence, hint=exc.hint)  # noqa: TRY400 - a sentence
        return None, _not_checked(exc.sentence)
    if check is None:
        return None, {}
    counts = check.model_dump(exclude={"faults"})
    before = _faults_before(tools)
    if check.rows <= before:
        return check, {"check": counts}
    kinds = ", ".join(f"{kind} {counts[kind]}" for kind in FAULTS[:-1] if counts[kind])
    reason = f"rows whose objects are not as they say: {check.rows} ({kinds}), before {before}"
    return check, {"check": counts, "suspect": reason}


def _not_checked(why: str) -> JSON:
    return {"not_checked": why, "suspect": f"rows and objects were not compared: {why}"}


def _faults_before(tools: Toolbox) -> int:
    """Return how many rows had faults in the newest point that was compared."""
    for point in sorted(tools.repository.points(), reverse=True):
        with suppress(IntegrityError, BackupNotFound):
            check = tools.repository.point(point).check
            if check is not None:
                return check.rows
    return 0


def _protected(tools: Toolbox, kind: str) -> list[Target]:
    return sorted(target for target in tools.protected if target.kind == kind)


def _ask_database(run: Run, tools: Toolbox, target: Target) -> Job:
    """Return the job of a database's backup: that of the same window, or one of our own."""
    window = run.job.window
    key = window_key("backup", str(target), window) if window else _own_key(run, target)
    return _ask(run, tools, target, key=key, window=window)


def _require_time_left(run: Run, tools: Toolbox) -> None:
    """Raise ``PermanentError`` for a scheduled point when the next one is due."""
    window = run.job.window
    if window is not None and tools.clock.now() >= tools.schedules["postgres"].next(window):
        raise PermanentError(
            "the backups of this recovery point did not come together before the next one was due",
            "look at the backups that failed or still wait; the next point is formed of new ones",
        )


def _fitting(tools: Toolbox, target: Target, after: datetime) -> Candidate | None:
    return first_fitting(list(_candidates(tools, target)), after)


def _ask_bucket(run: Run, tools: Toolbox, target: Target, after: datetime) -> Job | None:
    """Return the job that will list a bucket; None when its scheduled one comes soon.

    One that is under way may have begun too early, and still has to end first. Only the first
    scheduled one is waited for: where that failed, one more is asked for.
    """
    under_way = tools.jobs.open_backup(target)
    if under_way is not None:
        return under_way
    ours = tools.jobs.by_key(_own_key(run, target))
    if ours is not None:
        return ours
    window = tools.schedules["bucket"].next(after)
    soon = window - after <= _WORTH_WAITING and tools.clock.now() < window + _BEGINS_WITHIN
    if run.job.window is not None and soon:
        return None
    return _ask(run, tools, target, key=_own_key(run, target))


def _own_key(run: Run, target: Target) -> str:
    # A new attempt asks again: what the one before asked for has failed.
    return f"backup:{target}:point:{run.job_id}:{run.job.attempt}"


def _ask(
    run: Run, tools: Toolbox, target: Target, *, key: str, window: datetime | None = None
) -> Job:
    who = "schedule" if window else run.job.requested_by
    whole = BackupAllRequest.parse(run.job.request)
    # Held by its own chain, before anything is pruned; the members that others made come later.
    asked = BackupRequest(
        target=str(target),
        requested_by=who,
        hold_for=whole.hold_for,
        label=whole.label,
        reason=whole.reason,
    )
    job, new = tools.jobs.request(
        "backup",
        target=str(target),
        key=key,
        request=asked.model_dump(mode="json"),
        requested_by=who,
        window=window,
    )
    if new:
        log.info("backup_asked_for", target=str(target), asked=str(job.id))
    return job


def _require_none_failed(jobs: list[Job]) -> None:
    for job in jobs:
        if job.ended and job.state != "succeeded" and job.retry_at is None:
            said = (job.error or {}).get("sentence", "no reason was recorded")
            if job.kind == "hold":
                raise PermanentError(
                    f"a backup of '{job.target}' of the recovery point could not be held (job "
                    f"'{job.id}'): {said}",
                    "when that is mended, `pgben hold POINT` holds all of it",
                )
            raise PermanentError(
                f"job '{job.id}', which backs up '{job.target}' for a recovery point, did not "
                f"succeed: {said}",
                "when that is mended, `pgben backup --all` forms a point at once",
            )


def _waits_for(jobs: list[Job]) -> StepWaits:
    return StepWaits(f"waits for backups: {', '.join(job.target for job in jobs)}")


def _data_of_databases(tools: Toolbox, members: dict[str, str]) -> datetime:
    """Return the moment of the data of the databases among ``members``, the latest of several."""
    return max(
        _data_of(_manifest(tools, Target.parse(target), BackupId.parse(backup)))
        for target, backup in members.items()
        if target.startswith("postgres/")
    )


def _data_of(manifest: Manifest) -> datetime:
    """Return the moment of a backup's data by the catalog's clock, which listings go by too.

    A database's server has its own clock. Where that shows a moment outside the backup, it is
    wrong, and the data are from before the backup's end.
    """
    shown = manifest.snapshot_time
    return shown if manifest.started <= shown <= manifest.finished else manifest.finished


def _manifest(tools: Toolbox, target: Target, backup: BackupId) -> Manifest:
    try:
        return tools.repository.manifest(target, backup)
    except (BackupNotFound, IntegrityError) as exc:
        raise PermanentError(
            f"backup '{backup}' of '{target}' can join no recovery point: {exc.sentence}",
            exc.hint,
        ) from exc


def _member(tools: Toolbox, manifest: Manifest) -> PointMember:
    return PointMember(
        target=manifest.target,
        backup=manifest.backup,
        manifest=tools.repository.manifest_digest(manifest.target_name, manifest.backup_id),
        snapshot_time=_data_of(manifest) if manifest.postgres else manifest.snapshot_time,
    )


def _candidates(tools: Toolbox, target: Target) -> Iterator[Candidate]:
    for one in tools.index.backups(target):
        if one.snapshot_at is not None:
            good = one.state in GOOD_LABELS and (one.suspect is None or one.acknowledged)
            yield Candidate(backup=one.id, listed=one.snapshot_at, good=good)


def _shown(moment: datetime) -> str:
    return f"{require_utc(moment):%Y-%m-%dT%H:%M:%SZ}"

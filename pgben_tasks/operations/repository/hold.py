"""Hold a backup, or release it: signed decisions that retention obeys, see ``domain.holds``.

Only the maintenance worker's key signs decisions. A backup that was asked for together with a hold
is held by the step of its chain that prunes, before anything is pruned; one that exists already, by
the one step of the chain ``existing``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from pgben_tasks.contracts import JSON, BackupRequest, HoldRequest, Request
from pgben_tasks.domain.documents import RELEASES, Manifest, Verification
from pgben_tasks.domain.holds import (
    Hold,
    check_end,
    current_hold,
    in_force,
    joined,
    reasons_of_hold,
    reasons_of_release,
    says_as_much,
    whole_second,
)
from pgben_tasks.domain.restorability import remedy, server_major
from pgben_tasks.domain.statements import in_order
from pgben_tasks.domain.states import GOOD_LABELS, state_of
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import (
    BackupNotFound,
    FenceLost,
    NotRestorable,
    PermanentError,
    PgbenError,
    RequestMistaken,
    RequestRefused,
    TransientError,
)
from pgben_tasks.operations.repository import statements
from pgben_tasks.operations.toolbox import Run, Toolbox, Workers

log = structlog.get_logger(__name__)

_SECOND: Final = timedelta(seconds=1)


def finish(run: Run, tools: Toolbox) -> JSON:
    """Sign that somebody holds one backup, whatever its state, or releases it.

    Raises ``RequestMistaken`` for a backup that there is none of, and where there is nothing to
    release, and ``RequestRefused`` for an end that is past.
    """
    request = HoldRequest.parse(run.job.request)
    backup = BackupId.parse(request.backup)
    run.progress.begin("hold")
    run.ledger.keep(context={}, backup=str(backup))
    tools.repository.check_place()
    try:
        manifest = tools.repository.manifest(run.target, backup)
    except BackupNotFound as exc:
        raise RequestMistaken(exc.sentence, exc.hint) from exc
    known = in_order(tools.repository.verifications(run.target, backup))
    told: JSON = {"backup": str(backup), "state": state_of(manifest, known).state.label}
    if request.release:
        _release(run, tools, manifest, known, request)
        return {**told, "released": True}
    asked = wanted_hold(request, tools)
    hold = _hold(run, tools, manifest, known, asked, request.reason)
    if asked.until is not None and hold.lasts(whole_second(asked.until) + _SECOND):
        told["note"] = "it was held for longer already; `pgben release` ends a hold early"
    return {**told, "hold": hold.to_json()}


def as_asked(run: Run, tools: Toolbox) -> JSON:
    """Hold the backup of a run whose request says so; returns nothing where it does not.

    A passing failure is raised, to be tried again. Another one is left to the end of the chain:
    the backup is to be read back first (``require_held``).
    """
    if not run.job.request.get("hold_for"):
        return {}
    request = BackupRequest.parse(run.job.request)
    backup = BackupId.parse(run.job.backup or "")
    try:
        manifest = tools.repository.manifest(run.target, backup)
        known = in_order(tools.repository.verifications(run.target, backup))
        hold = _hold(run, tools, manifest, known, wanted_hold(request, tools), request.reason)
    except (FenceLost, TransientError):
        raise
    except PgbenError as exc:
        log.error("hold_not_signed", why=exc.sentence, hint=exc.hint)  # noqa: TRY400 - a sentence
        return {"hold_failed": exc.sentence}
    return {"hold": hold.to_json()}


def require_held(run: Run, state: str) -> None:
    """Raise ``PermanentError`` when the run's backup was to be held, and is not."""
    if not run.job.request.get("hold_for") or "hold" in run.job.result:
        return
    backup = run.job.backup
    why = run.job.result.get("hold_failed") or (
        "the worker that prunes is of a version of pgben that signs no holds"
    )
    raise PermanentError(
        f"backup '{backup}' is stored and {state}, but it is not held: {why}",
        f"when that is mended, `pgben hold {run.target}/{backup}` holds it",
    )


def existing(tools: Toolbox, target: Target, request: Request) -> JSON:
    """Return the context of a job that an existing backup answers; nothing where none does.

    Its age is that of its id: the catalog's clock gave both that and the present time.
    """
    if not isinstance(request, BackupRequest) or request.max_age is None:
        return {}
    now = tools.clock.now()
    good = [
        BackupId.parse(one.id)
        for one in tools.index.backups(target)
        if one.state in GOOD_LABELS and (one.suspect is None or one.acknowledged)
    ]
    fitting = [one for one in good if now - request.max_age <= one.started <= now]
    newest = max(fitting, key=lambda one: (one.started, one.suffix), default=None)
    return {} if newest is None else {"existing": str(newest)}


def answer(run: Run, tools: Toolbox) -> JSON:
    """Answer a request with the backup that exists: look at its statements again, and hold it."""
    request = BackupRequest.parse(run.job.request)
    backup = BackupId.parse(run.context["existing"])
    run.progress.begin("hold")
    run.ledger.keep(context={}, backup=str(backup))
    tools.repository.check_place()
    manifest = tools.repository.manifest(run.target, backup)
    known = in_order(tools.repository.verifications(run.target, backup))
    standing = state_of(manifest, known)
    if not standing.counts:
        raise PermanentError(
            f"backup '{backup}' of '{run.target}' was taken for verified, and is "
            f"{'suspect' if standing.verified else standing.state.label}",
            f"`pgben verify {run.target}` corrects the catalog; then ask again",
        )
    needs = statements.what_is_needed(tools, manifest, newest=manifest, before=standing.needs)
    if needs is not None:
        server = server_major(manifest.database.server_version_num)
        raise NotRestorable(
            f"backup '{backup}' of '{run.target}' is stored and not restorable here: it needs "
            f"{needs}",
            remedy(manifest.archive, server),
        )
    told: JSON = {"backup": str(backup), "state": standing.state.label, "existing": True}
    if request.hold_for is None:
        return told
    hold = _hold(run, tools, manifest, known, wanted_hold(request, tools), request.reason)
    return {**told, "hold": hold.to_json()}


def wanted_hold(request: BackupRequest | HoldRequest, tools: Toolbox) -> Hold:
    """Return the hold that a request asks for, from now on."""
    if isinstance(request, HoldRequest):
        until, lasting = request.until, request.keep_for
    else:
        until, lasting = None, request.hold_for
    if lasting is not None:
        until = tools.clock.now() + lasting
    return Hold(until=until, label=request.label, who=request.requested_by)


def held_now(tools: Toolbox, target: Target, backup: BackupId, now: datetime) -> Hold | None:
    """Return what keeps a backup from being pruned, as its statements say now."""
    return in_force(current_hold(in_order(tools.repository.verifications(target, backup))), now)


def _hold(
    run: Run,
    tools: Toolbox,
    manifest: Manifest,
    known: list[Verification],
    asked: Hold,
    reason: str | None,
) -> Hold:
    """Return the hold of a backup, signed unless what holds it says as much; index it."""
    now = tools.clock.now()
    present = in_force(current_hold(known), now)
    signed = any(one.kind == "hold" and one.job == str(run.job_id) for one in known)
    if asked.until is not None and not signed:
        asked = replace(asked, until=check_end(asked.until, now))
    # A step that was killed after its statement was stored has done its work.
    if present is not None and (signed or says_as_much(present, asked)):
        hold = present
    else:
        hold = joined(present, asked)
        run.ledger.hold()
        statements.sign_statement(
            run, tools, manifest, "hold", reasons=reasons_of_hold(hold, reason)
        )
        log.info("backup_held", backup=manifest.backup, by=hold.who, label=hold.label)
    tools.index.set_hold(manifest.target_name, manifest.backup, hold)
    return hold


def require_new_workers(workers: Workers) -> None:
    """Raise ``RequestRefused`` while a worker counts whose version knows no jobs that hold."""
    if not workers.may_use_new_fields(RELEASES, in_use=False):
        raise RequestRefused(
            "a backup cannot be held while a worker runs, or ran within a day, whose version of "
            "pgben knows no holds",
            "update every worker first",
        )


def _release(
    run: Run,
    tools: Toolbox,
    manifest: Manifest,
    known: list[Verification],
    request: HoldRequest,
) -> None:
    if not any(one.kind == "release" and one.job == str(run.job_id) for one in known):
        if in_force(current_hold(known), tools.clock.now()) is None:
            raise RequestMistaken(
                f"nobody holds backup '{manifest.backup}'",
                "there is nothing to release; `pgben list` shows what is held, and until when",
            )
        if not tools.workers.may_use_new_fields(RELEASES, in_use=False):
            raise RequestRefused(
                "a hold cannot be released while a worker runs, or ran within a day, whose "
                "version of pgben knows no release",
                "update every worker; until then the backup is kept",
            )
        run.ledger.hold()
        reasons = reasons_of_release(request.requested_by, request.reason)
        statements.sign_statement(run, tools, manifest, "release", reasons=reasons)
        log.info("backup_released", backup=manifest.backup, by=request.requested_by)
    tools.index.set_hold(manifest.target_name, manifest.backup, None)

"""Acknowledge a suspect or incomplete backup, or single keys: somebody looked, and all is well.

The decision is a signed statement beside the backup, so that it outlives the catalog; from then on
the backup counts, may be ``latest``, and pruning of its target goes on.

Single keys of a bucket that cannot be read are acknowledged for the snapshots to come: an
operator's statement lies beside the newest snapshot, and each later snapshot that lacks such keys
repeats it beside itself; where it lacks nothing else, that is an acknowledgement of its own. Only
statements about a snapshot and about the one right before it count. So keys stay acknowledged when
the older snapshot has expired, and no longer than they are unreadable: a key that was read again
and is lost once more is reported again.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from pgben_tasks.contracts import JSON, AcknowledgeRequest
from pgben_tasks.domain.buckets.acknowledged import keys_in, reasons_of
from pgben_tasks.domain.documents import Manifest, Verification
from pgben_tasks.domain.states import BackupStanding, State, state_of
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import BackupNotFound, FenceLost, PgbenError, RequestRefused
from pgben_tasks.operations.repository import commit as committing, prune, statements
from pgben_tasks.operations.repository.survey import Survey, survey
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)


def finish(run: Run, tools: Toolbox) -> JSON:
    """Sign that somebody acknowledged the suspicion about one backup, or single keys.

    Raises ``BackupNotFound``, and ``RequestRefused`` when there is nothing to acknowledge.
    """
    request = AcknowledgeRequest.parse(run.job.request)
    if request.backup is None:
        return _acknowledge_keys(run, tools, request)
    backup = BackupId.parse(request.backup)
    run.progress.begin("acknowledge")
    run.ledger.keep(context={}, backup=str(backup))
    tools.repository.check_place()
    manifest = tools.repository.manifest(run.target, backup)
    known = tools.repository.verifications(run.target, backup)
    standing = state_of(manifest, known)
    acknowledging = {one.job for one in known if one.kind == "acknowledgement"}
    # A step that was killed after its statement was stored has done its work.
    if str(run.job_id) not in acknowledging:
        _check(backup, standing)
        run.ledger.hold()
        statements.sign_statement(
            run, tools, manifest, "acknowledgement", reasons=statements.who_and_why(request)
        )
        log.info("backup_acknowledged", backup=str(backup), by=request.requested_by)
    tools.index.acknowledge(run.target, str(backup))
    return {
        "backup": str(backup),
        "state": standing.state.label,
        "acknowledged": standing.suspect,
        "reasons": list(statements.who_and_why(request)),
    }


def then_prune(run: Run, tools: Toolbox) -> JSON:
    """Accept what a snapshot lacks where all of it was acknowledged; then prune."""
    try:
        accepted = _accept(run, tools)
    except FenceLost:
        raise
    except PgbenError as exc:
        # The snapshot then ends incomplete, which says so loudly enough.
        log.warning("keys_not_accepted", why=exc.sentence)
        accepted = False
    return {"exceptions_acknowledged": accepted, **prune.after_backup(run, tools)}


def _accept(run: Run, tools: Toolbox) -> bool:
    """Acknowledge the run's snapshot; a suspect one is left to people.

    What of it was acknowledged is said again in any case, for the next one.
    """
    backup = committing.backup_id(run)
    manifest = tools.repository.manifest(run.target, backup)
    lost = frozenset(run.job.result.get("unreadable_keys") or ())
    if len(lost) != manifest.unreadable or not lost:
        return False
    said = tools.repository.verifications(run.target, backup)
    known = lost & keys_in([*said, *_said_before(survey(tools.repository, run.target), manifest)])
    if known != lost or manifest.suspect is not None:
        if not known <= keys_in(said):
            run.ledger.hold()
            reasons = ("acknowledged before, and still unreadable", *reasons_of(known))
            statements.sign_statement(run, tools, manifest, "acknowledged_keys", reasons=reasons)
        return False
    if not lost <= keys_in(one for one in said if one.kind == "acknowledgement"):
        run.ledger.hold()
        reasons = ("all that could not be read was acknowledged before", *reasons_of(lost))
        statements.sign_statement(run, tools, manifest, "acknowledgement", reasons=reasons)
        log.info("exceptions_acknowledged", backup=str(backup), keys=len(lost))
    tools.index.acknowledge(run.target, str(backup))
    return True


def _said_before(surveyed: Survey, manifest: Manifest) -> Sequence[Verification]:
    """Return the statements about the snapshot right before one.

    Where one that cannot be believed may lie between the two, nobody knows what that lacked: then
    there are none, and people are asked again.
    """
    older = (one for one in surveyed.backups if one.manifest.sequence < manifest.sequence)
    before = next(older, None)
    if before is None:
        return ()
    since = before.known.id.started
    if any(backup.started >= since for backup, _ in surveyed.unreadable):
        return ()
    return before.statements


def _check(backup: BackupId, standing: BackupStanding) -> None:
    if standing.suspect is None and standing.state is not State.INCOMPLETE:
        raise RequestRefused(
            f"backup '{backup}' is not suspect and not incomplete",
            "there is nothing to acknowledge; `pgben list` shows which backups are suspect",
        )
    if standing.acknowledged:
        raise RequestRefused(
            f"backup '{backup}' was acknowledged before",
            f"`pgben show {backup}` shows by whom and why",
        )
    if standing.state is State.DAMAGED:
        raise RequestRefused(
            f"backup '{backup}' is damaged, so it cannot be made to count",
            "bring it back from a copy and run `pgben verify --level full`, or leave it as it is",
        )


def _acknowledge_keys(run: Run, tools: Toolbox, request: AcknowledgeRequest) -> JSON:
    """Sign that somebody acknowledged single keys; raises ``BackupNotFound`` without a snapshot."""
    run.progress.begin("acknowledge")
    tools.repository.check_place()
    newest = survey(tools.repository, run.target).newest
    if newest is None:
        raise BackupNotFound(
            f"'{run.target}' has no snapshot", "acknowledge keys once one found them unreadable"
        )
    manifest = newest.manifest
    run.ledger.keep(context={}, backup=manifest.backup)
    reasons = statements.who_and_why(request)
    if str(run.job_id) not in {one.job for one in newest.statements}:
        run.ledger.hold()
        named = reasons_of(set(request.keys))
        statements.sign_statement(
            run, tools, manifest, "acknowledged_keys", reasons=(*reasons, *named)
        )
        log.info("keys_acknowledged", backup=manifest.backup, keys=len(named))
    return {
        "backup": manifest.backup,
        "keys_acknowledged": len(set(request.keys)),
        "reasons": list(reasons),
    }

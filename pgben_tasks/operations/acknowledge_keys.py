"""Acknowledge single keys that cannot be read, for the snapshots to come.

An operator's statement lies beside the newest snapshot. A later snapshot whose unreadable keys were
all acknowledged gets an acknowledgement of its own, which names them again: so they stay
acknowledged when the older snapshot has expired, and no longer than they are unreadable.
"""

from __future__ import annotations

import structlog

from pgben_tasks.contracts import JSON, AcknowledgeRequest
from pgben_tasks.domain.acknowledged import keys_in, reasons_of
from pgben_tasks.errors import BackupNotFound, FenceLost, PgbenError
from pgben_tasks.operations import committing, prune, statements
from pgben_tasks.operations.survey import survey
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)


def acknowledge(run: Run, tools: Toolbox, request: AcknowledgeRequest) -> JSON:
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
    reasons = statements.said_by(request)
    if str(run.job_id) not in {one.job for one in newest.statements}:
        run.ledger.hold()
        named = reasons_of(set(request.keys))
        statements.state(run, tools, manifest, "acknowledged_keys", reasons=(*reasons, *named))
        log.info("keys_acknowledged", backup=manifest.backup, keys=len(named))
    return {
        "backup": manifest.backup,
        "keys_acknowledged": len(set(request.keys)),
        "reasons": list(reasons),
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
    """Acknowledge the run's snapshot; a suspect one is left to people."""
    backup = committing.backup_id(run)
    manifest = tools.repository.manifest(run.target, backup)
    lost = frozenset(run.job.result.get("unreadable_keys") or ())
    if len(lost) != manifest.unreadable or not lost or manifest.suspect is not None:
        return False
    surveyed = survey(tools.repository, run.target)
    told = [one for backup in surveyed.backups for one in backup.statements]
    if not lost <= keys_in(told):
        return False
    own = {one.kind for one in tools.repository.verifications(run.target, backup)}
    if "acknowledgement" not in own:
        run.ledger.hold()
        reasons = ("all that could not be read was acknowledged before", *reasons_of(lost))
        statements.state(run, tools, manifest, "acknowledgement", reasons=reasons)
        log.info("exceptions_acknowledged", backup=str(backup), keys=len(lost))
    tools.index.acknowledge(run.target, str(backup))
    return True

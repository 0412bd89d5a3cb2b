"""Acknowledge a suspect or incomplete backup: somebody looked, and it is what it should be.

The decision is a signed statement beside the backup, so that it outlives the catalog; from then on
the backup counts, may be ``latest``, and pruning of its target goes on.
"""

from __future__ import annotations

import structlog

from pgben_tasks.contracts import JSON, AcknowledgeRequest
from pgben_tasks.domain.states import BackupStanding, State, state_of
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import RequestRefused
from pgben_tasks.operations import acknowledge_keys, statements
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)


def finish(run: Run, tools: Toolbox) -> JSON:
    """Sign that somebody acknowledged the suspicion about one backup, or single keys.

    Raises ``BackupNotFound``, and ``RequestRefused`` when there is nothing to acknowledge.
    """
    request = AcknowledgeRequest.parse(run.job.request)
    if request.backup is None:
        return acknowledge_keys.acknowledge(run, tools, request)
    backup = BackupId.parse(request.backup)
    run.progress.begin("acknowledge")
    run.ledger.keep(context={}, backup=str(backup))
    tools.repository.check_place()
    manifest = tools.repository.manifest(run.target, backup)
    told = tools.repository.verifications(run.target, backup)
    standing = state_of(manifest, told)
    said = {one.job for one in told if one.kind == "acknowledgement"}
    # A step that died after its statement was stored has done its work.
    if str(run.job_id) not in said:
        _check(backup, standing)
        run.ledger.hold()
        statements.state(
            run, tools, manifest, "acknowledgement", reasons=statements.said_by(request)
        )
        log.info("backup_acknowledged", backup=str(backup), by=request.requested_by)
    tools.index.acknowledge(run.target, str(backup))
    return {
        "backup": str(backup),
        "state": standing.state.label,
        "acknowledged": standing.suspect,
        "reasons": list(statements.said_by(request)),
    }


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

"""Signed statements about backups: what was looked at and found, or what somebody decided."""

from __future__ import annotations

from collections.abc import Sequence

from pgben_tasks.contracts import AcknowledgeRequest
from pgben_tasks.domain.documents import Manifest, StatementKind, Verification
from pgben_tasks.domain.target import BackupId, require_utc
from pgben_tasks.operations.repository.examine import Examined
from pgben_tasks.operations.toolbox import Run, Toolbox

#: A decision looks at no pack.
_NOTHING = Examined(packs=0, read=0, opened=False, findings=())


def who_and_why(request: AcknowledgeRequest) -> tuple[str, ...]:
    """Return who decided, and why where that was said."""
    who = f"acknowledged by {request.requested_by}"
    return (who,) if request.reason is None else (who, request.reason)


def sign_statement(
    run: Run,
    tools: Toolbox,
    manifest: Manifest,
    kind: StatementKind,
    *,
    looked: Examined = _NOTHING,
    reasons: Sequence[str] = (),
) -> Verification:
    """Sign a statement of ``kind`` about the backup of ``manifest``, and store it beside it."""
    now = tools.clock.now()
    statement = Verification(
        repository=tools.repository.id,
        target=manifest.target,
        backup=manifest.backup,
        id=str(BackupId.make(now, tools.suffix())),
        kind=kind,
        job=str(run.job_id),
        at=require_utc(now),
        opened=looked.opened,
        packs_checked=looked.packs,
        bytes_read=looked.read,
        manifest=tools.repository.manifest_digest(manifest.target_name, manifest.backup_id),
        findings=looked.findings,
        reasons=tuple(reasons),
    )
    tools.repository.record(statement)
    return statement

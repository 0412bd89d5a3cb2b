"""Signed statements about backups: what was looked at and found, or what somebody decided."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from pgben_tasks.contracts import AcknowledgeRequest
from pgben_tasks.domain.documents import Manifest, StatementKind, Verification
from pgben_tasks.domain.restorability import missing_client, server_major
from pgben_tasks.domain.statements import next_link
from pgben_tasks.domain.target import BackupId, require_utc
from pgben_tasks.operations.repository.examine import Examined
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)

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
    needs: str | None = None,
) -> Verification:
    """Sign a statement of ``kind`` about the backup of ``manifest``, and store it beside it.

    One with ``needs`` is not stored while a worker lives that could not read it: without that word
    it would call the backup good.
    """
    target, backup = manifest.target_name, manifest.backup_id
    with tools.trail.stating(target) as enter:
        # Read under the lock: the statement names all that were there before it.
        before = tools.repository.verifications(target, backup)
        chained = tools.workers.may_use_new_fields(
            in_use=any(one.number is not None for one in before)
        )
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
            manifest=tools.repository.manifest_digest(target, backup),
            findings=looked.findings,
            reasons=tuple(reasons),
            needs=needs,
            **(next_link(before)._asdict() if chained else {}),
        )
        if needs is not None and not chained:
            log.warning("statement_not_stored", backup=manifest.backup, needs=needs)
            return statement
        tools.repository.record(statement)
        if chained:
            enter(statement, run.job.requested_by)
    return statement


def what_is_needed(
    tools: Toolbox, manifest: Manifest, *, newest: Manifest, before: str | None
) -> str | None:
    """Return what this site lacks to restore a backup; None when nothing is known to be missing.

    The destination is the server as the ``newest`` backup of the target saw it. ``before`` is what
    was missing when that was last looked at: it stays where no worker has published its clients.
    """
    if manifest.postgres is None or newest.postgres is None:
        return None
    site = tools.workers.restore_site()
    destination = server_major(newest.postgres.server_version_num)
    needed = missing_client(manifest.archive, destination, site.clients)
    return before if needed is None and site.clients is None else needed

"""Signed statements about backups: what was looked at and found, or what somebody decided."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from pgben_tasks.contracts import AcknowledgeRequest
from pgben_tasks.domain.documents import (
    CHAINED_STATEMENTS,
    Manifest,
    StatementKind,
    Verification,
)
from pgben_tasks.domain.statements import next_link
from pgben_tasks.domain.states import state_of
from pgben_tasks.domain.target import BackupId, require_utc
from pgben_tasks.operations.repository.examine import Examined
from pgben_tasks.operations.repository.survey import missing_at
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

    One with ``needs`` is not stored while a worker could meet it that cannot read it: without that
    word it would call the backup good. In direct mode what was missing before stays, for only the
    workers that restore can say that it is no longer.
    """
    target, backup = manifest.target_name, manifest.backup_id
    with tools.trail.stating(target) as enter:
        # Read under the lock: the statement names all that were there before it.
        before = tools.repository.verifications(target, backup)
        chained = tools.workers.may_use_new_fields(
            CHAINED_STATEMENTS, in_use=any(one.number is not None for one in before)
        )
        if not tools.workers.may_sign_needs and looked.packs and not looked.findings:
            needs = state_of(manifest, before).needs
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
    """Return ``missing_at`` for the workers that restore.

    ``before`` is what was missing when that was last looked at: it stays where no worker has
    published its clients.
    """
    site = tools.workers.restore_site()
    needed = missing_at(site, manifest, newest)
    return before if needed is None and site.clients is None else needed

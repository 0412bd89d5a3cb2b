"""The end of every backup, of a database or a bucket: the commit, and the read-back after it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog

from pgben_tasks.contracts import JSON
from pgben_tasks.domain.buckets.capture import BucketCapture
from pgben_tasks.domain.documents import Manifest, Pack, PostgresCapture, StoredReferences
from pgben_tasks.domain.restorability import remedy, server_major
from pgben_tasks.domain.states import State, state_of
from pgben_tasks.domain.target import BackupId, require_utc
from pgben_tasks.errors import BackupIncomplete, IntegrityError, NotRestorable
from pgben_tasks.operations import spool
from pgben_tasks.operations.repository import hold
from pgben_tasks.operations.repository.survey import survey
from pgben_tasks.operations.repository.verify import read_back
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)


def commit(run: Run, tools: Toolbox, make: Callable[[], Manifest]) -> JSON:
    """Make the backup exist: the manifest that ``make`` gives, once everything else is stored."""
    manifest_file = run.folder / "manifest.json"
    if manifest_file.exists():
        # An earlier run of this step got as far as the commit; the same bytes are committed again.
        manifest = Manifest.decode(manifest_file.read_bytes(), where=str(manifest_file))
    else:
        manifest = make()
        spool.write_durably(manifest_file, manifest.encode())
    run.progress.begin("commit")
    run.ledger.hold()
    digest = tools.repository.commit(manifest)
    tools.index.add(manifest, digest, state="stored")
    log.info("backup_committed", backup=manifest.backup, sequence=manifest.sequence)
    return {
        "backup": manifest.backup,
        "sequence": manifest.sequence,
        "packs": len(manifest.packs),
        "stored_bytes": manifest.stored_bytes,
        "new_bytes": manifest.new_bytes,
        # Packs stay beside what they were made of, so that nothing was larger before.
        "spool_bytes": spool.size_of(run.folder),
        "suspect": manifest.suspect,
        "sealed": manifest.sealed,
    }


def manifest(  # One document: what it says of packs, programs and the target.
    run: Run,
    tools: Toolbox,
    packs: tuple[Pack, ...],
    *,
    programs: dict[str, str],
    suspect: str | None,
    postgres: PostgresCapture | None = None,
    bucket: BucketCapture | None = None,
    references: StoredReferences | None = None,
) -> Manifest:
    """Describe the backup of this job, as the successor of the newest one."""
    newest = survey(tools.repository, run.target).newest
    previous = None
    at_least = 0
    if newest is not None:
        previous = tools.repository.manifest_digest(run.target, newest.known.id)
        at_least = newest.manifest.sequence
    backup = backup_id(run)
    return Manifest(
        repository=tools.repository.id,
        target=str(run.target),
        backup=str(backup),
        sequence=tools.index.next_sequence(run.target, at_least=at_least),
        job=str(run.job_id),
        started=backup.started,
        finished=max(require_utc(tools.clock.now()), backup.started),
        tools=programs,
        packs=packs,
        previous=previous,
        recipients=tools.codec.recipients,
        suspect=suspect,
        postgres=postgres,
        bucket=bucket,
        references=references,
    )


def record(run: Run, tools: Toolbox) -> JSON:
    """Read everything new back; only this makes the backup ``verified``."""
    backup = backup_id(run)
    verification = read_back(run, tools, backup)
    stored = tools.repository.manifest(run.target, backup)
    # The statement may not have been stored, and is true all the same.
    said = {one.id: one for one in tools.repository.verifications(run.target, backup)}
    standing = state_of(stored, (said | {verification.id: verification}).values())
    state = standing.state.label
    tools.index.set_state(
        run.target,
        str(backup),
        state,
        verified_at=standing.last_verified,
        needs=standing.needs,
    )
    took = verification.at - stored.started
    if verification.findings:
        first = verification.findings[0]
        raise IntegrityError(
            f"backup '{backup}' is damaged in the repository: {first.detail}",
            "the next attempt makes a new backup; look at the repository's disk or server",
        )
    spool.remove(run.folder)
    if standing.state is State.NOT_RESTORABLE:
        server = server_major(stored.database.server_version_num)
        raise NotRestorable(
            f"backup '{backup}' of '{run.target}' is stored and not restorable here: it needs "
            f"{standing.needs}",
            f"{remedy(stored.archive, server)}; the next verification that finds a fitting client "
            "makes the backup good",
        )
    if standing.state is State.INCOMPLETE:
        raise BackupIncomplete(
            f"backup '{backup}' of '{run.target}' lacks objects that could not be read: "
            f"{stored.unreadable}",
            "look at the bucket's server; the next attempt tries them again; if they are lost for "
            f"good, `pgben acknowledge {run.target}/{backup}`, or for all nights to come "
            f"`pgben acknowledge {run.target}` with `keys`",
        )
    hold.require_held(run, state)
    return {
        "backup": str(backup),
        "state": state,
        "bytes_read_back": verification.bytes_read,
        "seconds": _whole_seconds(took),
    }


def backup_id(run: Run) -> BackupId:
    """Return the id that the first step chose."""
    return BackupId.parse(run.job.backup or "")


def _whole_seconds(took: timedelta) -> int:
    return round(took.total_seconds())

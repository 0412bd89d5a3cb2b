"""The tasks of ``pgben.backup.bucket`` and of ``pgben.restore.bucket``."""

from __future__ import annotations

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.operations.buckets import (
    backup as backup_bucket,
    in_place as replace_objects,
    restore as restore_bucket,
)
from pgben_tasks.operations.repository import acknowledge, commit as committing
from pgben_tasks.tasks.backup import WRITE, WRITE_AND_LIVE
from pgben_tasks.tasks.base import PgbenTask
from pgben_tasks.tasks.entry import EntryTask
from pgben_tasks.tasks.restore import LIVE, READ
from pgben_tasks.tasks.sharing import HelpTask, SharedTask


@app.task(name=names.BACKUP_BUCKET, base=EntryTask, bind=True)
def backup(self: EntryTask, request: JSON) -> JSON:
    """Back up one bucket: snapshot, copy, checksum, upload, prune, record."""
    return self.enter("backup", request)


@app.task(name=names.BACKUP_BUCKET_SNAPSHOT, base=PgbenTask, bind=True)
def snapshot(self: PgbenTask, ref: JSON) -> JSON:
    """List the bucket and compare it with the snapshot before."""
    return self.step(ref, backup_bucket.snapshot, locks=WRITE_AND_LIVE)


@app.task(name=names.BACKUP_BUCKET_COPY, base=SharedTask, bind=True)
def copy(self: SharedTask, ref: JSON) -> JSON:
    """Fetch what is new or changed into packs, and store them."""
    return self.step(ref, backup_bucket.copy, locks=WRITE_AND_LIVE)


@app.task(name=names.BACKUP_BUCKET_HELP, base=HelpTask, bind=True)
def help_copy(self: HelpTask, ref: JSON) -> JSON:
    """Copy parts of a large snapshot that another worker began."""
    return self.help(ref)


@app.task(name=names.BACKUP_BUCKET_CHECKSUM, base=PgbenTask, bind=True)
def checksum(self: PgbenTask, ref: JSON) -> JSON:
    """Make, judge and seal the inventory."""
    return self.step(ref, backup_bucket.checksum, locks=WRITE)


@app.task(name=names.BACKUP_BUCKET_UPLOAD, base=PgbenTask, bind=True)
def upload(self: PgbenTask, ref: JSON) -> JSON:
    """Store the inventory, then the manifest."""
    return self.step(ref, backup_bucket.upload, locks=WRITE)


@app.task(name=names.BACKUP_BUCKET_PRUNE, base=PgbenTask, bind=True)
def prune_after(self: PgbenTask, ref: JSON) -> JSON:
    """Accept what was acknowledged as lost, then remove what retention no longer keeps."""
    return self.step(ref, acknowledge.then_prune, locks=WRITE)


@app.task(name=names.BACKUP_BUCKET_RECORD, base=PgbenTask, bind=True)
def record(self: PgbenTask, ref: JSON) -> JSON:
    """Read the new packs back and record the snapshot as verified."""
    return self.step(ref, committing.record, locks=WRITE)


@app.task(name=names.RESTORE_BUCKET, base=EntryTask, bind=True)
def restore(self: EntryTask, request: JSON) -> JSON:
    """Restore a snapshot's objects into another bucket."""
    return self.enter("restore", request)


@app.task(name=names.RESTORE_BUCKET_SELECT, base=PgbenTask, bind=True)
def select(self: PgbenTask, ref: JSON) -> JSON:
    """Choose the snapshot to restore."""
    return self.step(ref, restore_bucket.select, locks=READ)


@app.task(name=names.RESTORE_BUCKET_PLAN, base=PgbenTask, bind=True)
def plan(self: PgbenTask, ref: JSON) -> JSON:
    """Choose the objects to restore."""
    return self.step(ref, restore_bucket.plan, locks=READ)


@app.task(name=names.RESTORE_BUCKET_COPY, base=PgbenTask, bind=True)
def copy_back(self: PgbenTask, ref: JSON) -> JSON:
    """Fetch packs, check them, and store their objects."""
    return self.step(ref, restore_bucket.copy, locks=READ)


@app.task(name=names.RESTORE_BUCKET_FINISH, base=PgbenTask, bind=True)
def finish(self: PgbenTask, ref: JSON) -> JSON:
    """Compare every restored object with the inventory."""
    return self.step(ref, restore_bucket.finish)


@app.task(name=names.RESTORE_BUCKET_REPLACE_PLAN, base=PgbenTask, bind=True)
def replace_plan(self: PgbenTask, ref: JSON) -> JSON:
    """Compare the live bucket with the snapshot, object by object."""
    return self.step(ref, replace_objects.plan, locks=READ)


@app.task(name=names.RESTORE_BUCKET_REPLACE_ASIDE, base=PgbenTask, bind=True)
def replace_aside(self: PgbenTask, ref: JSON) -> JSON:
    """Copy aside what will be overwritten or deleted."""
    return self.step(ref, replace_objects.aside, locks=READ)


@app.task(name=names.RESTORE_BUCKET_REPLACE_WRITE, base=PgbenTask, bind=True)
def replace_write(self: PgbenTask, ref: JSON) -> JSON:
    """Put missing and differing objects back."""
    return self.step(ref, replace_objects.write, locks=READ + LIVE)


@app.task(name=names.RESTORE_BUCKET_REPLACE_FINISH, base=PgbenTask, bind=True)
def replace_finish(self: PgbenTask, ref: JSON) -> JSON:
    """Compare every object with the snapshot, then delete extra ones where that was asked."""
    return self.step(ref, replace_objects.finish, locks=LIVE)

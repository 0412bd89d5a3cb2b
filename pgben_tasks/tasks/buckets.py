"""What is asked for buckets: backup and restore; and the task of those who help to copy."""

from __future__ import annotations

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.tasks.entry import EntryTask
from pgben_tasks.tasks.sharing import HelpTask


@app.task(name=names.BACKUP_BUCKET, base=EntryTask, bind=True)
def backup(self: EntryTask, request: JSON) -> JSON:
    """Back up one bucket: snapshot, copy, checksum, upload, prune, record."""
    return self.enter("backup", request)


@app.task(name=names.BACKUP_BUCKET_HELP, base=HelpTask, bind=True)
def help_copy(self: HelpTask, ref: JSON) -> JSON:
    """Copy parts of a large snapshot that another worker began."""
    return self.help(ref)


@app.task(name=names.RESTORE_BUCKET, base=EntryTask, bind=True)
def restore(self: EntryTask, request: JSON) -> JSON:
    """Restore a snapshot's objects into another bucket, or into the original."""
    return self.enter("restore", request)

"""What is asked for databases: backup, restore and undo."""

from __future__ import annotations

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.tasks.entry import EntryTask


@app.task(name=names.BACKUP_POSTGRES, base=EntryTask, bind=True)
def backup(self: EntryTask, request: JSON) -> JSON:
    """Back up one database: dump, checksum, upload, prune, record."""
    return self.enter("backup", request)


@app.task(name=names.RESTORE_POSTGRES, base=EntryTask, bind=True)
def restore(self: EntryTask, request: JSON) -> JSON:
    """Restore one database beside the original, or in its place."""
    return self.enter("restore", request)


@app.task(name=names.UNDO_RUN, base=EntryTask, bind=True)
def undo(self: EntryTask, request: JSON) -> JSON:
    """Turn a swap back."""
    return self.enter("undo", request)

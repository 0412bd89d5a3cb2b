"""What is asked for everything at once: backups that a recovery point joins, restore and undo."""

from __future__ import annotations

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.tasks.entry import EntryTask


@app.task(name=names.BACKUP_ALL, base=EntryTask, bind=True)
def backup_all(self: EntryTask, request: JSON) -> JSON:
    """Back up every database, then every bucket, and join them in a recovery point."""
    return self.enter("point", request)


@app.task(name=names.RESTORE_ALL, base=EntryTask, bind=True)
def restore_all(self: EntryTask, request: JSON) -> JSON:
    """Restore everything of a recovery point, beside the originals or in their place."""
    return self.enter("restore_all", request)


@app.task(name=names.UNDO_ALL, base=EntryTask, bind=True)
def undo_all(self: EntryTask, request: JSON) -> JSON:
    """Turn every swap of a restore of everything back."""
    return self.enter("undo_all", request)

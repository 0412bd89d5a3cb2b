"""What is asked for everything at once: backups, and the recovery point that joins them."""

from __future__ import annotations

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.tasks.entry import EntryTask


@app.task(name=names.BACKUP_ALL, base=EntryTask, bind=True)
def backup_all(self: EntryTask, request: JSON) -> JSON:
    """Back up every database, then every bucket, and join them in a recovery point."""
    return self.enter("point", request)

"""The tasks of ``pgben.backup.postgres``: dump, checksum, upload, prune, record."""

from __future__ import annotations

from typing import Final

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.operations.postgres import backup as backup_postgres
from pgben_tasks.operations.repository import commit as committing, prune
from pgben_tasks.tasks.base import PgbenTask
from pgben_tasks.tasks.entry import EntryTask

#: The repository's side of the target is this job's alone.
WRITE: Final = (("write", False),)
#: While dumping, nobody may swap the live database.
WRITE_AND_LIVE: Final = (("write", False), ("live", True))


@app.task(name=names.BACKUP_POSTGRES, base=EntryTask, bind=True)
def backup(self: EntryTask, request: JSON) -> JSON:
    """Back up one database: dump, checksum, upload, prune, record."""
    return self.enter("backup", request)


@app.task(name=names.BACKUP_POSTGRES_DUMP, base=PgbenTask, bind=True)
def dump(self: PgbenTask, ref: JSON) -> JSON:
    """Capture the database in the spool."""
    return self.step(ref, backup_postgres.dump, locks=WRITE_AND_LIVE)


@app.task(name=names.BACKUP_POSTGRES_CHECKSUM, base=PgbenTask, bind=True)
def checksum(self: PgbenTask, ref: JSON) -> JSON:
    """Digest and judge what was dumped."""
    return self.step(ref, backup_postgres.checksum, locks=WRITE)


@app.task(name=names.BACKUP_POSTGRES_UPLOAD, base=PgbenTask, bind=True)
def upload(self: PgbenTask, ref: JSON) -> JSON:
    """Store the packs of a captured backup, then its manifest."""
    return self.step(ref, backup_postgres.upload, locks=WRITE)


@app.task(name=names.BACKUP_POSTGRES_PRUNE, base=PgbenTask, bind=True)
def prune_after(self: PgbenTask, ref: JSON) -> JSON:
    """Remove what retention no longer keeps."""
    return self.step(ref, prune.after_backup, locks=WRITE)


@app.task(name=names.BACKUP_POSTGRES_RECORD, base=PgbenTask, bind=True)
def record(self: PgbenTask, ref: JSON) -> JSON:
    """Read the backup back and record it as verified."""
    return self.step(ref, committing.record, locks=WRITE)

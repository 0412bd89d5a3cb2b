"""The tasks of ``pgben.restore.postgres`` (select, fetch, load, check, swap, finish) and undo."""

from __future__ import annotations

from typing import Final

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.operations.postgres import restore as restore_postgres, swap as swap_postgres
from pgben_tasks.tasks.base import PgbenTask
from pgben_tasks.tasks.entry import EntryTask

#: While packs are read, nothing may be pruned.
READ: Final = (("read", True),)
#: While the live database is replaced, nobody may dump it.
LIVE: Final = (("live", False),)


@app.task(name=names.RESTORE_POSTGRES, base=EntryTask, bind=True)
def restore(self: EntryTask, request: JSON) -> JSON:
    """Restore one database beside the original, or in its place."""
    return self.enter("restore", request)


@app.task(name=names.RESTORE_POSTGRES_SELECT, base=PgbenTask, bind=True)
def select(self: PgbenTask, ref: JSON) -> JSON:
    """Choose the backup to restore."""
    return self.step(ref, restore_postgres.select, locks=READ)


@app.task(name=names.RESTORE_POSTGRES_FETCH, base=PgbenTask, bind=True)
def fetch(self: PgbenTask, ref: JSON) -> JSON:
    """Fetch and open its packs, checking every digest."""
    return self.step(ref, restore_postgres.fetch, locks=READ)


@app.task(name=names.RESTORE_POSTGRES_LOAD, base=PgbenTask, bind=True)
def load(self: PgbenTask, ref: JSON) -> JSON:
    """Load the dump into a new database."""
    return self.step(ref, restore_postgres.load)


@app.task(name=names.RESTORE_POSTGRES_CHECK, base=PgbenTask, bind=True)
def check(self: PgbenTask, ref: JSON) -> JSON:
    """Compare the rows of every table with the backup's manifest."""
    return self.step(ref, restore_postgres.check)


@app.task(name=names.RESTORE_POSTGRES_SWAP, base=PgbenTask, bind=True)
def swap(self: PgbenTask, ref: JSON) -> JSON:
    """Let the copy and the live database trade places."""
    return self.step(ref, swap_postgres.swap, locks=LIVE)


@app.task(name=names.RESTORE_POSTGRES_FINISH, base=PgbenTask, bind=True)
def finish(self: PgbenTask, ref: JSON) -> JSON:
    """Return the copy its settings, grants and statistics."""
    return self.step(ref, restore_postgres.finish)


@app.task(name=names.UNDO_RUN, base=EntryTask, bind=True)
def undo(self: EntryTask, request: JSON) -> JSON:
    """Turn a swap back."""
    return self.enter("undo", request)


@app.task(name=names.UNDO_RUN_FINISH, base=PgbenTask, bind=True)
def undo_finish(self: PgbenTask, ref: JSON) -> JSON:
    """Return the replaced database its name again."""
    return self.step(ref, swap_postgres.undo, locks=LIVE)

"""The tasks of ``pgben.verify.run``: examine, finish."""

from __future__ import annotations

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.operations.repository import verify as operation
from pgben_tasks.tasks.base import PgbenTask
from pgben_tasks.tasks.entry import EntryTask
from pgben_tasks.tasks.restore import READ


@app.task(name=names.VERIFY_RUN, base=EntryTask, bind=True)
def verify(self: EntryTask, request: JSON) -> JSON:
    """Verify one backup, one target or everything, quick or full."""
    return self.enter("verify", request)


@app.task(name=names.VERIFY_RUN_EXAMINE, base=PgbenTask, bind=True)
def examine(self: PgbenTask, ref: JSON) -> JSON:
    """Look at what is stored and sign what was found."""
    return self.step(ref, operation.examine, locks=READ)


@app.task(name=names.VERIFY_RUN_FINISH, base=PgbenTask, bind=True)
def finish(self: PgbenTask, ref: JSON) -> JSON:
    """End the verification, red when anything was found."""
    return self.step(ref, operation.finish)

"""The tasks that keep the house: pruning on demand, and the reconciler's tick."""

from __future__ import annotations

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.operations import prune as operation
from pgben_tasks.tasks import reconciler
from pgben_tasks.tasks.backup import WRITE
from pgben_tasks.tasks.base import PgbenTask
from pgben_tasks.tasks.entry import EntryTask


@app.task(name=names.PRUNE_RUN, base=EntryTask, bind=True)
def prune(self: EntryTask, request: JSON) -> JSON:
    """Apply retention to one target now."""
    return self.enter("prune", request)


@app.task(name=names.PRUNE_RUN_FINISH, base=PgbenTask, bind=True)
def prune_finish(self: PgbenTask, ref: JSON) -> JSON:
    """Remove what the retention plan expires."""
    return self.step(ref, operation.on_demand, locks=WRITE)


@app.task(name=names.TICK, base=PgbenTask, bind=True, expires=120)
def tick(self: PgbenTask, *, stand_in: bool = False) -> JSON:
    """Start what is due, take jobs from the dead, send alarms; cheap and idempotent."""
    return reconciler.tick(self.work, self.app, stand_in=stand_in)

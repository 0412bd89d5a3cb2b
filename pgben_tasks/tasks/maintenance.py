"""The tasks that keep the house: prune, acknowledge, sweep, and the reconciler's tick."""

from __future__ import annotations

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.operations.repository import (
    acknowledge as acknowledging,
    prune as operation,
    sweep as sweeping,
)
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


@app.task(name=names.ACKNOWLEDGE_RUN, base=EntryTask, bind=True)
def acknowledge(self: EntryTask, request: JSON) -> JSON:
    """Say that a suspect backup is plausible."""
    return self.enter("acknowledge", request)


@app.task(name=names.ACKNOWLEDGE_RUN_FINISH, base=PgbenTask, bind=True)
def acknowledge_finish(self: PgbenTask, ref: JSON) -> JSON:
    """Sign that somebody looked at a suspect backup."""
    return self.step(ref, acknowledging.finish)


@app.task(name=names.SWEEP_RUN, base=EntryTask, bind=True)
def sweep(self: EntryTask, request: JSON) -> JSON:
    """Remove what dead runs left behind in the repository."""
    return self.enter("sweep", request)


@app.task(name=names.SWEEP_RUN_FINISH, base=PgbenTask, bind=True)
def sweep_finish(self: PgbenTask, ref: JSON) -> JSON:
    """Remove the packs, uploads and signatures that belong to no backup."""
    return self.step(ref, sweeping.finish, locks=WRITE)


@app.task(name=names.TICK, base=PgbenTask, bind=True, expires=120)
def tick(self: PgbenTask, *, stand_in: bool = False) -> JSON:
    """Start what is due, take jobs from the dead, send alarms; cheap and idempotent."""
    return reconciler.tick(self.work, self.app, stand_in=stand_in)

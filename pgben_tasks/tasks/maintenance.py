"""The reconciler's tick."""

from __future__ import annotations

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.tasks import reconciler
from pgben_tasks.tasks.base import PgbenTask


@app.task(name=names.TICK, base=PgbenTask, bind=True, expires=120)
def tick(self: PgbenTask, *, stand_in: bool = False) -> JSON:
    """Begin what is due, take over stalled jobs and send alarms; cheap and idempotent."""
    return reconciler.tick(
        self.work, self.app, stand_in=stand_in, hostname=str(self.request.hostname)
    )

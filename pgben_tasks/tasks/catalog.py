"""What is asked to be told, not done: read-only, so it makes no job and nothing is recorded."""

from __future__ import annotations

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON, PlanRequest
from pgben_tasks.operations.points import plan as plan_restore
from pgben_tasks.tasks.base import PgbenTask


@app.task(name=names.CATALOG_PLAN, base=PgbenTask, bind=True, typing=False, acks_late=False)
def plan(self: PgbenTask, request: JSON | None = None) -> JSON:
    """Return what a restore would bring back, and what stands in its way."""
    return plan_restore.plan(PlanRequest.parse(request), self.work.tools).to_json()

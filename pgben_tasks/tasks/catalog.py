"""What is asked to be told, not done: read-only, so it makes no job and nothing is recorded.

Requests are those of ``contracts.TASK_REQUESTS``; a call without any argument asks for defaults.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pgben_tasks import names, runtime
from pgben_tasks.app import app
from pgben_tasks.contracts import (
    JSON,
    CatalogBackupsRequest,
    CatalogJobsRequest,
    CatalogStatusRequest,
    PlanRequest,
)
from pgben_tasks.domain.listing import impersonal, job_document, page, point_document
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.health.listing import read_index
from pgben_tasks.health.points import indexed_points
from pgben_tasks.health.situation import gather
from pgben_tasks.health.status import status_document
from pgben_tasks.operations.points import plan as plan_restore
from pgben_tasks.tasks.base import PgbenTask, one_argument


class Question(PgbenTask):
    """Base of the read-only tasks: whoever asks waits, and asks again when a worker is lost."""

    abstract = True
    acks_late = False

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Take the one argument, the request, or none; anything else is refused as malformed."""
        return self.run({} if not (arguments or named) else one_argument(arguments, named))


@app.task(name=names.CATALOG_PLAN, base=Question, bind=True, typing=False)
def plan(self: PgbenTask, request: JSON) -> JSON:
    """Return what a restore would bring back, and what stands in its way."""
    return plan_restore.plan(PlanRequest.parse(request), self.work.tools).to_json()


@app.task(name=names.CATALOG_BACKUPS, base=Question, bind=True, typing=False)
def backups(self: PgbenTask, request: JSON) -> JSON:
    """Return a page of the backups, or recovery points, that the catalog's index lists."""
    asked = CatalogBackupsRequest.parse(request)
    with self.work.database.kept():
        listed = _points(self.work) if asked.points else _backups(self.work, asked.target)
    found = sorted(listed, key=lambda one: _age(one[0]), reverse=True)
    older = (
        document
        for backup, document in found
        if asked.before is None or _age(backup) < _age(asked.before)
    )
    shown, more = page(older, asked.limit)
    return {"points" if asked.points else "backups": shown, "more": more}


@app.task(name=names.CATALOG_JOBS, base=Question, bind=True, typing=False)
def jobs(self: PgbenTask, request: JSON) -> JSON:
    """Return a page of jobs: asked for, running, ended."""
    asked = CatalogJobsRequest.parse(request)
    work = self.work
    with work.database.kept():
        found = work.ledger.jobs(
            # One more tells whether there are more.
            limit=asked.limit + 1,
            open_only=asked.open_only,
            target=asked.target,
            kind=asked.kind,
            before=asked.before,
        )
        swaps = work.swaps.states(found)
    shown, more = page(
        (impersonal(job_document(one, swap=swaps.get(one.id)), one.request) for one in found),
        asked.limit,
    )
    return {"jobs": shown, "more": more}


@app.task(name=names.CATALOG_STATUS, base=Question, bind=True, typing=False)
def status(self: PgbenTask, request: JSON) -> JSON:
    """Return whether everything can be restored, and whether everything works."""
    CatalogStatusRequest.parse(request)
    # Connections of its own: what hangs is left to itself, and is never handed to a step.
    found = gather(replace(self.work, patience=runtime.PATIENCE))
    document = status_document(found)
    if found.jobs is not None:
        requests = {str(job.id): job.request for job in found.jobs}
        document["jobs"] = [impersonal(one, requests[one["job"]]) for one in document["jobs"]]
    return document


def _backups(work: runtime.Workplace, target: str | None) -> list[tuple[str, JSON]]:
    wanted = None if target is None else Target.parse(target)
    return [(one.backup, one.to_json()) for one in read_index(work, wanted)]


def _points(work: runtime.Workplace) -> list[tuple[str, JSON]]:
    now = work.database.now()
    return [(str(one.id), point_document(one, now)) for one in indexed_points(work)]


def _age(backup: str) -> tuple[float, str]:
    """Return the order of ids, the oldest first."""
    known = BackupId.parse(backup)
    return known.started.timestamp(), known.suffix

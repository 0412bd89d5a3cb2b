"""What is asked to be cancelled; the request is no job of its own, its end is the other's."""

from __future__ import annotations

from typing import Any

import structlog

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON, CancelRequest
from pgben_tasks.domain.job import Job
from pgben_tasks.errors import RequestRefused, TransientError
from pgben_tasks.runtime.cancel import STOPS, cancel_job, remains
from pgben_tasks.tasks.base import PgbenTask, one_argument

log = structlog.get_logger(__name__)


class CancelTask(PgbenTask):
    """Base of the task that cancels a job."""

    abstract = True

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Take the one argument, the request; anything else is refused as a malformed one."""
        return self.run(one_argument(arguments, named))

    def cancel(self, raw: object) -> JSON:
        """Cancel the job that ``raw`` names; one that is cancelled already answers the same."""
        request = CancelRequest.parse(raw)
        try:
            with self.work.database.kept():
                return self._cancelled(request)
        except TransientError as exc:
            self._again(exc)

    def _cancelled(self, request: CancelRequest) -> JSON:
        job = self.work.ledger.job(request.job)
        if job.state != "cancelled":
            job = self._ended(job, request.requested_by)
        left = remains(self.work, job)
        began = job.started_at is not None
        return {
            "job": str(job.id),
            "state": job.state,
            "stays": list(left.replaced),
            "hint": left.way_back or (STOPS if began else ""),
        }

    def _ended(self, job: Job, who: str) -> Job:
        """Cancel a job, unless somebody else has done so by now."""
        try:
            cancelled, untold = cancel_job(
                self.work, job, who=who, hostname=str(self.request.hostname)
            )
        except RequestRefused:
            now = self.work.ledger.job(job.id)
            if now.state != "cancelled":
                raise
            return now
        if untold is not None:
            log.warning("end_not_told", job=str(job.id), why=untold.sentence)
        log.info("job_cancelled", job=str(job.id), who=who)
        return cancelled


@app.task(name=names.CANCEL_RUN, base=CancelTask, bind=True)
def cancel(self: CancelTask, request: JSON) -> JSON:
    """Cancel a job: a waiting one at once, a running one within seconds."""
    return self.cancel(request)

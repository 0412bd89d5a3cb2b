"""Workers without Celery: whoever asks for a job, and the jobs of a ledger done in this process."""

from __future__ import annotations

from pgben_tasks.contracts import JSON, request_model
from pgben_tasks.direct.jobs import LedgerJobs
from pgben_tasks.domain.job import EVERYTHING, Job, JobKind


class LedgerWorkers(LedgerJobs):
    """Does the jobs of a ledger, and asks for some."""

    def ask(self, kind: JobKind, request: JSON, *, target: str = EVERYTHING) -> Job:
        """Write a job as whoever asks for it does."""
        model = request_model(kind, target).parse(request)
        job, _ = self.ledger.request(
            kind,
            target=target,
            key=model.idempotency_key or f"{kind}:{target}:{len(self.ledger.jobs(limit=10_000))}",
            request=model.model_dump(mode="json"),
            requested_by="shop",
        )
        return job

    def run(self, kind: JobKind, request: JSON, *, target: str = EVERYTHING) -> Job:
        """Ask for a job, do all that is open, and return the job as it ended."""
        return self.finish(self.ask(kind, request, target=target))

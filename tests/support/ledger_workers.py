"""Workers without Celery: the jobs of a real ledger, each step in the calling process.

A job that waits for others is looked at again when these went on, as a worker does in time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from pgben_tasks import canvases, runtime
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.ledger_row import LedgerRow
from pgben_tasks.contracts import JSON, JobRef, request_model
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.failures import error_record, failed_state
from pgben_tasks.domain.job import EVERYTHING, Job, JobKind
from pgben_tasks.errors import PgbenError, StepWaits
from pgben_tasks.operations.chains import first_context
from pgben_tasks.operations.toolbox import NoProgress, Toolbox

_WAIT = timedelta(minutes=5)


class _Row(LedgerRow):
    """A job's row of the ledger, for a whole chain."""

    def __init__(self, ledger: Ledger, ref: JobRef) -> None:
        super().__init__(ledger, ref, node="workshop", wait=_WAIT)
        self.ledger = ledger

    def fail(self, step: str, error: Exception) -> None:
        """End the job in ``step``, unless it waits."""
        if isinstance(error, StepWaits):
            self.ledger.release_step(
                self.ref, step, state="waiting", wait=_WAIT, why=error.sentence
            )
        else:
            record = error_record(error, step)
            self.ledger.fail(self.ref, state=failed_state(error), error=record)


@dataclass
class LedgerWorkers:
    """Does the jobs of a ledger."""

    ledger: Ledger
    tools: Toolbox
    _chains: dict[UUID, in_process.Chain] = field(default_factory=dict)

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

    def finish(self, job: Job) -> Job:
        """Do all that is open until a job has ended; return it."""
        for _ in range(100):
            if self.ledger.job(job.id).ended:
                return self.ledger.job(job.id)
            self.round()
        raise AssertionError(f"it waits for ever: {self.ledger.job(job.id)}")

    def round(self) -> None:
        """Let every open job go on until it waits or ends."""
        for job in reversed(self.ledger.jobs(limit=1000, open_only=True)):
            self.advance(job)

    def advance(self, job: Job, *, before: str | None = None) -> Job:
        """Let one job go on until it waits, ends, or comes to the step that ends in ``before``."""
        if self.ledger.job(job.id).state == "queued":
            self._chains[job.id] = self._begin(job)
        chain = self._chains[job.id]
        try:
            while not chain.job.ended:
                if before is not None and (chain.job.step or "").endswith(f".{before}"):
                    break
                chain.step()
        except StepWaits:
            pass
        except PgbenError:
            ended = self.ledger.job(job.id)
            if ended.ended:
                runtime.abandon(ended, self.tools)
        return self.ledger.job(job.id)

    def _begin(self, job: Job) -> in_process.Chain:
        now = self.tools.clock.now().astimezone(self.tools.zone)
        request = request_model(job.kind, job.target).parse(job.request_again)
        ref = self.ledger.claim(
            job.id,
            node="workshop",
            first_step=canvases.first_step(job.chain),
            lease=(str(job.id), "test"),
            context=first_context(job.target, request, now=now, kept=job.context),
            root_task="root",
            wait=_WAIT,
        )
        return in_process.Chain(_Row(self.ledger, ref), self.tools, NoProgress())

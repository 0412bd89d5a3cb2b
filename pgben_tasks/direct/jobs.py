"""Do the jobs of a ledger in the calling process: no broker, no worker.

A job that waits for others is looked at again when these went on. Steps hold the locks that they
hold in a worker, so that whoever works on the same catalog keeps out. What is interrupted goes on
when a process with the same spool does the ledger's jobs again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

import structlog

from pgben_tasks import canvases, runtime
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.ledger_row import LedgerRow
from pgben_tasks.adapters.catalog.locks import holding
from pgben_tasks.contracts import JobRef, request_model
from pgben_tasks.direct.chain import Chain
from pgben_tasks.domain.failures import error_record, failed_state, public_sentence
from pgben_tasks.domain.job import EVERYTHING, Job
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import FenceLost, PgbenError, StepWaits, TargetBusy, TransientError
from pgben_tasks.operations.chains import first_context, lease_of
from pgben_tasks.operations.repository import hold
from pgben_tasks.operations.toolbox import NoProgress, Toolbox
from pgben_tasks.ports import Progress

log = structlog.get_logger(__name__)

#: How long a step may wait before the reconciler of a worker sends it, too.
_WAIT: Final = timedelta(minutes=30)
_MOST_JOBS: Final = 1000
#: Seconds for which nothing may go on before somebody else is at work, and between two looks.
_STANDS_STILL: Final = 3.0
_LOOK_AGAIN_AFTER: Final = 0.1


class Onlooker(Progress, Protocol):
    """Whoever sees jobs being done, and says what is tried again."""

    def turn_to(self, chain: Chain) -> None:
        """Take what follows for progress of this job."""

    def show_steps(self) -> None:
        """Show that a step of it has begun or ended."""

    def retry(self, error: TransientError, tried: int) -> bool:
        """Return whether a step is tried again, perhaps after a wait (``Chain``)."""


class Nobody(NoProgress):
    """An ``Onlooker`` that sees nothing and tries nothing again."""

    def turn_to(self, chain: Chain) -> None:
        """See nothing."""

    def show_steps(self) -> None:
        """See nothing."""

    def retry(self, _error: TransientError, _tried: int) -> bool:
        """Try no step a second time."""
        return False


class _Row(LedgerRow):
    """A job's row of the ledger, for a whole chain."""

    def __init__(self, ledger: Ledger, ref: JobRef, *, node: str) -> None:
        super().__init__(ledger, ref, node=node, wait=_WAIT)
        self._jobs = ledger

    def fail(self, step: str, error: Exception) -> None:
        """End the job in ``step``, unless it waits."""
        if isinstance(error, StepWaits):
            self._jobs.release_step(self.ref, step, state="waiting", wait=_WAIT, why=error.sentence)
        else:
            record = error_record(error, step)
            self._jobs.fail(self.ref, state=failed_state(error), error=record)

    def interrupt(self) -> None:
        """Release the running step, to begin again."""
        self._jobs.release_step(
            self.ref, self.job.step or "", state="interrupted", wait=timedelta(0)
        )


def _tell_nobody(_job: Job) -> None:
    """Leave an end to the ledger."""


class LedgerJobs:
    """Does the jobs of a ledger, one step after the other."""

    def __init__(
        self,
        ledger: Ledger,
        tools: Toolbox,
        *,
        onlooker: Onlooker | None = None,
        on_end: Callable[[Job], None] = _tell_nobody,
    ) -> None:
        """Do nothing yet; ``on_end`` is called with every job that succeeded or failed here."""
        self.ledger = ledger
        self.tools = tools
        self._onlooker: Onlooker = onlooker or Nobody()
        self._on_end = on_end
        self._chains: dict[UUID, tuple[Chain, _Row]] = {}

    def finish(self, job: Job) -> Job:
        """Do all that is open until a job has ended, and return it.

        Raises ``TargetBusy`` when it waits for what nobody does here.
        """
        seen: object = None
        moved_at = time.monotonic()
        while not (now := self.ledger.job(job.id)).ended:
            before, seen = (
                seen,
                [(one.id, one.state, one.step, one.context) for one in self._open()],
            )
            if seen != before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at < _STANDS_STILL:
                # A server frees the locks of a session a moment after that was closed.
                time.sleep(_LOOK_AGAIN_AFTER)
            else:
                raise TargetBusy(
                    f"job '{job.id}' does not go on: another process works on it, or on a part",
                    "`pgben jobs` shows them; let that process end, then try again",
                )
            self.round()
        return now

    def round(self) -> None:
        """Let every open job go on until it waits or ends."""
        for job in self._open():
            self.advance(job)

    def advance(self, job: Job, *, before: str | None = None) -> Job:
        """Let one job go on until it waits, ends, or comes to the step that ends in ``before``."""
        try:
            chain, row = self._chain_of(job)
            self._onlooker.turn_to(chain)
            try:
                while not chain.job.ended:
                    step = chain.job.step or ""
                    if before is not None and step.endswith(f".{before}"):
                        break
                    locks = runtime.step_locks(job, step, map(str, self.tools.protected))
                    with holding(self.ledger.database, locks):
                        chain.step()
            except PgbenError:
                raise
            except BaseException:
                # Where the ledger does not answer, whoever goes on finds the step's lock free.
                with suppress(PgbenError):
                    row.interrupt()
                raise
        except FenceLost:
            self._chains.pop(job.id, None)
        except PgbenError as exc:
            # The ledger has why, unless the job only waits.
            log.debug("job_stopped", job=str(job.id), why=exc.sentence)
        now = self.ledger.job(job.id)
        if now.ended and self._chains.pop(job.id, None) is not None:
            self._clean(now)
            self._on_end(now)
        return now

    def clean(self) -> None:
        """Remove what ended jobs left."""
        for job in self.ledger.to_clean():
            self._clean(job)

    def _open(self) -> list[Job]:
        """Return the jobs that have not ended, the oldest first."""
        return self.ledger.jobs(limit=_MOST_JOBS, open_only=True)[::-1]

    def _chain_of(self, job: Job) -> tuple[Chain, _Row]:
        known = self._chains.get(job.id)
        now = self.ledger.job(job.id)
        if known is not None and now.state != "queued":
            return known
        ref = self._claim(now) if now.state == "queued" else JobRef(job=now.id, fence=now.fence)
        row = _Row(self.ledger, ref, node=self.tools.node)
        chain = Chain(
            row,
            self.tools,
            self._onlooker,
            on_change=self._onlooker.show_steps,
            retry=self._onlooker.retry,
        )
        self._chains[job.id] = chain, row
        return chain, row

    def _claim(self, job: Job) -> JobRef:
        now = self.tools.clock.now().astimezone(self.tools.zone)
        request = request_model(job.kind, job.target).parse(job.request_again)
        context = first_context(job.target, request, now=now, kept=job.context)
        if job.target != EVERYTHING:
            context |= hold.existing(self.tools, Target.parse(job.target), request)
        chain = replace(job, context=context).chain
        return self.ledger.claim(
            job.id,
            node=self.tools.node,
            first_step=canvases.first_step(chain),
            lease=lease_of(job, request, context),
            context=context,
            root_task=str(job.id),
            wait=_WAIT,
        )

    def _clean(self, job: Job) -> None:
        """Remove what a job left; what cannot be removed now stays noted in the ledger."""
        if job.state == "succeeded":
            return
        try:
            runtime.abandon(job, self.tools)
            self.ledger.cleaned(job.id)
        except PgbenError as exc:
            log.error("cleanup_failed", why=public_sentence(exc))  # noqa: TRY400 - a sentence

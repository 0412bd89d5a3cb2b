"""Run the steps of one job in the calling process, one after the other: no broker, no worker.

Direct mode lives on this, with the job's row in memory, and so does ``jobs``, with that of a
ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Protocol, Self
from uuid import uuid4

from pgben_tasks import canvases, runtime
from pgben_tasks.contracts import JSON, Request
from pgben_tasks.domain.failures import error_record, failed_state
from pgben_tasks.domain.job import Job, JobKind, StepRun
from pgben_tasks.errors import PgbenError, StepWaits, TransientError
from pgben_tasks.operations import spool
from pgben_tasks.operations.chains import run_step
from pgben_tasks.operations.toolbox import JobRow, Toolbox
from pgben_tasks.ports import Clock, Progress, Sharing


class ChainRow(JobRow, Protocol):
    """A job's row while its whole chain runs: of the ledger, or in memory."""

    def begin(self, step: str) -> None:
        """Begin a waiting step, or again one whose process died."""

    def end(self, step: str, result: JSON, *, following: str | None) -> Job:
        """End a running step; without a ``following`` one the job has succeeded."""

    def fail(self, step: str, error: Exception) -> None:
        """End the job as failed or refused in ``step``."""


class MemoryRow:
    """The row of a job that nobody else knows of, so it has no fence and its locks are free."""

    def __init__(self, job: Job, clock: Clock) -> None:
        """Begin with ``job``."""
        self.job = job
        self._clock = clock

    def begin(self, step: str) -> None:
        """Note which step runs, perhaps once more."""
        self.job = replace(self.job, state="running", step=step, error=None, ended_at=None)

    def keep(self, *, context: JSON, backup: str | None = None) -> None:
        """Leave facts for later steps."""
        kept = {**self.job.context, **context}
        self.job = replace(self.job, context=kept, backup=backup or self.job.backup)

    def hold(self) -> None:
        """Go on: nobody else can own the job."""

    def try_lock(self, _kind: str) -> AbstractContextManager[bool]:
        """Take a lock that nobody else could hold."""
        return nullcontext(enter_result=True)

    def end(self, step: str, result: JSON, *, following: str | None) -> Job:
        """End a running step; without a ``following`` one the job has succeeded."""
        self.job = replace(self.job, step=following or step, result={**self.job.result, **result})
        if following is None:
            self.job = replace(self.job, state="succeeded", ended_at=self._clock.now())
        return self.job

    def fail(self, step: str, error: Exception) -> None:
        """End the job as failed or refused in ``step``."""
        self.job = replace(
            self.job,
            state=failed_state(error),
            error=error_record(error, step),
            ended_at=self._clock.now(),
        )


def new_job(
    kind: JobKind, request: Request, *, target: str, node: str, now: datetime, context: JSON
) -> Job:
    """Return the job of a request, running since ``now``; ``context`` is what its steps find."""
    identity = uuid4()
    job = Job(
        id=identity,
        key=request.idempotency_key or f"{kind}:{target}:{identity.hex}",
        kind=kind,
        target=target,
        window=None,
        request=request.model_dump(mode="json"),
        requested_by=request.requested_by,
        state="running",
        fence=1,
        attempt=1,
        node=node,
        backup=None,
        root_task=None,
        step=None,
        context=context,
        result={},
        error=None,
        retry_at=None,
        created_at=now,
        started_at=now,
        ended_at=None,
    )
    return replace(job, step=canvases.first_step(job.chain))


def _notify_nobody() -> None:
    """Do nothing: nobody follows this chain."""


def _retry_never(_error: TransientError, _tried: int) -> bool:
    """Try no step a second time."""
    return False


class Chain:
    """The steps of one job. ``job`` and ``steps`` are true at any moment, also after a failure.

    While ``undoing``, what was begun is being removed and nothing should stop that. Then
    ``removed`` says whether there was an unfinished copy, and ``left`` is the error that kept it
    from being removed.
    """

    def __init__(
        self,
        row: ChainRow,
        tools: Toolbox,
        progress: Progress,
        *,
        on_change: Callable[[], None] = _notify_nobody,
        retry: Callable[[TransientError, int], bool] = _retry_never,
        sharing: Callable[[], Sharing | None] = lambda: None,
    ) -> None:
        """Run nothing yet.

        ``on_change`` is called when a step has begun or ended, and when what was begun is undone.
        ``retry`` is asked after a passing failure of a step, with how often it was tried, and says
        (perhaps after a wait) whether to try the step again. ``sharing`` gives how the step that
        begins is shared with other processes.
        """
        self.row = row
        self.tools = tools
        self.progress = progress
        self.steps: list[StepRun] = []
        self.undoing = False
        self.removed = False
        self.left: PgbenError | None = None
        self._on_change = on_change
        self._retry = retry
        self._sharing = sharing

    @property
    def job(self) -> Job:
        """The job as its row has it now."""
        return self.row.job

    @property
    def folder(self) -> Path:
        """The job's folder in the spool."""
        return spool.job_folder(self.tools.spool, self.job.id)

    def step(self, name: str | None = None) -> Job:
        """Run the step ``name``; None means the next one, or again the one that was left running.

        A failure is recorded and raised; what the job left is not removed.
        """
        name = name or self.job.step or ""
        began = self.tools.clock.now()
        self.row.begin(name)
        self._on_change()
        try:
            result = self._attempts(name)
        except BaseException as exc:
            self._note(name, began, "waiting" if isinstance(exc, StepWaits) else "failed", {})
            if isinstance(exc, Exception):
                self.row.fail(name, exc)
            raise
        ended = self.row.end(name, result, following=canvases.next_step(self.job.chain, name))
        self._note(name, began, "done", result)
        return ended

    def until(self, step: str) -> Self:
        """Run the steps before the one whose name ends in ``step``."""
        while not (self.job.step or "").endswith(f".{step}"):
            self.step()
        return self

    def rest(self) -> Job:
        """Run every step that is left."""
        while not self.job.ended:
            self.step()
        return self.job

    def run(self) -> Job:
        """Run every step that is left; after a failure what was begun is removed."""
        try:
            return self.rest()
        except BaseException:
            self._undo()
            raise

    def _attempts(self, name: str) -> JSON:
        tried = 0
        while True:
            try:
                return run_step(self.row, name, self.tools, self.progress, sharing=self._sharing())
            except TransientError as exc:
                tried += 1
                if not self._retry(exc, tried):
                    raise

    def _note(self, name: str, began: datetime, state: str, result: JSON) -> None:
        self.steps.append(
            StepRun(
                attempt=self.job.attempt,
                name=name,
                state=state,
                node=self.tools.node,
                started_at=began,
                ended_at=self.tools.clock.now(),
                result=result,
            )
        )
        self._on_change()

    def _undo(self) -> None:
        """Remove what is left; where that fails, the first error is still the one to raise."""
        self.undoing = True
        self._on_change()
        try:
            self.removed = runtime.abandon(self.job, self.tools)
        except PgbenError as exc:
            self.left = exc

"""Run the chain of one job in the calling process: no broker, no ledger, no worker.

Direct mode and the tests' workshop live on this. The job's row is kept in memory; nobody else can
want it, so it has no fence.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from pgben_tasks import canvases, runtime
from pgben_tasks.contracts import JSON, Request
from pgben_tasks.domain.job import Job, JobKind, StepRun
from pgben_tasks.errors import PgbenError, TransientError
from pgben_tasks.operations import spool
from pgben_tasks.operations.chains import OPERATIONS
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Progress


def untold() -> None:
    """Tell nobody."""


def never_again(_error: TransientError, _tried: int) -> bool:
    """Try no step a second time."""
    return False


def new_job(
    kind: JobKind, request: Request, *, target: str, node: str, now: datetime, context: JSON
) -> Job:
    """Make the job of a request, running from ``now`` on; ``context`` is what its steps find."""
    job = uuid4()
    return Job(
        id=job,
        key=request.idempotency_key or f"{kind}:{target}:{job.hex}",
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


class Chain:
    """One job and how far it is. ``job`` and ``steps`` are true at any moment, also after a fall.

    While ``undoing``, what was begun is being taken away and nothing should stop that. Then
    ``removed`` says whether there was an unfinished copy, and ``left`` is the error that kept it
    from being taken away.
    """

    def __init__(
        self,
        job: Job,
        tools: Toolbox,
        progress: Progress,
        *,
        told: Callable[[], None] = untold,
        again: Callable[[TransientError, int], bool] = never_again,
    ) -> None:
        """Prepare a chain; ``run`` begins it.

        ``told`` is called when a step has begun or ended, and when what was begun is undone.
        ``again`` is asked after a passing failure of a step, with how often it was tried, and says
        (perhaps after a wait) whether to try the step again.
        """
        self.job = job
        self.steps: list[StepRun] = []
        self.undoing = False
        self.removed = False
        self.left: PgbenError | None = None
        self._tools = tools
        self._progress = progress
        self._told = told
        self._again = again
        self.folder = spool.job_folder(tools.spool, job.id)

    def run(self) -> Job:
        """Run every step; what fails is cleaned up, then raised."""
        try:
            for name, _ in canvases.CHAINS[self.job.chain]:
                self._step(name)
        except BaseException:
            self._abandon()
            raise
        self.job = replace(self.job, state="succeeded", ended_at=self._tools.clock.now())
        return self.job

    # What ``toolbox.RunLedger`` wants of the row.

    def keep(self, *, context: JSON, backup: str | None = None) -> None:
        """Leave facts for later steps."""
        kept = {**self.job.context, **context}
        self.job = replace(self.job, context=kept, backup=backup or self.job.backup)

    def hold(self) -> None:
        """Own the job still: nobody else knows of it."""

    def _step(self, name: str) -> None:
        self.job = replace(self.job, step=name)
        self._told()
        began = self._tools.clock.now()
        try:
            result = self._attempts(name)
        except BaseException:
            self._ended(name, began, "failed", {})
            raise
        self.job = replace(self.job, result={**self.job.result, **result})
        self._ended(name, began, "done", result)

    def _attempts(self, name: str) -> JSON:
        tried = 0
        while True:
            run = Run(
                job=self.job,
                ledger=self,
                progress=self._progress,
                folder=self.folder,
                try_lock=_unwatched,
            )
            try:
                return OPERATIONS[name](run, self._tools)
            except TransientError as exc:
                tried += 1
                if not self._again(exc, tried):
                    raise

    def _ended(self, name: str, began: datetime, state: str, result: JSON) -> None:
        step = StepRun(
            attempt=self.job.attempt,
            name=name,
            state=state,
            node=self._tools.node,
            started_at=began,
            ended_at=self._tools.clock.now(),
            result=result,
        )
        self.steps.append(step)
        self._told()

    def _abandon(self) -> None:
        """Remove what is left; where that fails, the first error is still the one to raise."""
        self.undoing = True
        self._told()
        try:
            self.removed = runtime.abandon(self.job, self._tools)
        except PgbenError as exc:
            self.left = exc


def _unwatched(_kind: str) -> AbstractContextManager[bool]:
    """Take a lock that nobody else could hold."""
    return nullcontext(enter_result=True)

"""The task base: claims, locks, fences, retries by error type, and what happens on failure.

Every entry and every step of every chain runs through here; a task body is one sentence. This is
the only place beside ``main()`` that catches ``Exception``.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final, NoReturn
from uuid import UUID

import structlog
from celery import Task
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError
from redis import RedisError

from pgben_tasks import canvases, runtime
from pgben_tasks.adapters.catalog.ledger_row import LedgerRow
from pgben_tasks.adapters.catalog.locks import holding
from pgben_tasks.app import HARD_LIMIT
from pgben_tasks.contracts import JSON, JobOutcome, JobRef
from pgben_tasks.domain.failures import (
    as_public_error,
    error_record,
    failed_state,
    is_final,
    public_sentence,
    recorded_error,
)
from pgben_tasks.domain.job import RETRY_DELAYS, Job
from pgben_tasks.errors import (
    FenceLost,
    PgbenError,
    StepWaits,
    TargetBusy,
    TransientError,
)
from pgben_tasks.events import NO_NAMED_ARGUMENTS, send_failure, shown_arguments
from pgben_tasks.operations import spool
from pgben_tasks.operations.chains import run_step
from pgben_tasks.operations.toolbox import Toolbox
from pgben_tasks.ports import Sharing
from pgben_tasks.tasks.heartbeat import Heartbeat
from pgben_tasks.tasks.reconciler import publish_due

log = structlog.get_logger(__name__)

#: How much later than its delay a retry may begin before the reconciler sends it again: what waits
#: for its time in a worker is lost with the worker's connection to the broker, for hours (10 h: the
#: visibility timeout).
RETRY_GRACE: Final = timedelta(seconds=60)
#: Seconds between two tries to begin a step whose target or catalog is busy.
BUSY_DELAY: Final = 5
#: The longest time between two looks of a step that waits for other jobs.
MOST_SECONDS_BETWEEN_LOOKS: Final = 15
#: A step whose locks are taken waits for as long as the longest step may run.
WAIT_TRIES: Final = round(HARD_LIMIT.total_seconds()) // BUSY_DELAY


class PgbenTask(Task):
    """Base of every task of pgben."""

    abstract = True
    #: How often Celery itself repeats a task whose worker process died.
    max_retries = 2
    #: … and how soon, in seconds: the step's lock is free, so nothing is waited for.
    default_retry_delay = 1
    #: Errors of ours are logged in one line; only unexpected ones have a traceback.
    throws = (PgbenError,)
    #: What workers tell of their tasks has no arguments of requests.
    Request = "pgben_tasks.tasks.request:ShownRequest"

    @property
    def work(self) -> runtime.Workplace:
        """The process's toolbox, ledger and locks."""
        return runtime.workplace()

    def sharing(self, _ref: JobRef, _pulse: Heartbeat) -> Sharing | None:
        """Return what shares the step with other workers: None for most."""
        return None

    def step(self, raw: object) -> JSON:
        """Run the step of this task's name under the job's lock, its fence and its heartbeat.

        Returns the reference for the next step, or the outcome after the last.
        """
        ref = JobRef.parse(raw)
        with self.work.database.kept():
            return self._taken(ref)

    def _taken(self, ref: JobRef) -> JSON:
        """Run a step that a worker took from its queue."""
        try:
            job = self.work.ledger.job(ref.job)
        except TransientError as exc:
            self._again(exc)
        with structlog.contextvars.bound_contextvars(
            job=str(job.id), target=job.target, backup=job.backup, task=self.name
        ):
            try:
                return self._run(ref, job)
            except FenceLost as exc:
                log.info("step_ignored", why=exc.sentence)
                self._answer_ended(ref)
                raise Ignore from exc

    def _answer_ended(self, ref: JobRef) -> None:
        """Raise the error of a job that has ended without success, where callers wait on this task.

        A message that comes once more has overwritten their answer with STARTED.
        """
        try:
            job = self.work.ledger.job(ref.job)
        except TransientError:
            return
        if job.root_task == self.request.id and job.ended and job.state != "succeeded":
            raise recorded_error(job)

    def _run(self, ref: JobRef, job: Job) -> JSON:
        tools = self._tools(ref)
        row = LedgerRow(self.work.ledger, ref, node=tools.node, wait=self.work.step_wait)
        folder = spool.job_folder(tools.spool, job.id)
        with ExitStack() as stack:
            try:
                held = stack.enter_context(
                    holding(
                        self.work.database,
                        runtime.step_locks(job, self.name, self.work.target_names()),
                    )
                )
                stack.enter_context(spool.occupied(folder))
                stack.enter_context(self._clean_when_cancelled(job.id))
                row.begin(self.name)
                ref, job = row.ref, row.job
            except TargetBusy as exc:
                self._wait(ref, exc)
            except TransientError as exc:
                self._again(exc)
            except FenceLost:
                raise
            except Exception as exc:  # noqa: BLE001 - a step that cannot begin fails its job
                self._fail_waiting(ref, exc)
            log.info("step_began", attempt=job.attempt, fence=ref.fence)
            pulse = Heartbeat(self.work.ledger, held, ref, self.name, show=self._shower(job))
            try:
                with pulse:
                    sharing = self.sharing(ref, pulse)
                    result = run_step(row, self.name, tools, pulse, sharing=sharing)
                    pulse.check()
                following = canvases.next_step(job.chain, self.name)
                ended = row.end(self.name, result, following=following)
            except FenceLost:
                raise
            except (StepWaits, TransientError) as exc:
                self._begin_later(ref, job, exc)
            except Exception as exc:  # noqa: BLE001 - every failure is recorded before it is raised
                self._fail(ref, job, exc)
            except BaseException:
                # The worker is being stopped: the step is given back, to begin again at once.
                self.work.ledger.release_step(
                    ref, self.name, state="interrupted", wait=timedelta(0)
                )
                raise
            log.info("step_ended")
            if not ended.ended:
                return ref.to_json()
            self._succeeded(ended)
            return JobOutcome.of_job(ended).to_json()

    @contextmanager
    def _clean_when_cancelled(self, job: UUID) -> Iterator[None]:
        """After a cancellation, remove what the step left and raise the error of the cancellation.

        Its locks are still held, and its files are on this node.
        """
        try:
            yield
        except FenceLost:
            try:
                lost = self.work.ledger.job(job)
            except TransientError:
                # The reconciler removes it when the catalog is back.
                raise FenceLost(f"job '{job}' is owned by somebody else") from None
            if lost.state != "cancelled":
                raise
            self._clean(lost)
            log.info("step_cancelled")
            raise recorded_error(lost) from None

    def _clean(self, job: Job) -> None:
        """Remove what an ended job left; what cannot be removed now the reconciler removes."""
        try:
            runtime.abandon(job, self.work.tools)
            self.work.ledger.cleaned(job.id)
        except (PgbenError, OSError) as exc:
            # Until it was tried again the ledger says that something is left.
            log.error("cleanup_failed", why=public_sentence(exc))  # noqa: TRY400 - a sentence, no trace

    def _tools(self, ref: JobRef) -> Toolbox:
        """Return the toolbox; where it cannot be built, the job fails with that error."""
        try:
            return self.work.tools
        except TransientError as exc:
            self._again(exc)
        except PgbenError as exc:
            self._fail_waiting(ref, exc)

    def _fail_waiting(self, ref: JobRef, error: Exception) -> NoReturn:
        """Fail a job whose step could not begin, unless the step is somebody else's by now."""
        job = self.work.ledger.job(ref.job)
        if (job.state, job.step, job.fence) != ("waiting", self.name, ref.fence):
            raise FenceLost(f"step '{self.name}' of job '{job.id}' is not wanted here")
        self._end(ref, job, error)
        raise as_public_error(error) from None

    def _wait(self, ref: JobRef, busy: TargetBusy) -> NoReturn:
        """Try a step later whose locks are taken, unless its own other delivery has them."""
        try:
            job = self.work.ledger.job(ref.job)
            # It waits for another job, so nobody may take it for lost.
            self.work.ledger.wait_on(ref, wait=timedelta(seconds=BUSY_DELAY) + RETRY_GRACE)
        except TransientError as exc:
            self._again(exc)
        if (job.state, job.step, job.fence) != ("waiting", self.name, ref.fence):
            raise FenceLost(f"step '{self.name}' of job '{ref.job}' already runs, or is done")
        if self.request.retries >= WAIT_TRIES:
            self._fail_waiting(ref, busy)
        raise self.retry(exc=busy, countdown=BUSY_DELAY, max_retries=WAIT_TRIES)

    def _begin_later(self, ref: JobRef, job: Job, error: StepWaits | TransientError) -> NoReturn:
        if isinstance(error, StepWaits):
            self._give_back(ref, error)
        self._retry_step(ref, job, error)

    def _give_back(self, ref: JobRef, waits: StepWaits) -> NoReturn:
        """Send the jobs that a step asked for, release it, and raise the retry that looks again."""
        # The longer it waits, the more rarely it looks.
        countdown = min(1 + self.request.retries // 4, MOST_SECONDS_BETWEEN_LOOKS)
        try:
            publish_due(self.work, self.app)
            self.work.ledger.release_step(
                ref,
                self.name,
                state="waiting",
                wait=timedelta(seconds=countdown) + RETRY_GRACE,
                why=waits.sentence,
            )
        except TransientError as exc:
            # The next look takes the step over: the ledger calls it running, its lock is free.
            log.warning("step_not_released", why=exc.sentence)
        raise self.retry(
            args=(ref.to_json(),), exc=waits, countdown=countdown, max_retries=sys.maxsize
        )

    def _again(self, error: TransientError) -> NoReturn:
        raise self.retry(exc=error, countdown=_delay(self.request.retries), max_retries=sys.maxsize)

    def _retry_step(self, ref: JobRef, job: Job, error: TransientError) -> NoReturn:
        """Try a step again after a passing failure, unless it had its retries."""
        try:
            tried = self.work.ledger.retries(ref, self.name)
        except TransientError:
            # While the catalog is away, so is the count; Celery's own also counts good looks.
            tried = 0
        if tried >= len(RETRY_DELAYS):
            self._fail(ref, job, error)
        delay = _delay(tried)
        log.warning("step_retried", why=error.sentence, seconds=delay, retry=tried + 1)
        try:
            self.work.ledger.release_step(
                ref, self.name, state="retrying", wait=timedelta(seconds=delay) + RETRY_GRACE
            )
        except TransientError as exc:
            # The next try takes the step over: the ledger calls it running, its lock is free.
            log.warning("step_not_released", why=exc.sentence)
        raise self.retry(args=(ref.to_json(),), exc=error, countdown=delay, max_retries=sys.maxsize)

    def _fail(self, ref: JobRef, job: Job, error: Exception) -> NoReturn:
        """Record a failure, remove what the job left, and raise it."""
        if not isinstance(error, PgbenError):
            log.error("step_surprised", exc_info=error)
        self._end(ref, job, error)
        self._clean(job)
        raise as_public_error(error) from None

    def _end(self, ref: JobRef, job: Job, error: Exception) -> None:
        """Write down everywhere that a job failed or was refused."""
        state = failed_state(error)
        self.work.ledger.fail(
            ref,
            state=state,
            error=error_record(error, self.name),
            retry_at=None if is_final(job, error) else self.work.next_attempt(job, state),
        )
        log.error("job_failed", state=state, error=type(error).__name__, why=public_sentence(error))
        self.work.audit(job, result=state, detail=public_sentence(error))
        try:
            self._notify_flower(job, error)
        except (OperationalError, OSError, RedisError):
            log.warning("flower_not_told")

    def _succeeded(self, job: Job) -> None:
        log.info("job_succeeded")
        self.work.audit(job, result="succeeded")

    def _notify_flower(self, job: Job, error: Exception) -> None:
        """Send a failure event for the id that callers wait on; Celery sends none for it."""
        if job.root_task is None or job.root_task == self.request.id:
            return
        send_failure(
            self.app, job.root_task, as_public_error(error), hostname=str(self.request.hostname)
        )

    def _shower(self, job: Job) -> Callable[[JSON], None]:
        """Return what shows the progress of this step under the id that callers wait on."""
        # The heartbeat's thread has no current request, so the id is taken here.
        return partial(self._show_progress, job, job.root_task or self.request.id, self.name)

    def _show_progress(self, job: Job, task_id: str, step: str, progress: JSON) -> None:
        store = getattr(self.backend, "store_progress", None)
        if store is not None:
            about = {"job": str(job.id), "target": job.target, "step": step}
            store(task_id, {**about, "phase": None, "total": None, "unit": None, **progress})

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Send this task; events show its target and its job, and nothing else of its arguments."""
        options.setdefault("argsrepr", shown_arguments(args))
        options.setdefault("kwargsrepr", NO_NAMED_ARGUMENTS)
        return super().apply_async(args, kwargs, **options)


def one_argument(arguments: Sequence[object], named: Mapping[str, object]) -> object:
    """Return the one argument of a public task, the request; None stands for anything else."""
    return arguments[0] if len(arguments) == 1 and not named else None


def _delay(tried: int) -> float:
    base = RETRY_DELAYS[min(tried, len(RETRY_DELAYS) - 1)]
    # Jitter needs no secrecy.
    return base * random.uniform(0.8, 1.2)  # noqa: S311

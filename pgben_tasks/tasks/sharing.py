"""A copy that several workers share: its shards in the ledger, and the task of the helpers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Final

import structlog
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError

from pgben_tasks import names, runtime
from pgben_tasks.adapters.catalog.ledger_row import LedgerRow
from pgben_tasks.adapters.catalog.locks import HeldLocks, holding
from pgben_tasks.adapters.catalog.shards import ShardRows, shard_lock, shard_step
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON, JobRef
from pgben_tasks.domain.failures import as_public_error
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import FenceLost, PgbenError, TargetBusy, TransientError
from pgben_tasks.events import NO_NAMED_ARGUMENTS, shown_arguments
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets import sharding
from pgben_tasks.operations.toolbox import NoProgress, Run
from pgben_tasks.ports import Progress, Sharing, Taken
from pgben_tasks.tasks.base import PgbenTask
from pgben_tasks.tasks.heartbeat import Heartbeat

log = structlog.get_logger(__name__)

_STEP: Final = names.BACKUP_BUCKET_COPY
_PAUSE_SECONDS: Final = 1.0

#: Returns the ``Progress`` of the shard of that number while these locks are held.
Report = Callable[[HeldLocks, int], AbstractContextManager[Progress]]


class LedgerSharing(ShardRows):
    """A ``ports.Sharing``: the ledger says what is left, a lock who has it."""

    def __init__(self, work: runtime.Workplace, ref: JobRef, report: Report) -> None:
        """Speak for the job ``ref``."""
        super().__init__(work.database, ref, _STEP, node=work.tools.node)
        self._report = report

    def ask_for_helpers(self, helpers: int) -> None:
        """Ask for so many helpers; that none comes is no error."""
        try:
            for _ in range(helpers):
                app.send_task(
                    names.BACKUP_BUCKET_HELP,
                    args=(self.ref.to_json(),),
                    argsrepr=shown_arguments((self.ref.to_json(),)),
                    kwargsrepr=NO_NAMED_ARGUMENTS,
                    ignore_result=True,
                    retry=False,
                )
        except OperationalError:
            # This worker copies every shard that nobody else takes.
            log.warning("helpers_not_called")

    @contextmanager
    def take(self, n: int) -> Iterator[Taken | None]:
        """Own a shard for a block, unless somebody else does or it is stored whole."""
        with ExitStack() as stack:
            try:
                lock = shard_lock(self.ref.job, n)
                held = stack.enter_context(holding(self.database, [lock]))
            except TargetBusy:
                yield None
                return
            shard = self.begin(n)
            if shard is None:
                yield None
                return
            stack.callback(self._give_back, n)
            yield Taken(shard=shard, progress=stack.enter_context(self._report(held, n)))

    def _give_back(self, n: int) -> None:
        """Mark the shard as free; what counts is that its lock is."""
        with suppress(TransientError):
            self.give_back(n)

    def pause(self) -> None:
        """Wait a moment, in which others may end their shards."""
        time.sleep(_PAUSE_SECONDS)


class SharedTask(PgbenTask):
    """Base of a step whose work is shared."""

    abstract = True

    def sharing(self, ref: JobRef, pulse: Heartbeat) -> Sharing:
        """Share it; the step's own heartbeat keeps its shards' locks and sends their progress."""
        return LedgerSharing(self.work, ref, lambda held, _n: pulse.keeping(held))


class HelpTask(PgbenTask):
    """Base of the task of a helper: it owns no job, only shards of one."""

    abstract = True

    def help(self, raw: object) -> JSON:
        """Copy shards until none is free. Whatever goes wrong here is made good by the job."""
        ref = JobRef.parse(raw)
        with self.work.database.kept():
            job = self.work.ledger.job(ref.job)
            with structlog.contextvars.bound_contextvars(
                job=str(job.id), target=job.target, backup=job.backup, task=self.name
            ):
                try:
                    return self._help(ref)
                except FenceLost as exc:
                    # The job ended, or goes on elsewhere and has called again.
                    log.info("help_ended", why=exc.sentence)
                    raise Ignore from exc
                except PgbenError as exc:
                    log.warning("help_failed", why=exc.sentence)
                    raise as_public_error(exc) from None

    def _help(self, ref: JobRef) -> JSON:
        work, tools = self.work, self.work.tools

        @contextmanager
        def report(held: HeldLocks, n: int) -> Iterator[Progress]:
            step = shard_step(_STEP, n)
            # The job's own step shows how far the job is; this is how far one shard is.
            with Heartbeat(work.ledger, held, ref, step, show=lambda _: None) as pulse:
                yield pulse

        sharing = LedgerSharing(work, ref, report)
        job = work.ledger.job(ref.job)
        if Target.parse(job.target) not in tools.buckets:
            # A worker without the secret key of the bucket's server.
            log.warning("help_not_possible")
            return {"shards": 0}
        # A folder of its own: the job's may be on this very node.
        own = spool.job_folder(tools.spool, job.id)
        folder = own.with_name(f"{own.name}-{secrets.token_hex(3)}")
        with spool.occupied(folder):
            spool.fresh(folder)
            try:
                return sharding.help_out(
                    Run(
                        job=job,
                        ledger=LedgerRow(work.ledger, ref, node=tools.node, wait=work.step_wait),
                        progress=NoProgress(),
                        folder=folder,
                        try_lock=lambda _kind: nullcontext(False),  # noqa: FBT003
                    ),
                    tools,
                    sharing,
                )
            finally:
                spool.remove(folder)

"""The row of one job in the ledger, as the step that runs may read and change it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.locks import holding
from pgben_tasks.adapters.postgres.server import Lock
from pgben_tasks.contracts import JSON, JobRef
from pgben_tasks.domain.job import Job
from pgben_tasks.errors import TargetBusy


class LedgerRow:
    """A ``toolbox.JobRow``. ``ref`` is the reference under which the step runs.

    Whatever changes the row raises ``FenceLost`` when another attempt owns the job.
    """

    def __init__(self, ledger: Ledger, ref: JobRef, *, node: str, wait: timedelta) -> None:
        """Speak for the job ``ref``, on ``node``; a step that follows is due within ``wait``."""
        self.ref = ref
        self._ledger = ledger
        self._node = node
        self._wait = wait

    @property
    def job(self) -> Job:
        """The job as the ledger has it now."""
        return self._ledger.job(self.ref.job)

    def begin(self, step: str) -> None:
        """Begin a waiting step, or again one whose process died: then the fence is raised."""
        self.ref = self._ledger.begin_step(self.ref, step, node=self._node)

    def keep(self, *, context: JSON, backup: str | None = None) -> None:
        """Leave facts for later steps."""
        self._ledger.keep(self.ref, context=context, backup=backup)

    def hold(self) -> None:
        """Check that the job is still ours."""
        self._ledger.hold(self.ref)

    def end(self, step: str, result: JSON, *, following: str | None) -> Job:
        """End the running step; without a ``following`` one the job has succeeded."""
        return self._ledger.end_step(
            self.ref, step, result=result, following=following, wait=self._wait
        )

    @contextmanager
    def try_lock(self, kind: str) -> Iterator[bool]:
        """Take one of the target's locks for a block; yields whether nobody else held it."""
        lock = Lock(f"{kind}:{self.job.target}")
        with ExitStack() as stack:
            try:
                stack.enter_context(holding(self._ledger.database, [lock]))
            except TargetBusy:
                yield False
            else:
                yield True

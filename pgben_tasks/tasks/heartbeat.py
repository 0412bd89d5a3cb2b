"""What a running step sends from a thread of its own: heartbeat and progress.

Every second new progress goes to the ledger and to Celery's state; every ten seconds a heartbeat
goes even without any. When the ledger says that the job has another owner, ``check`` raises.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import structlog

from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.locks import HeldLocks
from pgben_tasks.contracts import JobRef
from pgben_tasks.domain.job import HEARTBEAT_EVERY
from pgben_tasks.errors import FenceLost, PgbenError, TargetBusy
from pgben_tasks.operations.progress import Gauge

log = structlog.get_logger(__name__)

_POLL_SECONDS: Final = 1.0
#: How long a step goes on without its lock: longer than the server's keepalives need.
_WITHOUT_LOCK: Final = 90.0


class _Kept:
    """Locks that are kept, and since when another session has them."""

    def __init__(self, locks: HeldLocks, *, grace: float) -> None:
        self._locks = locks
        self._grace = grace
        self._unlocked_since: float | None = None

    def keep(self) -> None:
        """Check the locks, and take lost ones again.

        The fence says which attempt owns the job, so a lock may be missing for ``grace`` seconds.
        When a connection is cut on this side only, the server keeps our old session's locks until
        its keepalives end it: that is not another owner.
        """
        try:
            self._locks.keep()
            self._unlocked_since = None
        except TargetBusy as exc:
            now = time.monotonic()
            self._unlocked_since = self._unlocked_since or now
            log.warning("lock_missed", why=exc.sentence)
            if now - self._unlocked_since > self._grace:
                raise FenceLost(f"the step's lock stays taken: {exc.sentence}") from exc


class Heartbeat:
    """A ``Progress`` that keeps a running step alive in the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        locks: HeldLocks,
        ref: JobRef,
        step: str,
        *,
        show: Callable[[dict[str, Any]], None],
    ) -> None:
        """Beat for ``step`` of the job ``ref``; ``show`` hands progress to Celery."""
        self._ledger = ledger
        self._kept = [_Kept(locks, grace=_WITHOUT_LOCK)]
        self._keeping = threading.Lock()
        self._ref = ref
        self._step = step
        self._show = show
        self._gauge = Gauge()
        self._lost: Exception | None = None
        self._stop = threading.Event()
        self._progress = self._gauge.read()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._shower = threading.Thread(target=self._show_progress, name="progress", daemon=True)

    def __enter__(self) -> Self:
        """Start beating."""
        self._thread.start()
        self._shower.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop beating."""
        self._stop.set()
        self._thread.join(timeout=30)
        self._shower.join(timeout=5)

    def begin(self, phase: str, *, total: int | None = None, unit: str = "bytes") -> None:
        """Start a phase of the step."""
        self._gauge.begin(phase, total=total, unit=unit)

    def advance(self, amount: int) -> None:
        """Add to what is done of the phase."""
        self._gauge.advance(amount)

    def note(self, **facts: int | str) -> None:
        """Set side facts of the phase."""
        self._gauge.note(**facts)

    def check(self) -> None:
        """Raise when the job is no longer ours."""
        if self._lost is not None:
            raise self._lost

    @contextmanager
    def keeping(self, locks: HeldLocks) -> Iterator[Self]:
        """Keep further locks for a block; what they guard has a fence of its own."""
        more = _Kept(locks, grace=float("inf"))
        with self._keeping:
            self._kept.append(more)
        try:
            yield self
        finally:
            # Whoever releases them must not do so while they are being kept.
            with self._keeping:
                self._kept.remove(more)

    def _snapshot(self) -> dict[str, Any]:
        self._progress = self._gauge.read()
        return self._progress

    def _beat(self) -> None:
        with self._ledger.database.kept():
            self._beat_until_stopped()

    def _beat_until_stopped(self) -> None:
        last = float("-inf")
        while not self._stop.wait(_POLL_SECONDS):
            due = time.monotonic() - last >= HEARTBEAT_EVERY.total_seconds()
            if not (due or self._gauge.changed):
                continue
            try:
                if due:
                    self._keep_locks()
                    last = time.monotonic()
                self._ledger.heartbeat(self._ref, self._step, self._snapshot())
            except FenceLost as exc:
                self._lost = exc
                return
            except PgbenError as exc:
                # A catalog that is away for a while must not end hours of work; the ledger shows a
                # stale heartbeat meanwhile, and ownership is asked again as soon as it answers.
                log.warning("heartbeat_missed", why=exc.sentence)
                last = float("-inf")

    def _keep_locks(self) -> None:
        with self._keeping:
            for kept in self._kept:
                kept.keep()

    def _show_progress(self) -> None:
        """Hand progress to Celery, from a thread of its own: a broker that is away blocks it.

        That the step began is shown at once.
        """
        shown: dict[str, Any] | None = None
        while True:
            progress = self._progress
            if progress != shown:
                try:
                    self._show(progress)
                except Exception as exc:  # noqa: BLE001 - whatever a broker raises, it is only shown
                    log.warning("progress_not_shown", why=type(exc).__name__)
                shown = progress
            if self._stop.wait(_POLL_SECONDS):
                return

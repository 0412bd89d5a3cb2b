"""The pulse of a running step: heartbeat, progress and lost ownership, from a thread of its own.

Every second new progress goes to the ledger and to Celery's state; every ten seconds a heartbeat
goes even without any. When the ledger says that the job has another owner, ``check`` raises.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import structlog

from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.locks import HeldLocks
from pgben_tasks.contracts import JobRef
from pgben_tasks.domain.job import HEARTBEAT_EVERY
from pgben_tasks.errors import FenceLost, TargetBusy, TransientError

log = structlog.get_logger(__name__)

_LOOK_EVERY = 1.0


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
        self._locks = locks
        self._ref = ref
        self._step = step
        self._show = show
        self._mutex = threading.Lock()
        self._facts: dict[str, Any] = {}
        self._done = 0
        self._changed = True
        self._begun = time.monotonic()
        self._lost: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Start beating."""
        self._thread.start()
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

    def begin(self, phase: str, *, total: int | None = None, unit: str = "bytes") -> None:
        """Start a phase of the step."""
        with self._mutex:
            self._facts = {"phase": phase, "total": total, "unit": unit}
            self._done = 0
            self._begun = time.monotonic()
            self._changed = True

    def advance(self, amount: int) -> None:
        """Add to what is done of the phase."""
        with self._mutex:
            self._done += amount
            self._changed = True

    def note(self, **facts: int | str) -> None:
        """Set side facts of the phase."""
        with self._mutex:
            self._facts.update(facts)
            self._changed = True

    def check(self) -> None:
        """Raise when the job is no longer ours."""
        if self._lost is not None:
            raise self._lost

    def _snapshot(self) -> dict[str, Any]:
        with self._mutex:
            self._changed = False
            seconds = max(time.monotonic() - self._begun, 0.001)
            rate = int(self._done / seconds)
            total = self._facts.get("total")
            left = None
            if total and rate:
                left = max(0, round((total - self._done) / rate))
            return {**self._facts, "done": self._done, "rate": rate, "seconds_left": left}

    def _beat(self) -> None:
        last = float("-inf")
        while not self._stop.wait(_LOOK_EVERY):
            due = time.monotonic() - last >= HEARTBEAT_EVERY.total_seconds()
            if not (due or self._changed):
                continue
            progress = self._snapshot()
            try:
                if due:
                    self._locks.keep()
                    last = time.monotonic()
                self._ledger.heartbeat(self._ref, self._step, progress)
            except FenceLost as exc:
                self._lost = exc
                return
            except TargetBusy as exc:
                self._lost = FenceLost(f"the step's lock was taken by another: {exc.sentence}")
                return
            except TransientError as exc:
                # A catalog that is away for a while must not end hours of work; the ledger shows a
                # stale heartbeat meanwhile, and ownership is asked again as soon as it answers.
                log.warning("heartbeat_missed", why=exc.sentence)
                last = float("-inf")
                continue
            self._show(progress)

"""Counters of a phase of work: amount done, total, rate and time left.

A heartbeat or a bar shows what is read here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

#: No rate is computed over less than this, in seconds.
_SHORTEST: Final = 0.001


class Gauge:
    """The counters of the present phase. Safe from any thread."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin without a phase; ``monotonic`` gives seconds that never go back."""
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._facts: dict[str, Any] = {}
        self._done = 0
        self._begun = monotonic()
        self._changed = True

    @property
    def changed(self) -> bool:
        """Whether there is something that the last reading did not show."""
        return self._changed

    def begin(self, phase: str, *, total: int | None = None, unit: str = "bytes") -> None:
        """Start a phase; ``total`` is in ``unit`` and may be unknown."""
        with self._mutex:
            self._facts = {"phase": phase, "total": total, "unit": unit}
            self._done = 0
            self._begun = self._monotonic()
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

    def read(self) -> dict[str, Any]:
        """Return the phase with ``done``, ``rate`` (per second) and ``seconds_left``."""
        with self._mutex:
            self._changed = False
            seconds = max(self._monotonic() - self._begun, _SHORTEST)
            # Of large objects or tables there may be less than one in a second.
            rate = self._done / seconds
            total = self._facts.get("total")
            left = max(0, round((total - self._done) / rate)) if total and rate else None
            return {**self._facts, "done": self._done, "rate": int(rate), "seconds_left": left}

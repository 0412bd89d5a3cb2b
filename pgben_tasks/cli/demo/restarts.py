"""Processes of `pgben up` that ended are started again; one that ends at once each time is not.

The decision is ``pause_before``; ``Processes`` looks, says what it sees, and starts.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pgben_tasks.cli.view import output
from pgben_tasks.embedded.child import Child
from pgben_tasks.errors import CommandFailed

#: Seconds that a process must have run for its end to be the first of a row.
STEADY: Final = 60.0
#: Seconds before each start of a row: servers that were killed leave children that end by and by.
PAUSES: Final = (0.0, 1.0, 2.0, 4.0, 8.0)


def pause_before(starts: int, pauses: Sequence[float] = PAUSES) -> float | None:
    """Return how many seconds to wait after ``starts`` in a row; None when it is given up."""
    return pauses[starts] if starts < len(pauses) else None


@dataclass(slots=True)
class _Process:
    """One process: since when it runs, how often in a row it was started again, when it will be."""

    child: Child
    began: float
    starts: int = 0
    due: float | None = None


class Processes:
    """The processes of an installation, by the names that people know them by."""

    def __init__(
        self,
        children: Mapping[str, Child],
        *,
        pauses: Sequence[float] = PAUSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch processes that run."""
        self._pauses = pauses
        self._clock = clock
        self._watched = {name: _Process(child, clock()) for name, child in children.items()}
        self.given_up: list[str] = []

    def look(self) -> None:
        """Look at each process once: say that one ended, and start again what is due."""
        for name, process in [*self._watched.items()]:
            if process.due is None and process.child.alive:
                continue
            if process.due is None:
                self._note_end(name, process, how=_how(process.child.status))
            if process.due is not None and process.due <= self._clock():
                self._start(name, process)

    def _note_end(self, name: str, process: _Process, *, how: str) -> None:
        """Print how a process ended, and set when it is started again, if it is."""
        now = self._clock()
        if now - process.began >= STEADY:
            process.starts = 0
        pause = pause_before(process.starts, self._pauses)
        if pause is None:
            del self._watched[name]
            self.given_up.append(name)
            output.complain(
                f"{name} {how} again and again, and is given up; the others go on",
                f"its log: {process.child.log}",
            )
            return
        process.due = now + pause
        output.say(f"{name} {how}; it is started again", style="yellow")

    def _start(self, name: str, process: _Process) -> None:
        process.due = None
        process.starts += 1
        process.began = self._clock()
        try:
            process.child.start_again()
        except CommandFailed as exc:
            self._note_end(name, process, how=f"cannot be started ({exc.sentence})")


def _how(status: int | None) -> str:
    """Write how a process ended."""
    if status is not None and status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"

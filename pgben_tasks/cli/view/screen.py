"""The progress of work in this process on a terminal, and how Ctrl-C stops a chain.

The bar is that of following a job. To stderr.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Final
from uuid import UUID

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from pgben_tasks.cli.view import follow
from pgben_tasks.domain.job import RETRY_DELAYS
from pgben_tasks.errors import TransientError
from pgben_tasks.operations.progress import Gauge

if TYPE_CHECKING:
    from pgben_tasks.direct.chain import Chain

_DRAW_SECONDS: Final = 0.1
#: What asks a command to stop: Ctrl-C, a supervisor, a terminal that was closed.
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Meter:
    """Progress on a terminal: a bar, or a line now and then where none can move."""

    def __init__(self, console: Console) -> None:
        """Show nothing yet."""
        self.console = console
        self.live = follow.can_move_bars(console)
        self.bars = Progress(
            *follow.COLUMNS, console=console, transient=True, disable=not self.live
        )
        self._gauge = Gauge()
        self._bar = self.bars.add_task("", text="", visible=False)
        self._every = _DRAW_SECONDS if self.live else follow.EXPLAIN_SECONDS
        self._draw_at = time.monotonic() + self._every

    def begin(self, phase: str, *, total: int | None = None, unit: str = "bytes") -> None:
        """Start a phase."""
        self._gauge.begin(phase, total=total, unit=unit)
        if self.live:
            self.draw()

    def advance(self, amount: int) -> None:
        """Add to what is done; raise when the work was interrupted."""
        self.check()
        self._gauge.advance(amount)
        if time.monotonic() >= self._draw_at:
            self.draw()

    def note(self, **facts: int | str) -> None:
        """Set side facts."""
        self._gauge.note(**facts)

    def check(self) -> None:
        """Raise when the work was interrupted; without a chain, nothing interrupts it here."""

    def draw(self) -> None:
        """Show the progress."""
        self._draw_at = time.monotonic() + self._every
        reading = self._gauge.read()
        doing = self.doing(str(reading.get("phase", "")))
        if self.live:
            follow.move_bar(self.bars, self._bar, reading, description=doing)
        else:
            self.console.print(f"  … {doing} {follow.progress_text(reading)}", markup=False)

    def doing(self, phase: str) -> str:
        """Return the words for a phase."""
        return phase


class Screen(Meter):
    """The progress of a chain in this process, and the signals that stop it."""

    def __init__(self, console: Console, *, wait: Callable[[float], None] = time.sleep) -> None:
        """Show nothing yet; ``wait`` waits for seconds between two tries of a step."""
        super().__init__(console)
        self._wait = wait
        self._chain: Chain | None = None
        self._said: Counter[UUID] = Counter()
        self._step = ""
        self._stopped = False
        self._several = False

    def check(self) -> None:
        """Raise when the work was interrupted."""
        if self._stopped:
            raise KeyboardInterrupt

    def doing(self, phase: str) -> str:
        """Return the job's target and the running step, as following a job shows them."""
        if self._chain is None:
            return phase
        return follow.job_title(replace(self._chain.job, progress={"phase": phase}))

    def show_steps(self) -> None:
        """Write a line for every step that ended, and show the one that runs."""
        if self._chain is None:
            return
        job = self._chain.job
        for ended in self._chain.steps[self._said[job.id] :]:
            # What waits is begun again, and again.
            if ended.state != "waiting":
                self.console.print(follow.step_line(job, ended, named=self._several))
            self._said[job.id] += 1
        step = (job.step or "").rpartition(".")[2]
        if step != self._step:
            # The count begins anew with each step.
            self._step = step
            self._gauge.begin(step)
        if self._chain.undoing:
            self.console.print(Text("  … taking away what was begun", style="yellow"))
        elif self.live:
            self.draw()

    def retry(self, error: TransientError, tried: int) -> bool:
        """Wait before a step is tried again, as workers do.

        The first step is not: nothing is lost yet, and a wrong address is better reported at once.
        """
        if tried > len(RETRY_DELAYS) or not (self._chain and self._chain.steps):
            return False
        delay = RETRY_DELAYS[tried - 1]
        said = f"{error.sentence}; trying again in {delay} s"
        self.console.print(Text(said, style="yellow"), soft_wrap=True)
        self._wait(delay)
        return True

    def turn_to(self, chain: Chain) -> None:
        """Show this chain from now on; there are several."""
        self._chain, self._several, self._step = chain, True, ""

    @contextmanager
    def showing(self, chain: Chain | None = None) -> Iterator[None]:
        """Show a chain for as long as it runs; a signal that asks to stop interrupts it once.

        Without one, those that ``turn_to`` is called with.
        """
        self._chain = chain
        # What is ignored, as a hangup is under nohup, stays so.
        handled = [one for one in _STOPPING if signal.getsignal(one) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._stop) for number in handled}
        try:
            with self.bars:
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        # An undo is not interrupted, however often Ctrl-C is pressed.
        if not (self._stopped or (self._chain and self._chain.undoing)):
            self._stopped = True
            raise KeyboardInterrupt

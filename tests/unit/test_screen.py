"""How far work in this process is, on a terminal and where no bar can move."""

from __future__ import annotations

import io
import signal
from dataclasses import dataclass, replace
from typing import cast

from rich.console import Console
from rich.progress import Progress

from pgben_tasks.cli.view import follow
from pgben_tasks.cli.view.screen import Meter, Screen
from pgben_tasks.contracts import RestoreRequest
from pgben_tasks.direct.chain import Chain, new_job
from pgben_tasks.domain.job import Job, StepRun
from tests.support.samples import START


def meter(*, terminal: bool) -> tuple[Meter, io.StringIO]:
    written = io.StringIO()
    console = Console(file=written, width=120, force_terminal=terminal, _environ={"TERM": "xterm"})
    return Meter(console), written


def test_a_bar_shows_phase_share_and_amount() -> None:
    shown, written = meter(terminal=True)
    with shown.bars:
        shown.begin("read", total=200, unit="backups")
        shown.advance(50)
        shown.draw()
        shown.bars.refresh()
    assert "read" in written.getvalue()
    assert "25%, " in written.getvalue()


def test_a_bar_fits_80_columns_and_is_cut_at_its_end() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    bars = Progress(*follow.COLUMNS, console=console)
    bar = bars.add_task("", text="")
    progress = {"total": 150 * 1024**3, "done": 68 * 1024**3, "rate": 12 * 1024**2}
    facts = {"seconds_left": 7000, "tables": 1234, "tables_total": 4321}
    title = "bucket/pgben-documents copy"
    follow.move_bar(bars, bar, progress | facts, description=title)
    (line,) = [
        "".join(segment.text for segment in row)
        for row in console.render_lines(bars.get_renderable(), pad=False)
        if row
    ]
    assert len(line) <= 80
    assert title in line
    assert "45%, 1 h 57 min left, " in line
    assert line.endswith("…")


def test_without_a_terminal_a_line_says_how_far_it_is() -> None:
    shown, written = meter(terminal=False)
    with shown.bars:
        shown.begin("audit trail", total=10, unit="entries")
        shown.advance(5)
        shown.note(broken=1)
        assert written.getvalue() == ""
        shown.draw()
    assert written.getvalue() == "  … audit trail 50%, 5 of 10 entries\n"


def test_a_new_step_does_not_show_what_the_step_before_counted() -> None:
    written = io.StringIO()
    console = Console(file=written, width=120, force_terminal=True, _environ={"TERM": "xterm"})
    screen = Screen(console)
    stand = Stand(running("fetch"))
    with screen.showing(cast("Chain", stand)):
        screen.show_steps()
        screen.begin("fetch", total=100)
        screen.advance(100)
        stand.job = running("load")
        written.truncate(0)
        screen.show_steps()
        screen.bars.refresh()
    assert "pgben load" in written.getvalue()
    assert "load: fetch" not in written.getvalue()
    assert "100%" not in written.getvalue()


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    screen = Screen(Console(file=io.StringIO()))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Whoever measures this run may have a handler of its own.
    ending = signal.getsignal(signal.SIGTERM)
    try:
        with screen.showing(cast("Chain", Stand(running("fetch")))):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not ending
        assert signal.getsignal(signal.SIGTERM) is ending
    finally:
        signal.signal(signal.SIGHUP, before)


@dataclass
class Stand:
    """What a screen looks at of a chain."""

    job: Job
    steps: tuple[StepRun, ...] = ()
    undoing: bool = False


def running(step: str) -> Job:
    request = RestoreRequest(target="postgres/pgben")
    job = new_job("restore", request, target="postgres/pgben", node="n", now=START, context={})
    return replace(job, step=f"pgben.restore.postgres.{step}")

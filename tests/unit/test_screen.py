"""How far work in this process is, on a terminal and where no bar can move."""

from __future__ import annotations

import io

from rich.console import Console

from pgben_tasks.cli.screen import Meter


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
    assert "25% 50 backups of 200 backups" in written.getvalue()


def test_without_a_terminal_a_line_says_how_far_it_is() -> None:
    shown, written = meter(terminal=False)
    with shown.bars:
        shown.begin("audit trail", total=10, unit="entries")
        shown.advance(5)
        shown.note(broken=1)
        assert written.getvalue() == ""
        shown.draw()
    assert written.getvalue() == "  … audit trail 50% 5 entries of 10 entries, broken 1\n"

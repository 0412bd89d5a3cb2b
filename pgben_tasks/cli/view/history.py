"""How the history looks on a screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from pgben_tasks.cli.view import output
from pgben_tasks.domain.history import Line
from pgben_tasks.domain.job import EVERYTHING


def table(lines: Sequence[Line], *, wide: bool) -> RenderableType:
    """Return the table of `pgben history`."""
    if not wide:
        brief = [
            (
                line.timestamp,
                output.state(line.status),
                _what(line),
                output.duration(line.seconds),
                output.size(line.size) if line.size else "-",
                line.detail,
            )
            for line in lines
        ]
        short = ("ended", "status", "what", "took", "size", "detail")
        return output.table(short, brief, right="took, size", below=1)
    rows = [
        (
            line.timestamp,
            output.state(line.status),
            line.kind,
            _about(line),
            line.backup or "-",
            output.size(line.size) if line.size else "-",
            output.duration(line.seconds),
            line.job[:8],
            output.number(line.attempt),
            line.requested_by,
            line.detail,
        )
        for line in lines
    ]
    columns = (
        *("ended", "status", "kind", "target", "backup", "size", "took"),
        *("job", "attempt", "by", "detail"),
    )
    return output.table(columns, rows, right="size, took, attempt")


def _what(line: Line) -> str:
    return f"{line.work} of {_about(line)}"


def _about(line: Line) -> str:
    return "everything" if line.target == EVERYTHING else line.target

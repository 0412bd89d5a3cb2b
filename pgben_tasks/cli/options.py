"""Options that several commands share, and the format of examples in their help."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")
]
Wide = Annotated[
    bool,
    typer.Option(
        "--wide", help="Show every column, one line a row, however narrow the terminal is."
    ),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait/--no-wait", help="Follow the job to its end, or leave it to the workers at once."
    ),
]
Confirm = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="The name of what is replaced, a database or a bucket, once more; with --all one for "
        "each.",
    ),
]
Direct = Annotated[
    bool,
    typer.Option(
        "--direct",
        help="Work in this process, with the repository, keys and a server alone: no Redis, no "
        "worker, no catalog.",
    ),
]


def examples(*lines: tuple[str, str]) -> str:
    """Write examples for the end of a command's help: (what to type, what it does)."""
    shown = [
        f"[dim]# {escape(what)}[/dim]\n[cyan]{escape(command)}[/cyan]" for command, what in lines
    ]
    return "\n".join(["[bold]Examples[/bold]", *shown])

"""How the plan of a restore looks: what comes back, what stands in the way, what to type."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.text import Text

from pgben_tasks.cli.view import output
from pgben_tasks.language import counted

_WAYS: Final = {"beside": "beside", "in_place": "in place"}


def show(
    plan: dict[str, Any], zone: tzinfo, *, in_place: bool | None, console: Console | None = None
) -> None:
    """Write a plan; ``in_place`` says which restore is meant, None means either.

    What is to be typed stands on a line of its own, whole, however long it is.
    """
    console = console or output.out()
    for part in tables(plan, zone, in_place=in_place):
        if isinstance(part, Text):
            output.print_wrapped(console, part)
        else:
            console.print(part)
            console.print()
    for name, command in plan["commands"].items():
        if in_place is None or in_place == (name == "in_place"):
            console.print(Text(f"{_WAYS[name]}:"))
            console.print(Text(command, "cyan"), soft_wrap=True)


def tables(
    plan: dict[str, Any], zone: tzinfo, *, in_place: bool | None
) -> Iterator[RenderableType]:
    """Yield what comes back from when, who is connected, and what stands in the way."""
    yield from contents(plan, zone)
    connected = [
        (part["target"], who, output.number(sessions))
        for part in plan["parts"]
        for who, sessions in part["connected"].items()
    ]
    if connected:
        yield output.table(("connected to", "who", "sessions"), connected, right="sessions")
    against = plan["obstacles_in_place" if in_place is not False else "obstacles"]
    for obstacle in against:
        of = "" if obstacle in plan["obstacles"] or in_place else " (in place)"
        yield Text(f"in the way{of}: {obstacle}", style="bold red")
    if not against:
        yield Text("nothing stands in the way", style="green")


def contents(plan: dict[str, Any], zone: tzinfo) -> Iterator[RenderableType]:
    """Yield what comes back, and from when."""
    yield output.facts(_facts(plan, zone), title="what comes back")
    yield output.table(
        ("target", "data as of", "state", "what", "bytes", "there now"),
        [_row(part, zone) for part in plan["parts"]],
        right="bytes",
        below=1,
    )


def _facts(plan: dict[str, Any], zone: tzinfo) -> Iterator[tuple[str, output.Cell]]:
    if plan["point"] is not None:
        yield "recovery point", plan["point"]
    yield "data as of", output.moment(datetime.fromisoformat(plan["moment"]), zone)
    if plan["faults"]:
        yield (
            "known faults",
            Text(f"{counted(plan['faults'], 'row')}; see pgben points {plan['point']}", "yellow"),
        )
    seconds = plan["seconds"]
    yield "takes about", "not known yet" if seconds is None else output.duration(seconds)
    needed, free = (output.size(plan[f"spool_{what}_bytes"]) for what in ("needed", "free"))
    yield "spool", f"{needed} needed, {free} free"


def _row(part: dict[str, Any], zone: tzinfo) -> tuple[output.Cell, ...]:
    what = (
        counted(part["rows"], "row")
        if part["objects"] is None
        else counted(part["objects"], "object")
    )
    return (
        part["target"],
        output.minute(datetime.fromisoformat(part["moment"]), zone),
        output.state(part["state"]),
        what,
        output.size(part["bytes"]),
        _there(part),
    )


def _there(part: dict[str, Any]) -> str:
    if not part["exists"]:
        return "nothing of that name is there"
    if part["live_bytes"] is None:
        return "a bucket is there"
    return f"a database of {output.size(part['live_bytes'])} is there"

"""How the plan of a restore looks: what comes back, what stands in the way, what to type."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from pgben_tasks.cli.view import output
from pgben_tasks.language import counted


def show(
    plan: dict[str, Any], zone: tzinfo, *, in_place: bool | None, console: Console | None = None
) -> None:
    """Write a plan; ``in_place`` says which restore is meant, None means either."""
    parts = list(tables(plan, zone, in_place=in_place))
    if console is None:
        output.show(parts)
        return
    for part in parts:
        if isinstance(part, Text):
            output.print_wrapped(console, part)
        else:
            console.print(part)


def tables(
    plan: dict[str, Any], zone: tzinfo, *, in_place: bool | None
) -> Iterator[RenderableType]:
    """Yield what comes back from when, who is connected, what stands in the way, what to type."""
    yield output.facts(_facts(plan, zone), title="what comes back")
    yield output.table(
        ("target", "data as of", "state", "what", "bytes", "takes", "there now"),
        [_row(part, zone) for part in plan["parts"]],
        right="bytes, takes",
        below=2,
    )
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
    if in_place is not True:
        yield Text.assemble("beside:   ", (plan["commands"]["beside"], "cyan"))
    if in_place is not False:
        yield Text.assemble("in place: ", (plan["commands"]["in_place"], "cyan"))


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
        "not known" if part["seconds"] is None else output.duration(part["seconds"]),
        _there(part),
    )


def _there(part: dict[str, Any]) -> str:
    if not part["exists"]:
        return "nothing"
    if part["live_bytes"] is None:
        return "a bucket"
    return f"a database, {output.size(part['live_bytes'])}"

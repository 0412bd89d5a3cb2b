"""`pgben objects history`: what each snapshot of a bucket changed, or one object in all of them."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import typer

from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask import direct_mode
from pgben_tasks.cli.options import AsJson, Wide, examples
from pgben_tasks.cli.view import object_history as view, outcome, output
from pgben_tasks.cli.view.screen import Meter
from pgben_tasks.errors import BackupNotFound, ObjectMissing
from pgben_tasks.language import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pgben_tasks.domain.target import Target
    from pgben_tasks.operations.buckets.history import Choice
    from pgben_tasks.operations.toolbox import Toolbox

app = typer.Typer()

HISTORY_EXAMPLES = examples(
    ("pgben objects history bucket/pgben-documents", "what each of the last 30 nights changed"),
    ("pgben objects history bucket/pgben-documents --since 2026-11-20 --wide", "with bytes"),
    (
        "pgben objects history bucket/pgben-documents --key cidadao/42/rg.jpg",
        "the versions of one document, and the commands that bring them back",
    ),
    ("pgben objects history bucket/pgben-documents --json", "the same for scripts"),
)
#: How many snapshots are compared when nobody says which.
_USUAL: Final = 30


@app.command(epilog=HISTORY_EXAMPLES)
def history(
    bucket: Annotated[str, typer.Argument(metavar="TARGET", help="'bucket/NAME'.")],
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The versions of this object, letter by letter."),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help=f"Only the newest N snapshots; {_USUAL} without --since and --key.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only snapshots from this moment on (PGBEN_TIMEZONE)."),
    ] = None,
    wide: Wide = False,
    as_json: AsJson = False,
) -> int:
    """Show what each snapshot of a bucket changed, newest first, or the versions of one object.

    Exit 5 when one cannot be read. Of an open suspicion, what is from before it is named.
    """
    from pgben_tasks.health.suspicion import open_suspicion
    from pgben_tasks.operations.buckets.history import choose
    from pgben_tasks.operations.repository.survey import survey

    with direct_mode.open_bucket(bucket) as (tools, target, folder):
        found = survey(tools.repository, target)
        first = None if since is None else arguments.parse_moment(since, tools.zone)
        usual = (key, last, since) == (None, None, None)
        choice = choose(found, last=_USUAL if usual else last, since=first)
        _require_some(tools, target, choice, first)
        suspicion = open_suspicion(tools.repository, target, found.known)
        if key is None:
            shown = _nights(tools, choice, folder)
        else:
            shown = _versions(tools, target, choice, key, folder)
    if as_json:
        after = view.suspicion_document(target, suspicion)
        output.print_json({"target": str(target), **shown.document, **after})
    else:
        output.show([shown.table(wide=output.is_wide(wide))], wide=wide)
        for line in shown.lines:
            sys.stdout.write(f"{line}\n")
        for fault in shown.faults:
            output.say(fault, style="yellow")
        if usual and choice.older:
            output.say(f"{counted(len(choice.older), 'older snapshot')} left out: see --last")
        if suspicion is not None:
            view.propose(target, suspicion, tools.zone)
    return outcome.DAMAGED if shown.damaged else outcome.DONE


class _Table(Protocol):
    """Makes the table for a screen."""

    def __call__(self, *, wide: bool) -> RenderableType:
        """Return it, with every column where ``wide``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What is shown: as JSON or as a table, lines that are not broken, and what is odd."""

    document: dict[str, Any]
    table: _Table
    damaged: bool
    lines: Sequence[str] = ()
    faults: Sequence[str] = ()


def _nights(tools: Toolbox, choice: Choice, folder: Path) -> _Shown:
    """Compare each snapshot with the one before."""
    from pgben_tasks.operations.buckets.history import nights

    meter = Meter(output.err())
    with meter.bars:
        found = list(nights(tools, choice, folder, meter))[::-1]
    share = tools.limits.suspect_changed
    return _Shown(
        document={
            "snapshots": view.nights_document(found, share),
            "left_out": len(choice.older),
        },
        table=partial(view.nights_table, found, share, tools.zone),
        damaged=any(one.fault is not None for one in found),
    )


def _versions(tools: Toolbox, target: Target, choice: Choice, key: str, folder: Path) -> _Shown:
    """Look for one object in each snapshot."""
    from pgben_tasks.domain.buckets.history import Sighting, spans
    from pgben_tasks.operations.buckets.history import Night, sightings

    meter = Meter(output.err())
    with meter.bars:
        found = list(sightings(tools, choice, key, folder, meter))
    unread = [one for one in found if isinstance(one, Night)]
    history_of = spans(one for one in found if isinstance(one, Sighting))
    if not history_of:
        passed = f"; {counted(len(unread), 'snapshot')} cannot be read" if unread else ""
        raise ObjectMissing(
            f"no snapshot of '{target}' that can be read holds that object{passed}",
            "keys are taken letter by letter; `pgben objects ls` shows them",
        )
    return _Shown(
        document={
            "key": key,
            "versions": view.versions_document(target.name, key, history_of),
            "unread": [{"backup": str(one.id), "fault": one.fault} for one in unread],
        },
        table=partial(view.versions_table, history_of, tools.zone),
        damaged=bool(unread),
        lines=tuple(view.ways_back(target.name, key, history_of)),
        faults=[f"snapshot '{one.id}' cannot be read: {one.fault}" for one in unread],
    )


def _require_some(tools: Toolbox, target: Target, choice: Choice, first: datetime | None) -> None:
    """Raise ``BackupNotFound`` where there is nothing to look at."""
    if choice.chosen:
        return
    if choice.older:
        raise BackupNotFound(
            f"'{target}' has no snapshot from {output.moment(first, tools.zone)} or later",
            f"`pgben list {target}` shows those there are",
        )
    raise BackupNotFound(
        f"there is no snapshot of '{target}' in {tools.repository.describe()}",
        f"`pgben backup {target}` makes one",
    )

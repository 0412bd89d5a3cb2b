"""The command that tells what a restore would bring back, and changes nothing."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask import direct_mode, plan as asking
from pgben_tasks.cli.options import AsJson, Direct, examples
from pgben_tasks.cli.view import outcome, output, plan as view
from pgben_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.runtime import Workplace

app = typer.Typer()

EXAMPLES = examples(
    ("pgben plan --all", "everything, of the newest verified recovery point"),
    ("pgben plan --all --at '2026-11-22 14:30'", "of the newest point of then or before"),
    ("pgben plan pgben", "one database, of its newest verified backup"),
    ("pgben plan pgben --direct", "looked at from this machine, without Redis and workers"),
)


@app.command(epilog=EXAMPLES)
def plan(
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="'pgben', 'postgres/pgben' or 'bucket/NAME'."),
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything of a recovery point.")
    ] = False,
    backup: Annotated[
        str, typer.Option(metavar="ID|latest", help="A backup's id, or the newest verified one.")
    ] = "latest",
    point: Annotated[
        str,
        typer.Option(
            metavar="ID|latest", help="With --all: a point's id, or the newest verified one."
        ),
    ] = "latest",
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The newest verified one of this moment or before."),
    ] = None,
    direct: Direct = False,
    as_json: AsJson = False,
) -> int:
    """Show what a restore would bring back, how long it takes, and the command to type."""
    if everything == (target is not None):
        raise ConfigurationError(
            "a target and --all were given" if everything else "neither a target nor --all",
            "give one of the two",
        )
    work = direct_mode.open_work(direct=direct)
    fields = choice(work, target, backup=backup, point=point, at=at)
    return show_plan(work, fields, in_place=None, as_json=as_json)


def show_plan(
    work: Workplace | DirectPlace, fields: dict[str, Any], *, in_place: bool | None, as_json: bool
) -> int:
    """Write a plan to stdout; the exit code says whether anything stands in the way."""
    found = asking.ask(work, fields)
    if as_json:
        output.print_json(found)
    else:
        view.show(found, work.zone, in_place=in_place)
    against = found["obstacles_in_place" if in_place else "obstacles"]
    return outcome.REFUSED if against else outcome.DONE


def choice(
    work: Workplace | DirectPlace,
    target: str | None,
    *,
    backup: str = "latest",
    point: str = "latest",
    at: str | None = None,
) -> dict[str, Any]:
    """Return the fields of a request for a plan from what was typed."""
    from pgben_tasks.domain.target import BackupId

    if at is not None and (backup, point) != ("latest", "latest"):
        raise ConfigurationError("--at and an id were given", "give one of the two")
    if target is None and backup != "latest":
        raise ConfigurationError("--backup goes with a target", "with --all give --point")
    if target is not None and point != "latest":
        raise ConfigurationError("--point goes with --all", "with a target give --backup")
    fields: dict[str, Any] = {}
    if target is not None:
        fields["target"] = str(direct_mode.target_to_restore(work, target))
    if at is not None:
        fields["at"] = arguments.parse_moment(at, work.zone)
    if point != "latest":
        fields["point"] = str(BackupId.parse(point))
    if backup != "latest":
        _, found = arguments.find_backup(f"{fields['target']}/{backup}", work.repository)
        fields["backup"] = str(found)
    return fields

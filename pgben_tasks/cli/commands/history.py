"""The command `pgben history`: how jobs ended, as the files of the history say it."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import sys
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask.installation import open_workplace
from pgben_tasks.cli.options import AsJson, Wide, examples
from pgben_tasks.cli.view import history as view, outcome, output
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.language import counted

if TYPE_CHECKING:
    from pgben_tasks.domain.history import Line
    from pgben_tasks.runtime import Workplace

app = typer.Typer()

HISTORY_EXAMPLES = examples(
    ("pgben history", "how the last jobs ended"),
    ("pgben history --since 30d --target pgben", "a database in the last 30 days"),
    ("pgben history --csv --since 2026-11-01 > november.csv", "what the file has, as a table"),
    ("pgben history --rewrite", "write backup-log.txt and backup-history.csv anew"),
)
#: How many lines a table or JSON has when nobody says how many.
_USUAL: Final = 30


@app.command(epilog=HISTORY_EXAMPLES)
def history(
    target: Annotated[
        str | None,
        typer.Option(metavar="TARGET", help="Only this target; '*': jobs about everything."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="From this moment on (PGBEN_TIMEZONE), or '30d'."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, max=1_000_000, help=f"Only the newest; {_USUAL} without --since and --csv."
        ),
    ] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print the lines of backup-history.csv, oldest first.")
    ] = False,
    rewrite: Annotated[
        bool,
        typer.Option(
            "--rewrite",
            help="Let the maintenance worker write both files anew from the ledger; lines from "
            "before it, and of others, stay.",
        ),
    ] = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> int:
    """Show how jobs ended: every backup, restore, verification, failure and attempt.

    The lines are those of backup-log.txt and backup-history.csv. What changed in the snapshots of a
    bucket is shown by `pgben objects history`.
    """
    if as_csv and as_json:
        raise ConfigurationError("--csv and --json exclude each other", "give one of them")
    if rewrite:
        if as_csv or (target, since, limit) != (None, None, None):
            raise ConfigurationError(
                "--rewrite writes the whole history, so nothing else can be chosen",
                "give it alone, or with --json",
            )
        return _rewrite(open_workplace(), as_json=as_json)
    about = EVERYTHING if target == EVERYTHING else target and str(arguments.parse_target(target))
    work = open_workplace()
    from pgben_tasks.domain.history import whole_table

    first = since and arguments.parse_since(since, work.zone, now=work.database.now())
    usual = not as_csv and (since, limit) == (None, None)
    wanted = _USUAL if usual else limit
    found, more = _newest(work, first or None, about, wanted)
    if as_csv:
        sys.stdout.write(whole_table(found[::-1]))
    elif as_json:
        output.print_json({"history": [one.document for one in found]})
    elif found:
        output.show([view.table(found, wide=output.is_wide(wide))], wide=wide)
        if usual and more:
            output.say("older ones are left out: see --limit and --since")
    else:
        output.say("no job has ended that fits")
    return outcome.DONE


def _newest(
    work: Workplace, since: datetime | None, target: str | None, limit: int | None
) -> tuple[list[Line], bool]:
    """Return the newest lines, the newest first, and whether there are more."""
    from pgben_tasks.domain.history import lines_of

    lines = lines_of(work.history.newest_ends(since=since, target=target), work.zone)
    found = list(islice(lines, limit))
    return found, next(lines, None) is not None


def _rewrite(work: Workplace, *, as_json: bool) -> int:
    from pgben_tasks.health.facts import missing_roles

    folders = work.history.ask_rewrite()
    away = "maintenance" in missing_roles(work.workers.living())
    if as_json:
        output.print_json({"rewrite": {"folders": folders}})
        return outcome.DONE
    if folders:
        output.say(
            f"the maintenance worker writes the files of {counted(folders, 'folder')} anew with "
            "its next tick, within a minute"
        )
        output.hint("`pgben doctor` tells when a folder cannot be written")
    else:
        output.say("no folder has files of the history yet; the next tick writes them")
    if away:
        output.hint("no maintenance worker lives: start one with `python -m workers maintenance`")
    return outcome.DONE

"""The commands that only read: list, show, config."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask import direct_mode
from pgben_tasks.cli.options import AsJson, Direct, examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from pgben_tasks.cli.view.backups import Listed
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.domain.target import Target
    from pgben_tasks.runtime import Workplace

app = typer.Typer()

LIST_EXAMPLES = examples(
    ("pgben list", "every backup of every target, newest first"),
    ("pgben list pgben --json", "one target, for scripts"),
    ("pgben list --direct", "from the repository itself, signatures checked; needs no catalog"),
)
SHOW_EXAMPLES = examples(
    ("pgben show 20261123T050000Z-1f0c9a", "what one backup holds and what was verified of it"),
    ("pgben show ID --direct", "the same with trusted keys and the repository alone"),
)
CONFIG_EXAMPLES = examples(
    ("pgben config", "every setting, its value and where it came from; secrets are hidden"),
)


@app.command("list", epilog=LIST_EXAMPLES)
def list_backups(
    target: Annotated[
        str | None, typer.Argument(metavar="[TARGET]", help="'pgben' or 'postgres/pgben'.")
    ] = None,
    direct: Direct = False,
    as_json: AsJson = False,
) -> int:
    """List backups, newest first."""
    from pgben_tasks.cli.view import backups

    wanted = None if target is None else arguments.parse_target(target)
    work = direct_mode.open_work(direct=direct)
    found = _found(work, wanted)
    if as_json:
        output.print_json({"repository": work.repository.id, "backups": found})
    elif found:
        output.out().print(backups.backups_table(found, work.zone))
    else:
        of = f" of '{wanted}'" if wanted else ""
        output.say(f"there are no backups{of} in {work.repository.describe()}")
        output.hint(f"`pgben backup {wanted or '--all'}` makes one")
    return outcome.DONE


def _found(work: Workplace | DirectPlace, target: Target | None) -> list[Listed]:
    """Read the index; the repository itself where there is none, or none that answers."""
    from pgben_tasks.cli.view import backups
    from pgben_tasks.runtime import Workplace

    if isinstance(work, Workplace):
        try:
            return backups.read_index(work.index, target)
        except DatabaseUnavailable as exc:
            output.say(f"{exc.sentence}; reading the repository instead", style="yellow")
    return backups.read_repository(work.repository, target)


@app.command(epilog=SHOW_EXAMPLES)
def show(
    backup: Annotated[str, typer.Argument(metavar="ID", help="A backup's id; see `pgben list`.")],
    direct: Direct = False,
    as_json: AsJson = False,
) -> int:
    """Show one backup: its signed manifest, and every statement about it."""
    from pgben_tasks.cli.view import backups

    work = direct_mode.open_work(direct=direct)
    manifest, statements = backups.read_backup(work.repository, backup)
    if as_json:
        output.print_json(backups.backup_document(manifest, statements))
    else:
        output.show(backups.backup_tables(manifest, statements, work.zone))
    return outcome.DONE


@app.command(epilog=CONFIG_EXAMPLES)
def config(as_json: AsJson = False) -> int:
    """Show the effective settings and where each came from; secrets are hidden."""
    from pgben_tasks.settings import Settings

    settings = Settings.load()
    rows = settings.rows()
    if settings.retired:
        output.hint(
            f"retired settings do nothing and are left aside: {', '.join(settings.retired)}"
        )
    if as_json:
        output.print_json({"settings": [row._asdict() for row in rows]})
    else:
        output.out().print(output.table(("setting", "value", "origin"), rows))
    return outcome.DONE

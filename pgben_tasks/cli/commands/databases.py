"""The commands about databases that restores and swaps left: databases, databases drop, … keep."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from pgben_tasks.cli.ask import enqueue
from pgben_tasks.cli.ask.installation import open_workplace
from pgben_tasks.cli.options import AsJson, Wide, examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.domain.swap import check_removal
from pgben_tasks.errors import ConfigurationError, PgbenError, TargetBusy, TransientError

if TYPE_CHECKING:
    from pgben_tasks.domain.kept_databases import KeptDatabase
    from pgben_tasks.domain.target import Target
    from pgben_tasks.operations.postgres.kept_databases import KeptDatabases
    from pgben_tasks.runtime import Workplace

DATABASES_EXAMPLES = examples(
    ("pgben databases", "what restores and swaps left beside the live databases"),
    ("pgben databases keep pgben_restored_20261123_101500", "it is not removed by itself"),
    ("pgben databases drop NAME --confirm NAME", "remove one now"),
)

app = typer.Typer(
    help="Show, remove or keep the databases that restores and swaps left.",
    epilog=DATABASES_EXAMPLES,
    invoke_without_command=True,
    no_args_is_help=False,
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A database that `pgben databases` lists.")
]


@app.callback()
def databases(context: typer.Context, wide: Wide = False, as_json: AsJson = False) -> int:
    """Show, remove or keep the databases that restores and swaps left."""
    if context.invoked_subcommand is not None:
        return outcome.DONE
    work = open_workplace()
    lines, away = _kept(work).find()
    if as_json:
        output.print_json(
            {
                "databases": [_document(one) for one in lines],
                "not_examined": {str(one): exc.sentence for one, exc in away.items()},
            }
        )
    elif lines:
        output.show([_listing(lines, work.zone, wide=output.is_wide(wide))], wide=wide)
    elif not away:
        output.say("no restore has left a database")
    if away and not as_json:
        for target, exc in away.items():
            output.complain(f"the server of '{target}' was not examined: {exc.sentence}", exc.hint)
    return outcome.worst_code([exc.exit_code for exc in away.values()])


@app.command(epilog=DATABASES_EXAMPLES)
def drop(
    name: Name,
    confirm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The name of the database, once more."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Remove a database that a restore or a swap left; nobody may be connected to it."""
    work = open_workplace()
    kept = _kept(work)
    line = _find(kept, name)
    check_removal(name, confirm)
    kept.drop(line)
    _audit(work, line, "dropped")
    if as_json:
        output.print_json({"dropped": _document(line)})
    else:
        output.say(f"'{name}' was removed, {output.size(line.found.size)}")
    return outcome.DONE


@app.command(epilog=DATABASES_EXAMPLES)
def keep(name: Name, as_json: AsJson = False) -> int:
    """Keep a database for good: it is not removed by itself, and its alarm is void."""
    work = open_workplace()
    kept = _kept(work)
    line = _find(kept, name)
    with _not_being_removed(work, line):
        # It may have been removed while the lock was not held yet.
        line = _find(kept, name)
        changed = kept.keep(line, f"{enqueue.requester()} wanted that")
    if changed:
        _audit(work, line, "kept")
    if as_json:
        output.print_json({"kept": name, "would_have_been_removed": changed})
    elif changed:
        output.say(f"'{name}' stays until somebody removes it")
    else:
        output.say(f"'{name}' is not removed by itself anyway: {line.kept_because}")
    return outcome.DONE


def _kept(work: Workplace) -> KeptDatabases:
    from pgben_tasks.operations.postgres.kept_databases import KeptDatabases

    return KeptDatabases(
        servers=work.keeping,
        restored=work.restored,
        swaps=work.swaps,
        keep_restored=work.settings.keep_restored,
        keep_replaced=work.settings.keep_replaced,
        zone=work.zone,
    )


def _find(kept: KeptDatabases, name: str) -> KeptDatabase:
    """Return the line of a database; raise unless restores left exactly one of that name."""
    lines, away = kept.find()
    found = [one for one in lines if one.found.name == name]
    if len(found) == 1:
        return found[0]
    if away and not found:
        target, exc = next(iter(away.items()))
        raise _not_examined(target, exc)
    raise ConfigurationError(
        f"'{name}' is no database that a restore left",
        "`pgben databases` lists them; pgben removes no other",
    )


def _not_examined(target: Target, exc: PgbenError) -> PgbenError:
    kind = TransientError if isinstance(exc, TransientError) else ConfigurationError
    return kind(f"the server of '{target}' was not examined: {exc.sentence}", exc.hint)


@contextmanager
def _not_being_removed(work: Workplace, line: KeptDatabase) -> Iterator[None]:
    """Hold off the process that removes a database by itself; raise where it is at that now."""
    from pgben_tasks.adapters.catalog.locks import holding, job_lock

    try:
        with holding(work.database, [job_lock(line.job)] if line.job else []):
            yield
    except TargetBusy as exc:
        raise TargetBusy(
            f"'{line.found.name}' is being looked through at this moment, to be removed",
            "nothing was changed; `pgben databases` shows whether it is still there",
        ) from exc


def _audit(work: Workplace, line: KeptDatabase, result: str) -> None:
    work.trail.append(
        who=enqueue.requester(),
        action="database",
        target=str(line.target),
        job=str(line.job or ""),
        result=result,
        detail=f"database '{line.found.name}'",
    )


def _listing(lines: list[KeptDatabase], zone: tzinfo, *, wide: bool) -> RenderableType:
    when = output.moment if wide else output.minute
    columns = ("database", "size", "job", "since", "then")
    rows = [
        (
            one.found.name,
            output.size(one.found.size),
            str(one.job)[:8] if one.job else "-",
            when(one.since, zone),
            f"is removed {when(one.until, zone)}" if one.until else f"stays: {one.kept_because}",
        )
        for one in lines
    ]
    return output.table(columns, rows, right="size", below=1)


def _document(one: KeptDatabase) -> dict[str, Any]:
    return {
        "database": one.found.name,
        "target": str(one.target),
        "origin": one.origin,
        "bytes": one.found.size,
        "sessions": one.found.sessions,
        "since": one.since,
        "until": one.until,
        "kept_because": one.kept_because,
        "job": one.job and str(one.job),
    }

"""The command `pgben`: which commands there are, and how every error reaches a person.

The only place, beside the task base, that catches ``Exception``.
"""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import os
import re
import select
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pgben_tasks import __version__
from pgben_tasks.cli import completion, invocation
from pgben_tasks.cli.commands import (
    alarms,
    backups,
    bootstrap,
    catalog,
    check,
    console,
    databases,
    health,
    history,
    jobs,
    maintenance,
    objects,
    plan,
    points,
    report,
    restore,
    setup,
    work,
)
from pgben_tasks.cli.options import examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.errors import PgbenError
from pgben_tasks.redaction import redact

#: What typer says of words that no argument takes.
_TOO_MANY: Final = re.compile(r"^Got unexpected extra argument\(s\) \((.*)\)$", re.DOTALL)

app = typer.Typer(
    name="pgben",
    rich_markup_mode="rich",
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        ("pgben init", "make keys, repository, catalog and the recovery card"),
        ("pgben backup --all", "back up every protected database now"),
        ("pgben list", "what there is to restore"),
        ("pgben restore pgben", "the newest verified backup, beside the original"),
    ),
)

for _commands in (
    setup,
    bootstrap,
    work,
    restore,
    plan,
    maintenance,
    backups,
    points,
    jobs,
    history,
    health,
    report,
    check,
    alarms,
):
    app.add_typer(_commands.app)
app.add_typer(databases.app, name="databases")
app.add_typer(catalog.app, name="catalog")
app.add_typer(console.app, name="console")
app.add_typer(objects.app, name="objects")


def _print_version(asked: bool) -> None:
    if asked:
        output.out().print(f"pgben {__version__}")
        raise typer.Exit


@app.callback()
def pgben(
    version: Annotated[  # noqa: ARG001 - its callback prints and exits
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    env_file: Annotated[
        list[Path] | None,
        typer.Option(
            invocation.ENV_FILE,
            metavar="FILE",
            help="Load settings from a file of lines NAME=VALUE, such as the pgben.env that `pgben "
            "init` wrote; they replace those of the environment. May be repeated.",
        ),
    ] = None,
    debug: Annotated[  # noqa: ARG001 - read by main(), which also serves what fails before this
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
    install_completion: completion.InstallCompletion = False,  # noqa: ARG001 - as --version
    show_completion: completion.ShowCompletion = False,  # noqa: ARG001 - as --version
) -> None:
    """Back up PostgreSQL databases, prove the backups, restore them beside the originals."""
    from pgben_tasks import log

    log.configure(level="WARNING")
    if env_file:
        from pgben_tasks.settings.env_file import load_file

        for path in env_file:
            load_file(path)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code.

    Whatever `check` ends with is unknown, unless it is a judgement: no monitoring system may take
    wrong usage for anything else.
    """
    given = invocation.env_files_first(sys.argv[1:] if args is None else args)
    checking = invocation.asks_for_check(given)
    code = _run(given, _report_unknown if checking else _report)
    return invocation.UNKNOWN if checking and not isinstance(code, check.Judged) else code


def _run(given: Sequence[str], tell: Callable[..., None]) -> int:
    as_json, debug = "--json" in given, "--debug" in given
    try:
        code = typer.main.get_command(app).main(given, prog_name="pgben", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as exc:
        if not exc.format_message():
            # Without arguments there is the help, already shown, and nothing to complain about.
            return outcome.USAGE
        tell("UsageError", _sentence(exc), _help_for(exc, given), as_json=as_json)
        return outcome.USAGE
    except PgbenError as exc:
        if debug:
            sys.stderr.write(redact(traceback.format_exc()))
        tell(type(exc).__name__, exc.sentence, exc.hint, as_json=as_json)
        return exc.exit_code
    except KeyboardInterrupt:
        return outcome.INTERRUPTED
    except Exception as exc:  # noqa: BLE001 - nothing above could report it
        if isinstance(exc, BrokenPipeError) and _nobody_reads():
            code = outcome.OUTPUT_CLOSED
        else:
            code = unexpected(exc, as_json=as_json, debug=debug, tell=tell)
    return code if isinstance(code, int) else outcome.DONE


def _nobody_reads() -> bool:
    """Return whether what reads standard output, such as `head`, went away; then drop the rest."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    gone = any(event & select.POLLERR for _, event in watch.poll(0))
    if gone:
        # Python would complain, at its end, of what it still holds for the reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def unexpected(
    exc: Exception,
    *,
    as_json: bool,
    debug: bool,
    tell: Callable[..., None] | None = None,
) -> int:
    """Report an unforeseen error and where its traceback is; return the exit code."""
    trace = redact("".join(traceback.format_exception(exc)))
    if debug:
        sys.stderr.write(trace)
        where = "the traceback is above"
    else:
        descriptor, path = tempfile.mkstemp(prefix="pgben-traceback-", suffix=".txt", text=True)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(trace)
        where = f"the traceback is in {path}; please report it, this is a fault of pgben"
    (tell or _report)(
        type(exc).__name__, f"an unexpected {type(exc).__name__} happened", where, as_json=as_json
    )
    return outcome.FAILED


def _report(kind: str, sentence: str, hint: str, *, as_json: bool) -> None:
    if as_json:
        said = {"sentence": output.as_typed(sentence), "hint": output.as_typed(hint)}
        error = {"type": kind, **{name: redact(text) for name, text in said.items()}}
        output.print_json({"error": error})
    else:
        output.complain(sentence, hint)


def _report_unknown(kind: str, sentence: str, hint: str, *, as_json: bool) -> None:
    check.report_unknown(kind, output.as_typed(sentence), output.as_typed(hint), as_json=as_json)


def _sentence(exc: typer.TyperException) -> str:
    """Write typer's message the way ours are: lower case, without a full stop."""
    from pydantic import ValidationError

    from pgben_tasks.domain.faults import phrase

    message = exc.format_message()
    if isinstance(exc.__cause__, ValidationError):
        (fault, *_) = exc.__cause__.errors(include_input=False, include_url=False)
        message = message.replace(fault["msg"], phrase(fault))
    message = _TOO_MANY.sub(r"more was given than the command takes: \1", message)
    return (message[:1].lower() + message[1:]).rstrip(".")


def _help_for(exc: Exception, given: Sequence[str]) -> str:
    context = getattr(exc, "ctx", None)
    path: str = getattr(context, "command_path", None) or _path_of(given)
    return f"`{path} --help` shows what can be given"


def _path_of(given: Sequence[str]) -> str:
    """Return the command that these words name; an option without its value knows none."""
    command: Any = typer.main.get_command(app)
    path = ["pgben"]
    for word in given:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
            path.append(word)
    return " ".join(path)


if __name__ == "__main__":
    sys.exit(main())

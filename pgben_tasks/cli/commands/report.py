"""The command about the report of a week: make one now, or have one made and mailed."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pgben_tasks.cli.ask import enqueue
from pgben_tasks.cli.ask.installation import open_workplace
from pgben_tasks.cli.commands.health import leave
from pgben_tasks.cli.options import AsJson, Wait, examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.language import Language

if TYPE_CHECKING:
    from pgben_tasks.domain.report import Report

app = typer.Typer()

REPORT_EXAMPLES = examples(
    ("pgben report", "can we restore, to when and how fast; what happened this week"),
    ("pgben report --open", "the same as a page, with plots, in the browser"),
    ("pgben report --output report.html --language en", "the page as one file, in English"),
    ("pgben report --mail", "have a worker make one, keep it and mail it, as every week"),
)
_NOT_WITH_MAIL: Final = "the worker keeps the file, and mails go in PGBEN_LANGUAGE"


@app.command(epilog=REPORT_EXAMPLES)
def report(
    browse: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser; write it first.")
    ] = False,
    mail: Annotated[
        bool, typer.Option("--mail", help="Enqueue the job that makes, keeps and mails a report.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write the page there, as one file."),
    ] = None,
    language: Annotated[
        Language | None, typer.Option(help="Instead of PGBEN_LANGUAGE.", show_default=False)
    ] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> int:
    """Report what is known of backups and restores, as it is mailed every week.

    Without --mail it is made here and now, and kept nowhere.
    """
    if mail:
        if browse or file is not None or language is not None:
            raise ConfigurationError(
                "`--mail` goes with neither `--open` nor `--output` nor `--language`",
                _NOT_WITH_MAIL,
            )
        work = open_workplace()
        wanted = [(EVERYTHING, {"mail": True})]
        return enqueue.enqueue_and_follow(work, "report", wanted, wait=wait, as_json=as_json)
    return _make(browse=browse, file=file, language=language, as_json=as_json)


def _make(*, browse: bool, file: Path | None, language: Language | None, as_json: bool) -> int:
    from pgben_tasks.health.report import compose_report, new_report_id
    from pgben_tasks.health.situation import gather

    work = open_workplace()
    found = gather(work)
    made = compose_report(work, found, new_report_id(found.now))
    shown = language or work.settings.language
    if browse and file is None:
        file = Path(tempfile.mkdtemp(prefix="pgben-")) / f"report-{made.id}.html"
    if file is not None:
        write_page(made, file, shown)
    if as_json:
        output.print_json(made.model_dump(mode="json"))
    elif file is not None:
        output.out().print(str(file), markup=False, soft_wrap=True)
    else:
        _print_text(made, shown)
    if browse and file is not None and not webbrowser.open(file.absolute().as_uri()):
        output.hint("no browser was found on this machine; copy the file to one that has")
    if found.hangs:
        leave(outcome.DONE)
    return outcome.DONE


def write_page(made: Report, file: Path, language: Language) -> None:
    """Write a report as a page that needs nothing beside it."""
    from pgben_tasks.health.report import render

    page = render(made, language, images="inline").html
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(
            f"the report cannot be written to '{file}': {(exc.strerror or str(exc)).lower()}",
            "name a file in a folder that exists and may be written to",
        ) from exc


def _print_text(made: Report, language: Language) -> None:
    from pgben_tasks.health.report import render

    text = render(made, language, images="inline").text
    output.out().print(text, markup=False, highlight=False, soft_wrap=True)

"""The commands that say how well things are: status, doctor."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import typer

from pgben_tasks.cli.options import AsJson, examples
from pgben_tasks.cli.view import outcome, output

app = typer.Typer()

STATUS_EXAMPLES = examples(
    ("pgben status", "can we restore, and to when? Exit 0 green, 4 yellow, 1 red"),
    ("pgben status --json", "the same for a monitoring system"),
)
DOCTOR_EXAMPLES = examples(
    ("pgben doctor", "look at every part, and say what to do; exit 1 when something is wrong"),
    ("pgben doctor --json", "the same for scripts, in English"),
)


@app.command(epilog=STATUS_EXAMPLES)
def status(as_json: AsJson = False) -> int:
    """Show on one screen whether everything can be restored, and to when."""
    from pgben_tasks import runtime
    from pgben_tasks.cli.view import status as screen
    from pgben_tasks.health import situation

    work = runtime.workplace()
    found = situation.gather(work)
    if as_json:
        output.print_json(screen.document(found))
    else:
        output.show(screen.pages(found, work.zone))
    return screen.EXIT_CODES[found.verdict.colour]


@app.command(epilog=DOCTOR_EXAMPLES)
def doctor(as_json: AsJson = False) -> int:
    """Examine servers, keys, versions, permissions, disks and clocks; change nothing."""
    from pgben_tasks import runtime
    from pgben_tasks.cli.view import diagnosis
    from pgben_tasks.health.doctor.checks import examine

    results = examine(runtime.workplace)
    if as_json:
        found = list(results)
        output.print_json(diagnosis.document(found))
    else:
        found = diagnosis.show(results, language=diagnosis.language())
    return outcome.FAILED if any(one.status == "error" for one in found) else outcome.DONE

"""The commands about the health of an installation: status, doctor."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final, NoReturn

import typer
from rich.console import RenderableType
from rich.text import Text

from pgben_tasks.cli.ask.installation import open_workplace
from pgben_tasks.cli.options import AsJson, examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.errors import ConfigurationError, TransientError
from pgben_tasks.language import Language, translatable as _, translate
from pgben_tasks.redaction import redact

if TYPE_CHECKING:
    from pgben_tasks.domain.outlook import Presence, TargetOutlook
    from pgben_tasks.domain.space import Forecast
    from pgben_tasks.domain.verdicts import Colour, Verdict
    from pgben_tasks.health.doctor.report import Result, Status
    from pgben_tasks.health.situation import Situation

app = typer.Typer()

STATUS_EXAMPLES = examples(
    ("pgben status", "can we restore, and to when? does everything work? 10 s at most"),
    ("pgben status --json", "the same for a monitoring system"),
)
DOCTOR_EXAMPLES = examples(
    ("pgben doctor", "look at every part, and say what to do; exit 1 when something is wrong"),
    ("pgben doctor --json", "the same for scripts, in English"),
)

_STYLES: Final[dict[Colour, str]] = {"green": "green", "yellow": "yellow", "red": "bold red"}
_RUNNING: Final[dict[Colour, str]] = {
    "green": "everything answers and works",
    "yellow": "everything answers, and something needs a look",
    "red": "something does not answer or does not work",
}
_UNKNOWN: Final = "unknown"
#: A catalog that was rebuilt knows no jobs of before, so "never" would say too much.
_NONE_KNOWN: Final = "none on record"
_MARKS: Final[dict[Status, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "error": ("✗", "bold red"),
    "unknown": ("?", "cyan"),
}
_SUM: Final = _(
    "as they should be: {ok}, warnings: {warning}, errors: {error}, not examined: {unknown}"
)


@app.command(epilog=STATUS_EXAMPLES)
def status(as_json: AsJson = False) -> int:
    """Show whether everything can be restored, and whether everything works.

    Exit code 0: both are green. 4: something is yellow, nothing red.

    1: not everything can be restored. 75: it can, and something else is red.
    """
    from pgben_tasks.health.situation import gather
    from pgben_tasks.health.status import status_document

    work = open_workplace()
    try:
        found = gather(work)
    except KeyboardInterrupt:
        leave(outcome.INTERRUPTED)
    if as_json:
        output.print_json(status_document(found))
    else:
        output.show(_status_tables(found, work.zone))
    code = _status_code(found)
    if found.hangs:
        leave(code)
    return code


def leave(code: int) -> NoReturn:
    """End the process at once; the interpreter would wait for threads of what hangs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _status_code(found: Situation) -> int:
    if found.restorable.colour == "red":
        return outcome.FAILED
    if found.running.colour == "red":
        return TransientError.exit_code
    return outcome.DONE if found.verdict.colour == "green" else outcome.SUSPECT


@app.command(epilog=DOCTOR_EXAMPLES)
def doctor(as_json: AsJson = False) -> int:
    """Examine servers, keys, versions, permissions, disks and clocks; change nothing.

    What could not be examined is marked with ?, with the reason; it is no error.
    """
    from pgben_tasks.health.doctor.checks import examine
    from pgben_tasks.settings import require_settings

    # Without any there is no installation to examine; wrong ones are a result.
    require_settings()
    results = examine(open_workplace)
    if as_json:
        found = list(results)
        output.print_json(_doctor_document(found))
    else:
        found = _show_results(results, language=_doctor_language())
    return outcome.FAILED if any(one.status == "error" for one in found) else outcome.DONE


def _status_tables(found: Situation, zone: tzinfo) -> Iterator[RenderableType]:
    """Yield the screen: both verdicts, their reasons, the targets, then who works and where."""
    restorable, running = found.restorable, found.running
    yield _headline("RESTORABLE", restorable, _restorable_to(found, zone))
    yield _headline("RUNNING", running, _RUNNING[running.colour])
    for name, verdict in (("restorable", restorable), ("running", running)):
        if verdict.reasons:
            yield Text(f"{name}:")
        for reason in verdict.reasons:
            yield Text(f"  {redact(reason.text)}", style=_STYLES[reason.colour])
            if reason.hint:
                yield Text(f"    {redact(reason.hint)}")
    presences = {one.target: one for one in found.surroundings.protected}
    for target in found.targets:
        facts = _facts(target, presences.get(target.target), found.now, zone)
        yield output.facts(facts, title=target.target)
    yield output.facts(_surroundings(found, zone), title="the installation")


def _headline(name: str, verdict: Verdict, words: str) -> Text:
    return Text(f"{name}: {verdict.colour} - {words}", style=_STYLES[verdict.colour])


def _restorable_to(found: Situation, zone: tzinfo) -> str:
    """Return whether everything can be restored, and to which moment at least."""
    if found.restorable.colour == "red":
        return "not everything can be restored as it should be"
    good = [one.newest_good for one in found.targets]
    taken = [one.taken for one in good if one is not None and one.taken is not None]
    if not taken:
        return "everything"
    words = f"everything, to {output.moment(min(taken), zone)} or later"
    point = found.point and found.point.newest_good
    return f"{words}; recovery point of {output.moment(point.moment, zone)}" if point else words


def _facts(
    one: TargetOutlook, presence: Presence | None, now: datetime, zone: tzinfo
) -> Iterator[tuple[str, output.Cell]]:
    if presence is not None:
        yield "answers now", _yes_or_no(presence.answers)
    good, age = one.newest_good, one.age(now)
    if good is None or age is None:
        yield "can be restored", Text("no: there is no verified backup", style="bold red")
    else:
        yield "can be restored to", f"{output.moment(good.taken, zone)}, {_long(age)} ago"
        yield "from", f"{good.backup}, {good.state}, {output.size(good.stored_bytes)}"
    yield f"within {_long(one.rpo)}", _yes_or_no(one.within_rpo(now))
    yield "backups", f"{one.kept} can be restored, of {len(one.backups)}"
    if one.failures is None:
        yield "failed since", _UNKNOWN
    elif one.failures:
        yield "failed since", Text(output.number(one.failures), style="yellow")
    yield "read in full", _moment_or(one.last_full_verification, zone, known=one.failures)
    took = _NONE_KNOWN if one.failures is not None else _UNKNOWN
    yield "last restore", output.duration(one.last_restore) if one.last_restore else took
    yield "next backup", output.moment(one.next_window, zone)


def _yes_or_no(answer: bool | None) -> output.Cell:
    if answer is None:
        return "not asked: no secret key is set here"
    return Text("yes", style="green") if answer else Text("no", style="bold red")


def _surroundings(found: Situation, zone: tzinfo) -> Iterator[tuple[str, output.Cell]]:
    if found.jobs is None or found.workers is None:
        yield "jobs, workers", Text("the catalog does not say", style="yellow")
    else:
        running = [f"{outcome.work_of(job)} ({job.state})" for job in found.jobs]
        yield "jobs", ", ".join(running) or "none runs or waits"
        nobody = Text("none", style="yellow")
        yield "workers", ", ".join(found.workers) if found.workers else nobody
        works = found.surroundings.reconciler == "runs"
        last: str = found.surroundings.reconciler or _UNKNOWN
        if found.last_tick is not None:
            last += f", last {output.moment(found.last_tick, zone)}"
        yield "reconciler", last if works else Text(last, style="yellow")
    away = found.surroundings.broker_away
    yield "broker", "answers" if away is None else Text("does not answer", style="bold red")
    for one in found.surroundings.space:
        shown = f"{', '.join(_room(one))}: {one.where}"
        yield one.place, Text(shown, style="yellow") if one.critical else shown
    for path in found.surroundings.full_disks:
        yield "disk", Text(f"nearly full: {path}", style="yellow")


def _room(one: Forecast) -> Iterator[str]:
    if one.used is None:
        yield "not known"
    elif one.capacity is None:
        yield f"{output.size(one.used)} used, of how much is not known"
    else:
        yield f"{one.share:.0%} used, {output.size(one.free)} free"
    if one.days_left is not None:
        yield f"full in {one.days_left:.0f} days"
    if one.tonight:
        needs = "a restore beside needs" if one.place == "restore" else "tonight needs"
        too_much = ", which does not fit" if one.fits is False else ""
        yield f"{needs} {output.size(one.tonight)}{too_much}"


def _moment_or(at: datetime | None, zone: tzinfo, *, known: int | None) -> str:
    if at is not None:
        return output.moment(at, zone)
    return _UNKNOWN if known is None else _NONE_KNOWN


def _long(length: timedelta) -> str:
    """Write days where hours are too many to read, and whole hours without minutes."""
    if length >= timedelta(days=2):
        return f"{length.days} days"
    hours, rest = divmod(length, timedelta(hours=1))
    return f"{hours} h" if hours and not rest else output.duration(length)


def _doctor_language() -> Language:
    """Return PGBEN_LANGUAGE, or its default where the settings cannot be read."""
    try:
        return open_workplace().settings.language
    except ConfigurationError:
        return "pt_BR"


def _doctor_document(results: Sequence[Result]) -> dict[str, Any]:
    """Return results as JSON, in English."""
    return {
        "checks": [
            {
                "check": one.check,
                "status": one.status,
                "sentence": redact(one.written("en")[0]),
                "hint": redact(one.written("en")[1]),
            }
            for one in results
        ],
        "counts": _counts(results),
    }


def _show_results(results: Iterable[Result], *, language: Language) -> list[Result]:
    """Write results one after another; return them."""
    console = output.out()
    found = []
    for one in results:
        found.append(one)
        sentence, hint = one.written(language)
        mark, style = _MARKS[one.status]
        line = Text.assemble((f"{mark} ", style), redact(sentence))
        output.print_wrapped(console, line, indent=len(mark) + 1)
        if hint:
            output.print_wrapped(console, Text(f"    {redact(hint)}", style="yellow"), indent=4)
    console.print(Text(translate(_SUM, language, **_counts(found))))
    return found


def _counts(results: Iterable[Result]) -> dict[str, int]:
    counted = Counter(one.status for one in results)
    return {status: counted[status] for status in _MARKS}

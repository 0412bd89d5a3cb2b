"""The command that a monitoring system runs: check. Exit codes are those of plugins for Nagios."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pgben_tasks.cli import arguments
from pgben_tasks.cli.invocation import CHECK, UNKNOWN
from pgben_tasks.cli.options import AsJson, examples
from pgben_tasks.cli.view import nagios, output
from pgben_tasks.errors import ConfigurationError, IntegrityError, TransientError

if TYPE_CHECKING:
    from pgben_tasks.domain.check import Bounds, Judgement
    from pgben_tasks.domain.target import Target
    from pgben_tasks.settings import Settings

app = typer.Typer()

CHECK_EXAMPLES = examples(
    ("pgben check", "0 ok, 1 warning, 2 critical, 3 unknown or wrong usage"),
    ("pgben check --target pgben --crit-age 26h", "one target, with an age of its own"),
    ("pgben check --json", "the same for scripts"),
)


class Judged(int):
    """The exit code of a judgement; every other end of `pgben check` is unknown."""


@app.command(CHECK, epilog=CHECK_EXAMPLES)
def check(
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET", help="'pgben' or 'bucket/documents'; all that is protected without."
        ),
    ] = None,
    all_present: Annotated[
        bool,
        typer.Option(
            "--all-present",
            help="Look for damage in what the repository holds of targets that are protected no "
            "more, too.",
        ),
    ] = False,
    warn_age: Annotated[
        str | None,
        typer.Option(
            "--warn-age",
            "--rpo",
            metavar="TIME",
            help="Warn from this age of the data on, as '26h'; PGBEN_RPO without.",
        ),
    ] = None,
    crit_age: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Critical from this age on; a quarter older than the warning."
        ),
    ] = None,
    timeout: Annotated[
        int, typer.Option(min=1, max=3600, metavar="SECONDS", help="Then it is unknown.")
    ] = 30,
    as_json: AsJson = False,
) -> int:
    """Print in one line, for Nagios or cron, whether all can be restored.

    It reads signed manifests and statements in the repository, and compares stored files by name
    and size: no catalog, Redis or worker is asked, so that it also tells when these are down.
    Needed are the repository (keys that only read are enough) and PGBEN_TRUSTED_KEYS_FILE.

    Exit code 0: ok. 1: warning. 2: critical. 3: unknown, which is everything else: wrong usage,
    wrong settings, a repository that does not answer.
    """
    from pgben_tasks.health.looks import Look
    from pgben_tasks.settings import Settings

    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, _end)
    settings = Settings.of_installation()
    bounds = _bounds(settings, warn_age, crit_age)
    wanted = [arguments.parse_target(one) for one in target or ()]
    look = Look(
        settings.repository,
        partial(_judge, settings, bounds, wanted, all_present=all_present),
    )
    try:
        found = look.answer(timedelta(seconds=timeout))
    except TransientError as exc:
        if look.silent:
            _leave(exc, as_json=as_json)
        raise
    if as_json:
        output.print_json(nagios.judgement_document(found))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in nagios.plugin_lines(found)))
    return Judged(found.level)


def report_unknown(kind: str, sentence: str, hint: str, *, as_json: bool) -> None:
    """Write on standard output, where monitoring systems look, that nothing could be judged."""
    if as_json:
        output.print_json(nagios.unknown_document(kind, sentence, hint))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in nagios.unknown_lines(sentence, hint)))


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    """End at once: threads that read would be waited for."""
    sys.stdout.write("".join(f"{one}\n" for one in nagios.unknown_lines("it was ended", "")))
    sys.stdout.flush()
    os._exit(UNKNOWN)


def _leave(exc: TransientError, *, as_json: bool) -> NoReturn:
    report_unknown(type(exc).__name__, exc.sentence, exc.hint, as_json=as_json)
    sys.stdout.flush()
    os._exit(UNKNOWN)


def _bounds(settings: Settings, warn: str | None, crit: str | None) -> Bounds:
    from pgben_tasks.domain.check import Bounds

    return Bounds.of(
        settings.rpo,
        timedelta(days=settings.verify_days),
        warn_age=_duration("--warn-age", warn),
        crit_age=_duration("--crit-age", crit),
        strict=settings.references_strict,
    )


def _duration(option: str, text: str | None) -> timedelta | None:
    from pgben_tasks.domain.durations import parse_duration

    if text is None:
        return None
    try:
        found = parse_duration(text)
    except ValueError as exc:
        raise ConfigurationError(f"'{text[:40]}' of {option} {exc}", "write it like '26h'") from exc
    return found if isinstance(found, timedelta) else None


def _judge(
    settings: Settings, bounds: Bounds, wanted: list[Target], *, all_present: bool
) -> Judgement:
    from pgben_tasks.adapters.repository.repository import StoreRepository
    from pgben_tasks.domain.check import Judgement, Level, Problem, judge
    from pgben_tasks.operations.repository.check import read_signs, trail_since
    from pgben_tasks.runtime import open_store, trust

    now = datetime.now(UTC)
    try:
        # Without a key of its own: it signs nothing.
        repository = StoreRepository.open(open_store(settings), signer=None, trust=trust(settings))
        present = repository.targets() if wanted or all_present else []
        protected = settings.targets()
        for one in wanted:
            if one not in protected and one not in present:
                raise ConfigurationError(
                    f"'{one}' is not protected here, and the repository holds no backup of it",
                    f"known targets: {', '.join(map(str, (*protected, *present))) or 'none'}",
                )
        asked = tuple(dict.fromkeys(wanted)) or protected
        signs = read_signs(
            repository,
            asked,
            others=[one for one in present if one not in asked] if all_present else (),
            since=trail_since(now, bounds.verify_every),
            # What is asked of one target is not about everything.
            points_wanted=None if wanted else settings.forms_points,
            points_checked=settings.references is not None,
        )
    except IntegrityError as exc:
        problem = Problem(level=Level.CRITICAL, target="", text=exc.sentence, details=(exc.hint,))
        return Judgement(
            level=Level.CRITICAL, summary=exc.sentence, problems=(problem,), figures=()
        )
    return judge(signs, bounds, now=now)

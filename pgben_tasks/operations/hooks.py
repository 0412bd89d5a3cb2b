"""The commands that a site runs around a swap of databases: one before it, one after it.

Whoever swaps, one database or several at once, calls these two. What a command prints goes into the
log of the job; a command runs as this step does, so after a crash perhaps once more. A job that is
a part of a restore, or undo, of everything runs none: the whole does, once for all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import structlog

from pgben_tasks.contracts import JSON
from pgben_tasks.domain.alarm import one_line
from pgben_tasks.errors import (
    CommandFailed,
    ConfigurationError,
    FenceLost,
    PgbenError,
    StepWaits,
)
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Moment

log = structlog.get_logger(__name__)

#: How much of what a command prints is logged: so many of its last lines, cut to a length.
_LOGGED_LINES: Final = 50
_LOGGED_CHARACTERS: Final = 500


def before_swap(run: Run, tools: Toolbox, databases: Sequence[str]) -> None:
    """Run the command of PGBEN_BEFORE_SWAP; whatever it raises, nothing may be swapped.

    Refuses as well where the command that is to run afterwards cannot be started.
    """
    tools.hooks.check()
    try:
        _run(run, tools, "before", databases)
    except CommandFailed as exc:
        raise CommandFailed(
            f"the command of PGBEN_BEFORE_SWAP failed, so nothing was replaced: {exc.sentence}",
            "the log of the restore worker has what it printed; ask again when it is mended, or "
            "take it out of the settings",
        ) from exc


@contextmanager
def paused(run: Run, tools: Toolbox) -> Iterator[None]:
    """Let an error during a swap say that the command before it has run, and the other not."""
    try:
        yield
    except (FenceLost, StepWaits):
        raise
    except PgbenError as exc:
        if not _has(run, tools, "before"):
            raise
        raise type(exc)(
            exc.sentence,
            f"{exc.hint}; the command of PGBEN_BEFORE_SWAP has run and that of PGBEN_AFTER_SWAP "
            "has not: start again what it stopped",
        ) from exc


def after_swap(run: Run, tools: Toolbox, databases: Sequence[str]) -> JSON:
    """Run the command of PGBEN_AFTER_SWAP; return for the result what failed, mostly nothing."""
    try:
        _run(run, tools, "after", databases)
    except (CommandFailed, ConfigurationError) as exc:
        return {"after_swap_failed": _not_resumed(exc)}
    return {}


def _not_resumed(why: PgbenError) -> str:
    return f"the command of PGBEN_AFTER_SWAP failed: {why.sentence}"


def _run(run: Run, tools: Toolbox, moment: Moment, databases: Sequence[str]) -> None:
    """Run the command of a moment, where there is one, and log what it says."""
    if not _has(run, tools, moment):
        return
    run.ledger.hold()
    about = {"job": str(run.job_id), "moment": moment}
    log.info("hook_began", databases=list(databases), **about)
    said: deque[str] = deque(maxlen=_LOGGED_LINES)
    try:
        tools.hooks.run(
            moment,
            job=run.job_id,
            databases=databases,
            check=run.progress.check,
            on_line=said.append,
        )
    except PgbenError as exc:
        log.error("hook_failed", why=exc.sentence, **about)  # noqa: TRY400 - a sentence, no trace
        raise
    finally:
        for line in said:
            log.info("hook_said", line=one_line(line)[:_LOGGED_CHARACTERS], **about)
    log.info("hook_ended", **about)


def _has(run: Run, tools: Toolbox, moment: Moment) -> bool:
    return run.job.request.get("part_of") is None and tools.hooks.has(moment)

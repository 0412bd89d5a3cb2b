"""Follow jobs through the ledger to their end: a live bar, a line per step, hints. To stderr.

The ledger is asked, never the broker: what is shown here is what decides.
"""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from pgben_tasks.cli.view import outcome, output
from pgben_tasks.domain.job import Job, StepRun
from pgben_tasks.errors import TransientError

if TYPE_CHECKING:
    from pgben_tasks.runtime import Workplace

_POLL_SECONDS: Final = 0.4
#: How often idle jobs are explained, and how often a line is written where no bar can move.
EXPLAIN_SECONDS: Final = 10.0
#: How long the catalog may be silent before following it is given up; the jobs go on.
_SILENCE_SECONDS: Final = 120.0
_MARKS: Final = {"done": "✓", "failed": "✗"}
#: Shorter lengths of time are written with tenths of seconds.
_TENTHS_BELOW: Final = 10


class _CutColumn(TextColumn):
    """Text that gives way to the other columns: it is cut where the terminal is too narrow."""

    def render(self, task: Task) -> Text:
        """Return the text of a task."""
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


COLUMNS: Final = (
    SpinnerColumn(),
    TextColumn("{task.description}", markup=False),
    BarColumn(bar_width=12),
    _CutColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=False)),
)


@dataclass(slots=True)
class _Watched:
    """One job as it was last read, and the ends of steps that were already written."""

    job: Job
    bar: TaskID
    steps: list[StepRun] = field(default_factory=list)
    written: set[tuple[int, str, datetime]] = field(default_factory=set)
    behind: str = ""


class Follower:
    """Follows some jobs; ``jobs`` and ``steps`` are as last seen, also after an interruption."""

    def __init__(self, work: Workplace, jobs: Sequence[Job]) -> None:
        """Follow ``jobs`` through the ledger of ``work``."""
        self._work = work
        self._console = console = output.err()
        self._bars = Progress(
            *COLUMNS, console=console, transient=True, disable=not can_move_bars(console)
        )
        self._watched = [
            _Watched(job, self._bars.add_task(job_title(job), text="")) for job in jobs
        ]
        self._several = len(jobs) > 1
        self._hinted: set[str] = set()
        self._explain_at = 0.0

    @property
    def jobs(self) -> list[Job]:
        """The jobs as last seen."""
        return [one.job for one in self._watched]

    def documents(self) -> list[dict[str, Any]]:
        """Return the jobs as JSON."""
        return [outcome.job_document(one.job, one.steps) for one in self._watched]

    def run(self) -> list[Job]:
        """Return when every job has ended; raise ``TransientError`` when the catalog is gone."""
        silent_since: float | None = None
        with self._bars:
            while True:
                try:
                    self._refresh()
                    silent_since = None
                except TransientError as exc:
                    if silent_since is None:
                        silent_since = time.monotonic()
                        self._write_line(f"{exc.sentence}; still trying")
                    elif time.monotonic() - silent_since > _SILENCE_SECONDS:
                        raise
                if all(one.job.ended for one in self._watched):
                    return self.jobs
                time.sleep(_POLL_SECONDS)

    def _refresh(self) -> None:
        explain = time.monotonic() >= self._explain_at
        for one in self._watched:
            if not one.job.ended or not one.steps:
                one.job = self._work.ledger.job(one.job.id)
                one.steps = self._work.ledger.steps(one.job.id)
                self._write_steps(one)
        if explain:
            self._explain()
            self._explain_at = time.monotonic() + EXPLAIN_SECONDS
        for one in self._watched:
            self._show(one)

    def _write_steps(self, one: _Watched) -> None:
        for step in one.steps:
            if step.ended_at is None or step.state == "waiting":
                continue
            end = (step.attempt, step.name, step.ended_at)
            if end not in one.written:
                one.written.add(end)
                self._console.print(step_line(one.job, step, named=self._several))

    def _explain(self) -> None:
        """Write why jobs wait: no worker, or another job before them; and progress without bars."""
        idle = [one for one in self._watched if one.job.state in {"queued", "waiting"}]
        if idle:
            living = {name.partition(".")[0] for name in self._work.workers.living()}
            missing = {role for one in idle for role in roles_of_job(one.job)} - living
            self._hint_workers(sorted(missing - self._hinted))
        queued = [one for one in idle if one.job.state == "queued"]
        if queued:
            open_jobs = self._work.ledger.jobs(limit=200, open_only=True)
            for one in queued:
                one.behind = _behind(one.job, open_jobs)
        if not can_move_bars(self._console):
            for one in self._watched:
                if one.job.state == "running" and one.job.progress:
                    self._console.print(
                        f"  … {job_title(one.job)} {progress_text(one.job.progress)}", markup=False
                    )

    def _hint_workers(self, missing: Sequence[str]) -> None:
        self._hinted.update(missing)
        if len(missing) > 1:
            self._write_line(
                f"HINT: no {' and no '.join(missing)} worker is running; start one for all with "
                "`python -m workers all`"
            )
        elif missing:
            self._write_line(
                f"HINT: no {missing[0]} worker is running; start one with "
                f"`python -m workers {missing[0]}`"
            )

    def _show(self, one: _Watched) -> None:
        job = one.job
        progress = (job.progress or {}) if job.state == "running" else {}
        last = one.steps[-1] if one.steps else None
        if job.state == "waiting" and last is not None and last.state == "waiting":
            description = f"{outcome.subject(job.target)} {last.result.get('waits', 'waits')}"
        else:
            description = job_title(job) + one.behind * (job.state == "queued")
        move_bar(self._bars, one.bar, progress, description=description, visible=not job.ended)

    def _write_line(self, text: str) -> None:
        self._console.print(Text(text, style="yellow"), soft_wrap=True)


def roles_of_job(job: Job) -> list[str]:
    """Return the roles of workers that a job needs, each once, in the order of its steps."""
    from pgben_tasks import canvases

    chain = canvases.CHAINS[job.chain]
    places = [canvases.entry_queue(job.kind), *(place for _, place in chain)]
    return list(dict.fromkeys(place.removeprefix("node:") for place in places))


def move_bar(
    bars: Progress,
    bar: TaskID,
    progress: Mapping[str, Any],
    *,
    description: str,
    visible: bool = True,
) -> None:
    """Move a bar to where a phase is."""
    total, done = progress.get("total"), int(progress.get("done") or 0)
    bars.update(
        bar,
        description=description,
        total=max(int(total), 1) if total else None,
        completed=min(done, int(total)) if total else 0,
        text=progress_text(progress),
        visible=visible,
    )


def can_move_bars(console: Console) -> bool:
    """Return whether a bar can move there."""
    return console.is_terminal and not console.is_dumb_terminal


def job_title(job: Job) -> str:
    """Return a job's target and what is being done to it."""
    phase = (job.progress or {}).get("phase")
    if job.state == "running":
        step = _step_name(job.step or "")
        doing = step if phase in {None, step} else f"{step}: {phase}"
    elif job.state == "waiting":
        doing = f"before {_step_name(job.step or '')}"
    else:
        doing = job.state
    return f"{outcome.subject(job.target)} {doing}"


def progress_text(progress: Mapping[str, Any]) -> str:
    """Write how far a phase is: ``45%, 7 s left, 68 MiB of 150 MiB, 12 MiB/s, 12 of 40 tables``.

    What matters most comes first: the end is cut where the terminal is too narrow.
    """
    unit = str(progress.get("unit") or "bytes")
    total, done = int(progress.get("total") or 0), int(progress.get("done") or 0)
    parts = []
    if total:
        parts.append(f"{min(done / total, 1.0):.0%}")
        if progress.get("seconds_left"):
            parts.append(f"{_whole(int(progress['seconds_left']))} left")
    if total and unit == "bytes":
        parts.append(f"{output.size(done)} of {output.size(total)}")
    elif total:
        parts.append(_share(done, total, unit))
    elif done:
        parts.append(output.amount(done, unit))
    rate = int(progress.get("rate") or 0)
    if rate and unit == "bytes":
        parts.append(f"{output.size(rate)}/s")
    if "tables_total" in progress:
        parts.append(_share(int(progress["tables"]), int(progress["tables_total"]), "tables"))
    elif progress.get("tables"):
        parts.append(output.amount(int(progress["tables"]), "tables"))
    return ", ".join(parts)


def _share(done: int, total: int, unit: str) -> str:
    return f"{output.number(done)} of {output.amount(total, unit)}"


def _whole(seconds: int) -> str:
    """Write a length of time that is an estimate: no tenths of seconds."""
    return f"{seconds} s" if seconds < _TENTHS_BELOW else output.duration(seconds)


def _step_name(name: str) -> str:
    return name.rpartition(".")[2] or "the first step"


def step_line(job: Job, step: StepRun, *, named: bool) -> Text:
    """Return the line about a step that ended, with ``named`` the job's target, too."""
    mark = _MARKS.get(step.state, "…")
    style = {"✓": "green", "✗": "bold red"}.get(mark, "yellow")
    words = [f"{_step_name(step.name):<10}", f"{output.duration(step.seconds):>12}"]
    if step.state != "done":
        words.append(step.state)
    if step.attempt > 1:
        words.append(f"attempt {step.attempt}")
    if named:
        words.append(job.target)
    return Text.assemble((f"  {mark} ", style), "  ".join(words))


def _behind(job: Job, open_jobs: Sequence[Job]) -> str:
    before = [
        one
        for one in open_jobs
        if one.target == job.target and one.id != job.id and one.state != "queued"
    ]
    return f" behind job {outcome.short_id(before[0])} ({before[0].kind})" if before else ""

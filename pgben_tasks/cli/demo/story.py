"""``pgben demo``: the main jobs end to end on real servers, and what they proved.

PostgreSQL, Redis and two S3 servers are started from packages; a database and a bucket are filled;
the chains run through a real Celery worker; everything is verified. The database is restored beside
and compared row for row by the server. The bucket is ruined, put back in place and compared object
for object, and every document is decrypted. Nothing of that is pgben's own counting.
"""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from pgben_tasks.cli.demo import bucket as demo_bucket, environment as stage
from pgben_tasks.cli.demo.jobs import Clock, Jobs
from pgben_tasks.cli.view import outcome, output

if TYPE_CHECKING:
    from pgben_tasks.embedded.stack import EmbeddedStack

TARGET: Final = f"postgres/{stage.DATABASE}"


def demo(size_mb: int, keep: bool, json: bool) -> int:
    """Run the demo with about ``size_mb`` MB of data; give the exit code."""
    clock = Clock()
    with clock.of("start the servers"):
        stack = stage.start_servers()
    with stack:
        with clock.of("fill the database"):
            stage.fill(stack, size_mb)
        with clock.of("fill the bucket"):
            documents = stage.fill_bucket(stack)
        with clock.of("pgben init"):
            work, settings = stage.install(stack, node="demo")
        with clock.of("start a Celery worker"):
            stage.await_worker(work, stage.start_process(stack, "all", settings))
        jobs = Jobs(work)
        proof = _back_up(jobs)
        proof |= demo_bucket.back_up_twice(jobs, documents)
        verified = jobs.do("verify", "*", {"level": "full"}, typed="verify --level full")
        proof["bytes_verified"] = verified.result["bytes_read"]
        restored = jobs.do("restore", TARGET, {"target": TARGET}, typed=f"restore {TARGET}")
        copy = proof["restored_as"] = str(restored.result["database"])
        with clock.of("compare both databases"):
            proof |= _compare(stack, copy)
        with clock.of("fetch the bucket, and ruin it"):
            before = demo_bucket.contents(documents)
            proof |= demo_bucket.ruin(documents)
        proof |= demo_bucket.restore(jobs, documents)
        with clock.of("compare the bucket"):
            proof |= demo_bucket.compare(stack, documents, before, database=copy)
        proof["seconds"] = {name: round(took, 2) for name, took in clock.seconds().items()}
        proof["steps"] = jobs.steps()
        _show(proof, as_json=json)
        if keep:
            _wait_for_enter(stack)
    return _verdict(proof)


def _back_up(jobs: Jobs) -> dict[str, Any]:
    backup = jobs.do("backup", TARGET, {"target": TARGET}, typed=f"backup {TARGET}")
    kept = ("dump_bytes", "stored_bytes", "bytes_read_back", "packs")
    return {
        "backup": backup.backup,
        "backup_state": backup.result["state"],
        **{name: backup.result[name] for name in kept},
    }


def _compare(stack: EmbeddedStack, copy: str) -> dict[str, Any]:
    from pgben_tasks.embedded.data.compare import contents

    output.say("\ncomparing every row of both databases …")
    original = contents(stack.postgres.dsn(), stage.DATABASE)
    restored = contents(stack.postgres.dsn(), copy)
    return {
        "tables_compared": len(original),
        "rows_compared": sum(one.rows for one in original.values()),
        "tables_differing": sorted(
            name
            for name in original.keys() | restored.keys()
            if original.get(name) != restored.get(name)
        ),
    }


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
    console.print(output.facts(facts, title="What was proved: the database"))
    console.print()
    console.print(output.facts(demo_bucket.facts(proof), title="What was proved: the bucket"))


def _verdict(proof: dict[str, Any]) -> int:
    wrong = demo_bucket.faults(proof)
    if differing := proof["tables_differing"]:
        tables = f"{len(differing)} of {proof['tables_compared']} tables differ after the restore"
        wrong.insert(0, f"{tables}, first '{differing[0]}'")
    for sentence in wrong:
        output.complain(sentence, "this is a fault of pgben, please report it")
    return outcome.FAILED if wrong else outcome.DONE


def _wait_for_enter(stack: EmbeddedStack) -> None:
    output.say(
        f"\nthe servers stay up; their files are in {stack.folder}, PostgreSQL answers at "
        f"{stack.postgres.host}:{stack.postgres.port}. Press Enter to end them."
    )
    sys.stdin.readline()

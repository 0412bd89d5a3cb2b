"""`pgben demo`: the main jobs end to end on real servers, and what they proved.

PostgreSQL, Redis and two S3 servers are started from packages; a database and a bucket are filled;
the chains run through a real Celery worker; everything is verified. Database and bucket are joined
in a recovery point, rows compared with documents. Then all of it is destroyed and brought back by
one command: the database is compared row for row by the server, the bucket object for object, and
every document is decrypted. Neither comparison of what was restored is pgben's own counting. The
report of it all is written as a page.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pgben_tasks.cli.ask import enqueue
from pgben_tasks.cli.demo import environment
from pgben_tasks.cli.demo.environment import DATABASE, Documents
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.cli.view.follow import Follower
from pgben_tasks.domain.documents import CrossCheck
from pgben_tasks.domain.failures import recorded_error
from pgben_tasks.domain.job import EVERYTHING, Job, JobKind
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.embedded.data import compare, documents
from pgben_tasks.embedded.stack import EmbeddedStack
from pgben_tasks.health.report import compose_report, new_report_id, render
from pgben_tasks.health.situation import gather
from pgben_tasks.runtime import Workplace

TARGET: Final = f"postgres/{DATABASE}"


def demo(size_mb: int, keep: bool, json: bool) -> int:
    """Run the demo with about ``size_mb`` MB of data; return the exit code."""
    clock = Clock()
    with clock.measure("start the servers"):
        stack = environment.start_servers()
    with stack:
        with clock.measure("fill the database"):
            environment.fill_database(stack, size_mb)
        with clock.measure("fill the bucket"):
            access = environment.fill_bucket(stack)
        with clock.measure("pgben init"):
            work, settings = environment.install(stack, node="demo")
        with clock.measure("start a Celery worker"):
            environment.await_worker(work, environment.start_process(stack, "all", settings))
        jobs = Jobs(work)
        proof = _back_up_database(jobs)
        proof |= _snapshot(jobs, access)
        proof |= _join_everything(jobs, access)
        verified = jobs.run("verify", EVERYTHING, {"level": "full"}, typed="verify --level full")
        proof["bytes_verified"] = verified.result["bytes_read"]
        with clock.measure("read everything, and destroy it"):
            rows = compare.contents(stack.postgres.dsn(), DATABASE)
            before = compare.bucket_contents(access.client)
            proof |= _destroy(stack, access)
        proof |= _restore_everything(jobs, access)
        with clock.measure("compare every row"):
            proof |= _compare_databases(stack, rows)
        with clock.measure("compare every object"):
            proof |= _compare_bucket(stack, access, before)
        with clock.measure("write the report"):
            proof["report"] = str(_write_report(work))
        proof["seconds"] = {name: round(took, 2) for name, took in clock.seconds().items()}
        proof["steps"] = jobs.steps()
        _show(proof, as_json=json)
        if keep:
            _wait_for_enter(stack)
    return _verdict(proof)


@dataclass
class Clock:
    """Seconds by what was done; ``begun`` is when the clock was made."""

    begun: float = field(default_factory=time.monotonic)
    measured: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
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

    def run(self, kind: JobKind, target: str, request: dict[str, Any], *, typed: str) -> Job:
        """Enqueue one job as ``pgben <typed>`` does, and follow it; raise unless it succeeds."""
        output.say(f"\npgben {typed}")
        jobs: list[Job] = []
        unsent = enqueue.submit(self.work, kind, [(target, request)], jobs)
        if unsent is not None:
            raise unsent
        (job,) = Follower(self.work, jobs).run()
        if job.state != "succeeded":
            raise recorded_error(job)
        self.done.append(job)
        return job

    def steps(self) -> list[dict[str, Any]]:
        """Return every step of every job, with its seconds."""
        return [
            {"step": step.name, "seconds": round(step.seconds or 0.0, 2)}
            for job in self.done
            for step in self.work.ledger.steps(job.id)
        ]


def _back_up_database(jobs: Jobs) -> dict[str, Any]:
    backup = jobs.run("backup", TARGET, {"target": TARGET}, typed=f"backup {TARGET}")
    kept = ("dump_bytes", "stored_bytes", "bytes_read_back", "packs")
    return {
        "backup": backup.backup,
        "backup_state": backup.result["state"],
        **{name: backup.result[name] for name in kept},
    }


def _compare_databases(
    stack: EmbeddedStack, original: dict[str, compare.TableContent]
) -> dict[str, Any]:
    output.say("\ncomparing every row with what there was …")
    restored = compare.contents(stack.postgres.dsn(), DATABASE)
    return {
        "tables_compared": len(original),
        "rows_compared": sum(one.rows for one in original.values()),
        "tables_differing": sorted(
            name
            for name in original.keys() | restored.keys()
            if original.get(name) != restored.get(name)
        ),
    }


def _snapshot(jobs: Jobs, access: Documents) -> dict[str, Any]:
    """Take a first snapshot; return what it proved."""
    target = access.target
    first = jobs.run("backup", target, {"target": target}, typed=f"backup {target}")
    return {
        "snapshot": first.backup,
        "snapshot_state": first.result["state"],
        "objects": first.result["objects"],
        # `fetched` also counts objects of which only the tags are read again, in their turn.
        "objects_fetched": first.result["wanted"],
    }


def _join_everything(jobs: Jobs, access: Documents) -> dict[str, Any]:
    """Back everything up once more, as one recovery point; return what that proved.

    The bucket is as it was, so its snapshot has nothing to store: objects that were stored minutes
    before the first one are fetched once more, and their bytes are known.
    """
    point = jobs.run("point", EVERYTHING, {}, typed="backup --all")
    check = point.result["check"]
    target = Target.parse(access.target)
    snapshots = [job for job in jobs.work.ledger.jobs() if job.target == access.target]
    newest = BackupId.parse(snapshots[0].backup or "")
    return {
        "point": point.result["point"],
        "point_state": point.result["state"],
        "rows_with_objects": check["references"],
        "rows_faulty": CrossCheck(**check, faults=None).rows,
        "objects_of_no_row": check["orphan"],
        "packs_stored_unchanged": len(
            jobs.work.tools.repository.manifest(target, newest).own_packs
        ),
    }


def _destroy(stack: EmbeddedStack, access: Documents) -> dict[str, int]:
    """Destroy all of the recovery point, as people and ransomware do; return what was done."""
    stack.postgres.drop(DATABASE)
    done = documents.damage(access.client)
    output.say(
        f"\nan accident: the database is dropped; {done.deleted} objects deleted, "
        f"{done.overwritten} overwritten by ransomware, tags of {done.retagged} changed, "
        f"{done.extra} ransom note"
    )
    return {
        "objects_deleted": done.deleted,
        "objects_overwritten": done.overwritten,
        "objects_retagged": done.retagged,
        "objects_opened_ruined": compare.open_documents(
            compare.bucket_contents(access.client), access.cipher, {}
        ).open,
    }


def _restore_everything(jobs: Jobs, access: Documents) -> dict[str, Any]:
    """Bring everything back with one command; return how much that was."""
    names = (DATABASE, access.client.bucket)
    typed = f"restore --all --in-place {' '.join(f'--confirm {name}' for name in names)}"
    asked = {"in_place": True, "confirm": names}
    done = jobs.run("restore_all", EVERYTHING, asked, typed=typed)
    bucket = done.result["buckets"][access.target]
    return {
        "restored_point": done.result["point"],
        "copies_faulty": CrossCheck(**done.result["check"], recoverable=0, faults=None).rows,
        "objects_put_back": bucket["added"] + bucket["written"],
        "objects_left": done.result["newer_objects"],
        "aside": bucket["aside"],
    }


def _compare_bucket(
    stack: EmbeddedStack,
    access: Documents,
    before: dict[str, documents.StoredObject],
) -> dict[str, Any]:
    """Fetch everything again, compare it with what there was, and open every document.

    What the restored database knows must be what the restored bucket holds. What is newer than the
    recovery point was left: that is the ransom note alone.
    """
    output.say("\ncomparing every object, and opening every document …")
    now = compare.bucket_contents(access.client)
    now.pop(documents.RANSOM_NOTE, None)
    found = compare.bucket_difference(before, now)
    known = documents.known(stack.postgres.dsn(), DATABASE, sorted(before))
    opened = compare.open_documents(now, access.cipher, known)
    return {
        "objects_compared": len(before),
        "objects_missing": list(found.missing),
        "objects_extra": list(found.extra),
        "objects_differing": list(found.differing),
        "objects_opened": opened.open,
        "documents_known": len(known),
        "documents_as_in_database": opened.as_in_database,
    }


def _write_report(work: Workplace) -> Path:
    """Write the report of the installation where it is found when the servers have ended."""
    found = gather(work)
    made = compose_report(work, found, new_report_id(found.now))
    file = Path(tempfile.mkdtemp(prefix="pgben-demo-")) / "report.html"
    page = render(made, work.settings.language, images="inline").html
    file.write_text(page, encoding="utf-8")
    return file


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
        ("recovery point", f"{proof['point']} ({proof['point_state']})"),
        (
            "rows whose documents are as they say",
            f"{proof['rows_with_objects'] - proof['rows_faulty']} of {proof['rows_with_objects']}",
        ),
        ("dropped, and brought back from", proof["restored_point"]),
    ]
    console.print()
    console.print(output.facts(facts, title="What was proved: the database"))
    console.print()
    console.print(output.facts(_bucket_facts(proof), title="What was proved: the bucket"))
    output.say(f"\nthe report of it all, as it is mailed every week: {proof['report']}")


def _verdict(proof: dict[str, Any]) -> int:
    wrong = bucket_faults(proof)
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


def bucket_faults(proof: dict[str, Any]) -> list[str]:
    """Return a sentence for each thing that is not as it was before the damage."""
    compared = proof["objects_compared"]
    counted = {
        "are missing": len(proof["objects_missing"]),
        "are too many": len(proof["objects_extra"]),
        "differ": len(proof["objects_differing"]),
        "do not open": compared - proof["objects_opened"],
    }
    wrong = [
        f"{count} of {compared} objects {what} after the restore"
        for what, count in counted.items()
        if count
    ]
    unlike = proof["documents_known"] - proof["documents_as_in_database"]
    if unlike:
        wrong.append(f"{unlike} documents are not what the restored database knows of them")
    if faulty := proof["rows_faulty"] + proof["copies_faulty"]:
        wrong.append(f"{faulty} rows have documents that are not as they say")
    if proof["objects_left"] != 1:
        wrong.append(f"{proof['objects_left']} objects were called newer, and 1 is")
    if again := proof["packs_stored_unchanged"]:
        wrong.append(f"a snapshot of the unchanged bucket stored {again} packs")
    return wrong


def _bucket_facts(proof: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines of the table about the bucket."""
    compared = proof["objects_compared"]
    unlike = sum(len(proof[f"objects_{what}"]) for what in ("missing", "extra", "differing"))
    yield "first snapshot", f"{proof['snapshot']} ({proof['snapshot_state']})"
    yield "objects fetched by the first snapshot", output.number(proof["objects_fetched"])
    yield "packs stored by the next, unchanged", output.number(proof["packs_stored_unchanged"])
    yield (
        "deleted, overwritten, retagged",
        ", ".join(
            output.number(proof[f"objects_{what}"])
            for what in ("deleted", "overwritten", "retagged")
        ),
    )
    yield "objects that opened after that", f"{proof['objects_opened_ruined']} of {compared}"
    yield "put back in place", output.number(proof["objects_put_back"])
    yield "what was overwritten lies in", proof["aside"]
    yield "newer than the point, and left", output.number(proof["objects_left"])
    yield "objects as they were, to the byte", f"{compared - unlike} of {compared}"
    yield "objects that open with their metadata", f"{proof['objects_opened']} of {compared}"
    yield (
        "documents as the database knows them",
        f"{proof['documents_as_in_database']} of {proof['documents_known']}",
    )

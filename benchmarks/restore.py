"""How fast everything comes back: against ``pg_restore`` of a local dump, and ``rclone copy``.

What pgben does more than these is in its figures: it chooses and checks signatures, reads every
digest, counts every row, and fetches every restored object again to compare it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Final

from benchmarks.chain import POSTGRES, wait_for_end
from benchmarks.documents import BUCKET, Documents
from benchmarks.meter import Meter, measure_program
from benchmarks.places import Ground, Installation, ground
from benchmarks.plain_dump import JOBS
from benchmarks.report import Bar, Part, verdicts
from benchmarks.rounds import Measured, run_rounds
from benchmarks.sync import TRANSFERS, Sync, remote
from pgben_tasks.cli.ask.enqueue import submit
from pgben_tasks.domain.job import EVERYTHING, Job, JobKind
from pgben_tasks.embedded import binaries
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.embedded.stack import REPOSITORY_BUCKET

DATABASE_BACK: Final = "restore, database"
DOCUMENTS_BACK: Final = "restore, documents"
EVERYTHING_BACK: Final = "restore --all"
PG_RESTORE: Final = f"pg_restore -j{JOBS}, local dump"
FETCHED: Final = f"fetch, then pg_restore -j{JOBS}"
_RCLONE: Final = "rclone copy"
#: What the project promises (docs/performance.md).
_BARS: Final = (
    Bar(subject=DATABASE_BACK, yardstick=FETCHED, most=1.10),
    Bar(subject=DOCUMENTS_BACK, yardstick=_RCLONE, most=1.00),
)


class Restore:
    """Restores by one installation, beside; what each made is removed, unmeasured."""

    def __init__(self, name: str, on: Ground, at: Installation, kind: JobKind, target: str) -> None:
        """Measure restores of ``target``, or of everything, at ``at`` under ``name``."""
        self.name = name
        self._on = on
        self._at = at
        self._kind: JobKind = kind
        self._target = target

    def run(self) -> Measured:
        """Restore once."""
        work = self._at.work
        asked = {} if self._target == EVERYTHING else {"target": self._target}
        with closing(work.database.session()) as session, Meter(self._at.worker.pid) as meter:
            jobs: list[Job] = []
            unsent = submit(work, self._kind, [(self._target, asked)], jobs)
            if unsent is not None:
                raise unsent
            wait_for_end(session, jobs[0])
        job = work.ledger.job(jobs[0].id)
        if job.state != "succeeded" or job.started_at is None or job.ended_at is None:
            raise SystemExit(f"the restore failed: {job.error}; {self._at.worker.tail()}")
        self._drop_copies(job)
        return Measured(
            seconds=(job.ended_at - job.started_at).total_seconds(),
            cpu=meter.cpu,
            memory=meter.peak,
            stored=int(job.result.get("loaded_bytes") or job.result.get("bytes") or 0),
            parts={
                step.name.rpartition(".")[2]: step.seconds or 0.0
                for step in work.ledger.steps(job.id)
            },
        )

    def _drop_copies(self, job: Job) -> None:
        told = job.result.get("databases", {POSTGRES: job.result}).values()
        for one in told:
            if "database" in one:
                self._on.stack.postgres.drop(str(one["database"]))


class PgRestore:
    """``pg_restore`` into a new database, from a local dump or from one that is fetched before."""

    def __init__(self, name: str, on: Ground, dump: Path, *, fetched_from: str | None) -> None:
        """Restore ``dump``; ``fetched_from`` is where the repository's server holds it."""
        self.name = name
        self._on = on
        self._dump = dump
        self._fetched_from = fetched_from

    def run(self) -> Measured:
        """Restore once; the database is made before and dropped after, unmeasured."""
        server = self._on.stack.postgres
        with server.connect() as connection:
            connection.execute("CREATE DATABASE plain TEMPLATE template0 ENCODING 'UTF8'")
        parts: dict[str, float] = {}
        cpu = 0.0
        dump = self._dump
        if self._fetched_from is not None:
            dump = self._on.folder / "fetched"
            seconds, meter = measure_program(
                (
                    *(str(binaries.rclone()), "copy", "--transfers=8"),
                    *(f"from:{self._fetched_from}", str(dump)),
                ),
                {
                    "PATH": os.defpath,
                    "HOME": str(self._on.folder),
                    "RCLONE_CONFIG": os.devnull,
                    **remote("FROM", self._on.stack.s3),
                },
                stderr=subprocess.DEVNULL,
            )
            parts["fetch"], cpu = seconds, meter.cpu
        argv = (
            *(str(self._on.client.pg_restore), "--exit-on-error", f"--jobs={JOBS}"),
            *("--dbname=plain", str(dump)),
        )
        seconds, meter = measure_program(argv, {**self._on.connection(), "PGDATABASE": "plain"})
        parts["load"] = seconds
        stored = sum(path.stat().st_size for path in dump.iterdir())
        if self._fetched_from is not None:
            shutil.rmtree(dump)
        server.drop("plain")
        return Measured(
            seconds=sum(parts.values()),
            cpu=cpu + meter.cpu,
            memory=meter.peak,
            stored=stored,
            parts=parts,
        )


def measure(megabytes: int, objects: int, rounds: int, *, tell: Callable[[str], None]) -> Part:
    """Back up a database and a bucket, and bring them back in every way."""
    tell(f"filling a database of about {megabytes} MB and a bucket with {objects} documents …")
    with ground(megabytes) as on:
        documents = Documents.make(objects, on.stack.supervisor)
        at = Installation.make(on, "restores", PGBEN_POINT_SETTLE="0", **documents.settings())
        dump = _dump(on)
        place = f"{REPOSITORY_BUCKET}/plain-dump"
        _upload(on, dump, place)
        point = _form_point(at)
        mirror = EmbeddedS3.start(supervisor=on.stack.supervisor, etags=True)
        mirror.make_bucket(BUCKET)
        _fill_mirror(documents, mirror)
        numbers = count(1)
        back = replace(documents, server=mirror)

        def fresh() -> str:
            name = f"back{next(numbers)}"
            documents.server.make_bucket(name)
            return name

        found = run_rounds(
            [
                PgRestore(PG_RESTORE, on, dump, fetched_from=None),
                PgRestore(FETCHED, on, dump, fetched_from=place),
                Restore(DATABASE_BACK, on, at, "restore", POSTGRES),
            ],
            rounds,
            tell=tell,
        )
        tried = {
            transfers: _copy(str(transfers), back, documents.server, fresh, transfers).run().seconds
            for transfers in TRANSFERS
        }
        transfers = min(tried, key=lambda one: tried[one])
        found |= run_rounds(
            [
                _copy(_RCLONE, back, documents.server, fresh, transfers),
                Restore(DOCUMENTS_BACK, on, at, "restore", f"bucket/{BUCKET}"),
            ],
            rounds,
            tell=tell,
        )
        everything = Restore(EVERYTHING_BACK, on, at, "restore_all", EVERYTHING)
        found |= run_rounds([everything], rounds, tell=tell)
        facts: dict[str, Any] = {
            "database_bytes": on.filled.bytes,
            "objects": objects,
            "objects_bytes": documents.size,
            "transfers": transfers,
            "joining_seconds": point,
            "rounds": rounds,
        }
    return Part(
        title=(
            f"a database of {on.filled.bytes / 1e6:.0f} MB, {objects} objects of "
            f"{documents.size / 1e6:.0f} MB; rclone with {transfers} transfers, its best of "
            f"{TRANSFERS}; joining a point took {point:.2f} s of its night; {rounds} rounds"
        ),
        found=found,
        judged=verdicts(_BARS, found),
        facts=facts,
    )


def _dump(on: Ground) -> Path:
    """Dump the database as the chain does, into a folder."""
    dump = on.folder / "local-dump"
    tools = on.client
    measure_program(
        (
            *(str(tools.pg_dump), "--format=directory", f"--jobs={JOBS}"),
            *(f"--compress={tools.compression}", "--no-sync", f"--file={dump}"),
        ),
        on.connection(),
    )
    return dump


def _upload(on: Ground, dump: Path, place: str) -> None:
    argv = (str(binaries.rclone()), "copy", str(dump), f"to:{place}")
    environment = {
        "PATH": os.defpath,
        "HOME": str(on.folder),
        "RCLONE_CONFIG": os.devnull,
        **remote("TO", on.stack.s3),
    }
    measure_program(argv, environment, stderr=subprocess.DEVNULL)


def _fill_mirror(documents: Documents, mirror: EmbeddedS3) -> None:
    Sync("mirror", documents, mirror, lambda: BUCKET, transfers=TRANSFERS[-1]).run()


def _copy(
    name: str, back: Documents, to: EmbeddedS3, fresh: Callable[[], str], transfers: int
) -> Sync:
    return Sync(name, back, to, fresh, transfers=transfers)


def _form_point(at: Installation) -> float:
    """Back everything up; return the seconds that joining added to the backups."""
    jobs: list[Job] = []
    unsent = submit(at.work, "point", [(EVERYTHING, {})], jobs)
    if unsent is not None:
        raise unsent
    with closing(at.work.database.session()) as session:
        wait_for_end(session, jobs[0])
    job = at.work.ledger.job(jobs[0].id)
    if job.state != "succeeded":
        raise SystemExit(f"no recovery point: {job.error}")
    steps = {step.name: step for step in at.work.ledger.steps(job.id)}
    joined = [one for name, one in steps.items() if name.endswith((".join", ".record"))]
    return sum(step.seconds or 0.0 for step in joined)

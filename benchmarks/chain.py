"""How long the phases of a backup and its restore take, on embedded servers of this machine.

The same adapters as in production run one phase after another, without queue and ledger, so that
each phase has a time of its own. The rows are the demo's.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pgben_tasks.adapters.keys import make_age_identity
from pgben_tasks.adapters.packs import AgePackCodec
from pgben_tasks.adapters.postgres import PostgresServer
from pgben_tasks.adapters.postgres_destination import PostgresDestination
from pgben_tasks.adapters.postgres_source import PostgresSource
from pgben_tasks.adapters.s3_store import S3Location, S3ObjectStore
from pgben_tasks.domain.documents import Member, Pack, PostgresCapture
from pgben_tasks.domain.packing import PackPlan, pack_plans
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.embedded.demo_data import fill
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.s3 import EmbeddedS3

MEBIBYTE = 1024**2
BUCKET = "benchmark"
JOBS = 2


class Silence:
    """A progress that nobody follows."""

    def begin(self, phase: str, *, total: int | None = None, unit: str = "bytes") -> None:
        """Say nothing."""

    def advance(self, amount: int) -> None:
        """Say nothing."""

    def note(self, **facts: int | str) -> None:
        """Say nothing."""

    def check(self) -> None:
        """Go on."""


class Stopwatch:
    """Times phases and prints a line for each."""

    def __init__(self, size: int) -> None:
        """Relate times to a database of ``size`` bytes."""
        self.size = size
        self.total = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        self.total += seconds
        self.line(name, seconds)

    def line(self, name: str, seconds: float) -> None:
        """Print one line: the phase, its seconds, and bytes of the database per second."""
        print(f"{name:<34}{seconds:>8.2f} s{self.size / MEBIBYTE / seconds:>10.1f} MiB/s")


def main(megabytes: int) -> None:
    """Fill a database of about ``megabytes``, back it up phase by phase, and restore it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="pgben-benchmark-")))
        postgres = stack.enter_context(EmbeddedPostgres.start())
        s3 = stack.enter_context(EmbeddedS3.start())
        s3.make_bucket(BUCKET)
        filled = fill(postgres.dsn(), database="pgben", megabytes=megabytes)
        size = filled.bytes // MEBIBYTE
        print(
            f"{size} MiB, {filled.tables} tables, {filled.rows} rows, {os.cpu_count()} processors"
        )
        server = PostgresServer(
            host=postgres.host, port=postgres.port, user=postgres.user, password=postgres.password
        )
        store = S3ObjectStore(
            S3Location(
                endpoint=s3.endpoint,
                bucket=BUCKET,
                access_key=s3.access_key,
                secret_key=s3.secret_key,
            )
        )
        key = make_age_identity(folder / "age.key", now=datetime.now(UTC))
        codec = AgePackCodec([key.public], identity_file=key.path, children=JOBS)
        stack.callback(codec.close)
        watch = Stopwatch(filled.bytes)
        capture, packs = _back_up(server, store, codec, folder, watch)
        watch.line("a backup, one phase after another", watch.total)
        watch.total = 0.0
        _restore(server, store, codec, folder, watch, capture, packs)
        watch.line("a restore, one phase after another", watch.total)


def _back_up(
    server: PostgresServer,
    store: S3ObjectStore,
    codec: AgePackCodec,
    folder: Path,
    watch: Stopwatch,
) -> tuple[PostgresCapture, list[Pack]]:
    source, dump, sealed = PostgresSource(server, "pgben"), folder / "dump", folder / "sealed"
    sealed.mkdir()
    tools = source.preflight().tools
    with source.capture(tools) as snapshot:
        with watch.phase(f"pg_dump, {JOBS} jobs, {tools.compression}"):
            source.dump(snapshot, dump, tools=tools, jobs=JOBS, progress=Silence())
        with watch.phase("count rows"):
            capture = snapshot.describe(snapshot.count())
    with watch.phase("checksum"):
        members = [_member(path) for path in sorted(dump.iterdir())]
    plans = pack_plans(
        Target("postgres", "pgben"),
        BackupId.make(datetime.now(UTC), "000000"),
        members,
        compressed=tools.compression == "none",
        sealed=True,
        pack_size=64 * MEBIBYTE,
    )

    def seal(plan: PackPlan) -> Pack:
        return codec.seal(plan, dump, sealed / Path(plan.path).name, advance=Silence().advance)

    with ThreadPoolExecutor(JOBS) as pool:
        with watch.phase(f"seal {len(plans)} pack(s)"):
            packs = list(pool.map(seal, plans))
        with watch.phase("store on S3"):
            list(
                pool.map(lambda one: store.put_file(one.path, sealed / Path(one.path).name), packs)
            )
        with watch.phase("read back"):
            list(pool.map(lambda one: _read(store, one, None), packs))
    return capture, packs


def _restore(
    server: PostgresServer,
    store: S3ObjectStore,
    codec: AgePackCodec,
    folder: Path,
    watch: Stopwatch,
    capture: PostgresCapture,
    packs: list[Pack],
) -> None:
    fetched, dump = folder / "fetched", folder / "opened"
    fetched.mkdir()
    dump.mkdir()
    destination = PostgresDestination(server)

    def fetch(pack: Pack) -> None:
        stored = fetched / Path(pack.path).name
        _read(store, pack, stored)
        codec.open(pack, stored, dump, advance=Silence().advance)

    with watch.phase("fetch and open"), ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(fetch, packs))
    with watch.phase(f"pg_restore, {JOBS} jobs"):
        tools = destination.preflight("restored", capture)
        destination.create("restored", capture, marker="benchmark")
        destination.load("restored", dump, tools=tools, jobs=JOBS, progress=Silence())
        destination.finish("restored", capture, marker="benchmark")
    with watch.phase("count rows again"):
        counted = destination.count("restored")
    if counted != capture.tables:
        message = "the restored database has other numbers of rows"
        raise SystemExit(message)


def _member(path: Path) -> Member:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Member(name=path.name, size=path.stat().st_size, sha256=digest)


def _read(store: S3ObjectStore, pack: Pack, destination: Path | None) -> None:
    digest = hashlib.sha256()
    with ExitStack() as stack:
        file = None if destination is None else stack.enter_context(destination.open("wb"))
        for chunk in store.stream(pack.path):
            digest.update(chunk)
            if file is not None:
                file.write(chunk)
    if digest.hexdigest() != pack.sha256:
        message = f"'{pack.path}' came back changed"
        raise SystemExit(message)

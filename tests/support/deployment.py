"""A whole installation on real servers, with workers and beats as processes.

The protected database and the catalog are on servers of their own, so that one can be killed
without the other. Workers and beats are real processes with the production settings.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.target import Target
from pgben_tasks.embedded.child import Child, Command, wait_until
from pgben_tasks.embedded.data.fill import fill as fill_database
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.stack import PROTECTED_BUCKET, EmbeddedStack
from pgben_tasks.ports import Bucket
from pgben_tasks.runtime import Workplace, postgres_servers
from pgben_tasks.runtime.places import bucket_at
from pgben_tasks.settings import Settings
from pgben_tasks.setup.initialise import initialise, lines
from tests.support import commands
from tests.support.commands import Ran
from tests.support.timetables import NOTHING_SCHEDULED

ROOT = Path(__file__).parents[2]
DATABASE = "pgben"
TARGET = Target("postgres", DATABASE)
BUCKET = Target("bucket", PROTECTED_BUCKET)
Settled = Mapping[str, str]
#: Rows that name documents, for PGBEN_REFERENCES; REFERENCES wants metadata of them as well.
PAPERS = f"""
    [papers]
    database = "{DATABASE}"
    bucket = "{PROTECTED_BUCKET}"
    table = "public.papers"
    key = "path"
    row = "id"
    size = "bytes"
"""
REFERENCES = f'{PAPERS}    needs = ["iv"]\n'
_PGBEN = ("-m", "pgben_tasks.cli.main")
_KEPT = ("PATH", "LANG", "HOME", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


def eventually(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait until ``condition`` holds; fail with ``what`` when it does not in time."""
    if not wait_until(condition, seconds=seconds):
        raise AssertionError(f"not within {seconds:.0f} s: {what}")


def process_environment(version: Path | None, interpreter: str = sys.executable) -> dict[str, str]:
    """Return what a process needs to run this version of pgben, or the one in a folder.

    The processes of another version are not measured: its files are gone when the figures are made.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    if version is not None:
        kept = {name: value for name, value in kept.items() if not name.startswith("COVERAGE_")}
    if interpreter == sys.executable:
        kept["PYTHONPATH"] = str(version or ROOT)
    return kept


@dataclass
class Deployment:
    """Servers, an initialised installation, and the processes started in it."""

    stack: EmbeddedStack
    catalog: EmbeddedPostgres
    environment: dict[str, str]
    work: Workplace
    processes: list[Child] = field(default_factory=list)
    #: What runs the processes; another than the tests' own brings its own copy of pgben.
    interpreter: str = sys.executable
    _entered: ExitStack = field(default_factory=ExitStack, repr=False)

    @classmethod
    def build(
        cls,
        *,
        megabytes: int = 3,
        bucket: bool = False,
        version: Path | None = None,
        **settings: str,
    ) -> Self:
        """Start the servers, fill the database, run what `pgben init` runs.

        With ``bucket`` there is an S3 server with a bucket to protect, too. ``version`` is the
        folder of another version of pgben, whose `init` is run. Nothing is scheduled unless
        ``settings`` say so.
        """
        stack = EmbeddedStack.start(protected=bucket)
        try:
            catalog = EmbeddedPostgres.start(supervisor=stack.supervisor)
            fill_database(stack.postgres.dsn(), database=DATABASE, megabytes=megabytes)
            environment = {
                **stack.environment(database=DATABASE, node="node-a"),
                "PGBEN_CATALOG_URL": catalog.url("pgben_catalog"),
                "PGBEN_LANGUAGE": "en",
                # However full the disk of the machine is that tests run on.
                "PGBEN_DISK_CRITICAL": "0.999",
                **NOTHING_SCHEDULED,
                **settings,
            }
            keys = stack.folder / "keys"
            if version is None:
                loaded = Settings.load(environment)
                made = initialise(loaded, keys_folder=keys, roles="single", now=datetime.now(UTC))
                environment |= made.environment
            else:
                done = subprocess.run(
                    [sys.executable, *_PGBEN, "init", "--keys", str(keys), "--json"],
                    env={**process_environment(version), **environment},
                    cwd=stack.folder,
                    stdout=subprocess.PIPE,
                    timeout=120,
                    check=True,
                )
                environment |= json.loads(done.stdout)["environment"]
            return cls(stack, catalog, environment, Workplace(Settings.load(environment)))
        except BaseException:
            stack.close()
            raise

    def __enter__(self) -> Self:
        """Return the deployment; until its end, this thread has one connection to its catalog."""
        self._entered.enter_context(self.work.database.kept())
        _RUNNING.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything, the servers last.

        A worker whose servers end with it does not end before it is killed.
        """
        _RUNNING.remove(self)
        self._entered.close()
        for process in self.processes:
            if process.alive:
                process.send(process.command.gentle)
        wait_until(lambda: not any(process.alive for process in self.processes), seconds=10)
        self.stack.close()

    @property
    def settings_file(self) -> Path:
        """Where ``write_settings`` writes."""
        return self.stack.folder / "pgben.env"

    def write_settings(self) -> None:
        """Write the settings to a file that a shell can load."""
        self.settings_file.write_text(lines(self.environment), encoding="utf-8")
        self.settings_file.chmod(0o600)

    def process_environment(
        self, changed: Settled | None = None, *, version: Path | None = None
    ) -> dict[str, str]:
        """Return all that a process of this installation needs to know."""
        needed = process_environment(version, self.interpreter)
        return {**needed, **self.environment, **(changed or {})}

    def start(
        self,
        role: str,
        *,
        name: str = "",
        changed: Settled | None = None,
        by_the_clock: bool = False,
        version: Path | None = None,
    ) -> Child:
        """Start ``python -m workers <role>``; a worker is ready when this returns.

        ``version`` is the folder of another version of pgben. A beat sends the tick every few
        seconds, or every minute ``by_the_clock`` as in production.
        """
        label = name or f"{role}-{len(self.processes)}"
        program = ["workers", role, "--loglevel=INFO"]
        if role == "beat":
            if not by_the_clock:
                program = ["celery", "-A", "tests.support.frequent_tick", "beat", "--loglevel=INFO"]
            program.append(f"--schedule={self.stack.folder / label}.schedule")
        process = self.stack.supervisor.spawn(
            label,
            Command(
                argv=(self.interpreter, "-m", *program),
                environment=self.process_environment(changed, version=version),
                folder=self.stack.folder,
            ),
        )
        self.processes.append(process)
        sign = "beat_began" if role == "beat" else "worker_ready"
        eventually(
            lambda: sign in process.log.read_text() or not process.alive,
            seconds=60,
            what=f"{role} says {sign}",
        )
        assert process.alive, process.log.read_text()
        return process

    def pgben(self, *arguments: str, timeout: float = 120, changed: Settled | None = None) -> Ran:
        """Run the command line as a person would."""
        if self.interpreter == sys.executable:
            return commands.run(
                *arguments,
                environment=self.process_environment(changed),
                folder=self.stack.folder,
                timeout=timeout,
            )
        with self.begin(*arguments, changed=changed) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            finally:
                process.kill()
        return Ran(code=process.returncode, out=out, err=err)

    def begin(self, *arguments: str, changed: Settled | None = None) -> subprocess.Popen[str]:
        """Start the command line, and leave it to the test."""
        return subprocess.Popen(
            [self.interpreter, *_PGBEN, *arguments],
            env=self.process_environment(changed),
            cwd=self.stack.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def jobs(self, kind: str | None = None) -> list[Job]:
        """Return the ledger's jobs, newest first."""
        return [one for one in self.work.ledger.jobs(limit=100) if kind in {None, one.kind}]

    def wait_for(self, job: Job, *states: str, seconds: float) -> Job:
        """Wait until a job is in one of ``states`` (any end by default)."""
        wanted = states or ("succeeded", "failed", "refused", "cancelled")
        eventually(
            lambda: self.work.ledger.job(job.id).state in wanted,
            seconds=seconds,
            what=f"job {job.kind} is {' or '.join(wanted)}",
        )
        return self.work.ledger.job(job.id)

    def stored_packs(self) -> list[str]:
        """Return the packs that are in the repository now."""
        return sorted(self.work.repository.packs(TARGET))

    def databases(self) -> set[str]:
        """Name the databases of the protected server."""
        with self.stack.postgres.connect() as connection:
            rows = connection.execute("SELECT datname FROM pg_database").fetchall()
        return {name for (name,) in rows}


#: The deployments whose logs are shown when a test fails.
_RUNNING: list[Deployment] = []
#: How many characters of a log are shown.
_LOG_TAIL = 6_000


def logs() -> list[tuple[str, str]]:
    """Return name and end of the log of every process of the deployments that run now."""
    return [
        (f"log of {process.name}", process.log.read_text(errors="replace")[-_LOG_TAIL:])
        for deployment in _RUNNING
        for process in deployment.processes
        if process.log.exists()
    ]


class SlowPath:
    """A TCP relay in front of a server: ``rate`` bytes a second reach it, ``back`` come back.

    ``back`` None, the default, lets its answers through as they come.
    """

    def __init__(self, endpoint: str, *, rate: int | None, back: int | None = None) -> None:
        """Listen on a free port of this machine."""
        parts = urlsplit(endpoint)
        self._back = back
        self._server = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._rate = rate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._run(self._accept)

    def close(self) -> None:
        """Cut every connection and wait until the relay has ended."""
        # Closing a listening socket does not wake the thread that accepts; this does.
        self._listener.shutdown(socket.SHUT_RDWR)
        while self._threads:
            for one in self._sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._threads.pop().join(timeout=30)
        for one in (self._listener, *self._sockets):
            one.close()

    def _run(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server, timeout=60)
            self._sockets += [client, server]
            self._run(self._relay, client, server, self._rate)
            self._run(self._relay, server, client, self._back)

    @staticmethod
    def _relay(source: socket.socket, sink: socket.socket, rate: int | None) -> None:
        with suppress(OSError):
            while chunk := source.recv(16 * 1024):
                if rate is not None:
                    # A slow line is what this is; nothing is waited for.
                    time.sleep(len(chunk) / rate)
                sink.sendall(chunk)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def command_lines() -> dict[str, str]:
    """Return the arguments of every process by its id, as any user can read them."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        # A process may end between being listed and being looked at.
        with suppress(OSError):
            found[path.parent.name] = path.read_text(errors="replace")
    return found


def left(folder: Path) -> list[str]:
    """Name what is left below ``folder``, and processes that name it: as argument or setting."""
    running = [
        process
        for process, line in command_lines().items()
        if str(folder) in line or str(folder) in _surroundings(process)
    ]
    return [str(path) for path in folder.iterdir()] + running


def _surroundings(process: str) -> str:
    """Return the environment of a process; nothing where it ended, or is somebody else's."""
    with suppress(OSError):
        return Path("/proc", process, "environ").read_text(errors="replace")
    return ""


def plain_dump(server: EmbeddedPostgres, database: str) -> list[str]:
    """Dump a database as text, without the lines that differ between any two runs."""
    tools = server.bin_dir
    done = subprocess.run(
        [str(tools / "pg_dump"), "--format=plain"],
        env={
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGUSER": server.user,
            "PGPASSWORD": server.password,
            "PGDATABASE": database,
            "LC_ALL": "C",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    volatile = ("\\restrict ", "\\unrestrict ", "-- Dumped by", "-- Dumped from")
    return [line for line in done.stdout.splitlines() if not line.startswith(volatile)]


def described(deployment: Deployment, database: str = DATABASE) -> dict[str, Any]:
    """Describe a database with all that a restore could lose: settings, grants, counts and so on.

    What two descriptions of one database may differ in, when and where it was looked at, is left
    out.
    """
    address = postgres_servers(deployment.work.settings)[TARGET]
    source = PostgresSource(address, database)
    with source.capture(source.preflight().tools) as capture:
        found = capture.describe(capture.count())
    return found.model_dump(
        exclude={"database", "lsn", "snapshot_time", "snapshot", "database_bytes"}
    )


def steps(deployment: Deployment, job: Job) -> Sequence[str]:
    """Name the finished steps of a job in order, without the chain's name."""
    return [
        step.name.rpartition(".")[2]
        for step in deployment.work.ledger.steps(job.id)
        if step.state == "done"
    ]


@contextmanager
def papers(folder: Path, count: int, *, megabytes: int) -> Iterator[Deployment]:
    """Run a deployment whose database has a row for each of the documents of its bucket."""
    file = folder / "references.toml"
    file.write_text(REFERENCES, encoding="utf-8")
    with Deployment.build(
        bucket=True, megabytes=megabytes, PGBEN_REFERENCES=str(file), PGBEN_POINT_SETTLE="0"
    ) as built:
        bucket = bucket_at(built.work.settings, PROTECTED_BUCKET)
        fill_bucket(bucket, count)
        with built.stack.postgres.connect(DATABASE) as connection:
            connection.execute("CREATE TABLE papers (id serial, path text, bytes bigint)")
            for one in bucket.list():
                line = "INSERT INTO papers (path, bytes) VALUES (%s, %s)"
                connection.execute(line, (one.key, one.size))
        yield built


def fill_bucket(bucket: Bucket, count: int, *, sizes: tuple[int, int] = (1_000, 9_000)) -> None:
    """Store documents as the platform does: metadata of their encryption, some with tags."""
    chance = random.Random(7)
    for number in range(count):
        data = chance.randbytes(chance.randrange(*sizes))
        bucket.put(
            f"cidadão {number:03}/solicitações/rg+{number}.jpg",
            iter([data]),
            size=len(data),
            headers={"content-type": "image/jpeg"},
            metadata={"iv": f"{number:032x}", "hash": f"{number:064x}", "encrypted": "true"},
            tags={"setor": "assistência social"} if number % 3 == 0 else {},
        )

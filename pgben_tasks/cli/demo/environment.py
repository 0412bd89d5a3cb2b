"""What `pgben demo` and `pgben up` start: embedded servers, demo data, keys, processes.

Everything belongs to the stack's supervisor and is removed with it, however this process ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.progress import BarColumn, Progress, TextColumn

from pgben_tasks import runtime
from pgben_tasks.cli.view import output
from pgben_tasks.embedded.child import Child, Command, wait_until
from pgben_tasks.embedded.data import documents, fill
from pgben_tasks.embedded.stack import PROTECTED_BUCKET, EmbeddedStack
from pgben_tasks.errors import ConfigurationError, TransientError
from pgben_tasks.runtime import Workplace
from pgben_tasks.settings import Settings
from pgben_tasks.setup.initialise import initialise

DATABASE: Final = "pgben"
_WORKER_READY_SECONDS: Final = 60.0
#: Variables of this process that the started ones get, too.
_INHERITED: Final = ("PATH", "LANG", "HOME", "VIRTUAL_ENV", "PYTHONPATH")


@dataclass(frozen=True)
class Documents:
    """The platform's own access to its documents: a client of their bucket, and their key."""

    client: documents.BucketClient
    cipher: documents.Cipher

    @property
    def target(self) -> str:
        """What pgben calls their bucket."""
        return f"bucket/{self.client.bucket}"


def start_servers() -> EmbeddedStack:
    """Start PostgreSQL, Redis and two S3 servers."""
    output.say("starting PostgreSQL, Redis and two S3 servers from packages …")
    return EmbeddedStack.start(protected=True)


def fill_database(stack: EmbeddedStack, size_mb: int) -> None:
    """Make the protected database with about ``size_mb`` MB of believable data."""
    with _bar("filling the database") as show:
        summary = fill.fill(
            stack.postgres.dsn(), database=DATABASE, megabytes=size_mb, on_progress=show
        )
    output.say(
        f"database '{DATABASE}': {summary.tables} tables, {summary.rows:,} rows, "
        f"{output.size(summary.bytes)}"
    )


def fill_bucket(stack: EmbeddedStack) -> Documents:
    """Store the documents that the newest rows of the database name, encrypted."""
    access = Documents(
        documents.BucketClient(stack.documents, PROTECTED_BUCKET), documents.Cipher()
    )
    with _bar("filling the bucket") as show:
        summary = documents.store(
            stack.postgres.dsn(),
            database=DATABASE,
            client=access.client,
            cipher=access.cipher,
            on_progress=show,
        )
    output.say(
        f"bucket '{PROTECTED_BUCKET}': {summary.objects} encrypted objects, {summary.documents} "
        f"documents and thumbnails of them, {output.size(summary.bytes)}"
    )
    return access


def install(stack: EmbeddedStack, *, node: str) -> tuple[Workplace, dict[str, str]]:
    """Do what `pgben init` does; return this process's tools, and the settings of all processes."""
    environment = stack.environment(database=DATABASE, node=node)
    references = stack.folder / "references.toml"
    references.write_text(
        documents.references(database=DATABASE, bucket=PROTECTED_BUCKET), encoding="utf-8"
    )
    # Nobody uploads while the demo backs up.
    environment |= {"PGBEN_POINT_SETTLE": "0", "PGBEN_REFERENCES": str(references)}
    made = initialise(
        Settings.load(environment),
        keys_folder=stack.folder / "keys",
        roles="single",
        now=datetime.now(UTC),
    )
    settings = {**environment, **made.environment}
    return runtime.workplace(Settings.load(settings)), settings


def start_process(stack: EmbeddedStack, role: str, settings: dict[str, str], *flags: str) -> Child:
    """Start ``python -m workers <role>`` under the stack's supervisor."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return stack.supervisor.spawn(
        role,
        Command(
            argv=(sys.executable, "-m", "workers", role, "--loglevel=INFO", *flags),
            # Whatever a process's libraries leave in temporary files goes with the stack.
            environment={**inherited, **settings, "TMPDIR": str(stack.folder)},
            folder=Path.cwd(),
        ),
    )


def await_worker(work: Workplace, worker: Child) -> None:
    """Wait until a worker has sent a heartbeat to the catalog; raise when it does not."""
    if not wait_until(
        lambda: bool(work.workers.living()) or not worker.alive,
        seconds=_WORKER_READY_SECONDS,
    ):
        raise TransientError("the worker did not start in time", f"its log: {worker.tail()}")
    if not worker.alive:
        raise ConfigurationError("the worker ended at once", f"its log: {worker.tail()}")


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

"""What is measured, on embedded servers of this machine: one database, installations around it.

Every installation has its own Redis, catalog, spool, keys, place in the repository's server and
Celery worker, so that several stand side by side and their runs can alternate.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pgben_tasks.adapters.postgres.clients import choose_for_dump, find_installations
from pgben_tasks.embedded.child import Child, Command, wait_until
from pgben_tasks.embedded.data.fill import DemoSummary, fill as fill_database
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.embedded.stack import REPOSITORY_BUCKET, EmbeddedStack
from pgben_tasks.ports import ClientTools
from pgben_tasks.runtime import Workplace
from pgben_tasks.settings import Settings
from pgben_tasks.setup.initialise import initialise

DATABASE: Final = "pgben"
_READY_SECONDS: Final = 60.0
_ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Servers:
    """What every installation needs: the repository's S3 server, and the catalog's server."""

    stack: EmbeddedStack
    catalog: EmbeddedPostgres

    @property
    def folder(self) -> Path:
        """Where dumps and spools lie, all on one file system."""
        return self.stack.folder


@dataclass(frozen=True, kw_only=True)
class Ground(Servers):
    """The servers with the protected database."""

    filled: DemoSummary

    @property
    def client(self) -> ClientTools:
        """The client programs that the chain chooses for this server."""
        major = self.stack.postgres.major
        return choose_for_dump(major * 10_000, find_installations())

    def connection(self) -> dict[str, str]:
        """Return the environment in which client programs reach the database."""
        server = self.stack.postgres
        return {
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGUSER": server.user,
            "PGPASSWORD": server.password,
            "PGDATABASE": DATABASE,
            "LC_ALL": "C",
        }


@contextmanager
def servers() -> Iterator[Servers]:
    """Start the servers; the catalog's flushes every commit to disk, as one in production does."""
    with EmbeddedStack.start() as stack:
        catalog = EmbeddedPostgres.start(supervisor=stack.supervisor, fsync=True)
        yield Servers(stack=stack, catalog=catalog)


@contextmanager
def ground(megabytes: int) -> Iterator[Ground]:
    """Start the servers and fill the database with about ``megabytes``."""
    with servers() as on:
        filled = fill_database(on.stack.postgres.dsn(), database=DATABASE, megabytes=megabytes)
        yield Ground(stack=on.stack, catalog=on.catalog, filled=filled)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """One initialised pgben with a worker that waits for work."""

    work: Workplace
    worker: Child

    @classmethod
    def make(cls, on: Servers, name: str, processes: int = 4, /, **settings: str) -> Installation:
        """Prepare a place called ``name`` and start the worker."""
        environment = cls.prepare(on, name, **settings)
        worker = _start_worker(on, name, environment, processes)
        return cls(work=Workplace(Settings.load(environment)), worker=worker)

    @staticmethod
    def prepare(on: Servers, name: str, **settings: str) -> dict[str, str]:
        """Do what `pgben init` does in a place called ``name``; return the whole environment."""
        folder = on.folder / name
        redis = EmbeddedRedis.start(supervisor=on.stack.supervisor)
        environment = {
            **on.stack.environment(database=DATABASE, node=name),
            "PGBEN_CATALOG_URL": on.catalog.url(f"catalog_{name}"),
            "PGBEN_REDIS_URL": redis.url,
            "PGBEN_REPOSITORY": f"s3://{REPOSITORY_BUCKET}/{name}",
            "PGBEN_SPOOL_DIR": str(folder / "spool"),
            "PGBEN_BACKUP_DIR": str(folder / "history"),
            **settings,
        }
        for below in ("spool", "history"):
            (folder / below).mkdir(mode=0o700, parents=True)
        made = initialise(
            Settings.load(environment),
            keys_folder=folder / "keys",
            roles="single",
            now=datetime.now(UTC),
        )
        # Settings of the installation win over what `pgben init` proposes.
        return {**environment, **made.environment, **settings}


def _start_worker(on: Servers, name: str, environment: dict[str, str], processes: int) -> Child:
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "HOME") if key in os.environ}
    worker = on.stack.supervisor.spawn(
        f"worker-{name}",
        Command(
            argv=(
                *(sys.executable, "-m", "workers", "all"),
                *("--loglevel=INFO", f"--concurrency={processes}"),
            ),
            environment={**kept, **environment, "PYTHONPATH": str(_ROOT)},
            folder=on.folder,
        ),
    )
    ready = wait_until(
        lambda: "worker_ready" in worker.log.read_text() or not worker.alive,
        seconds=_READY_SECONDS,
    )
    if not (ready and worker.alive):
        raise SystemExit(f"the worker did not start: {worker.tail()}")
    return worker

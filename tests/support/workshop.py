"""A small installation without Celery: real adapters and operations, one call per chain.

What ``pgben init`` makes is made, then chains run in the calling process, step after step, with
the job's row kept in memory. No pytest here: tests, benchmarks and people at a prompt may use it.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from psycopg import sql

from pgben_tasks import runtime
from pgben_tasks.adapters.keys.key_set import ESCROW_IDENTITY, KeySet
from pgben_tasks.adapters.packs.codec import AgePackCodec
from pgben_tasks.adapters.postgres import clients as pg_clients
from pgben_tasks.adapters.postgres.destination import PostgresDestination
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.contracts import JSON, REQUESTS
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.job import Job, JobKind
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.domain.windows import Schedule
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.operations.toolbox import NoProgress, Toolbox
from pgben_tasks.settings import Settings
from pgben_tasks.setup.initialise import initialise
from tests.support.timetables import NOTHING_SCHEDULED


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """An installation that protects one database of an embedded server.

    Its repository is a folder, its catalog a database of its own on the same server. Only client
    programs of the server's own package are used, so that every machine makes the same backups.
    """

    folder: Path
    server: EmbeddedPostgres
    target: Target
    #: Every setting, with its secrets.
    environment: Mapping[str, str] = field(repr=False)
    work: runtime.Workplace
    keys: KeySet
    tools: Toolbox = field(repr=False)
    _entered: ExitStack = field(default_factory=ExitStack, repr=False)

    @classmethod
    def open(
        cls,
        folder: Path,
        server: EmbeddedPostgres,
        database: str,
        *,
        settings: Mapping[str, str] | None = None,
    ) -> Self:
        """Make keys, catalog and repository below ``folder``; ``settings`` are added last.

        No tick begins anything unless they say so.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {
            "PGBEN_DB_HOST": server.host,
            "PGBEN_DB_PORT": str(server.port),
            "PGBEN_DB_USER": server.user,
            "PGBEN_DB_PASS": server.password,
            "PGBEN_DB_NAME": database,
            "PGBEN_CATALOG_URL": server.url(f"catalog_{secrets.token_hex(6)}"),
            "PGBEN_REPOSITORY": f"file://{folder / 'repository'}",
            "PGBEN_SPOOL_DIR": str(folder / "spool"),
            "PGBEN_BACKUP_DIR": str(folder / "history"),
            "PGBEN_NODE": "workshop",
            # However full the disk of the machine is that tests run on.
            "PGBEN_DISK_CRITICAL": "0.999",
            **NOTHING_SCHEDULED,
            **(settings or {}),
        }
        made = initialise(
            Settings.load(environment),
            keys_folder=folder / "keys",
            roles="single",
            now=datetime.now(UTC),
        )
        environment = {**made.environment, **environment}
        work = runtime.Workplace(Settings.load(environment))
        target = Target("postgres", database)
        address = runtime.postgres_servers(work.settings)[target]
        client = pg_clients.inspect_client(server.bin_dir, "bundled")
        clients = () if client is None else (client,)
        nightly = Schedule.parse("0 2 * * *", work.zone)
        tools = replace(
            work.tools,
            # A bucket that is away is away on purpose.
            limits=replace(work.tools.limits, patience=timedelta(milliseconds=500)),
            # Pruning compares the age of backups with their timetable, which is that of production.
            schedules=dict.fromkeys(("postgres", "bucket"), nightly),
            sources={
                target: PostgresSource(
                    address, database, candidates=clients, restore_site=work.workers.restore_site
                )
            },
            destinations={target: PostgresDestination(address, candidates=clients)},
        )
        return cls(
            folder=folder,
            server=server,
            target=target,
            environment=environment,
            work=work,
            keys=made.keys,
            tools=tools,
        )

    def reset(self, pristine: Path) -> None:
        """Put folder and catalog back to how ``pristine``, a copy of the folder, was made."""
        shutil.rmtree(self.folder)
        shutil.copytree(pristine, self.folder)
        with self.work.database.transaction() as cursor:
            cursor.execute(
                "SELECT quote_ident(tablename) AS name FROM pg_tables"
                " WHERE schemaname = current_schema() AND tablename <> 'migration'"
            )
            tables = ", ".join(row["name"] for row in cursor.fetchall())
            cursor.execute(f"TRUNCATE {tables} RESTART IDENTITY".encode())

    @property
    def repository(self) -> Path:
        """The repository's folder."""
        return self.folder / "repository"

    @property
    def escrow_identity(self) -> Path:
        """The age identity that lies in a safe."""
        return self.keys.file(ESCROW_IDENTITY)

    def run(self, kind: JobKind, request: JSON, *, context: JSON | None = None) -> Job:
        """Run a whole chain and give its job; what fails is cleaned up, then raised."""
        job = in_process.new_job(
            kind,
            REQUESTS[kind].parse({"requested_by": "workshop", **request}),
            target=str(self.target),
            node=self.tools.node,
            now=self.tools.clock.now(),
            context=context or {},
        )
        return in_process.Chain(
            in_process.MemoryRow(job, self.tools.clock), self.tools, NoProgress()
        ).run()

    def backup(self) -> Manifest:
        """Back the database up and give the manifest."""
        job = self.run("backup", {"target": str(self.target)})
        return self.tools.repository.manifest(self.target, BackupId.parse(job.backup or ""))

    def restore(self, into: str, **request: Any) -> Job:
        """Restore beside the original, into a database of this name."""
        asked = {"target": str(self.target), "into": into, **request}
        return self.run("restore", asked, context={"into": into})

    def verify(self, **request: Any) -> Job:
        """Verify the target; findings are raised."""
        return self.run("verify", {"target": str(self.target), **request})

    def prune(self, **request: Any) -> Job:
        """Apply retention."""
        return self.run("prune", {"target": str(self.target), **request})

    def close(self) -> None:
        """End the children and drop the catalog; the folder is the caller's."""
        if isinstance(self.tools.codec, AgePackCodec):
            self.tools.codec.close()
        with self.server.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                    sql.Identifier(self.work.database.name)
                )
            )

    def __enter__(self) -> Self:
        """Return the installation; until its end, this thread has one connection to its catalog."""
        self._entered.enter_context(self.work.database.kept())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self._entered.close()
        self.close()

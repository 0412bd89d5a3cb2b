"""A real PostgreSQL server for the demo, the tests and the benchmarks; never for production."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGQUIT
from typing import Any, Final, Self

import psycopg
from psycopg import conninfo, sql

from pgben_tasks.embedded import binaries
from pgben_tasks.embedded.accounts import Account, server_account
from pgben_tasks.embedded.child import Command, Supervisor
from pgben_tasks.embedded.server import EmbeddedServer, plain_environment
from pgben_tasks.errors import CommandFailed

SUPERUSER: Final = "postgres"
_CONNECT_TIMEOUT: Final = 10
_STOP_TIMEOUT: Final = 20.0
#: The major since which initdb takes settings, and that one is there.
_TAKES_SETTINGS: Final = 16


@dataclass(kw_only=True)
class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server of its own: TCP on loopback only, SCRAM passwords, a new cluster.

    ``bin_dir`` holds client programs of the same version. ``fsync`` off (the default) makes it
    fast; a killed server keeps what was committed all the same. ``settings`` go to the server's
    command line.
    """

    major: int
    version: str = ""
    bin_dir: Path
    user: str = SUPERUSER
    password: str = field(repr=False)
    fsync: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    _install: binaries.PostgresInstall = field(repr=False)
    _account: Account | None = field(repr=False)

    @classmethod
    def start(
        cls,
        folder: Path | None = None,
        *,
        major: int | None = None,
        fsync: bool = False,
        settings: Mapping[str, str] | None = None,
        supervisor: Supervisor | None = None,
    ) -> Self:
        """Make a new cluster below ``folder`` (default: temporary files) and start its server.

        ``major`` is 17 or 18; the default is 17, or 18 where there is no 17 for this system.
        Raises ``ConfigurationError`` when the programs are missing or the folder cannot be used.
        """
        install = binaries.postgres_install(major)
        return cls._start_below(
            folder,
            supervisor,
            f"postgres-{install.major}",
            major=install.major,
            bin_dir=install.bin_dir,
            password=secrets.token_urlsafe(18),
            fsync=fsync,
            settings=dict(settings or {}),
            _install=install,
            _account=server_account(),
        )

    def dsn(self, database: str = "postgres") -> dict[str, Any]:
        """Return the keyword arguments with which psycopg connects to a database as superuser."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": database,
        }

    def url(self, database: str = "postgres") -> str:
        """Return the same as a connection URL; it holds the password."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Connect as superuser, with autocommit."""
        return psycopg.connect(
            conninfo.make_conninfo(**self.dsn(database)),
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT,
        )

    def drop(self, database: str) -> None:
        """Drop a database, whoever is connected to it."""
        with self.connect() as connection:
            name = sql.Identifier(database)
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server: cut the sessions off ("fast"), or ``immediate`` like a crash."""
        if self._child is not None and self._child.alive:
            self._child.stop(SIGQUIT if immediate else SIGINT, seconds=_STOP_TIMEOUT)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _prepare(self) -> None:
        """Make the programs reachable for the server's account, then the cluster."""
        if self._account is not None:
            if not self._install.usable_by(self._account):
                copies = self.supervisor.folder / f"{self.folder.name}-programs"
                self._install = self._install.copied_to(copies)
            for folder in (self.folder, self.folder / "tmp"):
                os.chown(folder, self._account.uid, self._account.gid)
        password = self.folder / "password"
        try:
            password.touch(mode=0o600)
            password.write_text(self.password + "\n", encoding="ascii")
            if self._account is not None:
                os.chown(password, self._account.uid, self._account.gid)
            try:
                self._initdb(password, "C.UTF-8")
            except CommandFailed as exc:
                if "invalid locale" not in exc.sentence:
                    raise
                self._initdb(password, "C")
        finally:
            password.unlink(missing_ok=True)

    def _initdb(self, password: Path, locale: str) -> None:
        # Thousands of rounds of hashing, at each connection, protect passwords that are guessed;
        # this one is random, and they are most of what connecting costs.
        once = ("--set", "scram_iterations=1") if self.major >= _TAKES_SETTINGS else ()
        self.supervisor.run(
            f"{self.folder.name}-initdb",
            Command(
                argv=(
                    *(str(self._install.bin_dir / "initdb"), "--pgdata", str(self._data)),
                    *("--username", self.user, "--pwfile", str(password)),
                    *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", locale),
                    *("--no-sync", "--no-instructions", *once),
                ),
                environment=plain_environment(self.folder),
                account=self._account,
            ),
        )

    def _command(self) -> Command:
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            # Sockets would need a short path and leave lock files; TCP is enough.
            "unix_socket_directories": "",
            # Segments in /dev/shm would outlive a killed server; files go with the folder.
            "dynamic_shared_memory_type": "mmap",
            "max_wal_size": "4GB",
            "checkpoint_timeout": "30min",
            "log_line_prefix": "%m [%p] %d ",
            # Off, only a crash of the machine loses data; a killed server loses nothing.
            "fsync": "on" if self.fsync else "off",
            **self.settings,
        }
        return Command(
            argv=(
                *(str(self._install.bin_dir / "postgres"), "-D", str(self._data)),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ),
            environment=plain_environment(self.folder),
            account=self._account,
            # Immediate shutdown: quick, and unlike SIGKILL it takes the shared memory along.
            gentle=SIGQUIT,
        )

    def _answers(self) -> bool:
        try:
            with self.connect() as connection:
                self.version = str(connection.info.parameter_status("server_version"))
        except psycopg.OperationalError:
            return False
        return True

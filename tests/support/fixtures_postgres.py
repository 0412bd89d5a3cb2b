"""Servers of several majors, databases with everything in them, and how to compare two of them."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGQUIT

import psycopg
import pytest
from psycopg import sql

from pgben_tasks.adapters.postgres.clients import Installation, find_installations
from pgben_tasks.adapters.postgres.server import Connection, PostgresServer, connect
from pgben_tasks.embedded.accounts import server_account
from pgben_tasks.embedded.child import Child, Command, Supervisor, free_port, wait_until
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.server import new_folder, plain_environment

SYSTEM_15 = Path("/usr/lib/postgresql/15/bin")


@dataclass
class RecordingProgress:
    """Keep what was reported; ``stop_with`` makes the next check raise."""

    phases: list[str] = field(default_factory=list)
    total: int | None = None
    amount: int = 0
    facts: dict[str, int | str] = field(default_factory=dict)
    on_check: Callable[[], None] | None = None

    def begin(self, phase: str, *, total: int | None = None, unit: str = "bytes") -> None:
        """Note the phase."""
        self.phases.append(f"{phase} in {unit}")
        self.total = total
        self.amount = 0

    def advance(self, amount: int) -> None:
        """Add up."""
        self.amount += amount

    def note(self, **facts: int | str) -> None:
        """Note facts."""
        self.facts.update(facts)

    def check(self) -> None:
        """Let the test act, or stop the work, from inside."""
        if self.on_check is not None:
            self.on_check()


def address(embedded: EmbeddedPostgres) -> PostgresServer:
    """Return an embedded server's address as the adapters take it."""
    return PostgresServer(
        host=embedded.host, port=embedded.port, user=embedded.user, password=embedded.password
    )


def open_database(server: PostgresServer, database: str = "postgres") -> Connection:
    """Connect with autocommit."""
    return connect(server, database, application_name="pgben test")


def run_sql(server: PostgresServer, database: str, script: str) -> None:
    """Run a script of several statements."""
    with open_database(server, database) as connection:
        connection.execute(script.encode())


def remove_role(server: PostgresServer, name: str) -> None:
    """Remove a role, where it is there, with its rights in every catalog."""
    role = sql.Identifier(name)
    with open_database(server) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
            return
        catalogs = connection.execute(
            "SELECT datname FROM pg_database WHERE datallowconn AND datname LIKE 'catalog_%'"
        ).fetchall()
    for database in ("postgres", *(one for (one,) in catalogs)):
        with open_database(server, database) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
    with open_database(server) as connection:
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


class System15:
    """A PostgreSQL 15 from the system's packages, in C/SQL_ASCII as ``--no-locale`` makes it."""

    def __init__(self, supervisor: Supervisor) -> None:
        """Make a cluster and start its server."""
        self._supervisor = supervisor
        account = server_account()
        folder = new_folder(supervisor, "postgres-15")
        password = secrets.token_urlsafe(12)
        (folder / "password").write_text(password + "\n", encoding="ascii")
        if account is not None:
            for path in (folder, folder / "tmp", folder / "password"):
                os.chown(path, account.uid, account.gid)
        data, environment = str(folder / "data"), plain_environment(folder)
        supervisor.run(
            "initdb-15",
            Command(
                argv=(
                    *(str(SYSTEM_15 / "initdb"), "--pgdata", data, "--username", "postgres"),
                    *("--pwfile", str(folder / "password"), "--auth", "scram-sha-256"),
                    *("--no-locale", "--no-sync"),
                ),
                environment=environment,
                account=account,
            ),
        )
        port = free_port()
        self.child: Child = supervisor.spawn(
            "server-15",
            Command(
                argv=(
                    *(str(SYSTEM_15 / "postgres"), "-D", data, "-p", str(port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                    *("-c", "fsync=off", "-c", "dynamic_shared_memory_type=mmap"),
                ),
                environment=environment,
                account=account,
                gentle=SIGQUIT,
            ),
        )
        self.server = PostgresServer(
            host="127.0.0.1", port=port, user="postgres", password=password
        )
        assert wait_until(self._answers, seconds=60), self.child.tail()

    def _answers(self) -> bool:
        try:
            psycopg.connect(
                host=self.server.host,
                port=self.server.port,
                user=self.server.user,
                password=self.server.password,
                dbname="postgres",
            ).close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture(scope="session")
def server_17(postgres: EmbeddedPostgres) -> PostgresServer:
    """Return the session's PostgreSQL 17 (UTF8, C.UTF-8)."""
    return address(postgres)


@pytest.fixture(scope="session")
def server_18() -> Iterator[PostgresServer]:
    """Yield a PostgreSQL 18."""
    with EmbeddedPostgres.start(major=18) as server:
        yield address(server)


@pytest.fixture(scope="session")
def server_15() -> Iterator[PostgresServer]:
    """Yield a PostgreSQL 15 whose cluster is C and SQL_ASCII."""
    if not (SYSTEM_15 / "initdb").exists():
        pytest.skip(f"needs PostgreSQL 15 in {SYSTEM_15}")
    supervisor = Supervisor.start()
    try:
        yield System15(supervisor).server
    finally:
        supervisor.close()


@pytest.fixture(scope="session")
def installations() -> tuple[Installation, ...]:
    """Return the client programs of this machine."""
    return find_installations()


@pytest.fixture
def scratch() -> Iterator[Callable[[PostgresServer], str]]:
    """Yield a function that names a free database of a server; all are dropped afterwards."""
    made: list[tuple[PostgresServer, str]] = []

    def name(server: PostgresServer) -> str:
        made.append((server, f"scratch_{secrets.token_hex(5)}"))
        return made[-1][1]

    yield name
    for server, database in made:
        with open_database(server) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
            )


def new_database(server: PostgresServer, name: str, options: str = "") -> str:
    """Create an empty database."""
    with open_database(server) as connection:
        connection.execute(f'CREATE DATABASE "{name}" {options}'.encode())
    return name


def plain_dump(server: PostgresServer, database: str, installation: Installation) -> str:
    """Dump as text, without the lines that differ from run to run."""
    completed = subprocess.run(
        [str(installation.directory / "pg_dump"), "--no-password"],
        env={"LC_ALL": "C", **server.environment(database, application_name="test")},
        capture_output=True,
        check=True,
        timeout=120,
    )
    text = completed.stdout.decode(errors="surrogateescape")
    return re.sub(r"^(\\(un)?restrict .*|-- Dumped (from|by) .*)$", "", text, flags=re.MULTILINE)


def client_of(installations: tuple[Installation, ...], major: int) -> Installation:
    """Return an installation of one major."""
    return next(one for one in installations if one.major == major)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Start ``work`` beside the test."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


#: Names that break whoever forgets to quote: quotes, spaces, newlines, percent signs, keywords.
HOSTILE_NAMES = (
    "simples",
    "Com Espaço",
    'aspas "duplas"',
    "aspas 'simples'",
    "nova\nlinha",
    "solicitação_ção_日本",
    "100%s",
    "; DROP TABLE simples; --",
    "select",
    " TABLE DATA public x postgres",
)


def fill(server: PostgresServer, database: str, *, roles: tuple[str, str]) -> None:
    """Fill a database with one of everything that a restore could lose."""
    owner, reader = roles
    with open_database(server, database) as connection:
        for role in roles:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier('sch "ema')))
        for number, name in enumerate(HOSTILE_NAMES):
            table = sql.Identifier('sch "ema' if number % 2 else "public", name)
            connection.execute(sql.SQL("CREATE TABLE {} (id int, txt text)").format(table))
            connection.execute(
                sql.SQL(
                    "INSERT INTO {} SELECT g, 'linha ' || g FROM generate_series(1, {}) g"
                ).format(table, sql.Literal(number * 7))
            )
        connection.execute(
            sql.SQL(
                """
                CREATE TABLE medida (dia date NOT NULL, valor numeric) PARTITION BY RANGE (dia);
                CREATE TABLE medida_2025 PARTITION OF medida
                    FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
                CREATE TABLE medida_resto PARTITION OF medida DEFAULT;
                INSERT INTO medida SELECT '2024-12-20'::date + g, g FROM generate_series(1, 40) g;
                CREATE TABLE pai (id int); CREATE TABLE filho (extra text) INHERITS (pai);
                INSERT INTO pai VALUES (1), (2); INSERT INTO filho VALUES (3, 'x');
                CREATE UNLOGGED TABLE rascunho AS SELECT generate_series(1, 5) AS id;
                CREATE TABLE vazia (id int);
                CREATE TABLE cidadao (id int PRIMARY KEY, dono text, nome text);
                INSERT INTO cidadao SELECT g, 'x', 'nome ' || g FROM generate_series(1, 30) g;
                ALTER TABLE cidadao OWNER TO {owner};
                ALTER TABLE cidadao ENABLE ROW LEVEL SECURITY;
                ALTER TABLE cidadao FORCE ROW LEVEL SECURITY;
                CREATE POLICY so_os_seus ON cidadao FOR SELECT TO {reader} USING (id < 5);
                GRANT SELECT ON cidadao TO {reader};
                ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {reader};
                CREATE MATERIALIZED VIEW resumo AS SELECT count(*) AS n FROM medida;
                SELECT lo_from_bytea(0, 'um objeto grande'), lo_from_bytea(0, 'outro');
                """
            ).format(owner=sql.Identifier(owner), reader=sql.Identifier(reader))
        )
        target = sql.Identifier(database)
        for statement in (
            sql.SQL("COMMENT ON DATABASE {db} IS 'o banco do \"PGBen\", não ''toque'''"),
            sql.SQL("ALTER DATABASE {db} CONNECTION LIMIT 42"),
            sql.SQL('ALTER DATABASE {db} SET search_path TO "$user", \'sch "ema\', public'),
            sql.SQL("ALTER DATABASE {db} SET work_mem TO '8MB'"),
            sql.SQL("ALTER DATABASE {db} SET \"DateStyle\" TO 'ISO, DMY'"),
            sql.SQL("ALTER DATABASE {db} SET app.nome TO 'it''s = \"x\"'"),
            sql.SQL("ALTER ROLE {reader} IN DATABASE {db} SET search_path TO 'só', public"),
            sql.SQL("ALTER ROLE {reader} IN DATABASE {db} SET statement_timeout TO '5min'"),
            sql.SQL("ALTER DATABASE {db} OWNER TO {owner}"),
            sql.SQL("REVOKE ALL ON DATABASE {db} FROM PUBLIC"),
            sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {db} TO {reader} WITH GRANT OPTION"),
            sql.SQL("SET ROLE {reader}"),
            sql.SQL("GRANT CONNECT ON DATABASE {db} TO PUBLIC"),
            sql.SQL("RESET ROLE"),
        ):
            connection.execute(
                statement.format(
                    db=target, owner=sql.Identifier(owner), reader=sql.Identifier(reader)
                )
            )


def remove_roles(server: PostgresServer, roles: tuple[str, ...]) -> None:
    """Drop roles that nothing uses any more."""
    with open_database(server) as connection:
        for role in roles:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))

"""Connections to PostgreSQL servers, what a server says of itself, and its errors as ours.

What is read from a database is in the modules that use it. No text that leaves this module
holds a password: libpq never repeats it, and nothing here does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg import errors

from pgben_tasks.adapters.postgres.patience import connect_within
from pgben_tasks.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    PermanentError,
    PgbenError,
)

Connection = psycopg.Connection[tuple[Any, ...]]

_MINIMUM_CONNECT_SECONDS: Final = 2

#: libpq notices a lost peer after about a minute, not after the system's two hours.
_KEEPALIVE_IDLE: Final = 30
_KEEPALIVE_INTERVAL: Final = 10

_CLOCK: Final = "SELECT clock_timestamp()"
_HAS_DATABASE: Final = "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s"
_DATABASES: Final = (
    "SELECT datname FROM pg_catalog.pg_database"
    " WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1"
)
_UNSECURED_LOGINS: Final = (
    "SELECT rolname FROM pg_catalog.pg_authid"
    " WHERE rolcanlogin AND rolpassword IS NULL AND rolname <> current_user ORDER BY 1"
)
_IDENTITY: Final = "SELECT system_identifier FROM pg_catalog.pg_control_system()"

#: A server that will take the connection later; English and Portuguese texts of PostgreSQL.
_BUSY: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"the database system is",
        r"sistema de banco de dados (está|não está)",
        r"too many (clients|connections)",
        r"remaining connection slots",
        r"muitos clientes|muitas conexões|conexões disponíveis|vagas de conexão",
        r"terminating connection",
        r"terminando conexão",
    )
)

#: A sentence about a role, for the case that role and database have the same name.
_ABOUT_ROLE: Final = re.compile(r"\b(role|user|usuário|função)\b|autentica", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """Where a server answers and as whom to ask; ``sslmode`` as in libpq, empty for its default."""

    host: str
    port: int
    user: str
    password: str | None = field(default=None, repr=False)
    sslmode: str = ""
    connect_timeout: timedelta = timedelta(seconds=10)
    #: For whoever waits at a terminal: how long connecting may take in all, and a statement be
    #: silent. None for work that takes as long as it takes.
    patience: timedelta | None = None
    #: The settings that name this server, for hints.
    settings: str = "PGBEN_DB_HOST, PGBEN_DB_USER and PGBEN_DB_PASS"

    def __str__(self) -> str:
        """Return the server's name for people."""
        return f"{self.host}:{self.port}"

    def environment(self, database: str, *, application_name: str) -> dict[str, str]:
        """Return the ``PG*`` variables for a client program; the password goes nowhere else."""
        values = {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password or "",
            "PGDATABASE": database,
            "PGSSLMODE": self.sslmode,
            "PGAPPNAME": application_name,
            "PGCONNECT_TIMEOUT": str(_seconds(self.connect_timeout)),
        }
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class Lock:
    """An advisory lock: a name and whether others may share it."""

    name: str
    shared: bool = False

    @property
    def key(self) -> int:
        """The 64-bit number that PostgreSQL locks."""
        digest = hashlib.sha256(f"pgben lock {self.name}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


def connect(
    server: PostgresServer,
    database: str,
    *,
    application_name: str,
    autocommit: bool = True,
    user_timeout: timedelta | None = None,
) -> Connection:
    """Open a connection; text travels as UTF-8 whatever the database's encoding.

    ``user_timeout`` is how long the other side may leave sent bytes unacknowledged; None leaves
    that to the system.

    Raises ``DatabaseUnavailable`` when nobody answers, ``ConfigurationError`` when the server
    answers and refuses for good (password, access rule, unknown database or role).
    """
    parameters: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password or None,
        "dbname": database,
        "sslmode": server.sslmode or None,
        "connect_timeout": _seconds(server.connect_timeout),
        "application_name": application_name,
        "client_encoding": "UTF8",
        "autocommit": autocommit,
        "keepalives": 1,
        "keepalives_idle": _KEEPALIVE_IDLE,
        "keepalives_interval": _KEEPALIVE_INTERVAL,
        "tcp_user_timeout": 0
        if user_timeout is None
        else round(user_timeout.total_seconds() * 1000),
    }
    try:
        if server.patience is not None:
            return connect_within(server.patience, **parameters)
        return psycopg.connect(**parameters)
    except psycopg.OperationalError as exc:
        raise refusal(exc, server, database) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """``ahead`` is how far its clock is ahead of this machine's (negative: behind).

    ``identity`` tells two servers apart whatever they are called; None where it may not be read.
    """

    ahead: timedelta
    identity: int | None


def inspect_server(server: PostgresServer, database: str) -> ServerFacts:
    """Return the server's clock and identity. Raises what ``connect`` raises."""
    with (
        connect(server, database, application_name="pgben doctor") as connection,
        translated(server, "looking at the server"),
    ):
        before = datetime.now(UTC)
        clock: datetime = scalar(connection, _CLOCK)
        after = datetime.now(UTC)
        try:
            identity = scalar(connection, _IDENTITY)
        except errors.InsufficientPrivilege:
            identity = None
        # The answer was made somewhere between the question and its arrival.
        return ServerFacts(ahead=clock - (before + (after - before) / 2), identity=identity)


def list_databases(server: PostgresServer) -> tuple[str, ...]:
    """Return the names of a server's databases, without those that every server has.

    Raises what ``connect`` raises.
    """
    with (
        connect(server, "postgres", application_name="pgben bootstrap") as connection,
        translated(server, "looking at the databases"),
    ):
        return tuple(column(connection, _DATABASES))


def roles_without_password(server: PostgresServer) -> tuple[str, ...]:
    """Return the roles that may log in and have no password, as a superuser sees them.

    Raises what ``connect`` raises.
    """
    with (
        connect(server, "postgres", application_name="pgben bootstrap") as connection,
        translated(server, "looking at the roles"),
    ):
        return tuple(column(connection, _UNSECURED_LOGINS))


def has_database(server: PostgresServer, name: str) -> bool:
    """Return whether a server has a database of this name. Raises what ``connect`` raises."""
    with (
        connect(server, "postgres", application_name="pgben status") as connection,
        translated(server, f"looking for '{name}'"),
    ):
        return scalar(connection, _HAS_DATABASE, (name,)) is not None


def scalar(
    connection: Connection, query: LiteralString, values: Sequence[object] | None = None
) -> Any:
    """Return the first column of the first row; None when there is no row."""
    row = connection.execute(query, values).fetchone()
    return None if row is None else row[0]


def column(
    connection: Connection, query: LiteralString, values: Sequence[object] | None = None
) -> list[Any]:
    """Return the first column of every row."""
    return [row[0] for row in connection.execute(query, values).fetchall()]


@contextmanager
def translated(server: PostgresServer, doing: str) -> Iterator[None]:
    """Turn vendor errors raised inside into ours; ``doing`` completes "while …"."""
    try:
        yield
    except psycopg.Error as exc:
        raise translate(exc, server, doing) from exc


def translate(exc: psycopg.Error, server: PostgresServer, doing: str) -> PgbenError:
    """Return what a failed statement means as an error of ours.

    Only the server's primary message is repeated: its detail may quote rows.
    """
    message = (exc.diag.message_primary or str(exc).strip() or type(exc).__name__).splitlines()[0]
    if isinstance(exc, errors.ConnectionTimeout):
        return DatabaseUnavailable(
            f"the PostgreSQL server '{server}' did not answer within {_waited(server)} s while "
            f"{doing}",
            "check the host, the network and its firewalls",
        )
    if _went_away(exc):
        return DatabaseUnavailable(
            f"the PostgreSQL server '{server}' went away while {doing}: {message}",
            "see whether it was restarted; the work is tried again",
        )
    if isinstance(exc, errors.OutOfMemory):
        return ConfigurationError(
            f"the PostgreSQL server '{server}' ran out of shared memory while {doing}: {message}",
            "raise max_locks_per_transaction: a dump locks every table of the database",
        )
    if isinstance(exc, errors.InsufficientPrivilege):
        return ConfigurationError(
            f"the role '{server.user}' may not do enough at '{server}' while {doing}: {message}",
            "use a superuser, or grant what the message names",
        )
    return PermanentError(f"the PostgreSQL server '{server}' failed while {doing}: {message}")


def _went_away(exc: psycopg.Error) -> bool:
    gone = (
        errors.AdminShutdown,
        errors.CrashShutdown,
        errors.CannotConnectNow,
        errors.IdleInTransactionSessionTimeout,
    )
    state = exc.sqlstate
    return isinstance(exc, gone) or (
        isinstance(exc, psycopg.OperationalError) and (state is None or state.startswith("08"))
    )


def _waited(server: PostgresServer) -> str:
    """Return for how many seconds an answer was waited for."""
    return f"{(server.patience or server.connect_timeout).total_seconds():g}"


def _seconds(timeout: timedelta) -> int:
    return max(_MINIMUM_CONNECT_SECONDS, round(timeout.total_seconds()))


def refusal(exc: psycopg.OperationalError, server: PostgresServer, database: str) -> PgbenError:
    """Return why a connection was refused as an error of ours.

    libpq gives no SQLSTATE here, only text, and the server's part of it is in the server's
    language. What stays the same in every language is looked at first: names in quotes, file
    names, and whether a password was used at all.
    """
    text = str(exc)
    asked = exc.pgconn
    if exc.sqlstate in {"28P01", "28000", "3D000"} or "FATAL" in text:
        return _server_refusal(text, server, database)
    if (asked is not None and asked.needs_password) or "no password supplied" in text:
        return ConfigurationError(
            f"the PostgreSQL server '{server}' wants a password for '{server.user}' and none is "
            "set",
            f"set it in {server.settings}, or in a file with _FILE after the setting's name",
        )
    if "SSL was required" in text or "sslmode" in text or "certificate" in text:
        return ConfigurationError(
            f"no encrypted connection to '{server}' could be made",
            "compare the sslmode that is set with what the server offers",
        )
    if "translate host name" in text or "resolve host" in text:
        return DatabaseUnavailable(
            f"the host name '{server.host}' is unknown",
            f"check {server.settings}, and the name service",
        )
    if isinstance(exc, errors.ConnectionTimeout) or "timeout expired" in text:
        return DatabaseUnavailable(
            f"the PostgreSQL server '{server}' did not answer within {_waited(server)} s",
            "check the host, the network and its firewalls",
        )
    return DatabaseUnavailable(
        f"the PostgreSQL server '{server}' does not answer",
        "check that it runs, and the host and port that are set",
    )


def _server_refusal(text: str, server: PostgresServer, database: str) -> PgbenError:
    said = text.rpartition("FATAL:")[2].strip().splitlines()
    message = said[0] if said else ""
    for pattern in _BUSY:
        if pattern.search(message):
            return DatabaseUnavailable(
                f"the PostgreSQL server '{server}' takes no connections now: {message}",
                "it is starting, stopping or full; the work is tried again",
            )
    if "pg_hba.conf" in message:
        return ConfigurationError(
            f"the PostgreSQL server '{server}' has no rule that lets '{server.user}' in from here: "
            f"{message}",
            "add a line for this host, role and database to its pg_hba.conf and reload it",
        )
    names_role = f'"{server.user}"' in message
    if f'"{database}"' in message and not (names_role and _ABOUT_ROLE.search(message)):
        return ConfigurationError(
            f"the PostgreSQL server '{server}' does not open the database '{database}': {message}",
            "check the name with `psql -l`, and that the role may connect to it; a protected "
            "database that was dropped comes back with `pgben restore`",
        )
    if names_role:
        return ConfigurationError(
            f"the PostgreSQL server '{server}' does not accept the role '{server.user}' with the "
            f"password that is set: {message}",
            f"check {server.settings}",
        )
    return DatabaseUnavailable(
        f"the PostgreSQL server '{server}' refused the connection: {message}",
        "look into the server's log",
    )

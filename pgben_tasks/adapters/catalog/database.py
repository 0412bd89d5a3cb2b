"""Connecting to the catalog's database, making it, and bringing its schema up to date."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final, LiteralString, Self

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from pgben_tasks.adapters.postgres.server import Connection, PostgresServer, connect, translated
from pgben_tasks.errors import (
    CatalogLost,
    ConfigurationError,
    DatabaseUnavailable,
    PgbenError,
)

#: Guards migrations; any fixed number that nothing else uses.
_MIGRATION_LOCK = 7_290_114_401

Row = dict[str, Any]
_Values = Sequence[object] | Mapping[str, object] | None

#: A network that was cut is noticed after this, and not after the system's quarter of an hour.
_USER_TIMEOUT: Final = timedelta(seconds=20)
#: The connection that a thread's transactions share, where it has one.
_here = threading.local()


class _Kept:
    """One connection for the transactions of one thread, opened when first needed."""

    def __init__(self, database: CatalogDatabase) -> None:
        self.database = database
        self.busy = False
        self._connection: Connection | None = None

    def live_connection(self) -> Connection:
        """Return the connection; one that was lost meanwhile is replaced."""
        if self._connection is not None:
            try:
                self._connection.execute("SELECT 1")
            except psycopg.Error:
                self.close()
        if self._connection is None:
            self._connection = self.database.connection()
        return self._connection

    def close(self) -> None:
        """End it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(frozen=True, slots=True)
class CatalogDatabase:
    """Where the catalog lives. Connections are short, or end with a step; none survives a fork."""

    server: PostgresServer
    name: str = field(default="pgben_catalog")

    @classmethod
    def at(cls, url: str, *, patience: timedelta | None = None) -> Self:
        """Read ``postgresql://user:password@host:port/name``; the URL is never repeated.

        ``patience`` is that of the server.
        """
        try:
            parts = conninfo_to_dict(url)
            port = int(parts.get("port") or 5432)
        except (psycopg.ProgrammingError, ValueError):
            # What libpq says of a URL repeats it, password and all.
            raise ConfigurationError(
                "PGBEN_CATALOG_URL cannot be read",
                "write postgresql://user:password@host:5432/name",
            ) from None
        server = PostgresServer(
            host=str(parts.get("host") or "localhost"),
            port=port,
            user=str(parts.get("user") or "postgres"),
            password=str(parts["password"]) if parts.get("password") else None,
            sslmode=str(parts.get("sslmode") or ""),
            patience=patience,
            settings="PGBEN_CATALOG_URL (it follows PGBEN_DB_… when it is not set)",
        )
        return cls(server, str(parts.get("dbname") or "pgben_catalog"))

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Cursor[Row]]:
        """Run statements in one transaction; vendor errors come out translated.

        Raises ``DatabaseUnavailable`` when the server does not answer, ``CatalogLost`` when the
        database or its tables are gone.
        """
        with (
            self._reached(),
            translated(self.server, "using the catalog"),
            self._lent() as connection,
        ):
            try:
                with connection.cursor(row_factory=dict_row) as cursor:
                    yield cursor
                connection.commit()
            except BaseException as exc:
                # A connection that is gone has rolled back by itself.
                with suppress(psycopg.Error):
                    connection.rollback()
                if isinstance(exc, errors.UndefinedTable | errors.UndefinedColumn):
                    raise self._not_set_up() from exc
                raise

    def fetch_one(self, query: LiteralString | bytes, values: _Values = None) -> Row | None:
        """Run one statement in a transaction of its own; return its first row."""
        with self.transaction() as cursor:
            return cursor.execute(query, values).fetchone()

    def fetch_all(self, query: LiteralString | bytes, values: _Values = None) -> list[Row]:
        """Run one statement in a transaction of its own; return its rows."""
        with self.transaction() as cursor:
            return cursor.execute(query, values).fetchall()

    def execute(self, query: LiteralString | bytes, values: _Values = None) -> int:
        """Run one statement in a transaction of its own; return how many rows it changed."""
        with self.transaction() as cursor:
            return cursor.execute(query, values).rowcount

    def connection(self) -> Connection:
        """Open a connection for transactions."""
        with self._reached(), self._opened():
            return connect(
                self.server,
                self.name,
                application_name="pgben catalog",
                autocommit=False,
                user_timeout=_USER_TIMEOUT,
            )

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Let this thread's transactions share one connection until the block ends.

        To open one costs as much as everything else that a transaction here does. It is checked
        each time; within a transaction another one gets a connection of its own.
        """
        outer = getattr(_here, "kept", None)
        _here.kept = kept = _Kept(self)
        try:
            yield
        finally:
            _here.kept = outer
            kept.close()

    @contextmanager
    def _lent(self) -> Iterator[Connection]:
        kept: _Kept | None = getattr(_here, "kept", None)
        if kept is None or kept.busy or kept.database != self:
            connection = self.connection()
            try:
                yield connection
            finally:
                connection.close()
            return
        kept.busy = True
        try:
            yield kept.live_connection()
        finally:
            kept.busy = False

    def session(self) -> Connection:
        """Open an autocommit session of its own, for locks and heartbeats.

        Its keepalives are the server's, so that the server notices within a minute when this host
        is cut off, and frees its locks.
        """
        with (
            self._reached(),
            self._opened(),
            translated(self.server, "taking a lock in the catalog"),
        ):
            session = connect(self.server, self.name, application_name="pgben lock")
            session.execute("SET tcp_keepalives_idle = 20")
            session.execute("SET tcp_keepalives_interval = 10")
            session.execute("SET tcp_keepalives_count = 3")
            return session

    def now(self) -> datetime:
        """Return the catalog server's clock: the only clock that decisions use."""
        row = self.fetch_one("SELECT clock_timestamp() AS now")
        return require(row)["now"].astimezone(UTC)  # type: ignore[no-any-return]

    def exists(self) -> bool:
        """Return whether the server has this database."""
        with (
            self._reached(),
            translated(self.server, "looking for the catalog"),
            connect(self.server, "postgres", application_name="pgben catalog") as connection,
        ):
            return self._is_there(connection)

    def create(self) -> bool:
        """Create the database when it is missing; return whether it was created."""
        with (
            self._reached(),
            translated(self.server, "making the catalog"),
            connect(self.server, "postgres", application_name="pgben init") as connection,
        ):
            # Two that make it at once would disturb each other; the lock ends with the session.
            connection.execute("SELECT pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
            found = self._is_there(connection)
            if not found:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(
                        sql.Identifier(self.name)
                    )
                )
            return not found

    def _is_there(self, connection: Connection) -> bool:
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        return connection.execute(query, (self.name,)).fetchone() is not None

    def migrate(self) -> list[int]:
        """Apply the migrations that are missing, under a lock; return their numbers.

        Raises ``ConfigurationError`` when an applied migration differs from this program's.
        """
        applied: list[int] = []
        with self.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS migration (version integer PRIMARY KEY,"
                " sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            rows = cursor.execute("SELECT version, sha256 FROM migration").fetchall()
            known = {row["version"]: row["sha256"] for row in rows}
            for version, text in _migrations():
                digest = hashlib.sha256(text.encode()).hexdigest()
                if version not in known:
                    cursor.execute(text.encode())
                    cursor.execute(
                        "INSERT INTO migration (version, sha256) VALUES (%s, %s)", (version, digest)
                    )
                    applied.append(version)
                elif known[version] != digest:
                    raise ConfigurationError(
                        f"migration {version} of the catalog '{self.name}' differs from this "
                        "program's",
                        "the catalog was made by another version of pgben; install that version",
                    )
            newer = set(known) - {version for version, _ in _migrations()}
            if newer:
                raise ConfigurationError(
                    f"the catalog '{self.name}' is newer than this program",
                    "upgrade pgben on this machine",
                )
        return applied

    def is_blank(self) -> bool:
        """Return whether the database has no table, of a catalog or of anybody."""
        row = self.fetch_one(
            "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p')"
            " AND c.relnamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace"
            " WHERE nspname ~ '^pg_|^information_schema$')) AS blank"
        )
        return bool(require(row)["blank"])

    def is_current(self) -> bool:
        """Return whether every migration is applied."""
        return self._applied() == len(_migrations())

    def check(self) -> None:
        """Raise ``CatalogLost`` without any migration, ``ConfigurationError`` unless all are."""
        if not self.is_current():
            raise self._not_set_up()

    def _applied(self) -> int:
        """Return how many migrations are applied."""
        with self.transaction() as cursor:
            row = require(cursor.execute("SELECT to_regclass('migration') AS t").fetchone())
            if row["t"] is None:
                return 0
            counted = cursor.execute("SELECT count(*) AS n FROM migration").fetchone()
            return int(require(counted)["n"])

    def _not_set_up(self) -> ConfigurationError:
        if not self._applied():
            return CatalogLost(
                f"the catalog '{self.name}' at {self.server} is empty",
                _meanwhile("`pgben catalog rebuild` brings it back from the repository"),
            )
        return ConfigurationError(
            f"the catalog '{self.name}' is not set up for this version of pgben",
            "after an upgrade run `pgben init`, with the folder of the keys there are (--keys)",
        )

    def _is_gone(self) -> bool:
        """Return whether the server says that it has no such database.

        What it says when it refuses a connection is in its own language.
        """
        try:
            return not self.exists()
        except PgbenError:
            return False

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Raise ``DatabaseUnavailable`` for a server that is away, naming what works without it."""
        try:
            yield
        except DatabaseUnavailable as exc:
            if not isinstance(exc.__cause__, psycopg.Error):
                # A transaction inside has said so already.
                raise
            raise DatabaseUnavailable(
                f"the catalog '{self.name}' does not answer: {exc.sentence}",
                _meanwhile(
                    f"{exc.hint}; where its server is lost for good, name another in "
                    "PGBEN_CATALOG_URL and run `pgben catalog rebuild`"
                ),
            ) from exc

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """Raise ``CatalogLost`` or ``ConfigurationError`` for a connection that is refused."""
        try:
            yield
        except ConfigurationError as exc:
            if self._is_gone():
                raise CatalogLost(
                    f"there is no catalog: the PostgreSQL server '{self.server}' has no database "
                    f"'{self.name}'",
                    _meanwhile("`pgben catalog rebuild` brings it back from the repository"),
                ) from exc
            raise ConfigurationError(
                f"the catalog '{self.name}' cannot be opened: {exc.sentence}", _meanwhile(exc.hint)
            ) from exc


def _meanwhile(hint: str) -> str:
    """Add to a hint what can be done without the catalog."""
    return (
        f"{hint}; meanwhile `pgben list --direct`, `pgben restore … --direct` and `pgben verify … "
        "--direct` need no catalog"
    )


def _migrations() -> list[tuple[int, str]]:
    folder = files("pgben_tasks.adapters.catalog") / "migrations"
    found = [
        (int(entry.name[:4]), entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found)


def require(row: Row | None) -> Row:
    """Return the row that the statement always returns."""
    if row is None:
        message = "a statement that returns one row returned none"
        raise LookupError(message)
    return row

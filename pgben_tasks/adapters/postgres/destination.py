"""The server a database is restored to: creates, loads, finishes or removes the new database.

No existing database is ever touched: a database is loaded only while it is closed and empty, and
dropped only while it carries the marker it was created with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from psycopg import errors, sql

from pgben_tasks.adapters.postgres import programs as pg_dump
from pgben_tasks.adapters.postgres.clients import Installation
from pgben_tasks.adapters.postgres.listing import named_tablespaces
from pgben_tasks.adapters.postgres.obstacles import check_destination, tablespaces
from pgben_tasks.adapters.postgres.recreate import (
    CLOSED,
    create_database,
    finish_database,
    prepare_loading,
    unfinished_name,
)
from pgben_tasks.adapters.postgres.references import REFERENCE_TIMEOUT, read_references
from pgben_tasks.adapters.postgres.roles import (
    create_roles,
    finish_roles,
    kept_marker,
    marked_roles,
    read_roles,
)
from pgben_tasks.adapters.postgres.server import Connection, PostgresServer, column, scalar
from pgben_tasks.adapters.postgres.tables import (
    count_large_objects,
    count_rows,
    list_tables,
    prepared_session,
    with_rows,
)
from pgben_tasks.domain.documents import PostgresCapture, TableCount
from pgben_tasks.domain.references import Reference, ReferenceLine
from pgben_tasks.domain.restorability import Archive
from pgben_tasks.domain.target import check_name
from pgben_tasks.errors import ConfigurationError, PgbenError, RequestMistaken, RestoreRefused
from pgben_tasks.ports import ClientTools, Progress

LOAD_TIMEOUT: Final = timedelta(hours=8)
_LOCK_TIMEOUT: Final = timedelta(seconds=30)

_LIMIT = "SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = %s"
_COMMENT = """
SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database
WHERE datname = %s
"""
#: What ANALYZE without a table takes, the largest first: a partitioned table with its partitions.
_ANALYSED = """
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
ORDER BY coalesce((SELECT pg_catalog.sum(pg_catalog.pg_relation_size(relid))
                   FROM pg_catalog.pg_partition_tree(c.oid)),
                  pg_catalog.pg_relation_size(c.oid)) DESC
"""
_IDENTITY = """
SELECT oid::pg_catalog.int8, pg_catalog.txid_current() FROM pg_catalog.pg_database
WHERE datname = pg_catalog.current_database()
"""
#: How many transactions ago the oldest one began that is open in this database and has written.
_OPEN_WRITERS = """
SELECT coalesce(pg_catalog.max(pg_catalog.age(xid)), 0) FROM (
    SELECT l.transactionid
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock'
      AND a.datname = pg_catalog.current_database()
      AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
    UNION ALL
    SELECT transaction FROM pg_catalog.pg_prepared_xacts
    WHERE database = pg_catalog.current_database()
) AS writer(xid)
"""


class PostgresDestination:
    """One server that takes restored databases (``ports.PostgresDestination``)."""

    def __init__(
        self,
        server: PostgresServer,
        *,
        candidates: Sequence[Installation] | None = None,
        maintenance_database: str = "postgres",
        timeout: timedelta = LOAD_TIMEOUT,
    ) -> None:
        """Restore to ``server`` with one of ``candidates``, else what is installed.

        ``maintenance_database`` is where databases are created from; ``timeout`` bounds one run of
        ``pg_restore``.
        """
        self._server = server
        self._candidates = candidates
        self._maintenance = check_name(maintenance_database)
        self._timeout = timeout

    def preflight(self, name: str, capture: PostgresCapture, archive: Archive) -> ClientTools:
        """Check that ``name`` is free and the server can take the database; choose the client."""
        with self._session(f"looking whether '{check_name(name)}' can be restored") as connection:
            self._require_free(connection, name)
            return check_destination(connection, self._server, capture, archive, self._candidates)

    def create(
        self, name: str, capture: PostgresCapture, *, marker: str, roles_of: Path | None = None
    ) -> None:
        """Create missing roles NOLOGIN, then the database, marked with ``marker`` as unfinished.

        The database is closed to everybody but superusers until it is finished; its own connection
        limit does that, so its privileges stay as they are to be. When this fails nothing is left.

        Roles are those that the database names and, with ``roles_of``, all of that dump's server.
        """
        check_name(name)
        roles = {*capture.roles, capture.owner}
        if roles_of is not None:
            roles |= read_roles(roles_of / pg_dump.GLOBALS).roles.keys()
        with self._session(f"creating '{name}'") as connection:
            self._require_free(connection, name)
            try:
                create_roles(connection, roles, marker=marker)
                _create_marked(connection, name, capture, marker)
            except BaseException:
                # Where even that fails, the first error is the one to tell; the caller's own
                # ``abandon`` comes later.
                with suppress(PgbenError):
                    self.abandon(name, marker=marker)
                raise

    def load(
        self, name: str, dump: Path, *, tools: ClientTools, jobs: int, progress: Progress
    ) -> None:
        """Run ``pg_restore --exit-on-error`` from the dump directory into the new database."""
        check_name(name)
        with self._session(f"opening '{name}'") as connection:
            limit = scalar(connection, _LIMIT, (name,))
            needed = named_tablespaces(dump, tools)
            known = tablespaces(connection)
        with self._session(f"looking into '{name}'", database=name) as connection:
            empty = not list_tables(connection)
        if limit != CLOSED or not empty:
            raise RestoreRefused(
                f"the database '{name}' is not a new one, so nothing was loaded into it",
                "restore into a name that is free",
            )
        pg_dump.restore(
            tools,
            self._server,
            name,
            dump,
            jobs=jobs,
            tablespaces=needed <= known,
            timeout=self._timeout,
            progress=progress,
        )

    def finish(
        self,
        name: str,
        capture: PostgresCapture,
        *,
        marker: str,
        jobs: int = 1,
        before_opening: Callable[[], None] | None = None,
    ) -> None:
        """ANALYZE, then settings, ACL, connection limit and comment in one transaction."""
        check_name(name)
        with self._session(f"looking at '{name}'") as connection:
            if _comment(connection, name) != marker:
                raise RestoreRefused(
                    f"the database '{name}' is not the unfinished copy of this restore",
                    "somebody renamed, removed or finished it; nothing was changed",
                )
        self.analyse(name, jobs=jobs)
        if before_opening is not None:
            before_opening()
        with self._session(f"finishing '{name}'") as connection, connection.transaction():
            finish_database(connection, name, capture, marker=marker)

    def analyse(
        self, name: str, *, jobs: int = 1, check: Callable[[], None] = lambda: None
    ) -> None:
        """Gather statistics in ``jobs`` sessions; ``check`` may raise between two tables."""
        with self._session(f"analysing '{name}'", database=check_name(name)) as connection:
            left = deque(column(connection, _ANALYSED))

        def work() -> None:
            with self._session(f"analysing '{name}'", database=name) as connection:
                while True:
                    check()
                    try:
                        table = left.popleft()
                    except IndexError:
                        return
                    # The server has quoted it.
                    connection.execute(b"ANALYZE " + table.encode())

        with ThreadPoolExecutor(jobs, thread_name_prefix="analyse") as pool:
            try:
                for session in [pool.submit(work) for _ in range(jobs)]:
                    session.result()
            finally:
                left.clear()

    def finish_roles(self, *, marker: str, roles_of: Path | None = None) -> tuple[str, ...]:
        """Take the marker from the roles that were made with the database: they stay.

        With ``roles_of`` they become what that dump says, without their passwords. Return what of
        it the server refused, with its reasons.
        """
        with self._session("finishing the roles") as connection, connection.transaction():
            made = marked_roles(connection, kept_marker(marker))
            # Without any, an earlier run was here, and may have removed the dump since.
            found = read_roles(roles_of / pg_dump.GLOBALS) if roles_of and made else None
            return finish_roles(connection, made, found)

    def count(
        self, name: str, *, on_table: Callable[[], None] | None = None
    ) -> tuple[TableCount, ...]:
        """Return every table's rows as ``Capture.count`` does."""
        with self._session(f"counting rows of '{name}'", database=check_name(name)) as connection:
            return count_rows(connection, with_rows(list_tables(connection)), on_table=on_table)

    def count_large_objects(self, name: str) -> int:
        """Return how many large objects a database has."""
        with self._session(f"counting '{name}'", database=check_name(name)) as connection:
            return count_large_objects(connection)

    def references(self, name: str, reference: Reference) -> Iterator[ReferenceLine]:
        """Yield the rows of a reference in the database ``name``, in any order."""
        return read_references(
            self._server, check_name(name), None, reference, timeout=REFERENCE_TIMEOUT
        )

    def identify(self, name: str) -> tuple[int, int]:
        """Return a database's oid, and its server's transaction counter, as in the port."""
        with (
            self._session(f"looking at '{check_name(name)}'", database=name) as connection,
            connection.transaction(),
        ):
            # First the number of this transaction: what begins to write later has a higher one.
            oid, counter = connection.execute(_IDENTITY).fetchone() or (0, 0)
            return int(oid), int(counter) - int(scalar(connection, _OPEN_WRITERS))

    def abandon(self, name: str, *, marker: str) -> bool:
        """Drop the database if it exists and still carries ``marker``; return whether it did.

        Sessions in it are ended. Roles that were created for it go too, unless something else uses
        them by now.
        """
        with self._session(f"removing the unfinished '{check_name(name)}'") as connection:
            unmarked = unfinished_name(name, marker)
            doomed = [unmarked] if _exists(connection, unmarked) else []
            if _comment(connection, name) == marker:
                doomed.append(name)
            for database in doomed:
                connection.execute(
                    sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                        sql.Identifier(database)
                    )
                )
            for role in marked_roles(connection, marker):
                try:
                    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
                except errors.DependentObjectsStillExist:
                    connection.execute(
                        sql.SQL("COMMENT ON ROLE {} IS NULL").format(sql.Identifier(role))
                    )
            for role in marked_roles(connection, kept_marker(marker)):
                connection.execute(
                    sql.SQL("COMMENT ON ROLE {} IS NULL").format(sql.Identifier(role))
                )
            return bool(doomed)

    def _session(
        self, doing: str, *, database: str | None = None
    ) -> AbstractContextManager[Connection]:
        return prepared_session(
            self._server,
            database or self._maintenance,
            application_name="pgben restore",
            doing=doing,
            lock_timeout=_LOCK_TIMEOUT,
        )

    def _require_free(self, connection: Connection, name: str) -> None:
        if _exists(connection, name):
            raise RequestMistaken(
                f"there is already a database '{name}' at '{self._server}'",
                "restore into another name with `into`, or drop that database yourself",
            )


def _create_marked(
    connection: Connection, name: str, capture: PostgresCapture, marker: str
) -> None:
    unmarked = unfinished_name(name, marker)
    statement = create_database(
        unmarked,
        capture,
        server_version=connection.info.server_version,
        tablespace=capture.tablespace if capture.tablespace in tablespaces(connection) else None,
    )
    try:
        connection.execute(statement)
    except (errors.WrongObjectType, errors.InvalidParameterValue) as exc:
        raise ConfigurationError(
            f"the server cannot create a database with the locale '{capture.collate}' "
            f"({capture.locale_provider}) and encoding '{capture.encoding}': "
            f"{exc.diag.message_primary}",
            "install that locale on the destination's host and restart its server",
        ) from exc
    with connection.transaction():
        connection.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                sql.Identifier(unmarked), sql.Literal(marker)
            )
        )
        prepare_loading(connection, unmarked)
        connection.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                sql.Identifier(unmarked), sql.Identifier(name)
            )
        )


def _exists(connection: Connection, name: str) -> bool:
    return scalar(connection, _LIMIT, (name,)) is not None


def _comment(connection: Connection, name: str) -> str | None:
    comment: str | None = scalar(connection, _COMMENT, (name,))
    return comment

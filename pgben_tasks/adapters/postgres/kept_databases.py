"""Databases that restores and swaps left on one server: found, and removed where nobody uses them.

Nothing is removed by its name: the oid decides. Whether somebody wrote to a copy since it was
checked is told by its rows and by the transactions that wrote them, while it takes no connections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import Final, Literal

import psycopg
from psycopg import errors, sql

from pgben_tasks.adapters.postgres.obstacles import database_oids
from pgben_tasks.adapters.postgres.server import (
    Connection,
    PostgresServer,
    scalar,
)
from pgben_tasks.adapters.postgres.swap import allow_connections, take_swap_lock
from pgben_tasks.adapters.postgres.tables import (
    count_large_objects,
    count_rows,
    list_tables,
    prepared_session,
    with_rows,
)
from pgben_tasks.domain.kept_databases import FoundDatabase, RestoredDatabase, contents_digest
from pgben_tasks.domain.target import check_name

_LOCK_TIMEOUT: Final = timedelta(seconds=10)
#: Transactions are compared by 32 bits, so by less than half of their circle.
_COMPARABLE: Final = 2**31 - 2**24
_LOW_BITS: Final = 2**32 - 1

_ALL = "SELECT datname, oid::pg_catalog.int8, datallowconn FROM pg_catalog.pg_database"
_SIZE = "SELECT pg_catalog.pg_database_size(%s::pg_catalog.oid)"
_SESSIONS = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity
WHERE datid = %s::pg_catalog.oid AND pid <> ALL(%s::pg_catalog.int4[])
  AND backend_type IS DISTINCT FROM 'autovacuum worker'
"""
_COUNTER = "SELECT pg_catalog.txid_current()"
#: Every table that writing leaves a mark in: those of extensions and the definitions too, but for
#: what ANALYZE writes there. (What it and vacuum write elsewhere is written in place.)
_WRITABLE = """
SELECT n.nspname, c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND NOT c.relisshared
  AND NOT (n.nspname = 'pg_catalog' AND c.relname IN ('pg_statistic', 'pg_statistic_ext_data'))
"""
#: What is older than half of the circle seems to be of the future.
_WRITTEN = """
SELECT EXISTS (SELECT FROM ONLY {}
               WHERE pg_catalog.age(xmin) BETWEEN 0 AND pg_catalog.age(%s::pg_catalog.xid))
"""


class PostgresKeptDatabases:
    """One server (``ports.PostgresKeptDatabases``)."""

    def __init__(self, server: PostgresServer, *, maintenance_database: str = "postgres") -> None:
        """Look at ``server`` from ``maintenance_database``; nothing is asked yet."""
        self._server = server
        self._maintenance = check_name(maintenance_database)

    def find(self, wanted: Callable[[str, int], bool]) -> list[FoundDatabase]:
        """Return the databases whose name and oid are ``wanted``, sorted by name."""
        with self._session("looking for databases that restores left") as connection:
            rows = connection.execute(_ALL).fetchall()
            return [
                FoundDatabase(
                    name=name,
                    oid=oid,
                    size=int(scalar(connection, _SIZE, (oid,)) or 0),
                    sessions=_sessions(connection, oid),
                    is_open=is_open,
                )
                for name, oid, is_open in sorted(rows)
                if wanted(name, oid)
            ]

    def drop(self, name: str, oid: int, *, live: str) -> Literal["dropped", "gone", "in use"]:
        """Drop a database, unless sessions are connected or a swap of ``live`` is under way."""
        with self._session(f"removing '{name}'") as connection:
            if database_oids(connection).get(name) != oid:
                return "gone"
            if not take_swap_lock(connection, live) or _sessions(connection, oid):
                return "in use"
            return self._drop(connection, name)

    def drop_unchanged(
        self, one: RestoredDatabase, *, live: str
    ) -> Literal["dropped", "gone", "in use", "written"]:
        """Drop a copy unless sessions are connected or somebody wrote to it since its check.

        It takes no connections while it is looked through; what stays takes them again. That takes
        as long as reading all of it, and holds up no swap of ``live``.
        """
        with self._session(f"removing '{one.name}'") as connection:
            if database_oids(connection).get(one.name) != one.oid:
                return "gone"
            if _sessions(connection, one.oid):
                return "in use"
            # A process that died here before has left it closed.
            allow_connections(connection, one.name, allowed=True)
            found: Literal["in use", "written", "unchanged"] = "in use"
            try:
                found = self._look_through(connection, one)
                if found == "unchanged":
                    free = take_swap_lock(connection, live)
                    return self._drop(connection, one.name) if free else "in use"
            finally:
                with suppress(psycopg.Error):
                    if database_oids(connection).get(one.name) == one.oid:
                        allow_connections(connection, one.name, allowed=True)
            return found

    def reopen(self, name: str, oid: int) -> None:
        """Let a database take connections again that was being looked through when that ended."""
        with self._session(f"opening '{name}'") as connection:
            if database_oids(connection).get(name) == oid:
                allow_connections(connection, name, allowed=True)

    def _look_through(
        self, outside: Connection, one: RestoredDatabase
    ) -> Literal["in use", "written", "unchanged"]:
        with self._session(f"looking through '{one.name}'", database=one.name) as inside:
            allow_connections(outside, one.name, allowed=False)
            if _sessions(outside, one.oid, but=[inside.info.backend_pid]):
                return "in use"
            return "written" if _was_written(inside, one) else "unchanged"

    def _drop(self, connection: Connection, name: str) -> Literal["dropped", "in use"]:
        try:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        except errors.ObjectInUse:
            # Sessions, prepared transactions, replication slots.
            return "in use"
        return "dropped"

    def _session(
        self, doing: str, *, database: str | None = None
    ) -> AbstractContextManager[Connection]:
        return prepared_session(
            self._server,
            database or self._maintenance,
            application_name="pgben databases",
            doing=doing,
            lock_timeout=_LOCK_TIMEOUT,
        )


def _was_written(connection: Connection, one: RestoredDatabase) -> bool:
    """Return whether somebody wrote to a copy since its check, or that cannot be told any more."""
    if not 0 <= int(scalar(connection, _COUNTER)) - one.checked_at < _COMPARABLE:
        # The server may also have been set back to a moment before the check.
        return True
    since = (str(one.checked_at & _LOW_BITS),)

    def written(table: sql.Identifier) -> bool:
        query = sql.SQL(_WRITTEN).format(table)
        return bool(*connection.execute(query, since).fetchone() or (True,))

    counted = count_rows(connection, with_rows(list_tables(connection)), on_table=None)
    return contents_digest(counted, count_large_objects(connection)) != one.contents or any(
        written(sql.Identifier(*name)) for name in connection.execute(_WRITABLE).fetchall()
    )


def _sessions(connection: Connection, oid: int, but: Sequence[int] = ()) -> int:
    return int(scalar(connection, _SESSIONS, (oid, list(but))))

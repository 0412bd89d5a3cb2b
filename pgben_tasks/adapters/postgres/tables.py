"""Which tables of a database a dump holds with their rows, and how many rows and large objects.

The same rules serve the source inside its snapshot and the restored copy, so that the two counts
can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import LiteralString

from psycopg import sql

from pgben_tasks.adapters.postgres.server import (
    Connection,
    PostgresServer,
    connect,
    scalar,
    translated,
)
from pgben_tasks.domain.documents import TableCount

#: What pg_dump dumps with data: plain tables and leaf partitions of user schemas. Tables that
#: belong to an extension only where it declares them as its configuration, then with its filter.
#: Schemas that begin with ``pg_`` are the system's and hold temporary tables. On a standby
#: unlogged tables cannot be read. Partitioned parents are listed to be locked, never counted.
_TABLES = """
SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', coalesce(config.filter, ''),
       greatest(c.relpages, 0) + coalesce(greatest(toast.relpages, 0), 0)
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN (
    SELECT entry.tableoid, entry.filter
    FROM pg_catalog.pg_extension e,
         LATERAL unnest(e.extconfig, e.extcondition) AS entry(tableoid, filter)
) config ON config.tableoid = c.oid
WHERE c.relkind IN ('r', 'p')
  AND (c.relpersistence = 'p' OR c.relpersistence = 'u' AND NOT pg_catalog.pg_is_in_recovery())
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND (config.tableoid IS NOT NULL OR NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
        AND d.deptype = 'e'))
"""

_LARGE_OBJECTS = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata"

#: These would end a long session, or make it see fewer rows than there are.
_SESSION = {
    "search_path": "",
    "row_security": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
#: Settings by the server version that brought them.
_SETTINGS_SINCE = ((140000, "idle_session_timeout"), (170000, "transaction_timeout"))


@dataclass(frozen=True, slots=True, order=True)
class Table:
    """One table: ``filter`` is the ``WHERE …`` by which an extension limits what is dumped.

    ``pages`` is how large it was when it was last analysed or vacuumed; 0 before that.
    """

    schema: str
    name: str
    oid: int
    partitioned: bool
    filter: LiteralString
    pages: int = field(default=0, compare=False)

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted, qualified name."""
        return sql.Identifier(self.schema, self.name)


def prepare_session(connection: Connection, *, lock_timeout: timedelta) -> None:
    """Set a session to run without time limits, wait ``lock_timeout`` for locks, see all rows.

    With ``row_security`` off a policy that would hide rows is an error instead.
    """
    settings = dict(_SESSION)
    settings |= {
        name: "0" for since, name in _SETTINGS_SINCE if connection.info.server_version >= since
    }
    settings["lock_timeout"] = f"{round(lock_timeout.total_seconds() * 1000)}ms"
    for name, value in settings.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))


@contextmanager
def prepared_session(
    server: PostgresServer,
    database: str,
    *,
    application_name: str,
    doing: str,
    lock_timeout: timedelta,
) -> Iterator[Connection]:
    """Yield a session as ``prepare_session`` sets it, closed at the end of the block.

    Vendor errors of the block come out translated; ``doing`` completes "while …".
    """
    connection = connect(server, database, application_name=application_name)
    with closing(connection), translated(server, doing):
        prepare_session(connection, lock_timeout=lock_timeout)
        yield connection


def list_tables(connection: Connection) -> tuple[Table, ...]:
    """Return the tables, partitioned parents included, sorted by schema and name."""
    rows = connection.execute(_TABLES).fetchall()
    return tuple(
        sorted(
            Table(
                schema=schema,
                name=name,
                oid=oid,
                partitioned=partitioned,
                filter=condition,
                pages=pages,
            )
            for oid, schema, name, partitioned, condition, pages in rows
        )
    )


def with_rows(tables: Iterable[Table]) -> tuple[Table, ...]:
    """Return the tables that hold rows of their own."""
    return tuple(table for table in tables if not table.partitioned)


def count_rows(
    connection: Connection, tables: Sequence[Table], *, on_table: Callable[[], None] | None
) -> tuple[TableCount, ...]:
    """Return how many rows of its own each table has (children are counted as themselves)."""
    counts = []
    for table in tables:
        # The filter is SQL that the extension's script registered; pg_dump runs it the same way.
        query = sql.SQL("SELECT pg_catalog.count(*) FROM ONLY {} {}").format(
            table.identifier, sql.SQL(table.filter)
        )
        (rows,) = connection.execute(query).fetchone() or (0,)
        counts.append(TableCount(schema_name=table.schema, table=table.name, rows=rows))
        if on_table is not None:
            on_table()
    return tuple(counts)


def count_large_objects(connection: Connection) -> int:
    """Return how many large objects the database has."""
    return int(scalar(connection, _LARGE_OBJECTS))

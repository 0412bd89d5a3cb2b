"""Compare two databases of one server row for row, for the demo and the tests.

The comparison is made by the server and independent of pgben's own counting: every row of every
table is hashed as text, and the hashes are added up, so the order of rows does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'pg_toast%' ORDER BY 1, 2
"""
_SUM = """
SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM ONLY {} t
"""
_LARGE_OBJECTS = """
SELECT count(*), coalesce(sum(hashtextextended(encode(lo_get(oid), 'hex'), 0)::numeric), 0)::text
FROM pg_largeobject_metadata
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableContent:
    """How many rows a table has, and the sum of the hashes of their texts."""

    rows: int
    fingerprint: str


def contents(
    server: Mapping[str, Any], database: str, *, on_table: Callable[[], None] | None = None
) -> dict[str, TableContent]:
    """Read every table, materialized view and large object of a database."""
    found = {}
    with psycopg.connect(**{**server, "dbname": database}) as connection:
        # Settings of the database itself must not change how its rows read.
        connection.execute("SET timezone = 'UTC'; SET datestyle = 'ISO'; SET search_path = ''")
        for schema, table in connection.execute(_TABLES).fetchall():
            query = sql.SQL(_SUM).format(sql.Identifier(schema, table))
            found[f"{schema}.{table}"] = _content(connection, query)
            if on_table is not None:
                on_table()
        found["large objects"] = _content(connection, sql.SQL(_LARGE_OBJECTS))
    return found


def _content(connection: psycopg.Connection[Any], query: sql.SQL | sql.Composed) -> TableContent:
    row = connection.execute(query).fetchone()
    rows, fingerprint = row if row is not None else (0, "0")
    return TableContent(rows=rows, fingerprint=fingerprint)

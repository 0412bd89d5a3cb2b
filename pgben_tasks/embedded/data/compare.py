"""Compare databases row for row, and buckets object for object, for the demo and the tests.

Nothing here uses what pgben counted or wrote down. A database is compared by its server: every row
of every table is hashed as text, and the hashes are added up, so the order of rows does not matter.
A bucket is listed and fetched anew, and each document decrypted with its object's own metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pgben_tasks.embedded.data.documents import BucketClient, Cipher, Known, StoredObject

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


def contents(server: Mapping[str, Any], database: str) -> dict[str, TableContent]:
    """Read every table, materialized view and large object of a database."""
    found = {}
    with psycopg.connect(**{**server, "dbname": database}) as connection:
        # Settings of the database itself must not change how its rows read.
        connection.execute("SET timezone = 'UTC'; SET datestyle = 'ISO'; SET search_path = ''")
        for schema, table in connection.execute(_TABLES).fetchall():
            query = sql.SQL(_SUM).format(sql.Identifier(schema, table))
            found[f"{schema}.{table}"] = _content(connection, query)
        found["large objects"] = _content(connection, sql.SQL(_LARGE_OBJECTS))
    return found


def _content(connection: psycopg.Connection[Any], query: sql.SQL | sql.Composed) -> TableContent:
    row = connection.execute(query).fetchone()
    rows, fingerprint = row if row is not None else (0, "0")
    return TableContent(rows=rows, fingerprint=fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """How many objects there are, how many open, and how many are what the database knows."""

    objects: int
    open: int
    as_in_database: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Keys that are missing, that are too many, and that carry something else than before."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    differing: tuple[str, ...]


def bucket_contents(client: BucketClient) -> dict[str, StoredObject]:
    """Return every object with everything it carries."""
    return {key: client.get(key) for key in client.listed()}


def bucket_difference(
    before: Mapping[str, StoredObject], now: Mapping[str, StoredObject]
) -> Difference:
    """Compare two states of a bucket: bytes, headers, metadata and tags of every key."""
    both = before.keys() & now.keys()
    return Difference(
        missing=tuple(sorted(before.keys() - now.keys())),
        extra=tuple(sorted(now.keys() - before.keys())),
        differing=tuple(sorted(key for key in both if before[key] != now[key])),
    )


def open_documents(
    found: Mapping[str, StoredObject], cipher: Cipher, known: Mapping[str, Known]
) -> Opened:
    """Decrypt every object, and compare it with what the database knows of it."""
    digests = {key: cipher.opens(stored) for key, stored in found.items()}
    return Opened(
        objects=len(found),
        open=sum(digest is not None for digest in digests.values()),
        as_in_database=sum(
            key in found and known[key] == Known(digests[key] or "", len(found[key].data))
            for key in known
        ),
    )

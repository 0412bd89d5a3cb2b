"""Read what rows say of objects, in a capture's own snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, LiteralString, cast

import psycopg
from psycopg import errors, sql

from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.adapters.postgres.tables import prepared_session
from pgben_tasks.domain.references import Reference, ReferenceLine
from pgben_tasks.errors import ConfigurationError

#: How long one query may take: the dump's locks are held meanwhile.
REFERENCE_TIMEOUT: Final = timedelta(minutes=5)
_LOCK_TIMEOUT: Final = timedelta(seconds=10)
_TYPES: Final = ("text", "text", "int8", "text")


def read_references(
    server: PostgresServer,
    database: str,
    snapshot: str | None,
    reference: Reference,
    *,
    timeout: timedelta,
) -> Iterator[ReferenceLine]:
    """Yield the rows of a reference as ``snapshot`` shows them, in any order; None means as of now.

    The transaction is read-only and sees ``pg_catalog`` alone: tables are named with their schema.
    Raises ``ConfigurationError`` for what the server does not take, and what a session raises.
    """
    with (
        prepared_session(
            server,
            database,
            application_name="pgben references",
            doing="reading references",
            lock_timeout=_LOCK_TIMEOUT,
        ) as connection,
        _explained(reference, timeout),
    ):
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if snapshot is not None:
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        limit = f"{round(timeout.total_seconds() * 1000)}ms"
        connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, true)", (limit,))
        with connection.cursor().copy(_statement(reference)) as copy:
            copy.set_types(_TYPES)
            for key, row, size, digest in copy.rows():
                yield ReferenceLine(reference.bucket, key, reference.name, row, size, digest)


def _statement(reference: Reference) -> sql.Composed:
    """Return the COPY that reads key, row, size and hash of every row that has a key."""
    columns = [
        _column(reference.key, "text"),
        _column(reference.row, "text"),
        _column(reference.size, "int8"),
        _column(reference.hash, "text"),
    ]
    if reference.table is not None:
        source: sql.Composable = sql.Identifier(*reference.table.split("."))
    else:
        source = sql.SQL("(") + _written(reference.query or "") + sql.SQL("\n)")
    where = sql.SQL(" AND (") + _written(reference.where) + sql.SQL("\n)")
    return (
        sql.SQL("COPY (SELECT ")
        + sql.SQL(", ").join(columns)
        + sql.SQL(" FROM ")
        + source
        + sql.SQL(" AS q WHERE ")
        + sql.Identifier("q", reference.key)
        + sql.SQL(" IS NOT NULL")
        + (where if reference.where else sql.SQL(""))
        + sql.SQL(") TO STDOUT")
    )


def _column(name: str | None, kind: LiteralString) -> sql.Composable:
    if name is None:
        return sql.SQL("NULL::pg_catalog.{}").format(sql.SQL(kind))
    return sql.SQL("{}::pg_catalog.{}").format(sql.Identifier("q", name), sql.SQL(kind))


def _written(text: str | None) -> sql.SQL:
    """Return a part of a statement as the operator wrote it in the file of references."""
    # The file belongs to whoever holds the dump role's password.
    return sql.SQL(cast("Any", text or ""))


@contextmanager
def _explained(reference: Reference, timeout: timedelta) -> Iterator[None]:
    """Turn what the server says of a wrong reference into one sentence about it."""
    try:
        yield
    except errors.QueryCanceled as exc:
        raise ConfigurationError(
            f"the references '{reference.name}' of PGBEN_REFERENCES take longer than "
            f"{round(timeout.total_seconds())} s to read",
            "make the query cheaper, or leave it out; a dump's locks are held meanwhile",
        ) from exc
    except psycopg.DataError as exc:
        # The server's message quotes the value, which is somebody's data.
        raise ConfigurationError(
            f"the references '{reference.name}' of PGBEN_REFERENCES cannot be read: a value does "
            f"not fit what its column is read as ({type(exc).__name__})",
            "`size` is read as a whole number, everything else as text",
        ) from None
    except (psycopg.ProgrammingError, errors.ReadOnlySqlTransaction) as exc:
        said = (exc.diag.message_primary or type(exc).__name__).splitlines()[0]
        raise ConfigurationError(
            f"the references '{reference.name}' of PGBEN_REFERENCES cannot be read: {said}",
            "name tables with their schema and columns as they are; a query may only read",
        ) from exc

"""What a PostgreSQL server says of itself beyond one database: identity and clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from psycopg import errors

from pgben_tasks.adapters.postgres.server import Connection, PostgresServer, connect, translated

_CLOCK: Final = "SELECT clock_timestamp()"
_IDENTITY: Final = "SELECT system_identifier FROM pg_catalog.pg_control_system()"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """``ahead`` is how far its clock is ahead of this machine's (negative: behind).

    ``identity`` is what tells two servers apart whatever they are called, where it may be asked.
    """

    ahead: timedelta
    identity: int | None


def inspect_server(server: PostgresServer, database: str) -> ServerFacts:
    """Ask the server about itself. Raises what ``postgres.connect`` raises."""
    with (
        connect(server, database, application_name="pgben doctor") as connection,
        translated(server, "looking at the server"),
    ):
        before = datetime.now(UTC)
        row = connection.execute(_CLOCK).fetchone()
        after = datetime.now(UTC)
        clock: datetime = row[0] if row else after
        return ServerFacts(
            # The answer was made somewhere between the question and its arrival.
            ahead=clock - (before + (after - before) / 2),
            identity=_identity(connection),
        )


def _identity(connection: Connection) -> int | None:
    try:
        row = connection.execute(_IDENTITY).fetchone()
    except errors.InsufficientPrivilege:
        return None
    return int(row[0]) if row else None

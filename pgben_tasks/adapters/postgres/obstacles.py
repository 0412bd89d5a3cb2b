"""What stands against a database being replaced, in sentences; nothing is changed here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pgben_tasks.adapters.postgres.server import Connection, PostgresServer
from pgben_tasks.domain.documents import PostgresCapture

_DATABASES = "SELECT datname, oid::pg_catalog.int8 FROM pg_catalog.pg_database"
_PREPARED = "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = %s ORDER BY 1"
_SLOTS = "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE database = %s ORDER BY 1"
_SUBSCRIPTIONS = """
SELECT s.subname FROM pg_catalog.pg_subscription s
JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = %s ORDER BY 1
"""
_TABLESPACES = "SELECT spcname FROM pg_catalog.pg_tablespace"
_FOLDER = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'"
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def database_oids(connection: Connection) -> Mapping[str, int]:
    """Return the oid of every database by its name."""
    return {str(name): int(oid) for name, oid in connection.execute(_DATABASES).fetchall()}


def names_in_the_way(oids: Mapping[str, int], live: str, aside: str) -> Iterator[str]:
    """Yield why ``live`` cannot become ``aside`` by their names alone."""
    if live not in oids:
        yield f"there is no database '{live}' to replace; restore with --into {live}"
    if aside in oids:
        yield f"there is already a database '{aside}'"


def holders(connection: Connection, live: str) -> Iterator[str]:
    """Name what holds on to ``live``: a rename would fail, or leave them with the wrong one."""
    for query, what in (
        (_PREPARED, "the prepared transaction"),
        (_SLOTS, "the logical replication slot"),
        (_SUBSCRIPTIONS, "the subscription"),
    ):
        for (name,) in connection.execute(query, (live,)).fetchall():
            yield f"{what} '{name}' holds '{live}'"


def shortcomings(
    connection: Connection, server: PostgresServer, capture: PostgresCapture, *, room: bool
) -> Iterator[str]:
    """Yield what the server lacks for a database as ``capture`` describes it.

    With ``room`` also the bytes for one more copy, where the server's disk can be seen from here.
    """
    known = {row[0] for row in connection.execute(_TABLESPACES).fetchall()}
    for name in sorted({capture.tablespace, *capture.tablespaces} - known):
        yield f"the backup uses the tablespace '{name}', which the server does not have"
    free = _free(connection, server) if room else None
    if free is not None and free < capture.database_bytes:
        yield (
            f"the server's disk has {free:,} bytes free, the copy needs about "
            f"{capture.database_bytes:,}"
        )


def _free(connection: Connection, server: PostgresServer) -> int | None:
    """Return the free bytes of the server's disk, None when it is not a disk of this machine."""
    if server.host not in _HERE and not server.host.startswith("/"):
        return None
    row = connection.execute(_FOLDER).fetchone()
    try:
        return shutil.disk_usage(Path(row[0])).free if row else None
    except OSError:
        return None

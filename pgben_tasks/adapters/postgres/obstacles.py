"""What stands against a restore or a swap: names, holders, version, locale, extensions, room.

Everything is looked at before anything is created or renamed, so a refusal leaves no trace.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from psycopg import errors, sql

from pgben_tasks.adapters.postgres import clients as pg_clients
from pgben_tasks.adapters.postgres.clients import Installation
from pgben_tasks.adapters.postgres.server import Connection, PostgresServer, column, scalar
from pgben_tasks.domain.documents import Extension, PostgresCapture
from pgben_tasks.domain.restorability import Archive, server_major
from pgben_tasks.domain.space import Usage
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.ports import ClientTools

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
_SUPERUSER = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
_ENCODING = """
SELECT pg_catalog.pg_char_to_encoding(%s),
       pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database
WHERE datname = pg_catalog.current_database()
"""
#: initdb imports these only in builds with ICU; 'unicode' is listed in all.
_ICU = "SELECT EXISTS (SELECT FROM pg_catalog.pg_collation WHERE collname = 'und-x-icu')"
_EXTENSIONS = """
SELECT a.name, a.default_version, pg_catalog.array_agg(v.version)
FROM pg_catalog.pg_available_extensions a
JOIN pg_catalog.pg_available_extension_versions v ON v.name = a.name
WHERE a.name = ANY(%s) GROUP BY 1, 2
"""
_DOTTED: Final = re.compile(r"\d+(\.\d+)*")
_ALWAYS_THERE: Final = frozenset({"C", "POSIX"})


def check_destination(
    connection: Connection,
    server: PostgresServer,
    capture: PostgresCapture,
    archive: Archive,
    candidates: Sequence[Installation] | None,
) -> ClientTools:
    """Check that the connection's server can take ``capture``; choose the client for it.

    Raises ``ConfigurationError``.
    """
    if not scalar(connection, _SUPERUSER):
        raise ConfigurationError(
            f"the role '{server.user}' is no superuser at '{server}', so it cannot give the "
            "restored objects back to their owners",
            f'ALTER ROLE "{server.user}" SUPERUSER, or restore with a role that is one',
        )
    version = connection.info.server_version
    major, source = server_major(version), server_major(capture.server_version_num)
    if major < source:
        raise ConfigurationError(
            f"the backup is of a PostgreSQL {source} server, and '{server}' is PostgreSQL {major}",
            "restore to a server of the same major version or a newer one",
        )
    _check_locale(connection, server, capture)
    _check_extensions(connection, server, capture.extensions)
    return pg_clients.choose_for_restore(
        version,
        pg_clients.find_installations() if candidates is None else candidates,
        archive,
    )


def is_older(version: str, than: str) -> bool | None:
    """Return whether a version is older; None when they are not both dotted numbers."""
    if _DOTTED.fullmatch(version) is None or _DOTTED.fullmatch(than) is None:
        return None
    one, other = ([int(part) for part in text.split(".")] for text in (version, than))
    return one < other


def _check_locale(connection: Connection, server: PostgresServer, capture: PostgresCapture) -> None:
    number, here = connection.execute(_ENCODING, (capture.encoding,)).fetchone() or (-1, "")
    if number < 0:
        raise ConfigurationError(
            f"the server '{server}' does not know the encoding '{capture.encoding}'",
            "restore to a server that supports it",
        )
    if capture.locale_provider == "icu" and not scalar(connection, _ICU):
        raise ConfigurationError(
            f"the backup's database uses ICU collations and '{server}' was built without ICU",
            "restore to a server built with ICU",
        )
    # A libc locale can be tried only from a database whose encoding it fits.
    if here in {capture.encoding, "SQL_ASCII"}:
        for locale in sorted({capture.collate, capture.ctype} - _ALWAYS_THERE):
            _try_locale(connection, server, locale)


def _try_locale(connection: Connection, server: PostgresServer, locale: str) -> None:
    """Check that the server's host has a locale: make a collation of it and undo that."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(
                sql.SQL(
                    "CREATE COLLATION pg_temp.pgben_probe (PROVIDER = libc, LOCALE = {})"
                ).format(sql.Literal(locale))
            )
    except (errors.InvalidParameterValue, errors.UndefinedFile, errors.WrongObjectType) as exc:
        raise ConfigurationError(
            f"the host of '{server}' has no locale '{locale}', which the backup's database uses",
            "install the locale there (on Debian: the package 'locales-all') and restart the "
            "server",
        ) from exc


def _check_extensions(
    connection: Connection, server: PostgresServer, extensions: Sequence[Extension]
) -> None:
    """Refuse when an extension is absent or older there: pg_restore would fail on it later."""
    rows = connection.execute(_EXTENSIONS, ([one.name for one in extensions],)).fetchall()
    offered = {name: (default, versions) for name, default, versions in rows}
    for extension in extensions:
        default, versions = offered.get(extension.name, ("", []))
        if not default:
            raise ConfigurationError(
                f"the extension '{extension.name}' of the backup is not available at '{server}'",
                "install its package on that server's host",
            )
        older = is_older(default, extension.version)
        if older or (older is None and extension.version not in {default, *versions}):
            raise ConfigurationError(
                f"the backup has version {extension.version} of the extension "
                f"'{extension.name}', and '{server}' offers {default}",
                "update the extension's package on that server's host",
            )


def database_oids(connection: Connection) -> Mapping[str, int]:
    """Return the oid of every database by its name."""
    return {str(name): int(oid) for name, oid in connection.execute(_DATABASES).fetchall()}


def tablespaces(connection: Connection) -> set[str]:
    """Return the names of the server's tablespaces."""
    return set(column(connection, _TABLESPACES))


def names_in_the_way(oids: Mapping[str, int], live: str, aside: str) -> Iterator[str]:
    """Yield why ``live`` cannot become ``aside`` by their names alone."""
    if live in oids and aside in oids:
        yield f"there is already a database '{aside}'"


def holders(connection: Connection, live: str) -> Iterator[str]:
    """Yield what holds on to ``live``: a rename would fail, or leave them with the wrong one."""
    for query, what in (
        (_PREPARED, "the prepared transaction"),
        (_SLOTS, "the logical replication slot"),
        (_SUBSCRIPTIONS, "the subscription"),
    ):
        for name in column(connection, query, (live,)):
            yield f"{what} '{name}' holds '{live}'"


def shortcomings(
    connection: Connection, server: PostgresServer, capture: PostgresCapture, *, room: bool
) -> Iterator[str]:
    """Yield what the server lacks for a database as ``capture`` describes it.

    With ``room`` also the bytes for one more copy, where the server's disk can be seen from here.
    """
    known = tablespaces(connection)
    for name in sorted({capture.tablespace, *capture.tablespaces} - known):
        yield f"the backup uses the tablespace '{name}', which the server does not have"
    disk = server_volume(connection, server) if room else None
    free = None if disk is None else disk.free
    if free is not None and free < capture.database_bytes:
        yield (
            f"the server's disk has {free:,} bytes free, the copy needs about "
            f"{capture.database_bytes:,}"
        )


def is_here(server: PostgresServer) -> bool:
    """Return whether the address of a server is one of this machine."""
    return server.host in _HERE or server.host.startswith("/")


def server_volume(connection: Connection, server: PostgresServer) -> Usage | None:
    """Return how full the server's disk is, None when it is not a disk of this machine."""
    if not is_here(server):
        return None
    folder = scalar(connection, _FOLDER)
    try:
        found = None if folder is None else shutil.disk_usage(Path(folder))
    except OSError:
        return None
    return found and Usage(used=found.used, capacity=found.used + found.free)

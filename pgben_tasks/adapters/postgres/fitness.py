"""Whether a server can take a database as its backup describes it: version, locale, extensions.

Everything is looked at before anything is created, so a refusal leaves no trace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from psycopg import errors, sql

from pgben_tasks.adapters.postgres import clients as pg_clients
from pgben_tasks.adapters.postgres.clients import Installation, server_major
from pgben_tasks.adapters.postgres.server import Connection, PostgresServer
from pgben_tasks.domain.documents import Extension, PostgresCapture
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.ports import ClientTools

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
    candidates: Sequence[Installation] | None,
) -> ClientTools:
    """Check that the connection's server can take ``capture``; choose the client for it.

    Raises ``ConfigurationError``.
    """
    row = connection.execute(_SUPERUSER).fetchone()
    if row is None or not row[0]:
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
        source_version_num=capture.server_version_num,
        dump_compression=capture.dump_compression,
    )


def is_older(version: str, than: str) -> bool | None:
    """Compare two extension versions; None when they are not both dotted numbers."""
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
    if capture.locale_provider == "icu":
        row = connection.execute(_ICU).fetchone()
        if row is None or not row[0]:
            raise ConfigurationError(
                f"the backup's database uses ICU collations and '{server}' was built without ICU",
                "restore to a server built with ICU",
            )
    # A libc locale can be tried only from a database whose encoding it fits.
    if here in {capture.encoding, "SQL_ASCII"}:
        for locale in sorted({capture.collate, capture.ctype} - _ALWAYS_THERE):
            _try_locale(connection, server, locale)


def _try_locale(connection: Connection, server: PostgresServer, locale: str) -> None:
    """Find out whether the server's host has a locale: make a collation of it and undo that."""
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

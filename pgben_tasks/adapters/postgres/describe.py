"""Reads from the catalogs what ``pg_dump`` does not keep of a database.

Every query runs on the connection that is given, so inside its snapshot when it has one, and as
any role that may connect: only catalogs that everybody may read are asked.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, LiteralString

from pgben_tasks.adapters.postgres.server import Connection
from pgben_tasks.domain.documents import Extension, PostgresCapture, Setting, TableCount

_PROVIDERS: Final[dict[str, Literal["libc", "icu", "builtin"]]] = {
    "c": "libc",
    "i": "icu",
    "b": "builtin",
}

_V15: Final = 150000
_V16: Final = 160000
_V17: Final = 170000

_DATABASE = """
SELECT d.datname, pg_catalog.pg_encoding_to_char(d.encoding), {provider}, d.datcollate,
       d.datctype, {locale}, {icu_rules}, {collation_version},
       pg_catalog.pg_get_userbyid(d.datdba), d.datacl::pg_catalog.text[],
       pg_catalog.shobj_description(d.oid, 'pg_database'), d.datconnlimit, t.spcname,
       pg_catalog.pg_database_size(d.oid)
FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
WHERE d.datname = pg_catalog.current_database()
"""

_SETTINGS = """
SELECT r.rolname, entry.text
FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole,
LATERAL unnest(s.setconfig) WITH ORDINALITY AS entry(text, place)
WHERE d.datname = pg_catalog.current_database()
ORDER BY r.rolname NULLS FIRST, entry.place
"""

#: Owners, grantees and policies of this database, of the database itself, and the roles of its
#: settings. The bootstrap superuser (oid 10) is pinned: what it owns is recorded nowhere, so it is
#: always named. Predefined roles exist on every server.
_ROLES = """
WITH this AS (SELECT oid FROM pg_catalog.pg_database
              WHERE datname = pg_catalog.current_database()),
named AS (
    SELECT s.refobjid AS oid FROM pg_catalog.pg_shdepend s, this
    WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
      AND (s.dbid = this.oid OR s.dbid = 0 AND s.objid = this.oid
           AND s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass)
    UNION SELECT d.datdba FROM pg_catalog.pg_database d, this WHERE d.oid = this.oid
    UNION SELECT s.setrole FROM pg_catalog.pg_db_role_setting s, this
          WHERE s.setdatabase = this.oid
    UNION SELECT 10
)
SELECT r.rolname FROM pg_catalog.pg_roles r JOIN named ON named.oid = r.oid
WHERE r.rolname !~ '^pg_' ORDER BY r.rolname
"""

_TABLESPACES = """
SELECT DISTINCT t.spcname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
WHERE t.spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1
"""

_EXTENSIONS = "SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY extname"
LARGE_OBJECTS: Final = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata"
_SLOTS = """
SELECT slot_name FROM pg_catalog.pg_replication_slots
WHERE database = pg_catalog.current_database() ORDER BY 1
"""
_SUBSCRIPTIONS = """
SELECT s.subname FROM pg_catalog.pg_subscription s
JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
WHERE d.datname = pg_catalog.current_database() ORDER BY 1
"""


def describe_database(  # What only the snapshot's owner knows is handed in.
    connection: Connection,
    *,
    snapshot: str,
    snapshot_time: datetime,
    lsn: str,
    dump_compression: Literal["zstd:3", "none"],
    tables: tuple[TableCount, ...],
) -> PostgresCapture:
    """Describe the connection's database."""
    row = connection.execute(_database_query(connection.info.server_version)).fetchone()
    if row is None:
        message = "the current database is not in pg_database"
        raise LookupError(message)
    (name, encoding, provider, collate, ctype, locale, icu_rules, collation_version, *more) = row
    owner, acl, comment, connection_limit, tablespace, size = more
    return PostgresCapture(
        database=name,
        server_version=connection.info.parameter_status("server_version") or "",
        server_version_num=connection.info.server_version,
        encoding=encoding,
        locale_provider=_PROVIDERS[provider],
        collate=collate,
        ctype=ctype,
        locale=locale,
        icu_rules=icu_rules,
        collation_version=collation_version,
        owner=owner,
        acl=None if acl is None else tuple(acl),
        settings=_settings(connection),
        comment=comment,
        connection_limit=connection_limit,
        tablespace=tablespace,
        tablespaces=_names(connection, _TABLESPACES),
        extensions=tuple(
            Extension(name=extension, version=version)
            for extension, version in connection.execute(_EXTENSIONS).fetchall()
        ),
        roles=_names(connection, _ROLES),
        large_objects=_one(connection, LARGE_OBJECTS),
        replication_slots=_names(connection, _SLOTS),
        subscriptions=_names(connection, _SUBSCRIPTIONS),
        lsn=lsn,
        snapshot_time=snapshot_time,
        snapshot=snapshot,
        dump_compression=dump_compression,
        database_bytes=size,
        tables=tables,
    )


def _database_query(version: int) -> LiteralString:
    """Name the columns of ``pg_database`` as this server's version knows them."""
    locale: LiteralString = "NULL"
    if version >= _V17:
        locale = "d.datlocale"
    elif version >= _V15:
        locale = "d.daticulocale"
    return _DATABASE.format(
        provider="d.datlocprovider::pg_catalog.text" if version >= _V15 else "'c'",
        locale=locale,
        icu_rules="d.daticurules" if version >= _V16 else "NULL",
        collation_version="d.datcollversion" if version >= _V15 else "NULL",
    )


def _settings(connection: Connection) -> tuple[Setting, ...]:
    settings = []
    for role, text in connection.execute(_SETTINGS).fetchall():
        name, _, value = text.partition("=")
        settings.append(Setting(role=role or "", name=name, value=value))
    return tuple(settings)


def _names(connection: Connection, query: LiteralString) -> tuple[str, ...]:
    return tuple(str(row[0]) for row in connection.execute(query).fetchall())


def _one(connection: Connection, query: LiteralString) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0

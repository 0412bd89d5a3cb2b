"""The statements that set for a restored database what ``pg_restore`` does not.

Where building them needs a query, it runs on the caller's connection.
"""

from __future__ import annotations

import hashlib
from itertools import groupby
from typing import Final

from psycopg import sql

from pgben_tasks.adapters.postgres.roles import keep_roles
from pgben_tasks.adapters.postgres.server import Connection, column, scalar
from pgben_tasks.domain.documents import PostgresCapture, Setting

#: Settings whose stored value is a list of quoted names. As one literal they would become one name
#: (the rule of pg_dumpall), so they are set in a session and taken from there.
_NAME_LISTS: Final = frozenset(
    {
        "search_path",
        "temp_tablespaces",
        "local_preload_libraries",
        "session_preload_libraries",
    }
)

#: A database under construction: no ordinary role may connect, superusers are exempt.
CLOSED: Final = 0
#: What a database under construction is loaded with; ``finish_database`` takes it away. No commit
#: waits for the disk: the last one, in another database, does, and with it all before it.
_WHILE_LOADING: Final = {"synchronous_commit": "off"}
#: Kilobytes for building one index, of which pg_restore builds as many at once as it has jobs. The
#: default of 64 MB sorts a large index on disk; one that is set higher is left.
_INDEX_MEMORY: Final = 256 * 1024
_MEMORY = "SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = %s"

_PROVIDERS_SINCE: Final = 150000
_LOCALE_WORD: Final = {"icu": "ICU_LOCALE", "builtin": "BUILTIN_LOCALE"}

_GRANTS = """
SELECT pg_catalog.pg_get_userbyid(a.grantor),
       CASE a.grantee WHEN 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(a.grantee) END,
       a.is_grantable, a.privilege_type
FROM pg_catalog.aclexplode(%s::pg_catalog.text[]::pg_catalog.aclitem[])
     WITH ORDINALITY AS a(grantor, grantee, privilege_type, is_grantable, place)
ORDER BY a.place
"""
_GRANTEES = """
SELECT DISTINCT CASE a.grantee WHEN 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(a.grantee) END
FROM pg_catalog.pg_database d,
     pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
WHERE d.datname = %s
"""


def unfinished_name(name: str, marker: str) -> str:
    """Return the name of a database between its creation and its marking.

    ``CREATE DATABASE`` cannot set a comment in the same transaction. Until the comment stands, the
    name itself says whose it is, so a crash in between leaves nothing that nobody may remove.
    """
    digest = hashlib.sha256(f"{name}\n{marker}".encode()).hexdigest()
    return f"pgben_unfinished_{digest[:24]}"


def create_database(
    name: str, capture: PostgresCapture, *, server_version: int, tablespace: str | None
) -> sql.Composed:
    """Build ``CREATE DATABASE`` with the source's encoding, locale and owner, closed to users."""
    options = [
        sql.SQL("TEMPLATE template0"),
        sql.SQL("OWNER {}").format(sql.Identifier(capture.owner)),
        sql.SQL("ENCODING {}").format(sql.Literal(capture.encoding)),
        sql.SQL("LC_COLLATE {}").format(sql.Literal(capture.collate)),
        sql.SQL("LC_CTYPE {}").format(sql.Literal(capture.ctype)),
        sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(CLOSED)),
    ]
    if server_version >= _PROVIDERS_SINCE:
        options.append(sql.SQL("LOCALE_PROVIDER {}").format(sql.Literal(capture.locale_provider)))
    word = _LOCALE_WORD.get(capture.locale_provider)
    if word is not None and capture.locale is not None:
        options.append(sql.SQL("{} {}").format(sql.SQL(word), sql.Literal(capture.locale)))
    if capture.icu_rules is not None:
        options.append(sql.SQL("ICU_RULES {}").format(sql.Literal(capture.icu_rules)))
    if tablespace is not None:
        options.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(tablespace)))
    return sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), sql.SQL(" ").join(options))


def prepare_loading(connection: Connection, name: str) -> None:
    """Set for a database under construction what makes loading fast; no other is touched."""
    settings: dict[str, str | int] = {**_WHILE_LOADING}
    if scalar(connection, _MEMORY, ("maintenance_work_mem",)) < _INDEX_MEMORY:
        settings["maintenance_work_mem"] = _INDEX_MEMORY
    for setting, value in settings.items():
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET {} TO {}").format(
                sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)
            )
        )


def finish_database(
    connection: Connection, name: str, capture: PostgresCapture, *, marker: str
) -> None:
    """Set the source's settings, ACL, connection limit and comment on a loaded database.

    The comment takes the place of ``marker``, which also leaves the roles that were made with the
    database: from then on nothing removes them. Runs inside the caller's transaction.
    """
    connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(name)))
    apply_settings(connection, name, capture.settings)
    apply_acl(connection, name, capture)
    database = sql.Identifier(name)
    connection.execute(
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
            database, sql.Literal(capture.connection_limit)
        )
    )
    connection.execute(
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(capture.comment))
    )
    keep_roles(connection, marker)


def apply_settings(connection: Connection, name: str, settings: tuple[Setting, ...]) -> None:
    """Set what ``ALTER DATABASE … SET`` and ``ALTER ROLE … IN DATABASE … SET`` had set.

    Runs inside the caller's transaction.
    """
    for setting in settings:
        subject = (
            sql.SQL("ROLE {} IN DATABASE {}").format(
                sql.Identifier(setting.role), sql.Identifier(name)
            )
            if setting.role
            else sql.SQL("DATABASE {}").format(sql.Identifier(name))
        )
        parameter = sql.Identifier(*setting.name.split("."))
        if setting.name in _NAME_LISTS:
            connection.execute(
                "SELECT pg_catalog.set_config(%s, %s, true)", (setting.name, setting.value)
            )
            value: sql.Composable = sql.SQL("FROM CURRENT")
        else:
            value = sql.SQL("TO {}").format(sql.Literal(setting.value))
        connection.execute(sql.SQL("ALTER {} SET {} {}").format(subject, parameter, value))


def apply_acl(connection: Connection, name: str, capture: PostgresCapture) -> None:
    """Grant exactly the source's privileges on the database, entry by entry in the same order.

    Without an explicit list nothing is done: the default then holds here as it held there. Runs
    inside the caller's transaction.
    """
    if capture.acl is None:
        return
    database = sql.Identifier(name)
    for grantee in column(connection, _GRANTEES, (name,)):
        connection.execute(
            sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, _grantee(grantee))
        )
    if not capture.acl:
        # The server takes no empty array for a list of privileges; revoking all has made one.
        return
    grants = connection.execute(_GRANTS, (list(capture.acl),)).fetchall()
    for (grantor, grantee, grantable), rows in groupby(grants, key=lambda row: row[:3]):
        privileges = sql.SQL(", ").join(sql.SQL(row[3]) for row in rows)
        grant = sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
            privileges,
            database,
            _grantee(grantee),
            sql.SQL(" WITH GRANT OPTION" if grantable else ""),
        )
        # A superuser grants in the owner's name; another grantor has to be become.
        other = grantor != capture.owner
        if other:
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(grantor)))
        connection.execute(grant)
        if other:
            connection.execute("RESET ROLE")


def _grantee(name: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)

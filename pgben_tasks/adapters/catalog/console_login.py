"""The console's login at the catalog's server: a role that reads the catalog and nothing else.

The grants hold it; that its transactions are read-only from the start only guards against mistakes,
because every role may change that for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.adapters.keys.secrets import read_secret
from pgben_tasks.errors import ConfigurationError

_WHAT: Final = "file of the console's login"
#: Guards the role; any fixed number that nothing else uses.
_LOCK: Final = 7_290_114_405

_ROLE: Final = (
    "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls"
    " OR EXISTS (SELECT FROM pg_catalog.pg_auth_members WHERE member = r.oid)"
    " OR EXISTS (SELECT FROM pg_catalog.pg_shdepend WHERE refobjid = r.oid"
    " AND refclassid = 'pg_catalog.pg_authid'::regclass AND deptype = 'o') AS used"
    " FROM pg_catalog.pg_roles r WHERE rolname = %s"
)
_OWN: Final = (
    "SELECT %(name)s IN (current_user, session_user, pg_catalog.pg_get_userbyid(datdba)) AS own,"
    " current_schema() AS schema"
    " FROM pg_catalog.pg_database WHERE datname = current_database()"
)
_MAY_CREATE: Final = (
    "SELECT has_schema_privilege(%(name)s, %(schema)s, 'CREATE') AS in_schema,"
    " has_database_privilege(%(name)s, current_database(), 'TEMPORARY') AS temporary"
)
#: What the role may do, whoever made it, and no more.
_GRANTS: Final = (
    # More connections than a console opens are somebody else's.
    "ALTER ROLE {role} LOGIN PASSWORD {verifier} CONNECTION LIMIT 40",
    "ALTER ROLE {role} SET default_transaction_read_only = on",
    "GRANT CONNECT ON DATABASE {database} TO {role}",
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleLogin:
    """A role and its password, chosen by the site."""

    name: str
    password: SecretStr


def read_console_login(path: Path, *, catalog: str) -> ConsoleLogin:
    """Read the URL ``postgresql://role:password@host/catalog`` from a file.

    Raises ``ConfigurationError`` for a file that others may read, a text that is no such URL, and
    one of another database than ``catalog``. The text is never repeated.
    """
    text = read_secret(path, what=_WHAT).strip()
    try:
        parts = conninfo_to_dict(text) if "://" in text else {}
    except psycopg.ProgrammingError:
        # What libpq says of a URL repeats it, password and all.
        parts = {}
    name, password = parts.get("user"), parts.get("password")
    if not (name and password and parts.get("dbname")):
        raise ConfigurationError(
            f"the {_WHAT} '{path}' holds no URL with a role, a password and a database",
            f"write postgresql://pgben_console:PASSWORD@HOST:5432/{catalog} into it",
        )
    if parts["dbname"] != catalog:
        raise ConfigurationError(
            f"the {_WHAT} '{path}' names another database than the catalog '{catalog}'",
            "give it the database of PGBEN_CATALOG_URL",
        )
    return ConsoleLogin(name=str(name), password=SecretStr(str(password)))


def ensure_console_login(database: CatalogDatabase, login: ConsoleLogin) -> bool:
    """Make the role or bring it up to date, all in one transaction; return whether it is new.

    Run after the migrations: tables of later ones are granted as they are made, by the same role.

    Raises ``ConfigurationError`` for a role that is the catalog's own, that may do more than log
    in, or that owns something: it is somebody else's, and would lose its password.
    """
    name = login.name
    with database.transaction() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        own = require(cursor.execute(_OWN, {"name": name}).fetchone())
        found = cursor.execute(_ROLE, (name,)).fetchone()
        _require_free(name, is_own=own["own"], found=found)
        gaps = {
            "role": sql.Identifier(name),
            "database": sql.Identifier(database.name),
            "schema": sql.Identifier(own["schema"]),
            "verifier": sql.Literal(_verifier(cursor.connection, login)),
        }
        if found is None:
            cursor.execute(
                sql.SQL(
                    "CREATE ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"
                    " NOBYPASSRLS"
                ).format(**gaps)
            )
        for statement in _GRANTS:
            cursor.execute(sql.SQL(statement).format(**gaps))
        _close_to_everybody(cursor, {"name": name, "schema": own["schema"]}, gaps)
    return found is None


def _require_free(name: str, *, is_own: bool, found: Row | None) -> None:
    if is_own:
        raise ConfigurationError(
            f"the console's login '{name}' is the role that owns the catalog or writes it",
            "choose a name of its own, such as pgben_console",
        )
    if found is not None and found["used"]:
        raise ConfigurationError(
            f"the console's login '{name}' is a role that is used for something else: it may do "
            "more than log in, is a member of another role, or owns something",
            "choose a name of its own, such as pgben_console; that role was not changed",
        )


def _close_to_everybody(
    cursor: psycopg.Cursor[Row], asked: dict[str, str], gaps: dict[str, sql.Composable]
) -> None:
    """Take from everybody what this role would get with it: tables of its own.

    Servers before 15 let every role make tables in the schema ``public``, and all let every role
    make temporary ones.
    """
    may = require(cursor.execute(_MAY_CREATE, asked).fetchone())
    if may["in_schema"]:
        # Whoever applies migrations goes on making tables there.
        cursor.execute(sql.SQL("GRANT CREATE ON SCHEMA {schema} TO CURRENT_USER").format(**gaps))
        cursor.execute(sql.SQL("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC").format(**gaps))
    if may["temporary"]:
        cursor.execute(
            sql.SQL("REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC").format(**gaps)
        )


def _verifier(connection: psycopg.Connection[Row], login: ConsoleLogin) -> str:
    """Return what the server stores of the password, so that no log of it has the password."""
    return connection.pgconn.encrypt_password(
        login.password.get_secret_value().encode(), login.name.encode(), b"scram-sha-256"
    ).decode()

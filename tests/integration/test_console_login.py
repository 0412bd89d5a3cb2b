"""The console's login at the catalog: it reads every table, and changes nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from pgben_tasks.adapters.catalog.console_login import ConsoleLogin, ensure_console_login
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.postgres.server import Connection, PostgresServer, connect
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.settings import Settings
from tests.support.cli_site import CANARY, Site
from tests.support.fixtures_installation import drop
from tests.support.fixtures_postgres import open_database, remove_role

#: Every table, with one of its columns.
TABLES = (
    "SELECT table_name AS name, min(column_name::text) AS one FROM information_schema.columns"
    " WHERE table_schema = 'public' AND is_generated = 'NEVER' GROUP BY 1 ORDER BY 1"
)


@pytest.fixture
def database(server_17: PostgresServer) -> Iterator[CatalogDatabase]:
    """Yield a catalog of the test's own, with every migration."""
    made = CatalogDatabase(server_17, f"catalog_{secrets.token_hex(6)}")
    made.create()
    made.migrate()
    yield made
    drop(server_17, made.name)


@pytest.fixture
def login(server_17: PostgresServer) -> Iterator[ConsoleLogin]:
    """Yield a login that is not there yet; remove it, and what it owns nothing of, afterwards."""
    name = f"console_{secrets.token_hex(4)}"
    yield ConsoleLogin(name=name, password=SecretStr(f"{CANARY} ç'\\"))
    remove_role(server_17, name)


def as_console(database: CatalogDatabase, login: ConsoleLogin) -> Connection:
    server = replace(database.server, user=login.name, password=login.password.get_secret_value())
    return connect(server, database.name, application_name="test")


def tables(database: CatalogDatabase) -> dict[str, str]:
    return {row["name"]: row["one"] for row in database.fetch_all(TABLES)}


def refused(
    connection: Connection, statement: LiteralString, table: str = "", one: str = ""
) -> str:
    """Return the SQLSTATE with which a statement about a table, and one column, is refused."""
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(
            sql.SQL(statement).format(table=sql.Identifier(table), one=sql.Identifier(one))
        )
    return str(caught.value.sqlstate)


CHANGES: tuple[LiteralString, ...] = (
    "INSERT INTO {table} ({one}) VALUES (DEFAULT)",
    "UPDATE {table} SET {one} = DEFAULT",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
    "DROP TABLE {table}",
    "ALTER TABLE {table} DROP COLUMN {one}",
    "SELECT {one} FROM {table} FOR UPDATE",
)
MAKING: tuple[LiteralString, ...] = (
    "CREATE TABLE x (y integer)",
    "CREATE TEMPORARY TABLE x (y integer)",
    "CREATE SCHEMA x",
    "CREATE ROLE x",
    "CREATE DATABASE x",
    "COPY (SELECT 1) TO PROGRAM 'true'",
)
READ_ONLY, NO_RIGHT = "25006", "42501"


def test_it_reads_every_table_and_changes_none(
    database: CatalogDatabase, login: ConsoleLogin
) -> None:
    assert ensure_console_login(database, login) is True
    found = tables(database)
    assert {"job", "migration", "backup", "audit"} <= set(found)
    with closing(as_console(database, login)) as connection:
        for name in found:
            connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name)))
        changes = {refused(connection, one, *both) for both in found.items() for one in CHANGES}
        assert changes <= {READ_ONLY, NO_RIGHT}
        assert refused(connection, "CREATE TABLE x (y integer)") == READ_ONLY
        # Read-only is what a role may change for itself; the grants hold all the same.
        connection.execute("SET default_transaction_read_only = off")
        changes = {refused(connection, one, *both) for both in found.items() for one in CHANGES}
        assert changes == {NO_RIGHT}
        assert {refused(connection, one) for one in MAKING} == {NO_RIGHT}


def test_it_reads_the_tables_of_later_migrations(
    database: CatalogDatabase, login: ConsoleLogin
) -> None:
    ensure_console_login(database, login)
    database.execute("CREATE TABLE later (name text)")
    database.execute("INSERT INTO later VALUES ('x')")
    with closing(as_console(database, login)) as connection:
        assert connection.execute("SELECT name FROM later").fetchall() == [("x",)]
        connection.execute("SET default_transaction_read_only = off")
        assert refused(connection, "DELETE FROM {table}", "later") == NO_RIGHT


def test_where_everybody_may_make_tables_it_may_not_and_migrations_go_on(
    database: CatalogDatabase, login: ConsoleLogin
) -> None:
    # As servers before 15 have it from the beginning.
    database.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    ensure_console_login(database, login)
    with closing(as_console(database, login)) as connection:
        connection.execute("SET default_transaction_read_only = off")
        assert refused(connection, "CREATE TABLE x (y integer)") == NO_RIGHT
    database.execute("CREATE TABLE later (name text)")


def test_again_it_changes_the_password_and_grants_what_was_taken(
    database: CatalogDatabase, login: ConsoleLogin
) -> None:
    ensure_console_login(database, login)
    role = sql.Identifier(login.name)
    with open_database(database.server, database.name) as connection:
        connection.execute(sql.SQL("REVOKE SELECT ON job FROM {}").format(role))
        connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(role))
    new = replace(login, password=SecretStr("another"))
    assert ensure_console_login(database, new) is False
    with closing(as_console(database, new)) as connection:
        connection.execute("SELECT * FROM job")
        shown = connection.execute("SHOW default_transaction_read_only").fetchone()
        assert shown == ("on",)
    with pytest.raises(ConfigurationError, match="password"):
        as_console(database, login)


def test_the_password_reaches_the_server_as_a_verifier_only(
    database: CatalogDatabase, postgres: EmbeddedPostgres, login: ConsoleLogin
) -> None:
    with open_database(database.server) as connection:
        connection.execute(
            sql.SQL("ALTER ROLE {} SET log_statement = 'all'").format(
                sql.Identifier(database.server.user)
            )
        )
    try:
        ensure_console_login(database, login)
    finally:
        with open_database(database.server) as connection:
            connection.execute(
                sql.SQL("ALTER ROLE {} RESET log_statement").format(
                    sql.Identifier(database.server.user)
                )
            )
    logged = postgres.child.log.read_text("utf-8", errors="replace")
    assert f'ALTER ROLE "{login.name}" LOGIN PASSWORD \'SCRAM-SHA-256$' in logged
    assert CANARY not in logged
    with open_database(database.server) as connection:
        row = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = %s", (login.name,)
        ).fetchone()
    assert row is not None
    assert row[0].startswith("SCRAM-SHA-256$")


@pytest.mark.parametrize(
    "made",
    [
        "CREATE ROLE {} SUPERUSER LOGIN",
        "CREATE ROLE {} CREATEROLE LOGIN",
        "CREATE ROLE {} IN ROLE pg_read_all_data LOGIN",
    ],
)
def test_a_role_that_may_more_is_left_as_it_is(
    made: LiteralString, database: CatalogDatabase, login: ConsoleLogin
) -> None:
    with open_database(database.server) as connection:
        connection.execute(sql.SQL(made).format(sql.Identifier(login.name)))
    with pytest.raises(ConfigurationError, match="used for something else"):
        ensure_console_login(database, login)
    with open_database(database.server) as connection:
        row = connection.execute(
            "SELECT a.rolpassword, r.rolconfig FROM pg_authid a JOIN pg_roles r USING (rolname)"
            " WHERE rolname = %s",
            (login.name,),
        ).fetchone()
    assert row == (None, None)


def test_the_role_of_an_application_is_not_taken(
    database: CatalogDatabase, login: ConsoleLogin
) -> None:
    role = sql.Identifier(login.name)
    with open_database(database.server) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    with open_database(database.server, database.name) as connection:
        connection.execute("CREATE TABLE of_an_application (name text)")
        connection.execute(sql.SQL("ALTER TABLE of_an_application OWNER TO {}").format(role))
    with pytest.raises(ConfigurationError, match="used for something else"):
        ensure_console_login(database, login)


def test_the_owner_of_the_catalog_is_not_taken(
    database: CatalogDatabase, login: ConsoleLogin
) -> None:
    owner = replace(login, name=database.server.user)
    with pytest.raises(ConfigurationError, match="owns the catalog or writes it"):
        ensure_console_login(database, owner)


def test_an_owner_that_is_no_superuser_makes_it(
    server_17: PostgresServer, login: ConsoleLogin
) -> None:
    owner = f"owner_{secrets.token_hex(4)}"
    name = f"catalog_{secrets.token_hex(6)}"
    with open_database(server_17) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'x'").format(sql.Identifier(owner))
        )
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(
                sql.Identifier(name), sql.Identifier(owner)
            )
        )
    database = CatalogDatabase(replace(server_17, user=owner, password="x"), name)
    try:
        database.migrate()
        assert ensure_console_login(database, login) is True
        assert ensure_console_login(database, login) is False
        with closing(as_console(database, login)) as connection:
            connection.execute("SELECT * FROM job")
            connection.execute("SET default_transaction_read_only = off")
            assert refused(connection, "CREATE TABLE x (y integer)") == NO_RIGHT
    finally:
        remove_role(server_17, login.name)
        drop(server_17, name)
        remove_role(server_17, owner)


# --- pgben init


def url_of(site: Site, name: str, *, password: str = CANARY, database: str = "") -> str:
    catalog = Settings.load(site.environment).catalog_url.get_secret_value()
    host = catalog.rpartition("@")[2]
    if database:
        host = f"{host.rpartition('/')[0]}/{database}"
    return f"postgresql://{name}:{password}@{host}"


def file_of(site: Site, text: str, mode: int = 0o600) -> Path:
    file = site.folder / "console_catalog_url"
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return file


def test_init_makes_the_login_once(
    site: Site, postgres: EmbeddedPostgres, server_17: PostgresServer, login: ConsoleLogin
) -> None:
    url = url_of(site, login.name)
    file = file_of(site, f"{url}\n")
    first = site.init("--console-login", str(file), "--json")
    assert first.code == 0, first.err
    assert any(login.name in one for one in first.json["made"])
    again = site.run("init", "--keys", str(site.keys), "--console-login", str(file))
    assert again.code == 0, again.err
    assert "nothing was made" in again.err
    assert CANARY not in first.all + again.all
    with psycopg.connect(url) as connection:
        connection.execute("SELECT * FROM job")


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("", 0o600, "holds no URL"),
        (f"pgben_console:{CANARY}", 0o600, "holds no URL"),
        (f"postgresql://pgben_console:{CANARY}@[host/x", 0o600, "holds no URL"),
        (f"postgresql://{CANARY}@host/pgben_catalog", 0o600, "holds no URL"),
        (f"postgresql://pgben_console:{CANARY}@host/another", 0o600, "names another database"),
        (f"postgresql://pgben_console:{CANARY}@host/pgben_catalog", 0o644, "open to every user"),
    ],
)
def test_init_refuses_a_file_that_is_none_before_it_makes_anything(
    text: str, mode: int, said: str, site: Site
) -> None:
    file = file_of(site, text, mode)
    ended = site.run("init", "--keys", str(site.keys), "--console-login", str(file))
    assert ended.code == 2
    assert said in ended.err
    assert CANARY not in ended.all
    assert not site.keys.exists()

"""What is read of `globals.sql`: roles and memberships, and nothing that could be run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgben_tasks.adapters.postgres.roles import Membership, Role, parse_roles, read_roles
from pgben_tasks.errors import IntegrityError

#: As pg_dumpall 17 writes it.
TEXT = r"""--
-- PostgreSQL database cluster dump
--

\restrict 5xH6cU

SET default_transaction_read_only = off;

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

--
-- Roles
--

CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER INHERIT CREATEDB LOGIN CONNECTION LIMIT 7 VALID UNTIL '2031-01-01';
COMMENT ON ROLE app IS 'de dia; it''s
-- no comment';
CREATE ROLE "Portal ""velho"" 1";
ALTER ROLE "Portal ""velho"" 1" WITH SUPERUSER NOINHERIT;

--
-- User Configurations
--

ALTER ROLE app SET search_path TO '$user', 'public';
ALTER ROLE app SET "pgben.setor" TO 'social';

--
-- Role memberships
--

GRANT pg_read_all_data TO app GRANTED BY postgres;
GRANT app TO "Portal ""velho"" 1" WITH ADMIN OPTION, INHERIT FALSE, SET TRUE GRANTED BY app;

--
-- Tablespaces
--

CREATE TABLESPACE depressa OWNER app LOCATION '/srv/fast';
GRANT ALL ON TABLESPACE depressa TO app;
GRANT SET ON PARAMETER work_mem TO app;

\unrestrict 5xH6cU
"""


def test_roles_are_read_with_everything_but_passwords() -> None:
    found = parse_roles(TEXT)
    assert found.roles == {
        "app": Role(
            attributes=("NOSUPERUSER", "INHERIT", "CREATEDB", "LOGIN"),
            connection_limit=7,
            valid_until="2031-01-01",
            comment="de dia; it's\n-- no comment",
            settings={"search_path": ("$user", "public"), "pgben.setor": ("social",)},
        ),
        'Portal "velho" 1': Role(attributes=("SUPERUSER", "NOINHERIT")),
    }
    assert found.memberships == (
        Membership("pg_read_all_data", "app", {}, "postgres"),
        Membership(
            "app", 'Portal "velho" 1', {"ADMIN": True, "INHERIT": False, "SET": True}, "app"
        ),
    )


@pytest.mark.parametrize(
    "line",
    [
        "ALTER ROLE app WITH LOGIN; DROP DATABASE pgben",
        "CREATE ROLE app; ALTER ROLE app WITH LOGIN PASSWORD 'x';",
        "ALTER ROLE nobody WITH LOGIN;",
        "CREATE ROLE app; ALTER ROLE app WITH CONNECTION LIMIT 'many';",
        "CREATE ROLE app; COMMENT ON ROLE app IS NULL;",
        "GRANT app TO portal WITH EVERYTHING TRUE;",
        "GRANT app TO portal WITH ADMIN OPTION; \\! id",
        "CREATE ROLE 'app",
        "CREATE ROLE app $$",
    ],
)
def test_what_pg_dumpall_does_not_write_is_refused(line: str) -> None:
    with pytest.raises(IntegrityError, match="are not described as pg_dumpall does it"):
        parse_roles(line)


def test_a_backslash_is_read_as_pg_dumpall_writes_it() -> None:
    found = parse_roles(r"CREATE ROLE app; COMMENT ON ROLE app IS E'it''s C:\\';")
    assert found.roles["app"].comment == "it's C:\\"


@pytest.mark.parametrize(
    ("said", "encoding"), [("LATIN1", "latin-1"), ("WIN1252", "cp1252"), ("SQL_ASCII", "utf-8")]
)
def test_a_file_is_read_in_the_encoding_that_it_names(
    tmp_path: Path, said: str, encoding: str
) -> None:
    text = f"--\nSET client_encoding = '{said}';\nCREATE ROLE \"função\";\n"
    (tmp_path / "globals.sql").write_bytes(text.encode(encoding))
    assert set(read_roles(tmp_path / "globals.sql").roles) == {"função"}


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_roles(tmp_path / "globals.sql")
    (tmp_path / "globals.sql").write_bytes(b"\xff")
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_roles(tmp_path / "globals.sql")

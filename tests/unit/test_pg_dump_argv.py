"""Claims about the command lines of PostgreSQL's client programs, as values."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.adapters.postgres.listing import DumpListing, listing_argv, schema_argv
from pgben_tasks.adapters.postgres.programs import (
    _Dumped,
    dump_argv,
    explain_dump,
    explain_restore,
    globals_argv,
    restore_argv,
)
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.adapters.process import Completed
from pgben_tasks.errors import (
    CommandFailed,
    ConfigurationError,
    DatabaseUnavailable,
    PgbenError,
    SpoolFull,
    TargetBusy,
)
from pgben_tasks.ports import ClientTools
from tests.support.fixtures_postgres import RecordingProgress

TOOLS = ClientTools(
    version="17.10",
    major=17,
    pg_dump=Path("/opt/pg/bin/pg_dump"),
    pg_dumpall=Path("/opt/pg/bin/pg_dumpall"),
    pg_restore=Path("/opt/pg/bin/pg_restore"),
    compression="zstd:3",
)
WITHOUT_ZSTD = ClientTools(
    version="15.18",
    major=15,
    pg_dump=TOOLS.pg_dump,
    pg_dumpall=TOOLS.pg_dumpall,
    pg_restore=TOOLS.pg_restore,
    compression="none",
)
SERVER = PostgresServer(host="db", port=5432, user="pgben", password="s3cr3t-word")


def _dump(tools: ClientTools = TOOLS) -> list[str]:
    return dump_argv(
        tools,
        destination=Path("/spool/dump"),
        jobs=2,
        snapshot="00000004-0000000B-1",
        lock_wait=timedelta(seconds=20),
    )


def test_a_dump_is_a_directory_on_the_exported_snapshot() -> None:
    assert _dump() == [
        "/opt/pg/bin/pg_dump",
        "--format=directory",
        "--jobs=2",
        "--compress=zstd:3",
        "--snapshot=00000004-0000000B-1",
        "--lock-wait-timeout=20000",
        "--no-sync",
        "--no-password",
        "--verbose",
        "--file=/spool/dump",
    ]


def test_a_client_without_zstd_does_not_compress() -> None:
    assert "--compress=0" in _dump(WITHOUT_ZSTD)


def test_row_security_is_never_enabled() -> None:
    assert not [word for word in _dump() if "row-security" in word]


def test_globals_hold_no_passwords() -> None:
    argv = globals_argv(TOOLS, database="pgben", destination=Path("/spool/dump/globals.sql"))
    assert argv[0] == "/opt/pg/bin/pg_dumpall"
    assert {"--globals-only", "--no-role-passwords", "--database=pgben"} <= set(argv)


def test_a_restore_stops_at_the_first_error_and_does_not_replicate() -> None:
    argv = restore_argv(TOOLS, database="copy", dump=Path("/spool/dump"), jobs=2, tablespaces=True)
    assert {"--exit-on-error", "--no-subscriptions", "--dbname=copy", "--jobs=2"} <= set(argv)
    assert argv[-1] == "/spool/dump"
    assert "--no-tablespaces" not in argv


def test_a_missing_tablespace_is_replaced_by_the_default() -> None:
    argv = restore_argv(TOOLS, database="copy", dump=Path("/spool/dump"), jobs=2, tablespaces=False)
    assert "--no-tablespaces" in argv


@pytest.mark.parametrize(
    "name", ["postgresql://u:p@h/d", "dbname=x host=evil", "host=evil", "a b", "-h", "x" * 64, ""]
)
def test_a_name_that_libpq_would_expand_never_reaches_a_command_line(name: str) -> None:
    with pytest.raises(ConfigurationError):
        restore_argv(TOOLS, database=name, dump=Path("/d"), jobs=1, tablespaces=True)
    with pytest.raises(ConfigurationError):
        globals_argv(TOOLS, database=name, destination=Path("/d"))


def test_a_listing_reads_no_server() -> None:
    for argv in (
        listing_argv(TOOLS, dump=Path("/spool/dump")),
        schema_argv(TOOLS, dump=Path("/spool/dump")),
    ):
        assert not [word for word in argv if word.startswith(("--dbname", "-d", "--host", "-h"))]


def test_the_password_goes_to_the_environment_and_to_no_text() -> None:
    environment = SERVER.environment("pgben", application_name="pgben dump")
    assert environment["PGPASSWORD"] == "s3cr3t-word"
    assert "s3cr3t" not in repr(SERVER)
    assert "s3cr3t" not in str(SERVER)
    assert not [word for word in _dump() if "s3cr3t" in word]


NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8
)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=6, unique=True))
def test_every_listed_table_is_found_whatever_its_name(tables: list[tuple[str, str]]) -> None:
    lines = tuple(
        f"{schema} {table} owner".replace("\n", " ").replace("\r", " ") for schema, table in tables
    )
    assert DumpListing(table_data=lines, entries=len(lines)).missing(tables) == ()


def test_a_table_that_is_not_listed_is_missing() -> None:
    listing = DumpListing(table_data=("public a b owner",), entries=1)
    assert listing.missing([("public", "a b"), ("public", "c")]) == (("public", "c"),)


def _said(*lines: str, program: str = "pg_dump") -> Completed:
    return Completed(program=program, returncode=1, stderr_tail=lines, stdout=b"")


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            ['pg_dump: error: could not write to file "/s/1.dat": No space left on device'],
            SpoolFull,
        ),
        (
            ['pg_dump: error: could not create directory "/s": Read-only file system'],
            ConfigurationError,
        ),
        (["pg_dump: error: server closed the connection unexpectedly"], DatabaseUnavailable),
        (['pg_dump: error: could not obtain lock on relation "public.a"'], TargetBusy),
        (
            [
                'pg_dump: error: could not obtain lock on relation "public.a"',
                "pg_dump: error: query failed: server closed the connection unexpectedly",
            ],
            DatabaseUnavailable,
        ),
        (["pg_dump: detail: Query was: LOCK TABLE public.a IN ACCESS SHARE MODE"], TargetBusy),
        (["pg_dump: error: query failed: ERROR:  permission denied"], CommandFailed),
    ],
)
def test_the_last_words_of_pg_dump_say_what_to_do(
    lines: list[str], error: type[PgbenError]
) -> None:
    assert type(explain_dump(SERVER, Path("/s"))(_said(*lines))) is error


def test_a_full_disk_of_the_server_is_not_a_full_spool() -> None:
    line = "pg_dump: error: query failed: ERROR:  could not write: No space left on device"
    assert type(explain_dump(SERVER, Path("/s"))(_said(line))) is CommandFailed


def test_rows_quoted_by_the_server_are_not_repeated() -> None:
    error = explain_restore(SERVER)(
        _said(
            'pg_restore: error: COPY failed for table "c": ERROR:  duplicate key value',
            "DETAIL:  Key (cpf)=(123.456.789-00) already exists.",
            "CONTEXT:  COPY c, line 7: 123.456.789-00 Maria",
            program="pg_restore",
        )
    )
    assert error is not None
    assert "duplicate key" in error.sentence
    assert "123.456" not in str(error)


def test_a_dump_is_as_far_as_its_tables_and_what_it_has_written(tmp_path: Path) -> None:
    told = RecordingProgress()
    pages = {("public", "grande"): 97, ("outro", "grande"): 0, ("public", "vazia"): 0}
    seen = _Dumped(told, tmp_path, pages, 1000, compressed=True)

    def share() -> int:
        seen._next_look = 0.0
        seen.check()
        return told.amount

    assert told.facts == {"tables": 0, "tables_total": 3}
    # What is written before any table is begun (roles, the head) is no part of them.
    (tmp_path / "toc.dat").write_bytes(bytes(50))
    assert share() == 0
    seen.line('pg_dump: dumping contents of table "public.grande"')
    assert share() == 250
    (tmp_path / "1.dat").write_bytes(bytes(1000))
    assert share() == 980, "never beyond the tables that are begun"
    seen.line('pg_dump: dumping contents of table "outro.grande"')
    seen.line("pg_dump: finished item 12 TABLE DATA grande")
    (tmp_path / "1.dat").unlink()
    assert share() == 980, "and never back"
    assert told.facts == {"tables": 2, "tables_total": 3}
    seen.finish()
    assert told.amount == 1000


@pytest.mark.parametrize(
    "lines",
    [
        ['pg_dump: pg_dump: dumping contents of table "s.a"dumping contents of table "s.b"', ""],
        ['pg_dump: dumping contents of table "s.a"pg_dump: ', 'dumping contents of table "s.b"'],
        [
            "pg_dump: pg_dump: ",
            'dumping contents of table "s.a"',
            'dumping contents of table "s.b"',
        ],
    ],
)
def test_lines_of_processes_that_write_at_once_are_told_apart(
    tmp_path: Path, lines: list[str]
) -> None:
    told = RecordingProgress()
    seen = _Dumped(told, tmp_path, {("s", "a"): 1, ("s", "b"): 1}, 1000, compressed=True)
    for line in lines:
        seen.line(line)
    assert told.facts == {"tables": 2, "tables_total": 2}
    assert set(seen._running) == {"s.a", "s.b"}

"""Claims about dumps of real databases: complete, on one snapshot, or not at all."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg import sql

from pgben_tasks.adapters.postgres.clients import Installation
from pgben_tasks.adapters.postgres.listing import read_listing
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.domain.restorability import Archive
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import (
    CommandFailed,
    ConfigurationError,
    DatabaseUnavailable,
    FenceLost,
    IntegrityError,
    PgbenError,
    TargetBusy,
)
from tests.support.deployment import command_lines
from tests.support.fixtures_postgres import (
    RecordingProgress,
    address,
    client_of,
    in_thread,
    new_database,
    open_database,
    run_sql,
)

SECOND = timedelta(seconds=1)
ROWS = """
CREATE TABLE simples (id int); INSERT INTO simples SELECT generate_series(1, 100);
CREATE TABLE outra (id int); INSERT INTO outra SELECT generate_series(1, 7);
"""


@pytest.fixture
def database(server_17: PostgresServer, scratch: Callable[[PostgresServer], str]) -> str:
    """Return a database with two tables."""
    name = new_database(server_17, scratch(server_17))
    run_sql(server_17, name, ROWS)
    return name


@pytest.fixture
def login(server_17: PostgresServer, database: str) -> Iterator[PostgresServer]:
    """Yield the server as an ordinary role without any privilege sees it."""
    role = f"login_{secrets.token_hex(5)}"
    run_sql(server_17, "postgres", f"CREATE ROLE {role} LOGIN PASSWORD 'Palavra-{role}'")
    yield replace(server_17, user=role, password=f"Palavra-{role}")
    run_sql(server_17, database, f"DROP OWNED BY {role}; DROP ROLE {role}")


def _waiting(server: PostgresServer, database: str) -> bool:
    """Return whether a session waits for a lock in the database."""
    with open_database(server, database) as connection:
        return bool(
            connection.execute(
                "SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                "WHERE NOT l.granted AND d.datname = current_database()"
            ).fetchall()
        )


def _dump(
    source: PostgresSource,
    destination: Path,
    *,
    jobs: int = 2,
    progress: RecordingProgress | None = None,
) -> RecordingProgress:
    told = progress or RecordingProgress()
    tools = source.preflight().tools
    with source.capture(tools) as capture:
        source.dump(
            capture, destination, tools=tools, database_bytes=8_000_000, jobs=jobs, progress=told
        )
    return told


def _end_the_capture(server: PostgresServer, database: str) -> None:
    with open_database(server) as connection:
        assert connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = 'pgben capture' AND datname = %s",
            (database,),
        ).fetchone() == (True,)


def test_a_truncate_waits_until_the_capture_is_closed(
    server_17: PostgresServer, database: str, tmp_path: Path
) -> None:
    source = PostgresSource(server_17, database)
    tools = source.preflight().tools
    with source.capture(tools) as capture:
        source.dump(
            capture,
            tmp_path / "d",
            tools=tools,
            database_bytes=8_000_000,
            jobs=2,
            progress=RecordingProgress(),
        )
        truncate = in_thread(lambda: run_sql(server_17, database, "TRUNCATE simples"))
        assert wait_until(lambda: _waiting(server_17, database), seconds=20)
        assert [(one.table, one.rows) for one in capture.count()] == [
            ("outra", 7),
            ("simples", 100),
        ]
    truncate.join(timeout=20)
    assert not truncate.is_alive()
    with source.capture(tools) as capture:
        assert [one.rows for one in capture.count()] == [7, 0]


def test_a_truncate_that_queues_before_pg_dump_ends_as_busy_and_not_as_a_standstill(
    server_17: PostgresServer, database: str, tmp_path: Path
) -> None:
    source = PostgresSource(server_17, database, lock_timeout=SECOND)
    tools = source.preflight().tools
    with source.capture(tools) as capture:
        truncate = in_thread(lambda: run_sql(server_17, database, "TRUNCATE simples"))
        assert wait_until(lambda: _waiting(server_17, database), seconds=20)
        with pytest.raises(TargetBusy, match="could not lock a table"):
            source.dump(
                capture,
                tmp_path / "d",
                tools=tools,
                database_bytes=8_000_000,
                jobs=2,
                progress=RecordingProgress(),
            )
    truncate.join(timeout=20)


def test_what_is_written_after_the_snapshot_is_neither_counted_nor_described(
    server_17: PostgresServer, database: str
) -> None:
    source = PostgresSource(server_17, database)
    before = datetime.now(UTC)
    with source.capture(source.preflight().tools) as capture:
        run_sql(server_17, database, "INSERT INTO simples VALUES (0); CREATE TABLE nova (id int)")
        described = capture.describe(capture.count())
    assert described.rows == 107
    assert [table.table for table in described.tables] == ["outra", "simples"]
    assert before - timedelta(minutes=1) < described.snapshot_time <= datetime.now(UTC)


def test_a_table_that_appears_while_the_locks_are_awaited_is_dumped_too(
    server_17: PostgresServer, database: str
) -> None:
    source = PostgresSource(server_17, database)
    tools = source.preflight().tools
    names: list[tuple[str, str]] = []
    rows: list[int] = []

    def capture_all() -> None:
        with source.capture(tools) as capture:
            names.extend(capture.table_names)
            rows.extend(one.rows for one in capture.count())

    with open_database(server_17, database) as other:
        other.execute("BEGIN; LOCK TABLE simples")
        other.execute("CREATE TABLE nova AS SELECT generate_series(1, 3) AS id")
        other.execute("DROP TABLE outra")
        capturing = in_thread(capture_all)
        assert wait_until(lambda: _waiting(server_17, database), seconds=20)
        other.execute("COMMIT")
    capturing.join(timeout=30)
    assert names == [("public", "nova"), ("public", "simples")]
    assert rows == [3, 100]


def test_a_table_locked_by_somebody_else_is_named_after_three_tries(
    server_17: PostgresServer, database: str
) -> None:
    source = PostgresSource(server_17, database, lock_timeout=timedelta(milliseconds=200))
    with open_database(server_17, database) as other:
        other.execute("BEGIN; LOCK TABLE simples")
        with (
            pytest.raises(TargetBusy, match=r"'public.simples' is locked by the server process \d"),
            source.capture(source.preflight().tools),
        ):
            pass


def test_an_empty_database_is_captured(
    server_17: PostgresServer, scratch: Callable[[PostgresServer], str], tmp_path: Path
) -> None:
    name = new_database(server_17, scratch(server_17))
    source = PostgresSource(server_17, name)
    tools = source.preflight().tools
    with source.capture(tools) as capture:
        source.dump(
            capture,
            tmp_path / "d",
            tools=tools,
            database_bytes=8_000_000,
            jobs=1,
            progress=RecordingProgress(),
        )
        described = capture.describe(capture.count())
    assert (described.tables, described.large_objects) == ((), 0)
    assert read_listing(tmp_path / "d", tools).table_data == ()


def test_tables_of_an_extension_count_only_as_its_configuration_with_its_filter(
    server_17: PostgresServer, database: str
) -> None:
    run_sql(
        server_17,
        database,
        """
        CREATE EXTENSION pg_trgm;
        ALTER EXTENSION pg_trgm ADD TABLE outra;
        CREATE TABLE configuracao AS SELECT generate_series(1, 10) AS id;
        ALTER EXTENSION pg_trgm ADD TABLE configuracao;
        SET allow_system_table_mods = on;
        UPDATE pg_extension SET extconfig = ARRAY['configuracao'::regclass::oid],
               extcondition = ARRAY['WHERE id > 6'] WHERE extname = 'pg_trgm';
        CREATE TEMPORARY TABLE passageira (id int);
        """,
    )
    source = PostgresSource(server_17, database)
    with source.capture(source.preflight().tools) as capture:
        counted = [(one.table, one.rows) for one in capture.count()]
    assert counted == [("configuracao", 4), ("simples", 100)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_dump_tells_how_far_it_is(
    server_17: PostgresServer, database: str, tmp_path: Path, jobs: int
) -> None:
    told = _dump(PostgresSource(server_17, database), tmp_path / "d", jobs=jobs)
    assert told.facts == {"tables": 2, "tables_total": 2}
    assert told.amount == told.total == 8_000_000


def test_roles_are_dumped_beside_without_their_passwords(
    server_17: PostgresServer, database: str, login: PostgresServer, tmp_path: Path
) -> None:
    _dump(PostgresSource(server_17, database), tmp_path / "d")
    text = (tmp_path / "d" / "globals.sql").read_text(encoding="utf-8")
    assert f"CREATE ROLE {login.user}" in text
    assert "SCRAM-SHA-256$" not in text


@pytest.mark.parametrize("broken", ["pg_dump", "pg_dumpall"])
def test_a_client_program_that_fails_ends_the_one_beside_it(
    server_17: PostgresServer, database: str, tmp_path: Path, broken: str
) -> None:
    source = PostgresSource(server_17, database)
    tools = source.preflight().tools
    failing, hanging = tmp_path / "failing", tmp_path / "hanging"
    failing.write_text("#!/bin/sh\nexit 3\n")
    hanging.write_text("#!/bin/sh\nexec sleep 300\n")
    for program in (failing, hanging):
        program.chmod(0o755)
    programs = {"pg_dump": hanging, "pg_dumpall": hanging, broken: failing}
    began = time.monotonic()
    with (
        source.capture(tools) as capture,
        pytest.raises(CommandFailed, match="'failing' ended with status 3"),
    ):
        source.dump(
            capture,
            tmp_path / "d",
            tools=replace(tools, pg_dump=programs["pg_dump"], pg_dumpall=programs["pg_dumpall"]),
            database_bytes=8_000_000,
            jobs=2,
            progress=RecordingProgress(),
        )
    assert time.monotonic() - began < 60


def test_the_password_is_in_no_command_line(
    server_17: PostgresServer, database: str, tmp_path: Path
) -> None:
    seen: set[str] = set()

    def look() -> None:
        seen.update(line for line in command_lines().values() if str(tmp_path) in line)

    _dump(
        PostgresSource(server_17, database),
        tmp_path / "d",
        progress=RecordingProgress(on_check=look),
    )
    assert any("pg_dump" in words for words in seen)
    assert server_17.password
    assert not [words for words in seen if server_17.password in words]


def test_the_listing_names_every_counted_table_and_misses_no_file(
    server_17: PostgresServer, database: str, tmp_path: Path
) -> None:
    source = PostgresSource(server_17, database)
    tools = source.preflight().tools
    _dump(source, tmp_path / "d")
    listing = read_listing(tmp_path / "d", tools)
    assert len(listing.table_data) == 2
    assert listing.missing([("public", "simples"), ("public", "outra")]) == ()
    assert listing.missing([("public", "terceira")]) == (("public", "terceira"),)
    next((tmp_path / "d").glob("*.dat.zst")).unlink()
    with pytest.raises(IntegrityError, match="has no data file"):
        read_listing(tmp_path / "d", tools)


def test_a_dump_must_hold_exactly_the_counted_tables(
    server_17: PostgresServer, database: str, tmp_path: Path
) -> None:
    source = PostgresSource(server_17, database)
    tools = source.preflight().tools
    with source.capture(tools) as capture:
        source.dump(
            capture,
            tmp_path / "d",
            tools=tools,
            database_bytes=8_000_000,
            jobs=2,
            progress=RecordingProgress(),
        )
        described = capture.describe(capture.count())
    archive = Archive(client_major=tools.major, compression=tools.compression)
    assert source.check_dump(tmp_path / "d", described, archive) >= 4
    fewer = described.model_copy(update={"tables": described.tables[1:]})
    other = described.tables[0].model_copy(update={"table": "terceira"})
    renamed = described.model_copy(update={"tables": (other, *described.tables[1:])})
    for capture_of_another in (fewer, renamed):
        with pytest.raises(IntegrityError):
            source.check_dump(tmp_path / "d", capture_of_another, archive)


def test_a_damaged_table_of_contents_is_found(
    server_17: PostgresServer, database: str, tmp_path: Path
) -> None:
    source = PostgresSource(server_17, database)
    _dump(source, tmp_path / "d")
    contents = tmp_path / "d" / "toc.dat"
    contents.write_bytes(contents.read_bytes()[:100])
    with pytest.raises(IntegrityError, match="table of contents"):
        read_listing(tmp_path / "d", source.preflight().tools)


# Bad input


def test_a_role_that_policies_apply_to_is_refused_and_bypassrls_is_accepted(
    server_17: PostgresServer, database: str, login: PostgresServer
) -> None:
    run_sql(
        server_17,
        database,
        f"""
        GRANT pg_read_all_data TO {login.user};
        ALTER TABLE simples ENABLE ROW LEVEL SECURITY;
        CREATE POLICY poucos ON simples USING (id < 5);
        """,
    )
    source = PostgresSource(login, database)
    with pytest.raises(
        ConfigurationError, match=r"row-level security hides rows of .*simples"
    ) as no:
        source.preflight()
    assert no.value.hint == f'ALTER ROLE "{login.user}" BYPASSRLS'
    run_sql(server_17, "postgres", f"ALTER ROLE {login.user} BYPASSRLS")
    preflight = source.preflight()
    assert not preflight.is_superuser
    with source.capture(preflight.tools) as capture:
        assert [one.rows for one in capture.count()] == [7, 100]


def test_an_owner_sees_its_rows_unless_policies_are_forced_on_it(
    server_17: PostgresServer, database: str, login: PostgresServer
) -> None:
    run_sql(
        server_17,
        database,
        f"""
        GRANT pg_read_all_data TO {login.user};
        ALTER TABLE simples OWNER TO {login.user};
        ALTER TABLE simples ENABLE ROW LEVEL SECURITY;
        """,
    )
    source = PostgresSource(login, database)
    source.preflight()
    run_sql(server_17, database, "ALTER TABLE simples FORCE ROW LEVEL SECURITY")
    with pytest.raises(ConfigurationError, match="row-level security"):
        source.preflight()


def test_rows_hidden_behind_the_preflights_back_fail_the_count(
    server_17: PostgresServer, database: str, login: PostgresServer
) -> None:
    run_sql(server_17, "postgres", f"GRANT pg_read_all_data TO {login.user}")
    source = PostgresSource(login, database)
    tools = source.preflight().tools
    run_sql(server_17, database, "ALTER TABLE simples ENABLE ROW LEVEL SECURITY")
    with source.capture(tools) as capture, pytest.raises(ConfigurationError):
        capture.count()


def test_a_role_that_may_not_read_a_table_is_refused(database: str, login: PostgresServer) -> None:
    with pytest.raises(
        ConfigurationError, match=r"may not read the table 'public\.outra' and 1 more"
    ):
        PostgresSource(login, database).preflight()


def _refused(server: PostgresServer, database: str) -> PgbenError:
    with pytest.raises(PgbenError) as refused:
        PostgresSource(server, database).preflight()
    assert refused.value.hint
    assert (server.password or "-") not in str(refused.value)
    return refused.value


def test_a_wrong_password_is_a_configuration_error(
    server_17: PostgresServer, database: str
) -> None:
    refused = _refused(replace(server_17, password="Senha-Errada"), database)
    assert type(refused) is ConfigurationError
    assert "does not accept the role 'postgres'" in refused.sentence


def test_a_missing_password_is_a_configuration_error(
    server_17: PostgresServer, database: str
) -> None:
    refused = _refused(replace(server_17, password=None), database)
    assert type(refused) is ConfigurationError
    assert "wants a password" in refused.sentence


def test_an_unknown_host_is_unavailable(server_17: PostgresServer, database: str) -> None:
    refused = _refused(replace(server_17, host="nao-existe.invalid"), database)
    assert type(refused) is DatabaseUnavailable
    assert "'nao-existe.invalid' is unknown" in refused.sentence


def test_a_port_where_nobody_listens_is_unavailable(
    server_17: PostgresServer, database: str
) -> None:
    refused = _refused(replace(server_17, port=1), database)
    assert type(refused) is DatabaseUnavailable


def test_an_unknown_database_is_a_configuration_error(server_17: PostgresServer) -> None:
    refused = _refused(server_17, "nao_existe")
    assert type(refused) is ConfigurationError
    assert "does not open the database 'nao_existe'" in refused.sentence


def test_a_name_shaped_like_a_connection_string_is_refused_unread(
    server_17: PostgresServer,
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        PostgresSource(server_17, "postgresql://u:Palavra-Secreta@evil/x")
    assert "Palavra" not in str(refused.value)


def test_a_client_older_than_the_server_is_refused(
    server_18: PostgresServer, installations: tuple[Installation, ...]
) -> None:
    old = [one for one in installations if one.major < 18]
    assert client_of(tuple(old), 17).major == 17
    with pytest.raises(ConfigurationError, match="can dump a server of version 18") as refused:
        PostgresSource(server_18, "postgres", candidates=old).preflight()
    assert "postgresql-client-18" in refused.value.hint


# Failures in mid-dump

BIG = """
CREATE TABLE grande AS
    SELECT g AS id, repeat(md5(g::text), 12) AS texto FROM generate_series(1, 150000) g;
"""


def _when_data_flows(directory: Path, act: Callable[[], None]) -> Callable[[], None]:
    """Act once, as soon as pg_dump has begun to write a table."""
    done = threading.Event()

    def check() -> None:
        if not done.is_set() and wait_until(lambda: any(directory.glob("*.dat*")), seconds=20):
            done.set()
            act()

    return check


def test_a_server_killed_in_mid_dump_is_an_error_and_voids_the_capture(tmp_path: Path) -> None:
    with EmbeddedPostgres.start() as doomed:
        run_sql(address(doomed), "postgres", BIG)
        source = PostgresSource(address(doomed), "postgres")
        tools = source.preflight().tools
        directory = tmp_path / "d"
        progress = RecordingProgress(on_check=_when_data_flows(directory, doomed.kill))
        with source.capture(tools) as capture:
            with pytest.raises(DatabaseUnavailable):
                source.dump(
                    capture,
                    directory,
                    tools=tools,
                    database_bytes=8_000_000,
                    jobs=2,
                    progress=progress,
                )
            with pytest.raises(DatabaseUnavailable):
                capture.count()
            with pytest.raises(DatabaseUnavailable):
                capture.describe(())
        with pytest.raises(DatabaseUnavailable):
            source.preflight()


def test_a_dump_whose_capture_died_meanwhile_is_void(
    server_17: PostgresServer, database: str, tmp_path: Path
) -> None:
    run_sql(server_17, database, BIG)

    source = PostgresSource(server_17, database)
    progress = RecordingProgress(
        on_check=_when_data_flows(tmp_path / "d", lambda: _end_the_capture(server_17, database))
    )
    with pytest.raises(DatabaseUnavailable):
        _dump(source, tmp_path / "d", progress=progress)


def test_a_lock_that_failed_because_the_capture_died_is_not_called_a_busy_table(
    server_17: PostgresServer, database: str, tmp_path: Path
) -> None:
    # pg_dump's workers say these words for every failure of their LOCK, a dead server's too.
    refused = tmp_path / "refused"
    refused.write_text(
        "#!/bin/sh\n"
        "echo 'pg_dump: error: could not obtain lock on relation \"public.a\"' >&2\n"
        "exit 1\n"
    )
    refused.chmod(0o755)
    source = PostgresSource(server_17, database)
    tools = source.preflight().tools
    with source.capture(tools) as capture:
        claims = replace(tools, pg_dump=refused)

        def dump(name: str) -> None:
            source.dump(
                capture,
                tmp_path / name,
                tools=claims,
                database_bytes=8_000_000,
                jobs=2,
                progress=RecordingProgress(),
            )

        with pytest.raises(TargetBusy):
            dump("alive")
        _end_the_capture(server_17, database)
        with pytest.raises(DatabaseUnavailable):
            dump("dead")


def test_a_lost_fence_stops_pg_dump_and_its_sessions(
    server_17: PostgresServer, database: str, tmp_path: Path
) -> None:
    run_sql(server_17, database, BIG)

    def lose() -> None:
        raise FenceLost("another attempt owns the job")

    source = PostgresSource(server_17, database)
    progress = RecordingProgress(on_check=_when_data_flows(tmp_path / "d", lose))
    with pytest.raises(FenceLost):
        _dump(source, tmp_path / "d", progress=progress)

    def gone() -> bool:
        with open_database(server_17) as connection:
            return not connection.execute(
                "SELECT FROM pg_stat_activity "
                "WHERE datname = %s AND application_name LIKE 'pgben%%'",
                (database,),
            ).fetchall()

    assert wait_until(gone, seconds=20)


def test_a_dump_into_a_directory_that_holds_something_fails(
    server_17: PostgresServer, database: str, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").write_text("x", encoding="ascii")
    with pytest.raises(PgbenError, match="pg_dump"):
        _dump(PostgresSource(server_17, database), tmp_path / "d")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["old"]


def test_hostile_identifiers_are_counted(server_17: PostgresServer, database: str) -> None:
    names = ['aspas "x"', "nova\nlinha", "%s %(x)s", "ção 日本", "'; DROP TABLE simples; --"]
    with open_database(server_17, database) as connection:
        for name in names:
            connection.execute(
                sql.SQL("CREATE TABLE {} AS SELECT 1 AS id").format(sql.Identifier(name))
            )
    source = PostgresSource(server_17, database)
    with source.capture(source.preflight().tools) as capture:
        assert {name for _, name in capture.table_names} == {*names, "simples", "outra"}
        assert sum(one.rows for one in capture.count()) == 107 + len(names)

"""Claims about restored databases: the same as the original, or not there at all."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from pgben_tasks.adapters.postgres.clients import Installation
from pgben_tasks.adapters.postgres.destination import PostgresDestination
from pgben_tasks.adapters.postgres.listing import read_listing
from pgben_tasks.adapters.postgres.recreate import unfinished_name
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.domain.documents import Extension, PostgresCapture
from pgben_tasks.domain.restorability import Archive
from pgben_tasks.errors import (
    CommandFailed,
    ConfigurationError,
    FenceLost,
    IntegrityError,
    PgbenError,
    RestoreRefused,
)
from pgben_tasks.ports import ClientTools
from tests.support.fixtures_postgres import (
    RecordingProgress,
    client_of,
    fill,
    new_database,
    open_database,
    plain_dump,
    remove_roles,
    run_sql,
)

Scratch = Callable[[PostgresServer], str]
UTF8 = "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
MARKER = "pgben: unfinished restore, job 0001"

#: What a copy on the same server may differ in: when and where it was looked at.
INCIDENTAL = {"database", "lsn", "snapshot_time", "snapshot", "database_bytes"}


@dataclass(frozen=True)
class Dump:
    """A dump, what was captured with it, and the client that made it."""

    directory: Path
    capture: PostgresCapture
    tools: ClientTools

    @property
    def archive(self) -> Archive:
        """What decides which clients can restore it."""
        return Archive(client_major=self.tools.major, compression=self.tools.compression)


def _dump(server: PostgresServer, database: str, directory: Path) -> Dump:
    source = PostgresSource(server, database)
    tools = source.preflight().tools
    with source.capture(tools) as capture:
        source.dump(
            capture,
            directory,
            tools=tools,
            database_bytes=8_000_000,
            jobs=2,
            progress=RecordingProgress(),
        )
        described = capture.describe(capture.count())
    return Dump(directory, described, tools)


def _restore(server: PostgresServer, name: str, dump: Dump) -> RecordingProgress:
    destination = PostgresDestination(server)
    tools = destination.preflight(name, dump.capture, dump.archive)
    destination.create(name, dump.capture, marker=MARKER)
    told = RecordingProgress()
    destination.load(name, dump.directory, tools=tools, jobs=2, progress=told)
    assert destination.count(name) == dump.capture.tables
    destination.finish(name, dump.capture, marker=MARKER)
    destination.finish_roles(marker=MARKER)
    return told


def _described(server: PostgresServer, database: str) -> PostgresCapture:
    source = PostgresSource(server, database)
    with source.capture(source.preflight().tools) as capture:
        return capture.describe(capture.count())


def _databases(server: PostgresServer) -> set[str]:
    with open_database(server) as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}


def _roles(server: PostgresServer) -> dict[str, tuple[bool, str | None]]:
    """Return each role's right to log in and its comment."""
    with open_database(server) as connection:
        rows = connection.execute(
            "SELECT rolname, rolcanlogin, shobj_description(oid, 'pg_authid') FROM pg_roles"
        ).fetchall()
    return {name: (can, comment) for name, can, comment in rows}


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> Callable[[int], PostgresServer]:
    """Return a function from a major to its server, which is started only when asked for."""

    def server(major: int) -> PostgresServer:
        found: PostgresServer = request.getfixturevalue(f"server_{major}")
        return found

    return server


@pytest.fixture
def roles() -> tuple[str, str]:
    """Return two role names of this test."""
    mark = secrets.token_hex(4)
    return (f'dono "{mark}"', f"leitor {mark}")


@pytest.fixture
def small(server_17: PostgresServer, scratch: Scratch, tmp_path: Path) -> Dump:
    """Return the dump of a database with two tables."""
    name = new_database(server_17, scratch(server_17))
    run_sql(
        server_17,
        name,
        """
        CREATE TABLE simples AS SELECT generate_series(1, 5000) AS id, 'texto' AS texto;
        CREATE TABLE outra AS SELECT generate_series(1, 7) AS id;
        """,
    )
    return _dump(server_17, name, tmp_path / "dump")


@pytest.mark.parametrize(
    ("from_major", "to_major"), [(17, 17), (18, 18), (15, 15), (15, 17), (17, 18)]
)
def test_a_copy_is_the_original_again(
    servers: Callable[[int], PostgresServer],
    scratch: Scratch,
    installations: tuple[Installation, ...],
    roles: tuple[str, str],
    tmp_path: Path,
    from_major: int,
    to_major: int,
) -> None:
    source, destination = servers(from_major), servers(to_major)
    original, copy = scratch(source), scratch(destination)
    new_database(source, original, UTF8)
    try:
        fill(source, original, roles=roles)
        dump = _dump(source, original, tmp_path / "dump")
        told = _restore(destination, copy, dump)

        listing = read_listing(dump.directory, dump.tools)
        assert len(listing.table_data) == len(dump.capture.tables)
        assert not listing.missing([(one.schema_name, one.table) for one in dump.capture.tables])
        assert told.amount == told.total

        versions = set() if from_major == to_major else {"server_version", "server_version_num"}
        ignored = INCIDENTAL | versions | {"dump_compression", "collation_version"}
        again = _described(destination, copy)
        assert again.model_dump(exclude=ignored) == dump.capture.model_dump(exclude=ignored)
        assert again.large_objects == 2
        assert again.encoding == "UTF8"

        client = client_of(installations, to_major)
        assert plain_dump(destination, copy, client) == plain_dump(source, original, client)
    finally:
        for server, name in ((source, original), (destination, copy)):
            run_sql(server, "postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        for server in (source, destination):
            remove_roles(server, roles)


def test_default_privileges_of_a_database_stay_unwritten(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    assert small.capture.acl is None
    copy = scratch(server_17)
    _restore(server_17, copy, small)
    assert _described(server_17, copy).acl is None


def test_a_database_without_any_privilege_keeps_none(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    copy = scratch(server_17)
    capture = small.capture.model_copy(update={"acl": ()})
    _restore(server_17, copy, replace(small, capture=capture))
    assert _described(server_17, copy).acl == ()


def test_everything_that_has_statistics_is_analysed(
    server_17: PostgresServer, scratch: Scratch
) -> None:
    copy = new_database(server_17, scratch(server_17))
    checks: list[int] = []
    with open_database(server_17, copy) as connection:
        connection.execute(
            """
            CREATE SCHEMA "Histórico";
            CREATE TABLE "Histórico"."a""b" AS SELECT generate_series(1, 10) AS n;
            CREATE TABLE parted (n int) PARTITION BY RANGE (n);
            CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
            INSERT INTO parted SELECT generate_series(1, 20);
            CREATE TABLE parent AS SELECT 1 AS n;
            CREATE TABLE child () INHERITS (parent);
            CREATE MATERIALIZED VIEW seen AS SELECT * FROM parted;
            """
        )
        PostgresDestination(server_17).analyse(copy, jobs=3, check=lambda: checks.append(1))
        missed = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'm') AND reltuples < 0"
        ).fetchall()
    assert missed == []
    assert len(checks) > 5


def test_an_analysis_that_is_called_off_ends(server_17: PostgresServer, scratch: Scratch) -> None:
    copy = new_database(server_17, scratch(server_17))

    def called_off() -> None:
        raise FenceLost("it was called off", "")

    with pytest.raises(FenceLost):
        PostgresDestination(server_17).analyse(copy, jobs=2, check=called_off)


def test_a_copy_keeps_nothing_of_how_it_was_loaded(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    copy = scratch(server_17)
    PostgresDestination(server_17).create(copy, small.capture, marker=MARKER)
    loading = "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase"
    with open_database(server_17) as connection:
        query = f"{loading} WHERE datname = %s AND setrole = 0".encode()
        (settings,) = connection.execute(query, (copy,)).fetchone() or ([],)
        assert settings == ["synchronous_commit=off", "maintenance_work_mem=262144"]
    PostgresDestination(server_17).finish(copy, small.capture, marker=MARKER)
    assert _described(server_17, copy).settings == small.capture.settings


def test_roles_of_a_finished_database_are_never_removed(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    role, copy = f"sem objetos {secrets.token_hex(4)}", scratch(server_17)
    capture = small.capture.model_copy(update={"roles": (*small.capture.roles, role)})
    destination = PostgresDestination(server_17)
    try:
        destination.create(copy, capture, marker=MARKER)
        destination.finish(copy, capture, marker=MARKER)
        # As when a job is given up whose worker died before it was done with the roles.
        assert not destination.abandon(copy, marker=MARKER)
        assert _roles(server_17)[role] == (False, None)
        assert copy in _databases(server_17)
    finally:
        remove_roles(server_17, (role,))


def test_all_roles_of_the_server_come_back_where_that_is_asked_for(
    server_17: PostgresServer, scratch: Scratch, small: Dump, tmp_path: Path
) -> None:
    names = [f"{word} {secrets.token_hex(4)}" for word in ("app", "leitura", "já aqui")]
    app, reading, there = (f'"{name}"' for name in names)
    (tmp_path / "globals.sql").write_text(
        f"""
        CREATE ROLE {app};
        ALTER ROLE {app} WITH NOINHERIT LOGIN CONNECTION LIMIT 3;
        COMMENT ON ROLE {app} IS E'o portal, DOM\\\\app';
        ALTER ROLE {app} SET statement_timeout TO '30s';
        ALTER ROLE {app} SET no_such_setting TO 'on';
        CREATE ROLE {reading};
        ALTER ROLE {reading} WITH NOLOGIN;
        CREATE ROLE {there};
        ALTER ROLE {there} WITH SUPERUSER LOGIN;
        GRANT {reading} TO {app} WITH ADMIN OPTION, INHERIT FALSE GRANTED BY postgres;
        GRANT pg_monitor TO {reading} GRANTED BY {app};
        GRANT pg_monitor TO {there};
        GRANT nobody_has_it TO {app};
        """,
        encoding="utf-8",
    )
    copy = scratch(server_17)
    destination = PostgresDestination(server_17)
    with open_database(server_17) as connection:
        connection.execute(f"CREATE ROLE {there}".encode())
        try:
            destination.create(copy, small.capture, marker=MARKER, roles_of=tmp_path)
            assert _roles(server_17)[names[0]] == (False, MARKER)
            destination.finish(copy, small.capture, marker=MARKER)
            refused = destination.finish_roles(marker=MARKER, roles_of=tmp_path)
            roles = _roles(server_17)
            assert [roles[name] for name in names] == [
                (True, "o portal, DOM\\app"),
                (False, None),
                (False, None),
            ]
            (limit, inherit, settings) = (
                connection.execute(
                    "SELECT rolconnlimit, rolinherit, rolconfig FROM pg_roles WHERE rolname = %s",
                    (names[0],),
                ).fetchone()
                or ()
            )
            assert (limit, inherit, settings) == (3, False, ["statement_timeout=30s"])
            members = connection.execute(
                "SELECT pg_get_userbyid(roleid), pg_get_userbyid(member), admin_option,"
                " inherit_option FROM pg_auth_members WHERE pg_get_userbyid(member) = ANY(%s)"
                " ORDER BY 1",
                (names,),
            ).fetchall()
            # The third was there before, and what it is member of is not decided by a backup.
            assert members == [
                (names[1], names[0], True, False),
                ("pg_monitor", names[1], False, True),
            ]
            assert refused == (
                f"role '{names[0]}': unrecognized configuration parameter \"no_such_setting\"",
            )
            # Once more, when the dump may be gone: there is nothing left to finish.
            assert destination.finish_roles(marker=MARKER, roles_of=tmp_path / "gone") == ()
        finally:
            for role in (app, reading, there):
                connection.execute(f"DROP ROLE IF EXISTS {role}".encode())


def test_missing_roles_come_back_without_login_and_unmarked(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    role, copy = f"sumido {secrets.token_hex(4)}", scratch(server_17)
    capture = small.capture.model_copy(
        update={"roles": (*small.capture.roles, role), "owner": role}
    )
    try:
        _restore(server_17, copy, replace(small, capture=capture))
        assert _roles(server_17)[role] == (False, None)
        assert _described(server_17, copy).owner == role
    finally:
        run_sql(server_17, "postgres", f'DROP DATABASE IF EXISTS "{copy}" WITH (FORCE)')
        remove_roles(server_17, (role,))


def test_nobody_ordinary_gets_in_before_the_copy_is_finished(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    role, copy = f"visita_{secrets.token_hex(4)}", scratch(server_17)
    run_sql(server_17, "postgres", f"CREATE ROLE {role} LOGIN PASSWORD 'Palavra-1'")
    visitor = replace(server_17, user=role, password="Palavra-1")
    destination = PostgresDestination(server_17)
    try:
        destination.create(copy, small.capture, marker=MARKER)
        with pytest.raises(PgbenError, match="too many connections"):
            open_database(visitor, copy)
        destination.finish(copy, small.capture, marker=MARKER)
        open_database(visitor, copy).close()
    finally:
        remove_roles(server_17, (role,))


def test_a_copy_does_not_replicate(
    server_17: PostgresServer, scratch: Scratch, tmp_path: Path
) -> None:
    original, copy = new_database(server_17, scratch(server_17)), scratch(server_17)
    run_sql(
        server_17,
        original,
        "CREATE SUBSCRIPTION assina CONNECTION 'dbname=x' PUBLICATION p "
        "WITH (connect = false, slot_name = NONE)",
    )
    try:
        dump = _dump(server_17, original, tmp_path / "dump")
        assert dump.capture.subscriptions == ("assina",)
        _restore(server_17, copy, dump)
        assert _described(server_17, copy).subscriptions == ()
    finally:
        run_sql(server_17, original, "DROP SUBSCRIPTION assina")


def test_a_tablespace_that_the_destination_lacks_is_replaced_by_the_default(
    server_17: PostgresServer, server_18: PostgresServer, scratch: Scratch, tmp_path: Path
) -> None:
    original, copy = new_database(server_17, scratch(server_17)), scratch(server_18)
    space = f"rapido {secrets.token_hex(4)}"
    with open_database(server_17, original) as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute(f"CREATE TABLESPACE \"{space}\" LOCATION ''".encode())
        connection.execute(f'CREATE TABLE t (id int) TABLESPACE "{space}"'.encode())
    try:
        dump = _dump(server_17, original, tmp_path / "dump")
        assert dump.capture.tablespaces == (space,)
        _restore(server_18, copy, dump)
        assert _described(server_18, copy).tablespaces == ()
    finally:
        run_sql(server_17, original, "DROP TABLE t")
        run_sql(server_17, "postgres", f'DROP TABLESPACE "{space}"')


# Nothing that exists is touched


def test_a_taken_name_is_refused(server_17: PostgresServer, small: Dump) -> None:
    destination = PostgresDestination(server_17)
    taken = small.capture.database
    with pytest.raises(RestoreRefused, match="there is already a database"):
        destination.preflight(taken, small.capture, small.archive)
    with pytest.raises(RestoreRefused, match="there is already a database"):
        destination.create(taken, small.capture, marker=MARKER)
    assert _described(server_17, taken).tables == small.capture.tables


def test_nothing_is_loaded_into_a_database_that_is_in_use(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    destination = PostgresDestination(server_17)
    open_one = new_database(server_17, scratch(server_17))
    for name in (open_one, small.capture.database):
        with pytest.raises(RestoreRefused, match="is not a new one"):
            destination.load(
                name, small.directory, tools=small.tools, jobs=1, progress=RecordingProgress()
            )
    assert _described(server_17, small.capture.database).tables == small.capture.tables


def test_only_the_unfinished_copy_of_this_restore_is_finished(
    server_17: PostgresServer, small: Dump, scratch: Scratch
) -> None:
    strange = new_database(server_17, scratch(server_17))
    destination = PostgresDestination(server_17)
    before = _described(server_17, strange)

    with pytest.raises(RestoreRefused, match="not the unfinished copy"):
        destination.finish(strange, small.capture, marker=MARKER)
    after = _described(server_17, strange)
    assert (after.acl, after.comment, after.connection_limit, after.settings) == (
        before.acl,
        before.comment,
        before.connection_limit,
        before.settings,
    )


@pytest.mark.parametrize("marker_of_the_other", [None, "pgben: unfinished restore, job 0002"])
def test_abandoning_removes_only_what_carries_the_marker(
    server_17: PostgresServer, scratch: Scratch, small: Dump, marker_of_the_other: str | None
) -> None:
    destination = PostgresDestination(server_17)
    other = new_database(server_17, scratch(server_17))
    if marker_of_the_other is not None:
        run_sql(server_17, other, f"COMMENT ON DATABASE {other} IS '{marker_of_the_other}'")
    before = _databases(server_17)
    assert destination.abandon(other, marker=MARKER) is False
    assert destination.abandon("never_there", marker=MARKER) is False
    assert _databases(server_17) == before

    mine = scratch(server_17)
    destination.create(mine, small.capture, marker=MARKER)
    with open_database(server_17, mine):
        assert destination.abandon(mine, marker=MARKER) is True
    assert _databases(server_17) == before


def test_a_finished_database_is_not_abandoned(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    copy = scratch(server_17)
    _restore(server_17, copy, small)
    assert PostgresDestination(server_17).abandon(copy, marker=MARKER) is False
    assert copy in _databases(server_17)


def test_a_crash_between_creation_and_marking_leaves_nothing_that_stays(
    server_17: PostgresServer, scratch: Scratch
) -> None:
    name = scratch(server_17)
    new_database(server_17, unfinished_name(name, MARKER))
    assert PostgresDestination(server_17).abandon(name, marker=MARKER) is True
    assert unfinished_name(name, MARKER) not in _databases(server_17)


def test_a_damaged_dump_fails_and_leaves_no_database_and_no_role(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    role, copy = f"sumido_{secrets.token_hex(4)}", scratch(server_17)
    capture = small.capture.model_copy(update={"roles": (*small.capture.roles, role)})
    largest = max(small.directory.glob("*.dat.zst"), key=lambda path: path.stat().st_size)
    data = largest.read_bytes()
    largest.write_bytes(data[:8] + bytes(len(data) - 8))
    databases, known = _databases(server_17), _roles(server_17)
    destination = PostgresDestination(server_17)
    tools = destination.preflight(copy, capture, small.archive)
    destination.create(copy, capture, marker=MARKER)
    assert _roles(server_17)[role] == (False, MARKER)
    with pytest.raises(CommandFailed, match="pg_restore"):
        destination.load(copy, small.directory, tools=tools, jobs=2, progress=RecordingProgress())
    assert destination.abandon(copy, marker=MARKER) is True
    assert (_databases(server_17), _roles(server_17)) == (databases, known)


def test_a_cut_off_data_file_never_passes_for_the_original(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    """pg_restore 17 loads a zstd file that ends early without a word: the counts must tell."""
    largest = max(small.directory.glob("*.dat.zst"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-20])
    copy, destination = scratch(server_17), PostgresDestination(server_17)
    destination.create(copy, small.capture, marker=MARKER)
    try:
        destination.load(
            copy, small.directory, tools=small.tools, jobs=2, progress=RecordingProgress()
        )
    except CommandFailed:
        return
    assert destination.count(copy) != small.capture.tables


def test_a_role_that_others_use_by_now_stays_when_the_restore_is_abandoned(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    role, copy = f"novo_{secrets.token_hex(4)}", scratch(server_17)
    capture = small.capture.model_copy(update={"roles": (role,)})
    destination = PostgresDestination(server_17)
    destination.create(copy, capture, marker=MARKER)
    other = new_database(server_17, scratch(server_17))
    run_sql(server_17, other, f"CREATE TABLE dele (id int); ALTER TABLE dele OWNER TO {role}")
    try:
        assert destination.abandon(copy, marker=MARKER) is True
        assert _roles(server_17)[role] == (False, None)
    finally:
        run_sql(server_17, other, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_lost_fence_stops_the_load(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    def lose() -> None:
        raise FenceLost("another attempt owns the job")

    copy, destination = scratch(server_17), PostgresDestination(server_17)
    destination.create(copy, small.capture, marker=MARKER)
    with pytest.raises(FenceLost):
        destination.load(
            copy,
            small.directory,
            tools=small.tools,
            jobs=2,
            progress=RecordingProgress(on_check=lose),
        )


def test_a_load_that_takes_too_long_is_stopped(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    copy = scratch(server_17)
    destination = PostgresDestination(server_17, timeout=timedelta(0))
    destination.create(copy, small.capture, marker=MARKER)
    with pytest.raises(CommandFailed, match="did not end within"):
        destination.load(
            copy, small.directory, tools=small.tools, jobs=2, progress=RecordingProgress()
        )


def test_a_dump_without_its_table_of_contents_is_not_loaded(
    server_17: PostgresServer, scratch: Scratch, small: Dump
) -> None:
    copy, destination = scratch(server_17), PostgresDestination(server_17)
    destination.create(copy, small.capture, marker=MARKER)
    (small.directory / "toc.dat").unlink()
    with pytest.raises(IntegrityError, match="table of contents"):
        destination.load(
            copy, small.directory, tools=small.tools, jobs=2, progress=RecordingProgress()
        )


# A server that cannot take the database says so before anything is made


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"extensions": (Extension(name="nao_existe", version="1.0"),)}, "is not available"),
        ({"extensions": (Extension(name="pg_trgm", version="9.9"),)}, "has version 9.9"),
        ({"collate": "xx_YY.UTF-8"}, "has no locale 'xx_YY.UTF-8'"),
        ({"encoding": "NAO_EXISTE"}, "does not know the encoding"),
        ({"server_version_num": 190001}, "the backup is of a PostgreSQL 19 server"),
    ],
)
def test_what_a_destination_lacks_is_said_before_anything_is_made(
    server_17: PostgresServer, small: Dump, change: dict[str, Any], says: str
) -> None:
    capture = small.capture.model_copy(update=change)
    with pytest.raises(ConfigurationError) as refused:
        PostgresDestination(server_17).preflight("livre", capture, small.archive)
    assert says in refused.value.sentence
    assert refused.value.hint


def test_icu_is_asked_for_where_the_backup_uses_it(server_18: PostgresServer, small: Dump) -> None:
    capture = small.capture.model_copy(update={"locale_provider": "icu", "locale": "pt-BR"})
    with pytest.raises(ConfigurationError, match="built without ICU"):
        PostgresDestination(server_18).preflight("livre", capture, small.archive)


def test_a_backup_does_not_go_to_an_older_server(server_15: PostgresServer, small: Dump) -> None:
    with pytest.raises(ConfigurationError, match="is PostgreSQL 15"):
        PostgresDestination(server_15).preflight("livre", small.capture, small.archive)


def test_a_role_that_is_no_superuser_is_refused(server_17: PostgresServer, small: Dump) -> None:
    role = f"comum_{secrets.token_hex(4)}"
    run_sql(server_17, "postgres", f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'Palavra-1'")
    try:
        with pytest.raises(ConfigurationError, match="is no superuser"):
            PostgresDestination(replace(server_17, user=role, password="Palavra-1")).preflight(
                "livre", small.capture, small.archive
            )
    finally:
        remove_roles(server_17, (role,))


def test_a_locale_that_fails_at_creation_leaves_nothing(
    server_17: PostgresServer, small: Dump
) -> None:
    role = f"sumido_{secrets.token_hex(4)}"
    capture = small.capture.model_copy(
        update={"collate": "xx_YY.UTF-8", "roles": (*small.capture.roles, role)}
    )
    before = (_databases(server_17), _roles(server_17))
    with pytest.raises(ConfigurationError, match="cannot create a database with the locale"):
        PostgresDestination(server_17).create("livre", capture, marker=MARKER)
    assert (_databases(server_17), _roles(server_17)) == before


@pytest.mark.parametrize("provider", ["builtin", "libc"])
def test_locale_providers_come_back(
    server_17: PostgresServer, scratch: Scratch, tmp_path: Path, provider: str
) -> None:
    options = {
        "builtin": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'",
        "libc": "LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C' ENCODING 'LATIN1'",
    }
    original = new_database(
        server_17, scratch(server_17), f"TEMPLATE template0 {options[provider]}"
    )
    with open_database(server_17, original) as connection:
        connection.execute(
            sql.SQL("CREATE TABLE {} AS SELECT 'ação' AS t").format(sql.Identifier("solicitação"))
        )
    dump, copy = _dump(server_17, original, tmp_path / "dump"), scratch(server_17)
    _restore(server_17, copy, dump)
    again = _described(server_17, copy)
    assert again.model_dump(exclude=INCIDENTAL) == dump.capture.model_dump(exclude=INCIDENTAL)
    assert again.locale_provider == provider

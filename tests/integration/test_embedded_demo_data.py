"""The demonstration database is as rich as it says, the same for one seed, and restorable."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from pgben_tasks.embedded.data.fill import DATABASE_ROLES, fill
from pgben_tasks.embedded.postgres import EmbeddedPostgres


def one(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture(scope="module")
def server(postgres: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """Yield the session's server, with a filled database ``demo_module`` on it."""
    fill(postgres.dsn(), database="demo_module", megabytes=2)
    yield postgres
    with postgres.connect() as connection:
        connection.execute("DROP DATABASE demo_module WITH (FORCE)")


@pytest.fixture
def demo(server: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    """Yield a session in the filled database whose changes are undone."""
    with psycopg.connect(**server.dsn("demo_module")) as connection:
        yield connection
        connection.rollback()


def contents(server: EmbeddedPostgres, database: str) -> dict[str, object]:
    """Digest every table's rows, order-independent."""
    with server.connect(database) as connection:
        connection.execute("SET timezone = UTC")
        tables = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm')"
            " AND n.nspname IN ('public', 'auditoria') ORDER BY 1, 2"
        ).fetchall()
        digests: dict[str, object] = {}
        for schema, table in tables:
            query = sql.SQL(
                "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"
            ).format(sql.Identifier(schema, table))
            digests[f"{schema}.{table}"] = connection.execute(query).fetchone()
        return digests


def test_the_same_seed_gives_the_same_database(
    server: EmbeddedPostgres, fresh_database: str
) -> None:
    fill(server.dsn(), database=fresh_database, megabytes=2)
    assert contents(server, fresh_database) == contents(server, "demo_module")


def test_another_seed_gives_other_rows(server: EmbeddedPostgres, fresh_database: str) -> None:
    fill(server.dsn(), database=fresh_database, megabytes=2, seed=7)
    assert contents(server, fresh_database) != contents(server, "demo_module")


def test_the_summary_counts_what_is_there(server: EmbeddedPostgres, fresh_database: str) -> None:
    heard: list[tuple[str, float]] = []
    summary = fill(
        server.dsn(),
        database=fresh_database,
        megabytes=3,
        on_progress=lambda phase, share: heard.append((phase, share)),
    )
    with server.connect(fresh_database) as connection:
        assert one(connection, "SELECT pg_database_size(current_database())") == pytest.approx(
            summary.bytes, rel=0.05
        )
        tables = one(
            connection,
            "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace IN"
            " ('public'::regnamespace, 'auditoria'::regnamespace)",
        )
        rows = one(
            connection,
            "SELECT sum(reltuples)::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace IN"
            " ('public'::regnamespace, 'auditoria'::regnamespace)",
        )
    assert (tables, rows) == (summary.tables, summary.rows)
    shares = [share for _phase, share in heard]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_the_size_follows_what_was_asked_for(server: EmbeddedPostgres, fresh_database: str) -> None:
    with server.connect(fresh_database) as connection:
        empty = one(connection, "SELECT pg_database_size(current_database())")
    summary = fill(server.dsn(), database=fresh_database, megabytes=12)
    assert isinstance(empty, int)
    assert 9 < (summary.bytes - empty) / 2**20 < 15


@pytest.mark.parametrize(
    ("what", "query", "least"),
    [
        ("enums", "SELECT count(*) FROM pg_type WHERE typtype = 'e'", 5),
        ("policies", "SELECT count(*) FROM pg_policy", 7),
        ("triggers", "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal", 4),
        ("leaf partitions", "SELECT count(*) FROM pg_class WHERE relispartition", 5),
        ("views", "SELECT count(*) FROM pg_views WHERE schemaname = 'public'", 2),
        ("rows in the materialized view", "SELECT count(*) FROM resumo_mensal", 50),
        ("large objects", "SELECT count(*) FROM pg_largeobject_metadata", 2),
        ("partial indexes", "SELECT count(*) FROM pg_index WHERE indpred IS NOT NULL", 3),
        ("extensions", "SELECT count(*) FROM pg_extension", 4),
        ("database settings", "SELECT count(*) FROM pg_db_role_setting", 2),
        ("people represented", "SELECT count(representante_id) FROM cidadao", 2),
        ("removed documents", "SELECT count(removed_at) FROM documento", 5),
        ("units below units", "SELECT max(profundidade) FROM hierarquia_unidade", 1),
        ("payments in a year", "SELECT count(*) FROM pagamento_2025", 20),
        (
            "text found by its stem",
            """SELECT count(*) FROM solicitacao WHERE to_tsvector('pg_catalog.portuguese', relato)
            @@ to_tsquery('pg_catalog.portuguese', 'famílias')""",
            10,
        ),
    ],
)
def test_the_model_has(demo: psycopg.Connection, what: str, query: str, least: int) -> None:
    found = one(demo, query)
    assert isinstance(found, int), what
    assert found >= least


def test_a_social_worker_sees_only_the_own_unit(demo: psycopg.Connection) -> None:
    unit = one(demo, "SELECT unidade_id::text FROM cidadao LIMIT 1")
    everyone = one(demo, "SELECT count(*) FROM cidadao")
    demo.execute("SET ROLE pgben_tecnico")
    assert one(demo, "SELECT count(*) FROM cidadao") == 0
    demo.execute("SELECT set_config('pgben.unidade', %s, true)", [unit])
    seen = one(demo, "SELECT count(*) FROM cidadao")
    assert isinstance(seen, int)
    assert isinstance(everyone, int)
    assert 0 < seen < everyone


def test_triggers_number_requests_and_write_the_audit_trail(demo: psycopg.Connection) -> None:
    number = demo.execute(
        "INSERT INTO solicitacao (cidadao_id, tipo_beneficio_id, unidade_id, relato, aberta_em)"
        " SELECT id, 1, unidade_id, 'teste', '2026-11-20' FROM cidadao LIMIT 1 RETURNING protocolo"
    ).fetchone()
    assert number is not None
    assert number[0].startswith("2026.")
    before = one(demo, "SELECT count(*) FROM auditoria.evento")
    demo.execute("UPDATE unidade SET ativa = false WHERE codigo = 'U001'")
    assert one(demo, "SELECT count(*) FROM auditoria.evento") == int(str(before)) + 1


def test_a_dump_of_it_restores_to_the_same_contents(
    server: EmbeddedPostgres, fresh_database: str
) -> None:
    environment = {
        **os.environ,
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": server.user,
        "PGPASSWORD": server.password,
    }
    dump = subprocess.run(
        [str(server.bin_dir / "pg_dump"), "-Fc", "demo_module"],
        env=environment,
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout
    subprocess.run(
        [str(server.bin_dir / "pg_restore"), "--exit-on-error", "-d", fresh_database],
        env=environment,
        input=dump,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert contents(server, fresh_database) == contents(server, "demo_module")


def test_it_fills_a_database_that_does_not_exist_yet_on_the_other_major() -> None:
    with EmbeddedPostgres.start(major=18) as server:
        summary = fill(server.dsn(), database="novo", megabytes=2)
        assert summary.rows > 1_000
        with server.connect("novo") as connection:
            owner = one(
                connection,
                "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'novo'",
            )
            able = one(
                connection,
                "SELECT count(*) FROM pg_roles WHERE rolcanlogin AND rolname LIKE 'pgben%'",
            )
        assert (owner, able) == (DATABASE_ROLES[0], 0)

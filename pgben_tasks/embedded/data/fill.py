"""Fill a database with believable invented data in the spirit of PGBen's model.

For the demo, the tests and the benchmarks. ``schema.sql`` and ``finish.sql`` hold the
model, ``rows.py`` the rows; this module brings them to the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from random import Random
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from pgben_tasks.embedded.data.rows import ROWS_PER_CITIZEN, Population

OWNER: Final = "pgben_owner"
#: Roles that policies and grants name; made NOLOGIN when missing, and left there.
DATABASE_ROLES: Final = (OWNER, "pgben_tecnico", "pgben_coordenador", "pgben_auditor")
DEFAULT_MEGABYTES: Final = 150
DEFAULT_SEED: Final = 2026
_EXTENSIONS: Final = ("pgcrypto", "pg_trgm", "btree_gin", "unaccent")
_TIME_ZONE: Final = "America/Fortaleza"
_DATABASE_STATEMENTS: Final[tuple[LiteralString, ...]] = (
    "ALTER DATABASE {} SET default_text_search_config = 'pg_catalog.portuguese'",
    "ALTER ROLE pgben_auditor IN DATABASE {} SET statement_timeout = '30s'",
    "ALTER DATABASE {} CONNECTION LIMIT 80",
    "COMMENT ON DATABASE {} IS 'Demonstração do PGBen: dados inventados'",
    "REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC",
    "GRANT CONNECT ON DATABASE {} TO pgben_tecnico, pgben_coordenador",
)
#: Measured: what one citizen with all that belongs to it takes, and what the empty model takes.
_CITIZENS_PER_MEGABYTE: Final = 115
_MODEL_MEGABYTES: Final = 1
_FEWEST_CITIZENS: Final = 20
_LINES_PER_WRITE: Final = 256
_MODEL_OID: Final = 770_001
_MODELS: Final = (("Declaração de residência", 90_000), ("Termo de compromisso", 30_000))


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What was filled in: tables, rows in them, and the database's size in bytes."""

    tables: int
    rows: int
    bytes: int


def fill(
    server: Mapping[str, Any],
    *,
    database: str,
    megabytes: int = DEFAULT_MEGABYTES,
    seed: int = DEFAULT_SEED,
    on_progress: Callable[[str, float], None] | None = None,
) -> DemoSummary:
    """Make the model and its rows in ``database``, which is made too unless it is there, empty.

    ``server`` is what psycopg connects with, as superuser (``EmbeddedPostgres.dsn()``).
    ``megabytes`` is about what tables and indexes take, beside the 8 MB of every database.
    ``on_progress`` is called with the phase and the share (0 to 1) that is done. The same
    seed and size give the same rows.
    """
    report = on_progress or (lambda _phase, _share: None)
    report("database", 0.0)
    _make_database(server, database)
    with psycopg.connect(**{**server, "dbname": database}) as connection:
        _make_extensions(connection)
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
        connection.execute("SET search_path = public; SET client_min_messages = warning")
        connection.execute(_script("schema.sql"))
        citizens = max(_FEWEST_CITIZENS, (megabytes - _MODEL_MEGABYTES) * _CITIZENS_PER_MEGABYTE)
        _copy_rows(connection, Population(citizens, seed), report)
        _store_models(connection, seed)
        report("indexes", 0.8)
        connection.execute(_script("finish.sql"))
        connection.execute("SELECT setval('protocolo_numero', %s)", [citizens * 2])
        connection.execute("RESET ROLE")
        _set_database(connection, database)
        connection.commit()
        report("statistics", 0.95)
        connection.autocommit = True
        connection.execute("ANALYZE")
        summary = _summary(connection)
    report("done", 1.0)
    return summary


def _make_database(server: Mapping[str, Any], database: str) -> None:
    with psycopg.connect(**{"dbname": "postgres", **server}, autocommit=True) as connection:
        for role in DATABASE_ROLES:
            try:
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
            except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                # It is there already, or another session was faster.
                continue
        try:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(
                    sql.Identifier(database), sql.Identifier(OWNER)
                )
            )
        except psycopg.errors.DuplicateDatabase:
            connection.execute(
                sql.SQL("ALTER DATABASE {} OWNER TO {}").format(
                    sql.Identifier(database), sql.Identifier(OWNER)
                )
            )


def _make_extensions(connection: psycopg.Connection) -> None:
    rows = connection.execute(
        "SELECT name FROM pg_available_extensions WHERE name = ANY (%s) ORDER BY name",
        [list(_EXTENSIONS)],
    ).fetchall()
    for (name,) in rows:
        connection.execute(
            sql.SQL("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA public").format(
                sql.Identifier(name)
            )
        )


def _copy_rows(
    connection: psycopg.Connection, population: Population, report: Callable[[str, float], None]
) -> None:
    expected = population.citizens * ROWS_PER_CITIZEN
    written = 0
    for table, columns, lines in population.tables():
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for batch in _batches(lines):
                copy.write("".join(batch))
                written += len(batch)
                report(table, min(0.8, 0.8 * written / expected))


def _batches(lines: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(lines, _LINES_PER_WRITE)):
        yield batch


def _store_models(connection: psycopg.Connection, seed: int) -> None:
    """Store two document models as large objects, under fixed numbers."""
    random = Random(seed)  # noqa: S311 - invented data, not secrets
    for number, (name, size) in enumerate(_MODELS):
        content = b"%PDF-1.7\n" + random.randbytes(size)
        connection.execute(
            "WITH stored AS (SELECT lo_from_bytea(%s, %s) AS loid)"
            " INSERT INTO modelo_documento (nome, conteudo, assinatura)"
            " SELECT %s, loid, sha256(%s) FROM stored",
            [_MODEL_OID + number, content, name, content],
        )


def _set_database(connection: psycopg.Connection, database: str) -> None:
    """Set settings, a comment and grants of the database, which a dump of it does not hold."""
    name = sql.Identifier(database)
    for statement in _DATABASE_STATEMENTS:
        connection.execute(sql.SQL(statement).format(name))
    known = connection.execute(
        "SELECT FROM pg_timezone_names WHERE name = %s", [_TIME_ZONE]
    ).fetchone()
    if known is not None:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET timezone = {}").format(name, sql.Literal(_TIME_ZONE))
        )


def _summary(connection: psycopg.Connection) -> DemoSummary:
    tables = connection.execute(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname IN ('public', 'auditoria') ORDER BY 1"
    ).fetchall()
    rows = 0
    for (table,) in tables:
        counted = connection.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*table.split(".")))
        ).fetchone()
        rows += counted[0] if counted else 0
    size = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return DemoSummary(tables=len(tables), rows=rows, bytes=size[0] if size else 0)


def _script(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()

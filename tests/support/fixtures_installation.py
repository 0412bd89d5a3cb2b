"""Fixtures: catalogs of a test's own, and a small installation that is made once."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg import sql

from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.recovery import Recovery
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from tests.support.fixtures_postgres import open_database
from tests.support.installation import Installation
from tests.support.workshop import Workshop


def drop(server: PostgresServer, name: str) -> None:
    """Drop a database even with sessions in it."""
    with open_database(server) as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


@pytest.fixture(scope="session")
def migrated(server_17: PostgresServer) -> Iterator[CatalogDatabase]:
    """Yield a catalog that is made once."""
    database = CatalogDatabase(server_17, f"catalog_{secrets.token_hex(6)}")
    database.create()
    database.migrate()
    yield database
    drop(server_17, database.name)


@pytest.fixture
def catalog(migrated: CatalogDatabase) -> Iterator[CatalogDatabase]:
    """Yield that catalog, empty; the test's own thread has one connection to it."""
    with migrated.kept():
        with migrated.transaction() as cursor:
            cursor.execute(
                "TRUNCATE job, swap, restored_database, worker, audit, report, backup, "
                " backup_sequence"
                " CASCADE"
            )
        yield migrated


@pytest.fixture
def ledger(catalog: CatalogDatabase) -> Ledger:
    """Return the ledger of that catalog."""
    return Ledger(catalog)


@pytest.fixture
def recovery(catalog: CatalogDatabase) -> Recovery:
    """Return the reconciler's view of that ledger."""
    return Recovery(catalog)


@pytest.fixture
def alter(catalog: CatalogDatabase) -> Callable[..., None]:
    """Return a function that changes the catalog behind everybody's back, as time would."""

    def run(statement: str, *values: object) -> None:
        with catalog.transaction() as cursor:
            cursor.execute(statement.encode(), values)

    return run


@pytest.fixture(scope="session")
def opened_once(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workshop, Path]]:
    """Yield an installation without any backup, and a copy of its folder as it was made."""
    folder = tmp_path_factory.mktemp("workshop")
    with closing(Workshop.open(folder / "shop", postgres, "postgres")) as opened:
        shutil.copytree(opened.folder, folder / "pristine")
        yield opened, folder / "pristine"


@pytest.fixture
def workshop(opened_once: tuple[Workshop, Path]) -> Iterator[Workshop]:
    """Yield that installation as it was made, whatever the last test did to it."""
    opened, pristine = opened_once
    with opened.work.database.kept():
        opened.reset(pristine)
        yield opened


@pytest.fixture(scope="session")
def made_once(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Yield an installation with two verified backups of a small database."""
    with Installation.make(tmp_path_factory.mktemp("installation"), postgres) as made:
        yield made


@pytest.fixture
def installation(made_once: Installation) -> Iterator[Installation]:
    """Yield that installation as it was when it was made, whatever the last test did to it."""
    with made_once.shop.work.database.kept():
        made_once.reset()
        yield made_once
    made_once.drop_copies()

"""The catalog's own database: made once by however many, changed only forwards."""

from __future__ import annotations

import secrets
import socket
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.errors import (
    CatalogLost,
    ConfigurationError,
    DatabaseUnavailable,
    PermanentError,
)
from tests.support.fixtures_installation import drop

PASSWORD = "hunter2"
SHORT = timedelta(seconds=0.3)


@pytest.fixture
def unmade(server_17: PostgresServer) -> Iterator[CatalogDatabase]:
    database = CatalogDatabase(server_17, f"catalog_{secrets.token_hex(6)}")
    yield database
    drop(server_17, database.name)


def test_eight_at_once_make_one_catalog(unmade: CatalogDatabase) -> None:
    def make(_: int) -> tuple[bool, list[int]]:
        return unmade.create(), unmade.migrate()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(make, range(8)))
    assert sorted(made for made, _ in results) == [False] * 7 + [True]
    applied = [versions for _, versions in results if versions]
    assert len(applied) == 1
    assert applied[0] == sorted(applied[0])
    unmade.check()
    assert (unmade.create(), unmade.migrate()) == (False, [])


def test_whoever_asks_an_empty_catalog_is_told_how_it_is_brought_back(
    unmade: CatalogDatabase,
) -> None:
    unmade.create()
    for ask in (unmade.check, Ledger(unmade).jobs):
        with pytest.raises(CatalogLost, match=f"'{unmade.name}' at .* is empty") as caught:
            ask()
        assert "`pgben catalog rebuild`" in caught.value.hint
        assert "--direct" in caught.value.hint
        assert "init" not in caught.value.hint


def test_a_catalog_of_an_older_version_is_brought_up_to_date_with_the_keys_there_are(
    unmade: CatalogDatabase,
) -> None:
    unmade.create()
    unmade.migrate()
    unmade.execute("DELETE FROM migration WHERE version = (SELECT max(version) FROM migration)")
    with pytest.raises(ConfigurationError, match="not set up for this version") as caught:
        unmade.check()
    assert not isinstance(caught.value, CatalogLost)
    assert "the keys there are" in caught.value.hint


def test_a_catalog_that_does_not_exist_says_how_it_is_brought_back(
    unmade: CatalogDatabase,
) -> None:
    for ask in (unmade.check, unmade.session):
        with pytest.raises(CatalogLost, match=f"has no database '{unmade.name}'") as caught:
            ask()
        assert "`pgben catalog rebuild`" in caught.value.hint
        assert "init" not in caught.value.hint


def test_a_refused_login_is_no_lost_catalog(migrated: CatalogDatabase) -> None:
    refused = replace(migrated, server=replace(migrated.server, password="wrong"))
    with pytest.raises(ConfigurationError, match="cannot be opened: .* password") as caught:
        refused.check()
    assert not isinstance(caught.value, CatalogLost)
    assert "--direct" in caught.value.hint


def test_a_silent_statement_is_waited_for_as_long_as_patience_lasts(
    migrated: CatalogDatabase,
) -> None:
    impatient = replace(migrated, server=replace(migrated.server, patience=SHORT))
    assert impatient.fetch_one("SELECT 1 AS one") == {"one": 1}
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="did not answer within 0.3 s while") as caught:
        impatient.fetch_one("SELECT pg_sleep(5)")
    assert time.monotonic() - began < 5
    assert "--direct" in caught.value.hint
    # Work that somebody does not wait for at a terminal takes as long as it takes.
    assert migrated.fetch_one("SELECT pg_sleep(0.6)") is not None


def test_a_long_answer_is_no_silence(migrated: CatalogDatabase) -> None:
    impatient = replace(migrated, server=replace(migrated.server, patience=SHORT))
    rows = impatient.fetch_all(
        # The server sends what fills its buffer, each a tenth of a second after the one before.
        "SELECT repeat('x', 100000) AS filler, pg_sleep(0.1) FROM generate_series(1, 6)"
    )
    assert len(rows) == 6


def test_a_server_that_takes_a_connection_and_says_nothing_counts_as_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # Two addresses of one host have that time together.
        server = PostgresServer(host="127.0.0.1,127.0.0.1", port=port, user="u", patience=SHORT)
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="did not answer within 0.3 s") as caught:
            CatalogDatabase(server, "catalog").check()
        assert time.monotonic() - began < 2
    assert "PGBEN_CATALOG_URL" in caught.value.hint
    assert "`pgben catalog rebuild`" in caught.value.hint


def test_a_catalog_of_another_program_is_refused(
    unmade: CatalogDatabase,
) -> None:
    unmade.create()
    unmade.migrate()
    with unmade.transaction() as cursor:
        cursor.execute("UPDATE migration SET sha256 = %s WHERE version = 1", ("0" * 64,))
    with pytest.raises(ConfigurationError, match="migration 1 of the catalog .* differs"):
        unmade.migrate()


def test_a_newer_catalog_is_refused_and_left_alone(
    unmade: CatalogDatabase,
) -> None:
    unmade.create()
    unmade.migrate()
    with unmade.transaction() as cursor:
        cursor.execute("INSERT INTO migration (version, sha256) VALUES (9999, '')")
    with pytest.raises(ConfigurationError, match="newer than this program") as caught:
        unmade.migrate()
    assert "upgrade" in caught.value.hint
    with pytest.raises(ConfigurationError):
        unmade.check()


def test_what_fails_in_a_transaction_leaves_nothing(catalog: CatalogDatabase) -> None:
    def break_off() -> None:
        with catalog.transaction() as cursor:
            cursor.execute(
                "INSERT INTO worker VALUES ('backup.x', clock_timestamp(), clock_timestamp())"
            )
            cursor.execute("SELECT 1 / 0")

    with pytest.raises(PermanentError, match="division by zero"):
        break_off()
    with catalog.transaction() as cursor:
        assert cursor.execute("SELECT 1 FROM worker").fetchone() is None


def test_the_clock_is_the_servers_in_utc(catalog: CatalogDatabase) -> None:
    now = catalog.now()
    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_server_that_is_away_is_a_passing_failure() -> None:
    server = PostgresServer(
        host="127.0.0.1", port=1, user="postgres", password="hunter2", connect_timeout=timedelta(2)
    )
    with pytest.raises(DatabaseUnavailable) as caught:
        CatalogDatabase(server).now()
    assert "hunter2" not in str(caught.value)


def test_a_wrong_password_of_the_catalog_names_the_catalogs_setting(
    server_17: PostgresServer,
) -> None:
    url = f"postgresql://{server_17.user}:wrong@{server_17.host}:{server_17.port}/postgres"
    with pytest.raises(ConfigurationError, match="does not accept") as caught:
        CatalogDatabase.at(url).now()
    assert "PGBEN_CATALOG_URL" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "server", "name"),
    [
        ("postgresql://ana:s%40l@db.example:6543/cat?sslmode=require", "db.example:6543", "cat"),
        ("postgresql://ana@/", "localhost:5432", "pgben_catalog"),
        ("host=db user=ana dbname=cat", "db:5432", "cat"),
    ],
)
def test_a_url_says_where_the_catalog_is(url: str, server: str, name: str) -> None:
    database = CatalogDatabase.at(url)
    assert (str(database.server), database.server.user, database.name) == (server, "ana", name)


@pytest.mark.parametrize("rest", ["db:port/x", "[db/x", "db/x?nothing=1", "db/x=%zz"])
def test_a_url_that_cannot_be_read_is_not_repeated(rest: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        CatalogDatabase.at(f"postgresql://ana:{PASSWORD}@{rest}")
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def backends(catalog: CatalogDatabase) -> list[int]:
    """Name the sessions that this thread's transactions use, by two of them."""
    found = []
    for _ in range(2):
        with catalog.transaction() as cursor:
            found += cursor.execute("SELECT pg_backend_pid() AS pid").fetchall()
    return [row["pid"] for row in found]


def test_transactions_share_a_session_for_as_long_as_it_is_kept(migrated: CatalogDatabase) -> None:
    assert len(set(backends(migrated))) == 2
    with migrated.kept():
        (kept,) = set(backends(migrated))
        with ThreadPoolExecutor(1) as another:
            assert kept not in another.submit(backends, migrated).result()
        with migrated.transaction():
            assert kept not in backends(migrated), "a transaction inside a transaction is its own"
        assert set(backends(migrated)) == {kept}
    assert kept not in backends(migrated)


def test_a_kept_session_that_died_is_replaced(catalog: CatalogDatabase) -> None:
    with catalog.kept():
        (kept,) = set(backends(catalog))
        with catalog.session() as other:
            other.execute("SELECT pg_terminate_backend(%s)", (kept,))
        (anew,) = set(backends(catalog))
    assert anew != kept


def test_what_fails_in_a_kept_session_is_undone_and_disturbs_nothing_after_it(
    catalog: CatalogDatabase,
) -> None:
    def fail() -> None:
        with catalog.transaction() as cursor:
            cursor.execute("INSERT INTO worker VALUES ('backup.x', now(), now())")
            cursor.execute("SELECT 1 / 0")

    with catalog.kept():
        with pytest.raises(PermanentError):
            fail()
        with catalog.transaction() as cursor:
            assert cursor.execute("SELECT 1 FROM worker WHERE name = 'backup.x'").fetchall() == []
            cursor.execute("INSERT INTO worker VALUES ('backup.y', now(), now())")
    with catalog.transaction() as cursor:
        assert len(cursor.execute("SELECT 1 FROM worker WHERE name = 'backup.y'").fetchall()) == 1

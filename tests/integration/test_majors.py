"""What the platform runs, PostgreSQL 14: what is said of its backups is what happens.

The whole table, of five majors, is ``make conformance``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pgben_tasks.adapters.postgres.clients import Installation, find_installations
from pgben_tasks.adapters.postgres.destination import PostgresDestination
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.domain.restorability import Client
from pgben_tasks.embedded.data.compare import contents
from pgben_tasks.errors import NotRestorable
from tests.support import majors
from tests.support.fixtures_postgres import address, client_of
from tests.support.majors import Servers
from tests.support.needs import needs
from tests.support.workshop import Workshop

pytestmark = needs("npm", "tar")


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield majors.start((14, 17), stack)


def test_every_client_at_hand_does_what_is_said_of_it(servers: Servers, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    found = [
        cell for client in majors.clients() for cell in majors.cells(servers, 14, client, tmp_path)
    ]
    assert [cell for cell in found if cell.fault] == []
    outcomes = {(cell.client.partition(".")[0], cell.destination): cell.outcome for cell in found}
    assert outcomes["16", 14] == outcomes["16", 17] == "restores equal"
    assert outcomes["17", 14] == outcomes["18", 14] == "not restorable, said"
    assert outcomes["17", 17] == "restores equal"


@pytest.fixture
def shop(servers: Servers, tmp_path: Path) -> Iterator[Workshop]:
    with Workshop.open(tmp_path / "shop", servers.by_major[14], "matriz") as made:
        yield made


def with_clients(shop: Workshop, *clients: Installation) -> Workshop:
    """Return the installation with these clients, where backups and where restores run."""
    server = address(shop.server)
    shop.work.workers.register(["restore.workshop"])
    shop.work.workers.publish(
        ["restore.workshop"],
        [
            Client(version=one.version, major=one.major, compression=one.compression)
            for one in clients
        ],
    )
    tools = replace(
        shop.tools,
        sources={
            shop.target: PostgresSource(
                server,
                shop.target.name,
                candidates=clients,
                restore_site=shop.work.workers.restore_site,
            )
        },
        destinations={shop.target: PostgresDestination(server, candidates=clients)},
    )
    return replace(shop, tools=tools)


def test_a_dump_by_the_client_of_17_is_never_called_good(shop: Workshop) -> None:
    unfit = with_clients(shop, client_of(find_installations(), 17))
    with pytest.raises(NotRestorable, match="needs a server of PostgreSQL 17 or newer") as failed:
        unfit.backup()
    assert "postgresql-client-14" in failed.value.hint
    (row,) = shop.work.index.backups(shop.target)
    assert row.state == "not restorable here"
    # An older client does not read it, and the verdict does not change with one.
    both = with_clients(shop, *find_installations())
    with pytest.raises(NotRestorable):
        both.verify(level="quick")


def test_with_an_older_client_beside_it_the_dump_is_good_and_restores_equal(
    shop: Workshop,
) -> None:
    fit = with_clients(shop, *find_installations())
    manifest = fit.backup()
    # Of several that fit, the nearest: of 15 where the machine has one.
    assert manifest.archive.client_major in {14, 15, 16}
    fit.restore("de_volta")
    try:
        dsn = shop.server.dsn()
        assert contents(dsn, "de_volta") == contents(dsn, "matriz")
    finally:
        with shop.server.connect() as connection:
            connection.execute("DROP DATABASE de_volta WITH (FORCE)")

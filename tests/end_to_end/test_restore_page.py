"""The README's page for 3 a.m., typed as it stands, for every answer to its questions."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from pgben_tasks.embedded.data.compare import TableContent, contents
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from tests.support import restore_page
from tests.support.commands import Ran
from tests.support.deployment import DATABASE, Deployment
from tests.support.reader import Reader

pytestmark = pytest.mark.unmeasured

PAGE = restore_page.branches("en")
#: Where the page says that the settings are.
FILE = "/etc/pgben/keys/pgben.env"


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with Deployment.build(megabytes=1, PGBEN_PACK_SIZE="256KiB") as built:
        built.write_settings()
        yield built


@pytest.fixture
def reader(deployment: Deployment) -> Iterator[Reader]:
    with Reader(deployment.stack.folder, files={FILE: deployment.settings_file}) as one:
        yield one


def ruin(server: EmbeddedPostgres) -> dict[str, TableContent]:
    """Write wrong data, and return what the database holds then."""
    with server.connect(DATABASE) as connection:
        connection.execute("UPDATE cidadao SET nome = 'ninguém'")
    return contents(server.dsn(), DATABASE)


def run_sql(server: EmbeddedPostgres, statement: str) -> None:
    with server.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'pgben%'"
        )
        connection.execute(statement.encode())


def drop(server: EmbeddedPostgres) -> None:
    run_sql(server, f"DROP DATABASE {DATABASE}")


@pytest.mark.timeout(280)
def test_every_branch_of_the_page_leads_back(deployment: Deployment, reader: Reader) -> None:
    server = deployment.stack.postgres
    worker = deployment.start("all", name="worker")
    made = deployment.pgben("backup", DATABASE, "--json").json["jobs"][0]["backup"]
    good = contents(server.dsn(), DATABASE)

    require_settings(reader)
    reader.type(*PAGE["first"])

    # A: wrong data.
    ruined = ruin(server)
    look, restore, undo = PAGE["A"]
    assert made in reader.type(look).out
    back = reader.type(restore, ID=made)
    assert back.code == 0, back.err
    assert contents(server.dsn(), DATABASE) == good
    job = str(deployment.jobs("restore")[0].id)
    turned = reader.type(undo, JOB=job)
    assert turned.code == 0, turned.err
    assert contents(server.dsn(), DATABASE) == ruined

    # B: the database is gone.
    drop(server)
    again = reader.type(*PAGE["B"])
    assert again.code == 0, again.err
    assert "nothing was replaced" in again.out
    assert contents(server.dsn(), DATABASE) == good

    # C: neither Redis nor a worker nor the catalog.
    ruined = ruin(server)
    worker.send(signal.SIGKILL, tree=True)
    for service in (deployment.stack.redis, deployment.catalog):
        service.kill()
    shown, beside, *renames = PAGE["C"]
    assert made in reader.type(shown).out
    copied = reader.type(beside)
    assert copied.code == 0, copied.err
    for statement in renames:
        run_sql(server, statement)
    assert contents(server.dsn(), DATABASE) == good
    assert contents(server.dsn(), "pgben_old") == ruined
    drop(server)
    gone = reader.type(beside.replace("--into pgben_new", "--into pgben"))
    assert gone.code == 0, gone.err
    assert contents(server.dsn(), DATABASE) == good
    # D: the server is a new one.
    server.kill()
    new = EmbeddedPostgres.start(supervisor=deployment.stack.supervisor)
    assert restore_there(reader, new).code == 0
    assert contents(new.dsn(), DATABASE) == good


def require_settings(reader: Reader) -> None:
    """Type a command with no settings loaded: that is said first, and how the page loads them."""
    lost = reader.type(PAGE["A"][0])
    assert lost.code == 2
    for said in ("no settings are loaded", "set -a", "--env-file"):
        assert said in lost.err
    assert "run `pgben init" not in lost.err
    named = reader.type(f"pgben --env-file {FILE} list pgben")
    assert named.code == 0, named.err


def restore_there(reader: Reader, new: EmbeddedPostgres) -> Ran:
    """Type the branch of a new server."""
    secret = reader.folder / "new-password"
    secret.write_text(new.password, encoding="utf-8")
    lines = "\n".join(PAGE["D"])
    lines = lines.replace("5432", str(new.port)).replace("=postgres", f"={new.user}")
    return reader.type(*lines.splitlines(), HOST=new.host, FILE=str(secret))

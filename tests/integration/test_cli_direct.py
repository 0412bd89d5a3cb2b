"""Direct mode: a repository, keys and a server are enough, and nothing else is ever asked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from pgben_tasks.domain.restorability import Client
from pgben_tasks.domain.states import State
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.embedded.data.compare import contents
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import NotRestorable
from pgben_tasks.operations.repository.survey import survey
from tests.support.cli_site import UNKNOWN, Site
from tests.support.commands import Ran
from tests.support.installation import Installation
from tests.support.ruin import Nobody, Ruin
from tests.support.workshop import Workshop

#: Loads well in the original, sleeps in a copy named "…_slow" and fails in one named "…_fails".
STUBBORN = """
CREATE FUNCTION public.stubborn(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF current_database() LIKE '%_slow' THEN PERFORM pg_catalog.pg_sleep(120); END IF;
    IF current_database() LIKE '%_fails' THEN RAISE 'this copy does not load'; END IF;
    RETURN n;
END $$;
CREATE TABLE public.item (id int PRIMARY KEY);
INSERT INTO public.item SELECT generate_series(1, 20);
CREATE INDEX item_stubborn ON public.item (public.stubborn(id));
"""

SLEEPING = """
SELECT 1 FROM pg_stat_activity WHERE datname = 'stubborn_slow' AND wait_event = 'PgSleep'
"""


@pytest.fixture
def nobodies() -> Iterator[tuple[Nobody, Nobody]]:
    found = (Nobody(), Nobody())
    yield found
    for one in found:
        one.close()


@pytest.fixture
def ruin(installation: Installation, nobodies: tuple[Nobody, Nobody], tmp_path: Path) -> Ruin:
    return Ruin(installation.shop, tmp_path, *nobodies)


@pytest.fixture(scope="module")
def stubborn(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    """Yield an installation with one backup, whose copies can be made to sleep or to fail."""
    name = "stubborn"
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with postgres.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with postgres.connect(name) as connection:
        connection.execute(STUBBORN)
    with ExitStack() as stack:
        shop = stack.enter_context(Workshop.open(tmp_path_factory.mktemp(name), postgres, name))
        shop.backup()
        yield shop
    with postgres.connect() as connection:
        connection.execute(drop)


#: Runs one command, then prints which tasks of pgben it registered or loaded.
LOADED = """
import sys
from pgben_tasks.cli.main import main
code = main(sys.argv[1:])
from pgben_tasks.app import app
found = {name for name in app.tasks if name.startswith("pgben.")}
found |= {name for name in sys.modules if name.startswith("pgben_tasks.tasks")}
print("loaded:", *sorted(found))
sys.exit(code)
"""


def test_a_repository_whose_card_is_another_ones_says_so(
    ruin: Ruin, installation: Installation
) -> None:
    card = installation.repository / "repository.json"
    own = json.loads(card.read_text("utf-8"))["repository"]
    card.write_text(card.read_text("utf-8").replace(own, "another-repository"), "utf-8")
    said = ruin.run("restore", installation.target.name, "--direct", "--into", "copia", "--json")
    assert said.code != 0
    (job,) = said.json["jobs"]
    error = job["error"]
    assert f"2 cannot be believed, '{installation.backups[1].backup}' because " in error["sentence"]
    assert f"it was written for the repository '{own}'" in error["sentence"]
    assert "the recovery card has its id" in error["hint"]


def result(said: Ran) -> dict[str, Any]:
    (job,) = said.json["jobs"]
    found: dict[str, Any] = job["result"]
    return found


def test_a_restore_needs_the_escrow_key_the_trusted_keys_and_a_server(
    ruin: Ruin, installation: Installation
) -> None:
    into = installation.free_name()
    said = ruin.run("restore", installation.target.name, "--direct", "--into", into, "--json")

    assert said.code == 0, said.err
    assert result(said)["state"] == "restored"
    assert result(said)["database"] == into
    assert result(said)["backup"] == installation.backups[1].backup
    server = installation.shop.server.dsn()
    assert contents(server, into) == contents(server, installation.target.name)
    steps = [one["name"].rpartition(".")[2] for one in said.json["jobs"][0]["steps"]]
    assert steps == ["select", "fetch", "load", "check", "finish"]
    assert "no lock of a catalog is held" in said.err
    assert ruin.left_in_spool() == []


@pytest.mark.parametrize("into", ["new", "taken"])
def test_direct_mode_imports_and_registers_no_task(
    ruin: Ruin, installation: Installation, into: str
) -> None:
    database = installation.target.name
    name = installation.free_name() if into == "new" else database
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, "restore", database, "--direct", "--into", name],
        env=ruin.site.others | ruin.site.environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == (0 if into == "new" else 3), ran.stderr
    assert ran.stdout.splitlines()[-1].rstrip() == "loaded:"


def test_the_chosen_backup_and_moment_are_honoured(ruin: Ruin, installation: Installation) -> None:
    first, second = installation.backups
    database = installation.target.name
    by_id = ("--backup", first.backup, "--into", installation.free_name())
    taken = second.database.snapshot_time.isoformat()
    by_moment = ("--at", taken, "--into", installation.free_name())

    assert result(ruin.run("restore", database, "--direct", "--json", *by_id))["backup"] == (
        first.backup
    )
    assert result(ruin.run("restore", database, "--direct", "--json", *by_moment))["backup"] == (
        second.backup
    )
    shown = ruin.run("show", first.backup, "--direct", "--json")
    assert shown.json["state"] == "verified"
    listed = ruin.run("list", "--direct", "--json")
    assert [one["backup"] for one in listed.json["backups"]] == [second.backup, first.backup]


def test_without_a_name_the_copy_gets_the_usual_one(ruin: Ruin, installation: Installation) -> None:
    said = ruin.run("restore", installation.target.name, "--direct")
    assert said.code == 0, said.err
    (made,) = [one for one in installation.databases() if "_restored_" in one]
    installation.copies.append(made)
    assert made.startswith(installation.target.name)
    assert made in said.out
    for step in ("select", "fetch", "load", "check", "finish"):
        assert f"✓ {step}" in said.err


def test_a_database_that_is_not_protected_here_is_restored_to_the_server_of_the_settings(
    ruin: Ruin, installation: Installation
) -> None:
    into = installation.free_name()
    said = ruin.run(
        *("restore", installation.target.name, "--direct", "--into", into),
        PGBEN_DB_NAME="something_else",
    )
    assert said.code == 0, said.err
    assert into in installation.databases()


def test_what_cannot_be_restored_is_refused_and_nothing_is_made(
    ruin: Ruin, installation: Installation
) -> None:
    before = installation.databases()
    database = installation.target.name

    taken = ruin.run("restore", database, "--direct", "--into", database, "--json")
    assert taken.code == 3
    assert taken.json["jobs"][0]["state"] == "refused"
    assert "no new database was made" in taken.err
    unknown = ruin.run("restore", database, "--direct", "--backup", UNKNOWN)
    assert unknown.code == 1
    closed = ruin.run(
        *("restore", database, "--direct", "--json"),
        PGBEN_AGE_IDENTITY_FILE=str(installation.shop.keys.file("inventory-identity.txt")),
    )
    assert closed.code == 5
    assert closed.json["jobs"][0]["state"] == "failed"
    assert installation.databases() == before
    assert ruin.left_in_spool() == []


def test_with_a_wrong_password_no_copy_is_spoken_of(ruin: Ruin, installation: Installation) -> None:
    said = ruin.run("restore", installation.target.name, "--direct", PGBEN_DB_PASS="wrong")
    assert said.code == 2
    assert "with the password that is set" in said.err
    assert "no new database was made; nothing was changed" in said.err
    assert "copy" not in said.err
    assert "into" not in said.out


def test_usage_errors_are_told_before_anything_is_asked(ruin: Ruin) -> None:
    for line in (
        ("restore", "pgben", "--direct", "--no-wait"),
        ("verify", "--direct", "--no-wait"),
        ("restore", "pgben", "--prefix", "documents/", "--direct"),
        ("restore", "--direct"),
        ("restore", "pgben", "--direct", "--swap", "--confirm", "pgben"),
        ("restore", "pgben", "--direct", "--in-place", "--confirm", "pgben"),
    ):
        said = ruin.run(*line)
        assert said.code == 2, (line, said.err)
        assert said.err.startswith("error: ")


def test_a_verification_without_a_signing_key_reports_and_records_nothing(
    ruin: Ruin, installation: Installation
) -> None:
    before = ruin.statements()
    clean = ruin.run("verify", "--level", "full", "--direct", "--json")
    assert clean.code == 0, clean.err
    assert result(clean)["state"] == "clean"
    assert result(clean)["backups"] == 2
    assert clean.json["direct"] == {"recorded": False}
    assert "nothing is recorded" in clean.err

    pack = installation.pack_files(installation.backups[0])[0]
    pack.write_bytes(pack.read_bytes()[:-1])
    damaged = ruin.run("verify", "--full", "--direct", "--json")
    assert damaged.code == 5
    assert result(damaged)["findings"][0]["kind"] == "truncated"
    assert ruin.statements() == before


def test_direct_mode_shows_its_own_verdict_and_signs_that_of_the_site(
    ruin: Ruin, installation: Installation
) -> None:
    workers = installation.shop.work.workers
    workers.register(["restore.one"])
    workers.publish(["restore.one"], [Client(version="15.18", major=15, compression="zstd:3")])
    with pytest.raises(NotRestorable):
        installation.chain("verify", level="quick").rest()

    said = ruin.run("verify", "--direct", "--json", **ruin.signing)
    assert (said.code, result(said)["not_restorable"]) == (0, []), said.err
    listed = ruin.run("list", "--direct", "--json").json["backups"]
    assert [(one["state"], one["needs"]) for one in listed] == [("verified", None)] * 2
    shown = ruin.run("show", listed[0]["backup"], "--direct", "--json").json
    assert (shown["state"], shown["needs"]) == ("verified", None)
    found = survey(installation.tools.repository, installation.target)
    assert {one.standing.state for one in found.known} == {State.NOT_RESTORABLE}


def test_a_verification_with_a_signing_key_records_what_it_found(
    ruin: Ruin, installation: Installation
) -> None:
    before = ruin.statements()
    pack = installation.pack_files(installation.backups[0])[0]
    pack.write_bytes(pack.read_bytes()[:-1])

    said = ruin.run("verify", "--full", "--direct", "--json", **ruin.signing)

    assert said.code == 5
    assert said.json["direct"] == {"recorded": True}
    assert len(ruin.statements()) == len(before) + 2
    states = {
        one["backup"]: one["state"]
        for one in ruin.run("list", "--direct", "--json").json["backups"]
    }
    assert states[installation.backups[0].backup] == "damaged"
    assert states[installation.backups[1].backup] == "verified"


def test_a_restore_that_fails_in_mid_load_removes_its_database_and_says_so(
    stubborn: Workshop, nobodies: tuple[Nobody, Nobody], tmp_path: Path
) -> None:
    ruin = Ruin(stubborn, tmp_path, *nobodies)
    said = ruin.run("restore", "stubborn", "--direct", "--into", "stubborn_fails", "--json")
    assert said.code == 1
    assert said.json["jobs"][0]["error"]["type"] == "CommandFailed"
    assert "the unfinished copy 'stubborn_fails' was removed" in said.err
    assert "into" not in result(said)
    with stubborn.server.connect() as connection:
        names = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
    assert "stubborn_fails" not in names
    assert ruin.left_in_spool() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_restore_removes_its_database_and_says_so(
    stubborn: Workshop, nobodies: tuple[Nobody, Nobody], tmp_path: Path, number: signal.Signals
) -> None:
    ruin = Ruin(stubborn, tmp_path, *nobodies)
    process = ruin.site.start(
        "restore", "stubborn", "--direct", "--into", "stubborn_slow", "--json"
    )
    with process, stubborn.server.connect() as connection:
        try:
            assert wait_until(
                lambda: connection.execute(SLEEPING).fetchone() is not None, seconds=40
            )
            process.send_signal(number)
            assert process.stderr is not None
            while "taking away what was begun" not in process.stderr.readline():
                assert process.poll() is None
            # Whoever is impatient must not stop the removal half-way.
            process.send_signal(number)
            out, err = process.communicate(timeout=40)
        finally:
            process.kill()
        names = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
    assert process.returncode == 130, err
    assert "the unfinished copy 'stubborn_slow' was removed" in err
    (job,) = json.loads(out)["jobs"]
    assert job["state"] == "cancelled"
    assert "into" not in job["result"]
    assert "stubborn_slow" not in names
    assert ruin.left_in_spool() == []


def test_what_a_killed_command_left_in_the_spool_goes_with_the_next(
    ruin: Ruin, installation: Installation
) -> None:
    left = ruin.site.folder / "spool" / "direct" / "jobs" / "0f9b1c6e" / "dump"
    of_a_worker = ruin.site.folder / "spool" / "jobs" / "0f9b1c6e"
    for folder in (left, of_a_worker):
        folder.mkdir(parents=True)
        (folder / "1.dat").write_bytes(b"rows")
    assert ruin.run("verify", "--direct").code == 0
    assert not left.exists()
    assert (of_a_worker / "1.dat").exists()


def test_the_hints_of_what_fails_without_catalog_or_broker_name_the_way_out(ready: Site) -> None:
    away = {"PGBEN_CATALOG_URL": "postgresql://postgres:x@127.0.0.1:1/none"}
    for line in (("verify",), ("restore", "pgben")):
        said = ready.run(*line, "--json", **away)
        assert said.code == 75
        assert f"`pgben {line[0]} … --direct`" in said.json["error"]["hint"]
        broker = ready.run(*line, "--json", PGBEN_REDIS_URL="redis://127.0.0.1:1/0")
        assert broker.code == 75
        assert f"`pgben {line[0]} … --direct`" in broker.json["error"]["hint"]
    said = ready.run("backup", "pgben", PGBEN_REDIS_URL="redis://127.0.0.1:1/0")
    assert "--direct" not in said.err

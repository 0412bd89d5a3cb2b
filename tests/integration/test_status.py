"""`pgben status` looks at what it speaks of, and answers in time whatever hangs."""

from __future__ import annotations

import re
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from psycopg import sql

from pgben_tasks import names, runtime
from pgben_tasks.adapters.catalog.workers import BEAT, TICK
from pgben_tasks.adapters.keys.age import public_keys
from pgben_tasks.adapters.postgres.clients import published_clients
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.embedded.s3 import EmbeddedS3
from tests.support.between import answering
from tests.support.cli_site import Site, a_backup, clean_environment, promptly
from tests.support.commands import Ran
from tests.support.texts import english_in
from tests.support.workshop import Workshop

#: Seconds within which it has answered, on a machine that runs other tests as well: no bound on
#: speed, but what is told from a command that waits for ever. Each look has a bound of its own,
#: and the answers name it.
WITHIN = 50
#: Seconds, fewer than any look waits.
PROMPTLY = 2


@pytest.fixture(scope="module")
def shop(
    postgres: EmbeddedPostgres,
    redis_server: EmbeddedRedis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Workshop]:
    database = f"status_{secrets.token_hex(6)}"
    with postgres.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    settings = {"PGBEN_REDIS_URL": redis_server.url, "PGBEN_DISK_CRITICAL": "0.999"}
    folder = tmp_path_factory.mktemp("status")
    with Workshop.open(folder, postgres, database, settings=settings) as made:
        made.backup()
        yield made
    with postgres.connect() as connection:
        connection.execute(
            sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database))
        )


@pytest.fixture
def site(shop: Workshop) -> Site:
    """Return the installation with a backup and every process alive."""
    workers = shop.work.workers
    with shop.work.database.transaction() as cursor:
        cursor.execute("TRUNCATE worker")
    workers.send_heartbeat([*(f"{role}.workshop" for role in names.QUEUES), TICK, BEAT])
    workers.publish(["restore.workshop"], published_clients())
    return Site(shop.folder, dict(shop.environment), clean_environment())


@pytest.fixture(scope="module")
def silent() -> Iterator[int]:
    """Yield the port of something that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def timed(site: Site, *arguments: str, **changed: str) -> Ran:
    begun = time.monotonic()
    said = site.run("status", *arguments, **changed)
    assert time.monotonic() - begun < WITHIN
    return said


def told(document: Any, verdict: str) -> list[tuple[str, str]]:
    """Return colour and text of a verdict's reasons."""
    return [(one["colour"], one["text"]) for one in document[verdict]["reasons"]]


def test_where_everything_works_both_lines_are_green(site: Site) -> None:
    said = timed(site)
    assert said.code == 0, said.all
    first, second, *_ = said.out.splitlines()
    assert first.startswith("RESTORABLE: green - everything, to 20")
    assert second.startswith("RUNNING: green")
    document = timed(site, "--json").json
    assert document["verdict"] == document["restorable"]["colour"] == "green"
    assert document["running"] == {"colour": "green", "reasons": []}
    seen = {one["place"]: one["used"] for one in document["space"] if one["used"] is not None}
    assert {"spool", "repository"} <= set(seen), "this machine sees them, if no worker has told"
    assert re.search(r"repository +\d+% used, .* free", said.out)
    assert document["targets"][0]["answers"] is True


def test_where_something_is_yellow_and_nothing_red_the_exit_code_says_so(
    site: Site, shop: Workshop
) -> None:
    with shop.work.database.transaction() as cursor:
        cursor.execute("DELETE FROM worker WHERE name = %s", (BEAT,))
    said = timed(site, "--json")
    assert (said.json["verdict"], said.json["restorable"]["colour"]) == ("yellow", "green")
    assert said.code == 4


@contextmanager
def renamed(server: EmbeddedPostgres, name: str, other: str) -> Iterator[None]:
    """Take the name from a database: nothing of that name is there."""
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    with server.connect() as connection:
        connection.execute(rename.format(sql.Identifier(name), sql.Identifier(other)))
        try:
            yield
        finally:
            connection.execute(rename.format(sql.Identifier(other), sql.Identifier(name)))


def test_a_database_that_is_gone_is_red_and_its_way_back_is_told(
    site: Site, shop: Workshop
) -> None:
    name = shop.target.name
    with renamed(shop.server, name, f"{name}_lost"):
        document = (said := timed(site, "--json")).json
        screen = timed(site)
    assert said.code == screen.code == 75, "everything can be restored"
    assert document["verdict"] == "red"
    assert document["restorable"] == {"colour": "green", "reasons": []}
    assert told(document, "running") == [("red", f"the protected database '{name}' is not there")]
    assert document["targets"][0]["answers"] is False
    assert f"`pgben restore {name} --in-place --confirm {name}`" in screen.out
    assert screen.out.splitlines()[1].startswith("RUNNING: red")
    assert re.search(r"answers now +no\b", screen.out), screen.out


def test_a_database_that_is_closed_is_not_called_gone(site: Site, shop: Workshop) -> None:
    name = sql.Identifier(shop.target.name)
    allow = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
    with shop.server.connect() as connection:
        connection.execute(allow.format(name, sql.SQL("false")))
        try:
            document = timed(site, "--json").json
        finally:
            connection.execute(allow.format(name, sql.SQL("true")))
    ((colour, text),) = told(document, "running")
    assert colour == "red"
    assert "cannot be used: the PostgreSQL server" in text


def test_what_is_stopped_frozen_or_hangs_is_told_in_time(
    site: Site, silent: int, protected_s3: EmbeddedS3
) -> None:
    account = {
        "PGBEN_MINIO_ACCESS_KEY": protected_s3.access_key,
        "PGBEN_MINIO_SECRET_KEY": protected_s3.secret_key,
        "PGBEN_BUCKETS": "status-there,status-nowhere",
    }
    protected_s3.make_bucket("status-there")
    with EmbeddedRedis.start() as frozen:
        assert frozen._child is not None
        frozen._child.send(signal.SIGSTOP)
        # All at once: each is waited for while the others are.
        document = timed(
            site,
            "--json",
            PGBEN_REDIS_URL=frozen.url,
            PGBEN_DB_PORT=str(silent),
            PGBEN_MINIO_HOST=protected_s3.endpoint,
            **account,
        ).json
        frozen._child.send(signal.SIGCONT)
    found = told(document, "running")
    assert {colour for colour, _ in found} == {"red"}
    texts = " | ".join(text for _, text in found)
    assert "the broker cannot be used" in texts
    assert f"'127.0.0.1:{silent}' did not answer within 5 s" in texts
    assert "the protected bucket 'status-nowhere' is not there" in texts
    assert "status-there" not in texts
    answers = {one["target"]: one["answers"] for one in document["targets"]}
    assert answers["bucket/status-there"] is True
    assert answers["bucket/status-nowhere"] is False
    assert document["workers"], "the catalog's facts are there all the same"
    stopped = timed(site, "--json", PGBEN_MINIO_HOST="http://127.0.0.1:1", **account).json
    assert "bucket 'status-there' cannot be used" in str(told(stopped, "running"))


def test_a_catalog_that_hangs_hides_nothing_else(site: Site, silent: int) -> None:
    said = timed(site, "--json", PGBEN_CATALOG_URL=f"postgresql://u:p@127.0.0.1:{silent}/x")
    assert said.code == 75
    document = said.json
    assert document["restorable"]["colour"] == "green"
    ((colour, text),) = told(document, "running")
    assert (colour, text) == (
        "red",
        f"the catalog cannot be asked: '127.0.0.1:{silent}' did not answer within 3 s",
    )
    assert "--direct" in document["running"]["reasons"][0]["hint"]
    (target,) = document["targets"]
    assert (target["answers"], target["state"]) == (True, "verified")


def test_a_doctor_tells_the_rest_where_catalog_and_buckets_hang(site: Site, silent: int) -> None:
    begun = time.monotonic()
    said = site.run(
        "doctor",
        PGBEN_LANGUAGE="pt_BR",
        PGBEN_CATALOG_URL=f"postgresql://u:p@127.0.0.1:{silent}/x",
        PGBEN_MINIO_HOST=f"http://127.0.0.1:{silent}",
        PGBEN_MINIO_ACCESS_KEY="access",
        PGBEN_MINIO_SECRET_KEY="secret-key",
        PGBEN_BUCKETS="papers,pictures",
    )
    assert time.monotonic() - begun < WITHIN
    assert said.code == 1
    assert f"✗ '127.0.0.1:{silent}/x' não respondeu em 4 s" in said.out
    assert f"✗ 's3://papers (127.0.0.1:{silent})' não respondeu em 4 s" in said.out
    assert "? não foi possível examinar os workers: o catálogo não pode ser" in said.out
    assert english_in(said.out) == set()


def test_workers_beat_and_keys_that_are_gone_are_told(site: Site, shop: Workshop) -> None:
    with shop.work.database.transaction() as cursor:
        cursor.execute("DELETE FROM worker WHERE name = ANY(%s)", (["backup.workshop", BEAT],))
    said = timed(site, "--json", PGBEN_AGE_IDENTITY_FILE="/nowhere/identity.txt")
    assert said.code == 1
    assert told(said.json, "running") == [
        ("red", "no worker runs for backup"),
        ("yellow", "beat is down; a maintenance worker stands in for it"),
    ]
    assert "`python -m workers backup`" in said.json["running"]["reasons"][0]["hint"]
    ((colour, text),) = told(said.json, "restorable")
    assert colour == "red", "the only restore worker is this machine's"
    assert "the identity that is set here opens no backup" in text
    # A restore worker of another machine has its own.
    shop.work.workers.send_heartbeat(["restore.other"])
    elsewhere = timed(site, "--json", PGBEN_AGE_IDENTITY_FILE="/nowhere/identity.txt")
    assert elsewhere.json["restorable"]["colour"] == "yellow"
    assert elsewhere.code == 75


def test_a_key_of_another_installation_and_a_bucket_that_was_not_asked_are_told(
    site: Site,
) -> None:
    own = public_keys(Path(site.environment["PGBEN_AGE_IDENTITY_FILE"]))
    others = [one for one in site.environment["PGBEN_AGE_RECIPIENTS"].split(",") if one not in own]
    document = timed(
        site,
        "--json",
        PGBEN_AGE_RECIPIENTS=",".join(others),
        PGBEN_MINIO_ACCESS_KEY="without-its-secret",
        PGBEN_BUCKETS="papers",
    ).json
    assert any("belongs to none" in text for _, text in told(document, "restorable"))
    assert {one["target"]: one["answers"] for one in document["targets"]}["bucket/papers"] is None
    assert document["running"]["colour"] == "green"


@pytest.fixture(scope="module")
def far(
    postgres: EmbeddedPostgres,
    redis_server: EmbeddedRedis,
    protected_s3: EmbeddedS3,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Site, Event]]:
    """Yield an installation without a catalog, whose repository never gives a manifest.

    The event is set when one is asked for.
    """
    asked, over = Event(), Event()

    def withhold(method: str, target: str) -> int | None:
        if method == "GET" and target.partition("?")[0].endswith("manifest.json"):
            asked.set()
            over.wait(60)
            return 503
        return None

    bucket = f"far-{secrets.token_hex(4)}"
    settings = {
        "PGBEN_REDIS_URL": redis_server.url,
        "PGBEN_REPOSITORY": f"s3://{bucket}",
        "PGBEN_REPOSITORY_ENDPOINT": protected_s3.endpoint,
        "PGBEN_REPOSITORY_ACCESS_KEY": protected_s3.access_key,
        "PGBEN_REPOSITORY_SECRET_KEY": protected_s3.secret_key,
    }
    folder = tmp_path_factory.mktemp("far")
    with (
        Workshop.open(folder, postgres, "pgben", settings=settings) as made,
        answering(protected_s3.endpoint, withhold) as endpoint,
    ):
        a_backup(Site(made.folder, {}), runtime.open_store(made.work.settings))
        changed = {
            "PGBEN_REPOSITORY_ENDPOINT": endpoint,
            "PGBEN_CATALOG_URL": "postgresql://postgres:x@127.0.0.1:1/none",
        }
        yield Site(made.folder, {**made.environment, **changed}, clean_environment()), asked
        over.set()


def test_a_repository_that_hangs_while_it_is_read_keeps_nobody(far: tuple[Site, Event]) -> None:
    site, asked = far
    asked.clear()
    with site.start("status", "--json") as process:
        out, err = process.communicate(timeout=WITHIN)
    assert (process.returncode, err) == (1, "")
    assert "did not answer within" in out
    assert asked.is_set()


def test_ctrl_c_ends_it_at_once(far: tuple[Site, Event]) -> None:
    site, asked = far

    def attempt() -> float:
        asked.clear()
        with site.start("status") as process:
            assert asked.wait(WITHIN)
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=WITHIN)
            seconds = time.monotonic() - begun
        assert (process.returncode, err) == (130, "")
        return seconds

    promptly(attempt, within=PROMPTLY)

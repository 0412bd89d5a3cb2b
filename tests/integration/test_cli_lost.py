"""Commands with no settings, no catalog and no Redis: what they say, how soon, and Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
import typer

from pgben_tasks.cli.main import app
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from tests.support.cli_site import UNKNOWN, Site, a_backup, promptly

#: Every command that needs an installation.
LINES = (
    ("list",),
    ("list", "--direct"),
    ("show", UNKNOWN),
    ("backup", "--all"),
    ("restore", "pgben"),
    ("restore", "pgben", "--direct"),
    ("restore", "--all"),
    ("plan", "--all"),
    ("plan", "pgben", "--direct"),
    ("verify",),
    ("verify", "--direct"),
    ("status",),
    ("doctor",),
    ("jobs",),
    ("jobs", "retry", "1f0c9a2b"),
    ("cancel", "1f0c9a2b"),
    ("undo", "1f0c9a2b", "--confirm", "pgben"),
    ("alarms",),
    ("alarms", "--test"),
    ("acknowledge", UNKNOWN),
    ("prune",),
    ("sweep",),
    ("objects", "ls", "bucket/pgben-documents"),
    ("objects", "get", UNKNOWN, "key", "--to", "file"),
    ("objects", "diff", "bucket/pgben-documents"),
    ("objects", "history", "bucket/pgben-documents"),
    ("catalog", "rebuild"),
    ("databases",),
    ("databases", "keep", "pgben_restored_20261123_101500"),
    ("databases", "drop", "pgben", "--confirm", "pgben"),
    ("points",),
    ("history",),
    ("report",),
    ("hold", UNKNOWN, "--for", "14d", "--reason", "audit"),
    ("release", UNKNOWN, "--reason", "audit"),
)
#: Those that make an installation, or say what is set; `check` has exit codes of its own.
FREE = {"init", "bootstrap", "up", "demo", "config", "console", "check"}
#: Those that ask the catalog and can do nothing without it.
ASKING = (
    ("backup", "pgben"),
    ("verify",),
    ("restore", "pgben"),
    ("jobs",),
    ("jobs", "--follow"),
    ("cancel", "1f0c9a2b"),
    ("undo", "1f0c9a2b", "--confirm", "pgben"),
    ("alarms",),
    ("prune", "--dry-run"),
    ("sweep", "--dry-run"),
    ("databases",),
    ("databases", "drop", "pgben", "--confirm", "pgben"),
    ("catalog", "rebuild"),
)
#: Seconds within which every command has answered, on a machine that runs other tests as well:
#: no bound on speed, but what is told from a command that waits for ever. That none asks a silent
#: server again and again is counted, not timed.
SOON = 50
SILENT = "the catalog 'pgben_catalog' does not answer: the PostgreSQL server"
#: Seconds, fewer than any command waits for a silent server.
PROMPTLY = 2.5


class Silent:
    """A server that takes every connection and says nothing, as one that is frozen does."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def await_caller(self) -> None:
        self._listener.settimeout(30)
        self._held.append(self._listener.accept()[0])

    def callers(self) -> int:
        """Return how many have called so far; all of them are still held."""
        self._listener.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                self._held.append(self._listener.accept()[0])
        return len(self._held)

    def close(self) -> None:
        for one in (self._listener, *self._held):
            one.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    with closing(Silent()) as found:
        yield found


def catalog_at(address: str) -> dict[str, str]:
    return {"PGBEN_CATALOG_URL": f"postgresql://postgres:x@{address}/pgben_catalog"}


# --- no settings


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_without_any_setting_a_command_says_how_to_load_them(
    catalogless: Site, line: tuple[str, ...]
) -> None:
    catalogless.environment.clear()
    said = catalogless.run(*line, "--json")
    assert said.code == 2, said.all
    error = said.json["error"]
    assert error["sentence"] == "no settings are loaded: not one PGBEN_… variable is set"
    assert "`set -a; . /etc/pgben/keys/pgben.env; set +a`" in error["hint"]
    assert "`pgben --env-file /etc/pgben/keys/pgben.env …`" in error["hint"]
    assert "run `pgben init`" not in said.all


def test_every_command_is_tried_without_settings_or_needs_none() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {line[0] for line in LINES} == set(commands) - FREE


def test_variables_that_are_no_settings_of_an_installation_do_not_count(catalogless: Site) -> None:
    catalogless.environment.clear()
    links = {
        "PGBEN_DB_NAME": "",
        "PGBEN_TEST_SOMETHING": "1",
        "PGBEN_REDIS_SERVICE_HOST": "10.0.0.1",
        "PGBEN_REDIS_PORT": "tcp://10.0.0.1:6379",
    }
    said = catalogless.run("list", **links)
    assert "no settings are loaded" in said.err
    assert "no settings are loaded" not in catalogless.run("list", PGBEN_DB_NAME="pgben").err


def test_what_needs_no_installation_needs_no_settings(catalogless: Site) -> None:
    catalogless.environment.clear()
    for line in (("--help",), ("--version",), ("list", "--help"), ("catalog", "--help")):
        assert catalogless.run(*line).code == 0
    shown = catalogless.run("config", "--json")
    assert (shown.code, {row["origin"] for row in shown.json["settings"]}) == (0, {"default"})
    assert "no settings are loaded" in shown.err
    assert "--env-file" in shown.err


def test_files_of_settings_bring_the_installation_back(ready: Site) -> None:
    backup = a_backup(ready)
    servers = ready.folder / "servers.env"
    keys = {name for name in ready.environment if "KEY" in name or "AGE" in name}
    servers.touch(mode=0o600)
    # As it is where `pgben init` wrote the keys' settings, and people those of the servers.
    both = {
        ready.keys / "pgben.env": keys,
        servers: ready.environment.keys() - keys,
    }
    for file, names in both.items():
        text = "".join(f"{name}='{ready.environment[name]}'\n" for name in sorted(names))
        file.write_text(text, encoding="utf-8")
    given = [f"--env-file={servers}", "--env-file", str(ready.keys / "pgben.env")]
    environment = {"PGBEN_DB_NAME": "something_else"}
    site = Site(ready.folder, environment, ready.others)
    before, after = site.run(*given, "list", "--json"), site.run("list", "--json", *given)
    assert before.json == after.json == ready.run("list", "--json").json
    assert backup in site.run("list", "--direct", *given).out
    # What is named on the command line replaces what the environment has.
    config = {
        row["name"]: row["value"] for row in site.run(*given, "config", "--json").json["settings"]
    }
    assert config["PGBEN_DB_NAME"] == "pgben"


# --- no catalog


def test_with_a_silent_catalog_every_command_asks_it_once_and_answers(ready: Site) -> None:
    backup = a_backup(ready)

    def timed(line: tuple[str, ...]) -> tuple[float, int, int, str]:
        with closing(Silent()) as silent:
            began = time.monotonic()
            said = ready.run(*line, **catalog_at(silent.address))
            return time.monotonic() - began, silent.callers(), said.code, said.all

    lines = [*ASKING, ("list",), ("show", backup), ("status",)]
    with ThreadPoolExecutor(len(lines)) as together:
        answers = dict(zip(lines, together.map(timed, lines), strict=True))
    for line, (seconds, callers, code, said) in answers.items():
        assert (line, callers) == (line, 1)
        assert seconds < SOON, line
        # status waits for less, and says so in its own words.
        named = "the catalog cannot be asked" if line == ("status",) else SILENT
        assert named in said, line
        assert "--direct" in said, line
        assert "catalog rebuild" in said, line
        assert code == {"list": 0, "show": 0, "status": code}.get(line[0], 75), (line, said)
    for line in (("list",), ("show", backup)):
        assert backup in answers[line][3]


def test_the_doctor_asks_a_silent_server_once_whatever_is_on_it(
    ready: Site, silent: Silent
) -> None:
    host, _, port = silent.address.partition(":")
    server = {"PGBEN_DB_HOST": host, "PGBEN_DB_PORT": port, "PGBEN_DB_NAME": "one,two,three"}
    said = ready.run("doctor", "--json", **server, **catalog_at(silent.address))
    # The catalog once, and each database once.
    assert silent.callers() == 4
    told = [one["sentence"] for one in said.json["checks"] if one["check"] == "postgres"]
    assert said.code == 1
    # Of one that is late in a busy minute the doctor's own look says it.
    told_of = re.compile(rf"'{re.escape(silent.address)}(/\w+)?' did not answer within [46] s$")
    assert [bool(told_of.search(one)) for one in told] == [True] * 3


def test_without_the_catalogs_database_every_command_says_how_it_comes_back(
    ready: Site, postgres: EmbeddedPostgres
) -> None:
    backup = a_backup(ready)
    gone = {"PGBEN_CATALOG_URL": postgres.url("dropped_catalog")}
    listed = ready.run("list", "--json", **gone)
    assert [one["backup"] for one in listed.json["backups"]] == [backup]
    shown = ready.run("show", backup, **gone)
    assert shown.code == 0
    for said in (listed.err, shown.err):
        assert "has no database 'dropped_catalog'; reading the repository instead" in said
        assert "`pgben catalog rebuild`" in said
        assert "`pgben list --direct`" in said
        assert "psql" not in said
    for line in ASKING[:-1]:
        ran = ready.run(*line, "--json", **gone)
        assert ran.code == 2
        assert ran.json["error"]["type"] == "CatalogLost"
        assert "`pgben catalog rebuild`" in ran.json["error"]["hint"]
        assert "--direct" in ran.json["error"]["hint"]
        assert "init" not in ran.all


def test_an_empty_catalog_is_listed_from_the_repository_and_rebuilt(
    ready: Site, postgres: EmbeddedPostgres, fresh_database: str
) -> None:
    backup = a_backup(ready)
    empty = {"PGBEN_CATALOG_URL": postgres.url(fresh_database)}
    listed = ready.run("list", **empty)
    assert listed.code == 0
    assert backup in listed.out
    assert (
        f"the catalog '{fresh_database}' at {postgres.host}:{postgres.port} is empty" in listed.err
    )
    assert ready.run("catalog", "rebuild", **empty).code == 0
    assert ready.run("list", **empty).err == ""


# --- Ctrl-C


def interrupt(site: Site, silent: Silent, *line: str, **changed: str) -> tuple[float, str]:
    """Press Ctrl-C when a command waits for a silent server, twice.

    Return how many seconds it went on, and what it said.

    Sending a job puts off the first for some seconds, and never the second.
    """
    with site.start(*line, **changed) as process:
        try:
            silent.await_caller()
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.3)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
            seconds = time.monotonic() - began
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    return seconds, out + err


def seconds_after_ctrl_c(process: subprocess.Popen[str]) -> float:
    """Press Ctrl-C once; return how many seconds the command went on, which then says nothing."""
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, err = process.communicate(timeout=30)
    seconds = time.monotonic() - began
    assert (process.returncode, err) == (130, "")
    return seconds


def test_ctrl_c_ends_a_command_that_waits_for_the_catalog(ready: Site, silent: Silent) -> None:
    # Of all commands this one puts off Ctrl-C, while it writes and sends its job.
    line = ("backup", "pgben")
    promptly(
        lambda: interrupt(ready, silent, *line, **catalog_at(silent.address))[0], within=PROMPTLY
    )


def test_one_ctrl_c_ends_it_as_well_some_seconds_later(ready: Site, silent: Silent) -> None:
    with ready.start("backup", "pgben", **catalog_at(silent.address)) as process:
        try:
            silent.await_caller()
            assert seconds_after_ctrl_c(process) < SOON
        finally:
            process.kill()


def test_ctrl_c_ends_a_command_that_waits_for_redis_and_the_job_is_named(
    ready: Site, silent: Silent
) -> None:
    def attempt() -> float:
        redis = f"redis://{silent.address}/0"
        seconds, said = interrupt(ready, silent, "backup", "pgben", PGBEN_REDIS_URL=redis)
        (job,) = {one.id for one in ready.ledger.jobs()} - known
        known.add(job)
        assert f"job {job} goes on" in said
        return seconds

    known = {one.id for one in ready.ledger.jobs()}
    promptly(attempt, within=PROMPTLY)


def test_ctrl_c_ends_a_command_whose_statement_froze(
    ready: Site, postgres: EmbeddedPostgres
) -> None:
    catalog = ready.environment["PGBEN_CATALOG_URL"].rpartition("/")[2]
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    with postgres.connect(catalog) as connection, postgres.connect() as other:
        connection.autocommit = False
        connection.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")

        def look(into: list[int]) -> bool:
            into += [pid for (pid,) in other.execute(waiting, (catalog,)) if pid not in seen]
            return bool(into)

        def attempt() -> float:
            found: list[int] = []
            with ready.start("jobs") as process:
                try:
                    assert wait_until(lambda: look(found), seconds=30)
                    os.kill(found[0], signal.SIGSTOP)
                    return seconds_after_ctrl_c(process)
                finally:
                    process.kill()
                    for one in found:
                        os.kill(one, signal.SIGCONT)
                    seen.update(found)

        seen: set[int] = set()
        promptly(attempt, within=PROMPTLY)


# --- no Redis


def test_with_a_frozen_redis_a_backup_is_written_and_said_soon(ready: Site, tmp_path: Path) -> None:
    with EmbeddedRedis.start() as redis:
        child = redis._child
        assert child is not None
        child.send(signal.SIGSTOP, tree=True)
        try:
            began = time.monotonic()
            said = ready.run("backup", "pgben", "--json", PGBEN_REDIS_URL=redis.url)
            assert time.monotonic() - began < SOON
        finally:
            child.send(signal.SIGCONT, tree=True)
    assert said.code == 75
    assert "is written, and the reconciler publishes it" in said.json["error"]["sentence"]
    (job,) = ready.ledger.jobs()
    assert [one["job"] for one in said.json["jobs"]] == [str(job.id)]

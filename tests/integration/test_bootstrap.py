"""Everything comes back to new servers from a repository, an identity and a card, or nothing does.

Whatever stands in the way is one sentence with a hint, before anything was changed.
"""

from __future__ import annotations

import fcntl
import os
import pty
import secrets
import select
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from pgben_tasks import runtime
from pgben_tasks.adapters.postgres.server import PostgresServer, list_databases
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.settings import Settings
from pgben_tasks.settings.env_file import parse
from tests.support.bucketshop import TARGET as BUCKET, contents
from tests.support.commands import Ran
from tests.support.lost_site import DATABASE, Left, OldSite, platform, text_of

pytestmark = pytest.mark.unmeasured

CANARY = "canary-7d20"


class NewServers:
    """A PostgreSQL and an S3 server, empty at the beginning of each test."""

    def __init__(self, postgres: EmbeddedPostgres, s3: EmbeddedS3) -> None:
        self.postgres = postgres
        self.s3 = s3

    def databases(self) -> tuple[str, ...]:
        server = self.postgres
        return list_databases(
            PostgresServer(
                host=server.host, port=server.port, user=server.user, password=server.password
            )
        )

    def buckets(self) -> set[str]:
        return {one.name for one in self.s3.client().list_buckets()}

    def clear(self) -> None:
        with self.postgres.connect() as connection:
            for name in self.databases():
                drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
                connection.execute(drop)
            for (role,) in connection.execute(
                "SELECT rolname FROM pg_roles WHERE rolname LIKE 'pgben%'"
            ).fetchall():
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
        client = self.s3.client()
        for bucket in self.buckets():
            for one in client.list_objects(bucket, recursive=True, include_version=True):
                client.remove_object(bucket, one.object_name or "", version_id=one.version_id)
            client.remove_bucket(bucket)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[EmbeddedPostgres, EmbeddedS3, EmbeddedPostgres, EmbeddedS3]]:
    with ExitStack() as stack:
        yield (
            stack.enter_context(EmbeddedPostgres.start()),
            stack.enter_context(EmbeddedS3.start(kind="ministack")),
            stack.enter_context(EmbeddedPostgres.start()),
            stack.enter_context(EmbeddedS3.start(kind="ministack")),
        )


@pytest.fixture(scope="module")
def old(
    servers: tuple[EmbeddedPostgres, EmbeddedS3, EmbeddedPostgres, EmbeddedS3],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OldSite]:
    made = OldSite.make(tmp_path_factory.mktemp("site") / "old", servers[0], servers[1])
    yield made
    made.close()


@pytest.fixture
def new(
    servers: tuple[EmbeddedPostgres, EmbeddedS3, EmbeddedPostgres, EmbeddedS3],
) -> Iterator[NewServers]:
    made = NewServers(servers[2], servers[3])
    yield made
    made.clear()


@pytest.fixture
def left(old: OldSite, tmp_path: Path) -> Left:
    return old.leave(tmp_path)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextmanager
def untouched(left: Left, new: NewServers) -> Iterator[None]:
    """Check that neither the servers nor the repository were changed, and no key was made."""
    before = (new.databases(), new.buckets(), files(left.repository))
    yield
    assert (new.databases(), new.buckets(), files(left.repository)) == before
    assert not left.keys.exists()


def refused(said: Ran, code: int, *words: str) -> dict[str, str]:
    """Return the error of a command that ended with one sentence and a hint."""
    assert said.code == code, said.all
    error: dict[str, str] = said.json["error"]
    for word in words:
        assert word in error["sentence"], error
    assert "\n" not in error["sentence"]
    assert error["hint"]
    return error


def run(left: Left, new: NewServers, *further: str, **settings: str) -> Ran:
    return left.pgben(*left.arguments(new.postgres, new.s3), *further, settings=settings)


def require_equal(old: OldSite, left: Left, new: NewServers) -> None:
    server = old.shop.server
    assert platform(new.postgres) == platform(server)
    assert text_of(new.postgres) == text_of(server)
    there = left.bucket(new.s3)
    assert contents(there) == contents(old.bucket)
    assert there.settings() == old.bucket.settings()


# --- what comes back


def test_everything_comes_back_and_a_second_time_changes_nothing(
    old: OldSite, left: Left, new: NewServers
) -> None:
    planned = run(left, new, "--dry-run", "--json")
    assert planned.code == 0, planned.all
    assert planned.json["obstacles"] == []
    assert planned.json["point"] == str(old.formed[-1].id)
    assert planned.json["identity"] == ["escrow"]
    assert [one["exists"] for one in planned.json["parts"]] == [False, False]
    assert new.databases() == ()
    assert not left.keys.exists()

    done = run(left, new)
    assert done.code == 0, done.all
    require_equal(old, left, new)
    assert new.databases() == (DATABASE, "pgben_catalog")
    assert new.buckets() == {BUCKET.name}
    assert "roles may log in and have no password: pgben Portal;" in done.err
    assert "destroy the cards printed before" in done.err
    assert "the catalog goes to the server of the databases" in done.err
    assert new.postgres.password not in done.all
    assert "_restored_" not in done.out, "the copy has the original's name by now"
    assert "waiting" not in done.err
    assert "Connection pool" not in done.err
    written = files(left.keys)
    again = run(left, new)
    assert again.code == 0, again.all
    assert "has ended well" in again.err
    assert {name: data for name, data in files(left.keys).items() if "card" not in name} == {
        name: data for name, data in written.items() if "card" not in name
    }
    require_equal(old, left, new)
    elsewhere = run(left, new, "--keys", str(left.folder / "other"), "--json")
    refused(elsewhere, 3, "a bootstrap was begun with this catalog", "does not hold its keys")


def test_the_settings_that_are_written_run_the_new_site(
    old: OldSite, left: Left, new: NewServers
) -> None:
    done = run(left, new, "--json", PGBEN_CONTACTS="Ana; ana@example.org; 1")
    assert done.code == 0, done.all
    settings = parse((left.keys / "pgben.env").read_text(encoding="utf-8"), left.keys / "pgben.env")
    assert settings["PGBEN_CONTACTS"] == "Ana; ana@example.org; 1"
    assert settings["PGBEN_DB_NAME"] == DATABASE
    assert not any(new.postgres.password in value for value in settings.values())
    for name in ("PGBEN_DB_PASS_FILE", "PGBEN_MINIO_SECRET_KEY_FILE"):
        assert Path(settings[name]).stat().st_mode & 0o077 == 0
    work = runtime.Workplace(Settings.load(settings))
    # Old backups are believed, and so are those that the new key signs.
    assert [str(one) for one in work.repository.backups(old.shop.target)]
    assert work.index.known()
    (trusted_old,) = old.shop.keys.trusted
    assert {one.fingerprint for one in runtime.trust(work.settings).keys} > {
        trusted_old.fingerprint
    }
    card = (left.keys / "recovery-card.txt").read_text(encoding="utf-8")
    assert old.fingerprint not in card
    verified = left.pgben(
        "--env-file", str(left.keys / "pgben.env"), "verify", "--direct", "--json"
    )
    assert verified.code == 0, verified.all
    listed = left.pgben("--env-file", str(left.keys / "pgben.env"), "points", "--json")
    assert [one["state"] for one in listed.json["points"]] == ["verified"]
    with work.database.transaction() as cursor:
        cursor.execute("SELECT action, result, stored FROM audit ORDER BY sequence")
        entries = [(row["action"], row["result"], row["stored"]) for row in cursor.fetchall()]
    for entry in (
        ("catalog rebuild", "succeeded"),
        ("keys", "stored"),
        ("restore_all", "began"),
        ("restore", "succeeded"),
        ("restore_all", "succeeded"),
        ("bootstrap", "succeeded"),
    ):
        assert (*entry, True) in entries


def test_a_repository_on_the_same_s3_server_is_not_in_the_way(
    old: OldSite, left: Left, new: NewServers
) -> None:
    new.s3.make_bucket("copias")
    client = new.s3.client()
    for path in left.repository.rglob("*"):
        if path.is_file():
            key = f"cidade/{path.relative_to(left.repository)}"
            client.fput_object("copias", key, str(path))
    arguments = [
        *left.arguments(new.postgres, new.s3),
        *("--repository", "s3://copias/cidade", "--repository-endpoint", new.s3.endpoint),
        *("--repository-access-key", new.s3.access_key),
        *("--repository-secret-file", str(left.folder / "s3.txt")),
    ]
    done = left.pgben(*arguments)
    assert done.code == 0, done.all
    assert new.s3.secret_key not in done.all
    assert new.buckets() == {BUCKET.name, "copias"}
    require_equal(old, left, new)
    file = left.keys / "pgben.env"
    assert left.pgben("--env-file", str(file), "list", "--direct", "--json").code == 0


def test_the_newest_verified_point_is_taken_and_a_damaged_newer_one_is_named(
    old: OldSite, left: Left, new: NewServers, tmp_path: Path
) -> None:
    older, newer = old.formed[-1], old.form()
    later = old.leave(tmp_path / "later")
    (document,) = (path for path in later.repository.rglob("*.json") if str(newer.id) in str(path))
    document.write_bytes(document.read_bytes()[:-20])
    planned = run(later, new, "--dry-run", "--json").json
    assert planned["point"] == str(older.id)
    assert planned["passed_over"] == {str(newer.id): "cannot be believed"}
    shown = run(later, new, "--dry-run")
    assert f"recovery point {newer.id} is newer and is not taken: cannot be believed" in shown.out
    named = run(later, new, "--dry-run", "--json", "--point", str(newer.id))
    refused(named, 1, f"there is no recovery point '{newer.id}'")
    early = run(later, new, "--dry-run", "--json", "--at", "2020-01-01 10:00")
    refused(early, 1, "no verified recovery point whose data are of that moment or before")


# --- what is refused, with nothing changed


def test_one_wrong_digit_of_the_fingerprint_is_noticed(left: Left, new: NewServers) -> None:
    typed = left.fingerprint
    wrong = ("0" if typed[0] != "0" else "1") + typed[1:]
    with untouched(left, new):
        said = run(replace(left, fingerprint=wrong), new, "--json")
        refused(said, 2, "has no public keys with the fingerprint")


def test_an_identity_that_opens_nothing_is_told(left: Left, new: NewServers) -> None:
    other = left.folder / "other.txt"
    shutil.copy(left.identity, other)
    made = subprocess.run(
        [sys.executable, "-c", "import pyrage; print(pyrage.x25519.Identity.generate())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    other.write_text(made, encoding="utf-8")
    with untouched(left, new):
        error = refused(
            run(left, new, "--identity", str(other), "--json"), 2, "opens none of these backups"
        )
    assert "'escrow'" in error["sentence"]
    assert "AGE-SECRET-KEY" not in str(error)
    other.write_text(CANARY, encoding="utf-8")
    with untouched(left, new):
        said = run(left, new, "--identity", str(other), "--json")
        refused(said, 2, "is not an age identity")
    assert CANARY not in said.all


def test_a_repository_without_a_recovery_point_is_told(left: Left, new: NewServers) -> None:
    shutil.rmtree(left.repository / "recovery-points")
    with untouched(left, new):
        refused(run(left, new, "--json"), 1, "there is no recovery point")
    (left.repository / "repository.json").unlink()
    with untouched(left, new):
        refused(run(left, new, "--json"), 2, "there is no repository")


def test_servers_that_are_not_empty_are_refused_by_name(left: Left, new: NewServers) -> None:
    with new.postgres.connect() as connection:
        for number in range(7):
            connection.execute(f"CREATE DATABASE estranho_{number}".encode())
    new.s3.make_bucket("estranho")
    with untouched(left, new):
        planned = run(left, new, "--dry-run", "--json")
        assert planned.code == 3, planned.all
        against = [one["sentence"] for one in planned.json["obstacles"]]
        assert "'estranho_0', 'estranho_1'" in against[0]
        assert "and 2 more" in against[0]
        assert "it has the buckets 'estranho'" in against[1]
        error = refused(run(left, new, "--json"), 3, "is not empty", "the buckets 'estranho'")
        assert "a bootstrap begins with new servers" in error["hint"]


def test_the_catalog_of_an_installation_is_never_taken_for_a_new_one(
    old: OldSite, left: Left, new: NewServers
) -> None:
    living = old.shop.environment["PGBEN_CATALOG_URL"]
    before = old.shop.work.ledger.jobs(limit=1000)
    with untouched(left, new):
        said = run(left, new, "--json", PGBEN_CATALOG_URL=living)
        refused(said, 3, "is there already, and it is no catalog of a bootstrap")
    assert old.shop.work.ledger.jobs(limit=1000) == before
    with new.postgres.connect() as connection:
        connection.execute("CREATE DATABASE pgben_catalog")
    with new.postgres.connect("pgben_catalog") as connection:
        connection.execute("CREATE TABLE of_somebody ()")
    with untouched(left, new):
        refused(run(left, new, "--json"), 3, "it is no catalog of a bootstrap")


def test_a_server_that_is_away_is_named(left: Left, new: NewServers) -> None:
    with untouched(left, new):
        said = run(left, new, "--json", "--postgres-port", "1")
        refused(said, 75, "does not answer")
        said = run(left, new, "--json", "--s3-endpoint", "http://127.0.0.1:1")
        refused(said, 75, "does not answer")


def test_a_role_that_is_no_superuser_is_refused(left: Left, new: NewServers) -> None:
    role, password = "mero", secrets.token_hex(8)
    with new.postgres.connect() as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
    arguments = left.arguments(new.postgres, new.s3)
    (left.folder / "db.txt").write_text(password, encoding="utf-8")
    try:
        with untouched(left, new):
            said = left.pgben(*arguments, "--postgres-user", role, "--json")
            refused(said, 3, f"the role '{role}' is no superuser")
    finally:
        with new.postgres.connect() as connection:
            connection.execute(f"DROP ROLE {role}".encode())


def test_an_older_major_is_refused(tmp_path: Path, new: NewServers) -> None:
    with (
        EmbeddedPostgres.start(major=18) as newer,
        EmbeddedS3.start(kind="ministack") as s3,
    ):
        site = OldSite.make(tmp_path / "old", newer, s3, objects=1)
        left = site.leave(tmp_path)
        with untouched(left, new):
            refused(run(left, new, "--json"), 3, "PostgreSQL 18", "is PostgreSQL 17")
        site.close()


def test_what_was_not_answered_is_named_where_nobody_can_be_asked(left: Left) -> None:
    said = left.pgben("bootstrap", "--repository", "s3://somewhere", "--json")
    error = refused(said, 2, "not answered: --repository-endpoint")
    for option in ("--repository-secret-file", "--postgres-host", "--identity", "--fingerprint"):
        assert option in error["sentence"]
    assert "--postgres-port" not in error["sentence"]


def test_further_servers_are_refused(left: Left, new: NewServers) -> None:
    file = left.folder / "servers.toml"
    file.write_text('[two]\nhost = "b"\ndatabases = ["outro"]\n', encoding="utf-8")
    with untouched(left, new):
        said = run(left, new, "--json", PGBEN_SERVERS_FILE=str(file))
        refused(said, 2, "PGBEN_SERVERS_FILE is set")


def test_other_keys_in_the_folder_are_not_replaced(left: Left, new: NewServers) -> None:
    there = left.folder / "there"
    made = left.pgben(
        "init",
        *("--keys", str(there)),
        settings={
            "PGBEN_CATALOG_URL": new.postgres.url("spare"),
            "PGBEN_REPOSITORY": f"file://{left.folder / 'another'}",
        },
    )
    assert made.code == 0, made.all
    with new.postgres.connect() as connection:
        connection.execute("DROP DATABASE spare")
    before = files(there)
    with untouched(left, new):
        said = run(left, new, "--json", "--keys", str(there))
        refused(said, 3, "has keys already")
    assert files(there) == before


# --- what is interrupted, or fails, goes on


def start(left: Left, new: NewServers) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pgben_tasks.cli.main", *left.arguments(new.postgres, new.s3)],
        env=left.environment(),
        cwd=left.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("moment", "sign"),
    [("catalog", signal.SIGINT), ("copy", signal.SIGKILL)],
    ids=["ctrl-c", "killed"],
)
def test_an_interrupted_bootstrap_goes_on(
    old: OldSite, left: Left, new: NewServers, moment: str, sign: signal.Signals
) -> None:
    reached: Callable[[], bool] = {
        "catalog": lambda: "pgben_catalog" in new.databases(),
        "copy": lambda: any("_restored_" in name for name in new.databases()),
    }[moment]
    with start(left, new) as process:
        assert wait_until(reached, seconds=60)
        process.send_signal(sign)
        _, err = process.communicate(timeout=60)
    assert process.returncode in {130, -signal.SIGKILL}, err
    if sign == signal.SIGINT:
        assert "the same command, typed again, goes on" in err
    said = run(left, new)
    assert said.code == 0, said.all
    require_equal(old, left, new)
    assert new.databases() == (DATABASE, "pgben_catalog")


def test_what_failed_is_cleaned_up_and_begun_again_once_it_is_mended(
    old: OldSite, left: Left, new: NewServers
) -> None:
    in_the_way = left.folder / "spool" / "jobs"
    in_the_way.parent.mkdir(mode=0o700)
    in_the_way.touch()
    failed = run(left, new, "--json")
    assert failed.code != 0, failed.all
    assert failed.json["job"]["state"] == "failed"
    assert "spool" in failed.json["job"]["error"]["sentence"]
    assert new.databases() == ("pgben_catalog",)
    assert "PGBEN_DB_HOST" not in (left.keys / "pgben.env").read_text(encoding="utf-8")
    in_the_way.unlink()
    done = run(left, new)
    assert done.code == 0, done.all
    assert "was begun; it goes on" in done.err
    require_equal(old, left, new)


def test_when_the_newest_point_is_found_damaged_the_one_before_is_taken(
    old: OldSite, new: NewServers, tmp_path: Path
) -> None:
    first, older, newer = old.formed[0], old.form(), old.form()
    left = old.leave(tmp_path)
    member = next(one for one in newer.members if one.target == f"postgres/{DATABASE}")
    (pack,) = (left.repository / "packs" / "postgres" / DATABASE / member.backup).glob("1.*")
    data = pack.read_bytes()
    pack.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    failed = run(left, new)
    assert failed.code == 1, failed.all
    assert "has the digest" in failed.err
    assert "the same command, typed again, goes on" in failed.err
    assert new.databases() == ("pgben_catalog",), "no half-restored database is left"
    done = run(left, new)
    assert done.code == 0, done.all
    assert f"recovery point {newer.id} is newer and is not taken: damaged" in done.err
    require_equal(old, left, new)
    assert run(left, new, "--point", str(older.id)).code == 0, "it is there"
    other = run(left, new, "--json", "--point", str(first.id))
    refused(other, 3, "has ended well, with another recovery point")


def test_another_spool_begins_the_restore_anew(old: OldSite, left: Left, new: NewServers) -> None:
    with start(left, new) as process:
        assert wait_until(lambda: any("_restored_" in name for name in new.databases()), seconds=60)
        process.kill()
        process.communicate(timeout=60)
    shutil.rmtree(left.folder / "spool")
    said = run(left, new, PGBEN_NODE="another-machine")
    assert said.code == 0, said.all
    require_equal(old, left, new)
    assert new.databases() == (DATABASE, "pgben_catalog")


def test_an_installation_that_is_in_use_by_now_is_not_replaced(
    old: OldSite, left: Left, new: NewServers
) -> None:
    with start(left, new) as process:
        assert wait_until(lambda: any("_restored_" in name for name in new.databases()), seconds=60)
        process.kill()
        process.communicate(timeout=60)
    catalog = new.postgres.url("pgben_catalog")
    ledger = runtime.Workplace(Settings.load({"PGBEN_CATALOG_URL": catalog})).ledger
    target = str(old.shop.target)
    ledger.request("backup", target=target, key="of-beat", request={}, requested_by="beat")
    before = (new.databases(), new.buckets())
    error = refused(run(left, new, "--json"), 3, "other jobs were asked for since", target)
    assert "what is in use is not replaced" in error["hint"]
    assert (new.databases(), new.buckets()) == before


# --- answers at a terminal


def test_at_a_terminal_it_asks_and_shows_no_secret(left: Left, new: NewServers) -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pgben_tasks.cli.main", "bootstrap", "--dry-run"],
        env={**left.environment(), "TERM": "dumb"},
        cwd=left.folder,
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=end,
        start_new_session=True,
        # What is not shown is read from the terminal itself.
        preexec_fn=lambda: fcntl.ioctl(end, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads
    )
    os.close(end)
    shown, seen = bytearray(), 0
    answers: list[tuple[str, Any]] = [
        ("Repository", f"file://{left.repository}"),
        ("PostgreSQL server: host", new.postgres.host),
        ("its port", new.postgres.port),
        ("a superuser", new.postgres.user),
        ("its password (not shown): ", new.postgres.password),
        ("S3 server", new.s3.endpoint),
        ("its access key", new.s3.access_key),
        ("its secret key (not shown): ", new.s3.secret_key),
        (
            "the key itself (not shown): ",
            left.identity.read_text(encoding="utf-8").splitlines()[-1],
        ),
        ("Fingerprint", left.fingerprint),
    ]
    with untouched(left, new):
        for question, answer in answers:
            while (found := shown.find(question.encode(), seen)) < 0:
                assert select.select([terminal], [], [], 60)[0], shown
                shown += os.read(terminal, 4096)
            seen = found + len(question)
            os.write(terminal, f"{answer}\n".encode())
        out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert process.returncode == 0, shown
    assert b"nothing stands in the way" in out
    for secret in (new.postgres.password, new.s3.secret_key, "AGE-SECRET-KEY-1"):
        assert secret.encode() not in shown
        assert secret.encode() not in out

"""The doctor on a healthy installation, and on the same one with one fault after another."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis
from psycopg import sql
from pydantic import SecretStr

from pgben_tasks import names
from pgben_tasks.adapters.catalog.workers import BEAT, TICK
from pgben_tasks.adapters.keys.files import (
    make_age_identity,
    make_signing_key,
    trusted_key,
    write_trusted_keys,
)
from pgben_tasks.adapters.keys.key_set import ESCROW_IDENTITY
from pgben_tasks.adapters.postgres.clients import published_clients
from pgben_tasks.adapters.redis import SetAside, record_set_aside
from pgben_tasks.app import create_app
from pgben_tasks.broker import MOST_SET_ASIDE
from pgben_tasks.domain.restorability import Client
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import TransientError
from pgben_tasks.health.doctor import checks
from pgben_tasks.health.doctor.report import Result
from pgben_tasks.language import Language
from pgben_tasks.runtime import Workplace
from pgben_tasks.settings import Settings
from pgben_tasks.settings.values import Command, SecretUrl
from pgben_tasks.tasks.reconciler import _record_set_aside
from tests.support.between import answering
from tests.support.texts import english_in
from tests.support.workshop import Workshop

DAY = timedelta(days=1)
LANGUAGES: tuple[Language, ...] = get_args(Language)
#: What every test's server has, whatever is planted: it is the catalog's too, and of last month.
KNOWN = {("catalog_place", "same"), ("holes", "server"), ("holes", "client")}


@dataclass
class Clinic:
    """A healthy installation, and its settings with something changed."""

    shop: Workshop
    changed: dict[str, Any] = field(default_factory=dict)

    @property
    def work(self) -> Workplace:
        """The installation as the changed settings make it."""
        return Workplace(self.shop.work.settings.model_copy(update=self.changed))

    def examine(self, **changed: Any) -> list[Result]:
        """Run the doctor with some settings changed."""
        self.changed |= changed
        results = list(checks.examine(lambda: self.work))
        for one in results:
            assert english_in(" ".join(one.written("pt_BR"))) == set(), one
        return results

    def wrong(self, **changed: Any) -> dict[tuple[str, str], Result]:
        """Return what is not as it should be, beside what every test's server has."""
        return {
            (one.check, one.code): one
            for one in self.examine(**changed)
            if one.status != "ok" and (one.check, one.code) not in KNOWN
        }

    def run_sql(self, statement: str, *values: Any) -> None:
        """Change the catalog behind everybody's back."""
        with self.shop.work.database.transaction() as cursor:
            cursor.execute(statement.encode(), values)


@pytest.fixture(scope="module")
def shop(
    postgres: EmbeddedPostgres,
    redis_server: EmbeddedRedis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Workshop]:
    database = f"doctor_{secrets.token_hex(6)}"
    with postgres.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    with postgres.connect(database) as connection:
        connection.execute("CREATE TABLE cidadao AS SELECT g AS id FROM generate_series(1, 50) g")
    settings = {
        "PGBEN_REDIS_URL": redis_server.url,
        "PGBEN_SMTP_HOST": "mail.example",
        "PGBEN_SMTP_FROM": "pgben@mail.example",
        "PGBEN_ADMIN_EMAIL": "ana@mail.example",
        "PGBEN_DISK_CRITICAL": "0.999",
    }
    folder = tmp_path_factory.mktemp("doctor")
    with Workshop.open(folder, postgres, database, settings=settings) as made:
        made.escrow_identity.unlink()
        made.backup()
        yield made
    with postgres.connect() as connection:
        connection.execute(
            sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database))
        )


@pytest.fixture
def clinic(shop: Workshop) -> Clinic:
    """Return the installation with every process alive, whatever the last test did."""
    work = shop.work
    shop.work.settings.spool_dir.chmod(0o700)
    made = Clinic(shop)
    made.run_sql("TRUNCATE worker, audit")
    work.workers.send_heartbeat([*(f"{role}.workshop" for role in names.QUEUES), TICK, BEAT])
    work.workers.publish(["restore.workshop"], published_clients())
    return made


def english(result: Result) -> str:
    return " ".join(result.written("en"))


def test_a_healthy_installation_has_no_error_and_every_check_says_something(
    clinic: Clinic,
) -> None:
    results = clinic.examine()
    assert {one.check for one in results} == set(checks.CHECKS)
    assert clinic.wrong() == {}
    text = " ".join(english(one) for one in results)
    assert clinic.shop.server.password not in text
    assert "AGE-SECRET-KEY" not in text


def test_examining_changes_nothing(clinic: Clinic) -> None:
    def everything() -> dict[str, bytes | int]:
        return {
            str(path): path.read_bytes() if path.is_file() else path.stat().st_mode
            for path in clinic.shop.folder.rglob("*")
        }

    clinic.run_sql("DELETE FROM worker")
    before, databases = everything(), clinic.shop.work.index.backups()
    clinic.examine()
    absent = clinic.shop.folder / "absent"
    clinic.examine(spool_dir=absent)
    assert everything() == before
    assert not absent.exists()
    assert clinic.shop.work.index.backups() == databases


# Faults in the settings: what is changed, and what must be told of it

SETTINGS: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    "no recipients": ({"age_recipients": ()}, {("recipients", "none"), ("repository", "failed")}),
    "encryption off": ({"encryption": False}, {("recipients", "off")}),
    "no trusted keys": (
        {"trusted_keys_file": None},
        {
            *(("trusted_keys", "none"), ("repository", "failed")),
            *(("signing_key", "unseen"), ("stored_keys", "unseen")),
        },
    ),
    "a key that is not there": (
        {"age_identity_file": Path("/nowhere/identity.txt")},
        {("identities", "failed"), ("opening", "unseen")},
    ),
    "no key": ({"age_identity_file": None}, {("opening", "unseen")}),
    "no signing key": ({"signing_key_file": None}, {("signing_key", "none")}),
    "no mail server": ({"smtp_host": None, "admin_email": ()}, {("mail", "incomplete")}),
    "a small limit": ({"spool_limit": 1024}, {("spool_room", "small")}),
    "another node": ({"node": "other"}, {("node", "foreign")}),
    "a full disk": ({"disk_critical": 0.0001}, {("space", "full")}),
    "a tight RPO": ({"rpo": timedelta(0)}, {("backups", "old")}),
    "no verification": ({"verify_days": 0}, {("verifications", "overdue")}),
    "no such repository": (
        {"repository": "file:///nowhere/repository"},
        {("repository", "failed"), ("repository_writable", "unseen")},
    ),
    "a wrong password": ({"db_pass": SecretStr("canary-x1")}, {("postgres", "failed")}),
    "no such database": (
        {"db_name": ("no_such",)},
        {("postgres", "missing"), ("role", "unseen"), ("clients", "unseen"), ("holes", "unseen")},
    ),
    "nothing at Redis's port": (
        {"redis_url": SecretUrl("redis://:canary-x1@127.0.0.1:1/0")},
        {("broker", "failed"), ("broker_memory", "unseen"), ("queues", "unseen")},
    ),
    "an address without a domain": (
        {"admin_email": ("root@localhost",)},
        {("settings", "doubtful")},
    ),
    "a database of the server's own": ({"db_name": ("postgres",)}, {("settings", "doubtful")}),
    "names that are no settings": ({}, {("settings", "ignored"), ("settings", "retired")}),
}


@pytest.mark.parametrize("fault", SETTINGS)
def test_a_fault_in_the_settings_is_told_with_what_to_do(clinic: Clinic, fault: str) -> None:
    changed, expected = SETTINGS[fault]
    if fault == "names that are no settings":
        work = clinic.work
        work.settings._ignored = ("PGBEN_API_SERVICE_HOST",)
        work.settings._retired = ("PGBEN_RTO",)
        results = list(checks.examine(lambda: work))
        found = {(one.check, one.code): one for one in results if one.status != "ok"}
    else:
        found = clinic.wrong(**changed)
    assert expected <= set(found)
    for name in expected:
        texts = [text for language in LANGUAGES for text in found[name].written(language)]
        assert all(texts)
        assert "canary-x1" not in " ".join(texts)
        assert len(set(texts)) == len(texts), "one language at a time on a screen"
    # What does not hang on the fault is looked at all the same.
    assert ("space", "failed") not in found
    assert ("clocks", "failed") not in found


def test_a_catalog_that_is_away_is_told_once_and_hides_no_other_fault(clinic: Clinic) -> None:
    url = SecretUrl("postgresql://postgres:canary-x2@127.0.0.1:1/none")
    found = clinic.wrong(catalog_url=url, smtp_host=None)
    failed = [name for name, one in found.items() if one.status == "error"]
    assert failed == [("catalog", "failed")]
    unseen = {check for check, word in found if word == "unseen"}
    assert unseen == {
        *("queues", "repository_writable", "workers", "tick", "backups", "verifications"),
        *("restorable", "history"),
    }
    assert {found[check, "unseen"].status for check in unseen} == {"unknown"}
    assert english(found["workers", "unseen"]).startswith(
        "not examined: the workers, because the catalog cannot be asked"
    )
    assert ("mail", "incomplete") in found
    assert "canary-x2" not in " ".join(english(one) for one in found.values())


# Faults in the surroundings


def test_one_recipient_is_too_few_and_a_foreign_identity_opens_nothing(
    clinic: Clinic, tmp_path: Path
) -> None:
    other = tmp_path / "other-identity.txt"
    make_age_identity(other, now=clinic.work.database.now())
    own = clinic.shop.work.settings.age_recipients
    assert set(clinic.wrong(age_recipients=own[:1])) == {
        ("recipients", "one"),
        ("stored_keys", "other"),
    }
    found = clinic.wrong(age_recipients=own, age_identity_file=other)
    assert set(found) == {("opening", "foreign")}


def test_a_key_that_others_may_read_and_one_that_nobody_trusts_are_found(
    clinic: Clinic, tmp_path: Path
) -> None:
    other = tmp_path / "other-identity.txt"
    make_age_identity(other, now=clinic.work.database.now())
    other.chmod(0o644)
    found = clinic.wrong(age_identity_file=other)
    assert set(found) == {("identities", "failed"), ("opening", "unseen")}
    assert "chmod 600" in english(found["identities", "failed"])
    key = tmp_path / "signing-key.pem"
    make_signing_key(key)
    found = clinic.wrong(
        age_identity_file=clinic.shop.work.settings.age_identity_file, signing_key_file=key
    )
    assert ("signing_key", "untrusted") in found


def test_public_keys_that_the_repository_lacks_or_has_of_before_are_found(
    clinic: Clinic, tmp_path: Path
) -> None:
    folder = clinic.shop.repository / "keys"
    aside = tmp_path / "keys"
    folder.rename(aside)
    try:
        found = clinic.wrong()
        assert set(found) == {("stored_keys", "none")}
        assert "`pgben init`" in english(found["stored_keys", "none"])
    finally:
        aside.rename(folder)
    trusted = tmp_path / "trusted-keys.json"
    pair = make_signing_key(tmp_path / "new.pem")
    new = trusted_key("new", ["backup"], pair.public)
    write_trusted_keys(trusted, [*clinic.shop.keys.trusted, new])
    before = clinic.shop.work.settings.trusted_keys_file
    found = clinic.wrong(trusted_keys_file=trusted)
    assert set(found) == {("stored_keys", "other")}
    assert "older cards are out of date" in english(found["stored_keys", "other"])
    # A worker that seals nothing knows no recipients.
    assert ("stored_keys", "other") not in clinic.wrong(
        trusted_keys_file=before, encryption=False, age_recipients=()
    )
    (stored,) = folder.iterdir()
    data = stored.read_bytes()
    stored.write_bytes(data[:-1])
    try:
        found = clinic.wrong()
        assert set(found) == {("recipients", "off"), ("stored_keys", "failed")}
        assert "is not the document that its name says" in english(found["stored_keys", "failed"])
    finally:
        stored.write_bytes(data)


def test_the_escrow_key_is_missed_in_its_safe(clinic: Clinic) -> None:
    escrow = clinic.shop.keys.file(ESCROW_IDENTITY)
    escrow.touch(mode=0o600)
    try:
        assert set(clinic.wrong()) == {("escrow", "here")}
    finally:
        escrow.unlink()


def test_a_spool_that_others_may_enter_or_that_is_no_folder_is_found(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.shop.work.settings.spool_dir.chmod(0o755)
    assert set(clinic.wrong()) == {("spool", "mode")}
    clinic.shop.work.settings.spool_dir.chmod(0o700)
    file = tmp_path / "spool"
    file.touch()
    found = clinic.wrong(spool_dir=file)
    assert set(found) == {("spool", "file"), ("spool_room", "unseen")}
    found = clinic.wrong(spool_dir=tmp_path / "absent")
    assert set(found) == {("spool", "absent"), ("spool_room", "unseen")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_spool_of_another_user_is_found(clinic: Clinic, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)
    os.chown(spool, 65534, 65534)
    assert set(clinic.wrong(spool_dir=spool)) == {("spool", "owner")}


def test_a_command_around_a_swap_that_cannot_be_started_is_found_where_backups_are_restored(
    clinic: Clinic, tmp_path: Path
) -> None:
    def told(**changed: Any) -> dict[tuple[str, str], Result]:
        return {name: one for name, one in clinic.wrong(**changed).items() if name[0] == "hooks"}

    program = tmp_path / "pause"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    command = Command((str(program), "now"))
    found = told(before_swap=command)
    assert found[("hooks", "failed")].status == "error"
    assert f"PGBEN_BEFORE_SWAP names '{program}'" in english(found[("hooks", "failed")])
    assert set(told(before_swap=None, after_swap=command)) == {("hooks", "failed")}
    program.chmod(0o755)
    assert told() == {}
    # Where nothing is restored the program need not be.
    program.unlink()
    assert set(told(age_identity_file=None)) == {("hooks", "unseen")}


def test_workers_that_are_gone_and_a_beat_that_is_down_are_found(clinic: Clinic) -> None:
    clinic.run_sql("DELETE FROM worker WHERE name IN ('backup.workshop', 'verify.workshop')")
    absent = [
        one.facts for one in clinic.examine() if (one.check, one.code) == ("workers", "absent")
    ]
    assert absent == [{"role": "backup"}, {"role": "verify"}]
    clinic.run_sql("UPDATE worker SET heartbeat_at = heartbeat_at - %s WHERE name = %s", DAY, BEAT)
    assert ("tick", "without_beat") in clinic.wrong()
    clinic.run_sql("DELETE FROM worker WHERE name = %s", TICK)
    assert ("tick", "never") in clinic.wrong()


def test_a_reconciler_that_stopped_is_found(
    clinic: Clinic, role: Callable[[str], Mapping[str, Any]]
) -> None:
    # The test's server has not run for five minutes yet.
    user = str(role("SUPERUSER")["db_user"])
    clinic.run_sql(
        "CREATE SCHEMA old; CREATE FUNCTION old.pg_postmaster_start_time() RETURNS timestamptz"
        " RETURN pg_catalog.clock_timestamp() - interval '1 day'"
    )
    clinic.run_sql(f"ALTER ROLE {user} SET search_path = old, pg_catalog, public")
    url = urlsplit(clinic.work.settings.catalog_url.get_secret_value())
    place = f"{user}:secret@{url.hostname}:{url.port}"
    try:
        assert clinic.wrong(catalog_url=SecretUrl(url._replace(netloc=place).geturl())) == {}
        clinic.run_sql(
            "UPDATE worker SET heartbeat_at = heartbeat_at - %s WHERE name = %s", DAY, TICK
        )
        assert set(clinic.wrong()) == {("tick", "silent")}
    finally:
        clinic.run_sql("DROP SCHEMA old CASCADE")


def test_what_restore_workers_cannot_restore_is_found(clinic: Clinic) -> None:
    old = Client(version="15.18", major=15, compression="zstd:3")
    workers = clinic.work.workers
    workers.publish(["restore.workshop"], [old])
    found = clinic.wrong()
    assert set(found) == {("restorable", "newest"), ("restorable", "next"), ("backups", "none")}
    assert "needs a PostgreSQL client of version 17 or newer" in english(
        found["restorable", "newest"]
    )
    assert "postgresql-client-17" in english(found["restorable", "newest"])
    # One that can is enough, and the other is told before a restore meets it.
    workers.send_heartbeat(["restore.second"])
    workers.publish(["restore.second"], published_clients())
    found = clinic.wrong()
    assert set(found) == {("restorable", "unfit")}
    assert found["restorable", "unfit"].facts["worker"] == "restore.workshop"


def test_where_no_restore_worker_lives_it_is_not_known(clinic: Clinic) -> None:
    clinic.run_sql("UPDATE worker SET heartbeat_at = heartbeat_at - %s", DAY)
    assert ("restorable", "last") in clinic.wrong()
    clinic.run_sql("UPDATE worker SET clients = NULL")
    found = clinic.wrong()
    assert found["restorable", "unknown"].status == "warning"


def test_where_no_server_answers_no_clock_is_called_right(clinic: Clinic) -> None:
    away = SecretUrl("postgresql://postgres:x@127.0.0.1:1/none")
    found = clinic.wrong(db_port=1, catalog_url=away)
    unseen = {check for check, word in found if word == "unseen"}
    assert {"clocks", "role", "clients", "holes", "spool_room"} <= unseen
    assert ("postgres", "failed") in found


@pytest.fixture
def account(protected_s3: EmbeddedS3) -> dict[str, Any]:
    """Return the settings of three protected buckets: with an object, empty, missing."""
    # Not rclone: its clock cannot be moved (other_days.py).
    for name in ("doctor-there", "doctor-empty"):
        protected_s3.make_bucket(name)
    protected_s3.client().put_object("doctor-there", "a", io.BytesIO(b"1"), 1)
    return {
        "minio_host": protected_s3.endpoint,
        "minio_access_key": SecretStr(protected_s3.access_key),
        "minio_secret_key": SecretStr(protected_s3.secret_key),
        "buckets": ("doctor-there", "doctor-empty", "doctor-nowhere"),
    }


def test_buckets_are_examined_wherever_databases_are(
    clinic: Clinic, account: dict[str, Any]
) -> None:
    told: dict[str, dict[str, str]] = defaultdict(dict)
    for one in clinic.examine(**account):
        for target in re.findall(r"bucket/[a-z-]+", english(one)):
            told[one.check][target.removeprefix("bucket/doctor-")] = one.code
    assert told["buckets"] == {"there": "ok", "empty": "ok", "nowhere": "missing"}
    # What the key may write shows only in writing.
    assert told["bucket_key"] == {"there": "unseen", "empty": "unseen", "nowhere": "unseen"}
    assert told["backups"] == {"there": "none", "empty": "none", "nowhere": "none"}
    assert set(told["spool_room"].values()) == {"unseen"}
    assert "clocks" not in told, "one bucket that answers tells its server's clock"
    found = clinic.wrong()
    assert account["minio_host"] in english(found["holes", "unseen"])
    assert found["bucket_key", "unseen"].status == "unknown"
    hint = "`pgben restore bucket/doctor-nowhere --in-place --confirm doctor-nowhere`"
    assert hint in english(found["buckets", "missing"])
    key = [
        one.sentence for one in clinic.examine() if (one.check, one.code) == ("bucket_key", "ok")
    ]
    assert ["objects" in sentence for sentence in key] == [True, False]


@pytest.mark.parametrize(
    ("question", "status", "code", "says"),
    [
        ("HEAD /doctor-there/a", 403, "failed", "'a'"),
        (
            "GET /doctor-there?policy=",
            405,
            "settings",
            "bucket/doctor-there be asked for: 'policy'",
        ),
    ],
)
def test_what_a_bucket_does_not_let_be_read_is_found(
    clinic: Clinic, account: dict[str, Any], question: str, status: int, code: str, says: str
) -> None:
    def refuse(method: str, target: str) -> int | None:
        return status if f"{method} {target}" == question else None

    with answering(account["minio_host"], refuse) as endpoint:
        found = clinic.wrong(**{**account, "minio_host": endpoint, "buckets": ("doctor-there",)})
    assert says in english(found["bucket_key", code])


def test_buckets_that_cannot_be_asked_are_named_with_the_reason(
    clinic: Clinic, account: dict[str, Any]
) -> None:
    blind = {"age_identity_file": None, "inventory_identity_file": None}
    assert ("buckets", "blind") in clinic.wrong(**account, **blind)
    found = clinic.wrong(minio_host="http://127.0.0.1:1")
    assert {("buckets", "failed"), ("bucket_key", "unseen"), ("clocks", "unseen")} <= set(found)
    found = clinic.wrong(minio_secret_key=None)
    assert found["buckets", "unseen"].status == "unknown"
    assert "because no secret key of the buckets' server is set here" in english(
        found["buckets", "unseen"]
    )
    secret = account["minio_secret_key"]
    assert ("buckets", "half") in clinic.wrong(minio_access_key=None, minio_secret_key=secret)


def test_what_is_lost_together_with_the_buckets_is_found(
    clinic: Clinic, account: dict[str, Any]
) -> None:
    found = clinic.wrong(
        **account,
        # The catalog's server protects no database then.
        db_port=1,
        repository="s3://repository",
        repository_endpoint=account["minio_host"],
        repository_access_key=account["minio_access_key"],
        repository_secret_key=account["minio_secret_key"],
    )
    assert {("repository_place", "beside_buckets"), ("catalog_place", "beside_buckets")} <= set(
        found
    )


def test_messages_that_nobody_reads_are_found(clinic: Clinic) -> None:
    clinic.run_sql("DELETE FROM worker WHERE name = 'restore.workshop'")
    url = clinic.work.settings.redis_url.get_secret_value()
    with redis.Redis.from_url(url) as broker:
        broker.rpush("restore", "a message", "another")
        try:
            found = clinic.wrong()
        finally:
            broker.delete("restore")
    assert found["queues", "unread"].facts == {"queue": "restore", "count": "2"}


def test_messages_that_were_set_aside_are_shown(clinic: Clinic) -> None:
    url = clinic.work.settings.redis_url.get_secret_value()
    entry = {
        "id": "3f2c8d0e-6c0a-4a57-9a8e-0f6f3d1f2b11",
        "at": "2026-11-29T05:00:00+00:00",
        "queue": "backup",
        "why": "its body is no base64",
        "sha256": "ab" * 32,
        "size": 40,
    }
    with redis.Redis.from_url(url) as broker:
        broker.rpush(names.SET_ASIDE, json.dumps(entry), b"\xff no entry of ours")
        try:
            found = [one for one in clinic.examine() if one.check == "set_aside"]
            recorded: list[SetAside] = []
            assert record_set_aside(url, lambda some, _dropped: recorded.extend(some)) == 2
            assert broker.llen(names.SET_ASIDE) == 0
        finally:
            broker.delete(names.SET_ASIDE)
    assert [one.facts["queue"] for one in found] == ["backup", "?"]
    assert "its body is no base64" in english(found[0])
    assert [one.queue for one in recorded] == ["?", "backup"], "the oldest first"


@pytest.mark.parametrize(
    "changed",
    [
        {"id": 7},
        {"id": None},
        {"at": "0001-01-01T00:00:00+14:00"},
        {"at": 12},
        {"size": 1e999},
        {"queue": "a\0b\ud800", "why": "x\0"},
        {"why": "w" * 100_000},
    ],
)
def test_whatever_lies_in_the_list_is_recorded_and_stops_no_tick(
    clinic: Clinic, changed: dict[str, Any]
) -> None:
    entry = {
        "id": "3f2c8d0e-6c0a-4a57-9a8e-0f6f3d1f2b11",
        "at": "2026-11-29T05:00:00+00:00",
        "queue": "backup",
        "why": "its body is no base64",
        "sha256": "ab" * 32,
        "size": 40,
    }
    work = clinic.work
    url = work.settings.redis_url.get_secret_value()
    with redis.Redis.from_url(url) as broker:
        broker.lpush(names.SET_ASIDE, json.dumps({**entry, **changed}))
        try:
            assert _record_set_aside(work) == 1
            assert broker.llen(names.SET_ASIDE) == 0
            broker.set(names.SET_ASIDE, "no list")
            with pytest.raises(TransientError, match="does not give the list"):
                _record_set_aside(work)
        finally:
            broker.delete(names.SET_ASIDE)
    rows = work.database.fetch_all("SELECT detail FROM audit WHERE action = 'message'")
    assert len(rows) == 1


def test_messages_for_which_the_list_has_no_room_are_counted(clinic: Clinic) -> None:
    work = clinic.work
    url = work.settings.redis_url.get_secret_value()
    with redis.Redis.from_url(url) as broker, create_app(url).connection_for_read() as connection:
        channel = connection.channel()
        try:
            for _ in range(MOST_SET_ASIDE + 3):
                channel.set_aside(uuid4(), "backup", b"null", "it is none")
            assert broker.llen(names.SET_ASIDE) == MOST_SET_ASIDE
            assert _record_set_aside(work) == MOST_SET_ASIDE
            assert _record_set_aside(work) == 0
            for junk in ("words", "-7", "9" * 5000):
                broker.set(names.SET_ASIDE_DROPPED, junk)
                assert _record_set_aside(work) == 0
                assert not broker.exists(names.SET_ASIDE_DROPPED)
            broker.lpush(names.SET_ASIDE_DROPPED, "a list")
            assert _record_set_aside(work) == 0
        finally:
            broker.delete(names.SET_ASIDE, names.SET_ASIDE_DROPPED)
    rows = work.database.fetch_all(
        "SELECT detail FROM audit WHERE action = 'message' AND result = 'dropped'"
    )
    assert [row["detail"].partition(" ")[0] for row in rows] == ["3"]


def test_a_redis_that_forgets_is_found(clinic: Clinic) -> None:
    with EmbeddedRedis.start() as server:
        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("appendonly", "no")
        found = clinic.wrong(redis_url=SecretUrl(server.url))
    assert set(found) == {("broker_memory", "evicts"), ("broker_memory", "volatile")}


def test_audit_entries_that_the_repository_does_not_take_are_found(clinic: Clinic) -> None:
    clinic.shop.work.trail.append(who="ana", action="look", target="*", result="seen")
    assert clinic.wrong() == {}, "the reconciler stores it within a minute"
    clinic.run_sql("UPDATE audit SET at = at - interval '20 minutes'")
    assert set(clinic.wrong()) == {("repository_writable", "owed")}


def test_a_role_that_may_dump_and_not_restore_is_found(
    clinic: Clinic, role: Callable[[str], Mapping[str, Any]]
) -> None:
    assert set(clinic.wrong(**role("BYPASSRLS"))) == {("role", "limited")}


def test_a_clock_that_is_wrong_is_found(
    clinic: Clinic, role: Callable[[str], Mapping[str, Any]]
) -> None:
    ahead = role("SUPERUSER")
    database = clinic.shop.target.name
    with clinic.shop.server.connect(database) as connection:
        connection.execute(
            "CREATE SCHEMA wrong; CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz"
            " RETURN pg_catalog.clock_timestamp() - interval '1 hour'"
        )
        connection.execute(
            sql.SQL("ALTER ROLE {} SET search_path = wrong, pg_catalog").format(
                sql.Identifier(str(ahead["db_user"]))
            )
        )
    try:
        found = clinic.wrong(**ahead)
    finally:
        with clinic.shop.server.connect(database) as connection:
            connection.execute("DROP SCHEMA wrong CASCADE")
    assert set(found) == {("clocks", "apart")}
    assert -3601 <= int(found["clocks", "apart"].facts["seconds"]) <= -3599


@pytest.fixture
def role(shop: Workshop) -> Iterator[Callable[[str], Mapping[str, Any]]]:
    """Yield a function that makes a role which reads everything, and the settings that use it."""
    made: list[str] = []

    def make(attribute: str) -> Mapping[str, Any]:
        name = f"role_{secrets.token_hex(6)}"
        made.append(name)
        with shop.server.connect() as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD 'secret'").format(
                    sql.Identifier(name),
                    sql.SQL(attribute),
                )
            )
            connection.execute(sql.SQL("GRANT pg_read_all_data TO {}").format(sql.Identifier(name)))
        return {"db_user": name, "db_pass": SecretStr("secret")}

    yield make
    with shop.server.connect() as connection:
        for name in made:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_settings_that_cannot_be_read_are_a_result_and_the_only_one() -> None:
    environment = {"PGBEN_TIMEZONE": "Mars/Base", "PGBEN_RETENTION_DAYS": "0"}
    (only,) = checks.examine(lambda: Workplace(Settings.load(environment)))
    assert (only.check, only.status, only.code) == ("settings", "error", "failed")
    assert "PGBEN_TIMEZONE" in english(only)


def test_each_target_is_told_by_itself(clinic: Clinic) -> None:
    protected = clinic.shop.target.name
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in clinic.examine(db_name=(protected, "postgres")):
        told[one.check, one.code].append(one.facts.get("target", ""))
    assert told["backups", "ok"] == [f"postgres/{protected}"]
    assert told["backups", "none"] == ["postgres/postgres"]
    assert len(told["postgres", "ok"]) == 2

"""The exporter: what it answers of a real catalog and a real Redis, and when they do not answer."""

from __future__ import annotations

import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from pgben_tasks.adapters.catalog.console_login import ConsoleLogin, ensure_console_login
from pgben_tasks.adapters.catalog.index import IndexedBackup
from pgben_tasks.adapters.catalog.workers import BEAT, TICK
from pgben_tasks.adapters.metrics import FAMILIES, exposition
from pgben_tasks.domain.alarm import Alarm
from pgben_tasks.domain.documents import CrossCheck
from pgben_tasks.domain.space import Sample as SpaceSample, Usage
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.settings import Settings
from tests.support import promql, samples
from tests.support.cli_site import clean_environment
from tests.support.deployment import eventually
from tests.support.installation import Installation
from tests.support.ruin import Nobody
from workers.metrics import Remembered, Source, listen, parse

MEBIBYTE = 1024 * 1024
PASSWORD = "canary-of-the-exporter"


@dataclass(frozen=True)
class Sample:
    """One sample as a Prometheus reads it."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Scrape:
    """What one answer says."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [
            Sample(one.name, tuple(sorted(one.labels.items())), one.value)
            for family in text_string_to_metric_families(text)
            for one in family.samples
        ]

    def value(self, name: str, **labels: str) -> float:
        (found,) = [one.value for one in self.of(name) if set(labels.items()) <= set(one.labels)]
        return found

    def of(self, name: str) -> list[Sample]:
        return [one for one in self.samples if one.name == f"pgben_{name}"]


@contextmanager
def login(installation: Installation, redis_server: EmbeddedRedis) -> Iterator[dict[str, str]]:
    """Yield what the exporter gets: a login that reads the catalog, the queue, and no key."""
    database = installation.shop.work.database
    made = ConsoleLogin(name=f"metrics_{secrets.token_hex(4)}", password=SecretStr(PASSWORD))
    ensure_console_login(database, made)
    server = database.server
    yield {
        "PGBEN_DB_NAME": installation.target.name,
        "PGBEN_REPOSITORY": f"file://{installation.repository}",
        "PGBEN_CATALOG_URL": (
            f"postgresql://{made.name}:{PASSWORD}@{server.host}:{server.port}/{database.name}"
        ),
        "PGBEN_REDIS_URL": redis_server.url,
    }
    with database.transaction() as cursor:
        cursor.execute(f"DROP OWNED BY {made.name}; DROP ROLE {made.name}".encode())


@pytest.fixture
def environment(
    installation: Installation, redis_server: EmbeddedRedis
) -> Iterator[dict[str, str]]:
    with login(installation, redis_server) as found:
        yield found


@dataclass(frozen=True, kw_only=True)
class Told:
    """What was answered when all that is measured had happened once.

    Also of a process of its own, without the catalog (and how long that took), without the broker.
    """

    environment: dict[str, str]
    newest: IndexedBackup
    target: str
    answer: Scrape
    of_process: str
    without_catalog: Scrape
    seconds: float
    without_broker: Scrape


@pytest.fixture(scope="module")
def told(
    made_once: Installation, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Told]:
    work = made_once.shop.work
    with work.database.kept(), login(made_once, redis_server) as environment:
        made_once.reset()
        fill(made_once)
        with closing(redis.Redis.from_url(environment["PGBEN_REDIS_URL"])) as client:
            client.flushdb()
            client.lpush("verify", "a", "b")
            answer = scrape(environment)
            with exporter(environment, tmp_path_factory.mktemp("log") / "log") as process:
                of_process = talk_to(process)
            with closing(Nobody()) as nobody:
                begun = time.monotonic()
                url = f"postgresql://x:y@127.0.0.1:{nobody.port}/gone"
                without_catalog = scrape({**environment, "PGBEN_CATALOG_URL": url})
                seconds = time.monotonic() - begun
                port = nobody.port
            # Nobody listens there any more.
            gone = {"PGBEN_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
            yield Told(
                environment=environment,
                newest=work.index.backups(made_once.target)[0],
                target=str(made_once.target),
                answer=answer,
                of_process=of_process,
                without_catalog=without_catalog,
                seconds=seconds,
                without_broker=scrape({**environment, **gone}),
            )
            client.flushdb()
    made_once.drop_copies()


def fill(installation: Installation) -> None:
    """Let everything happen once."""
    work, target = installation.shop.work, str(installation.target)
    installation.backup()
    installation.chain("verify", level="full").rest()
    installation.restore().rest()
    work.workers.register(["backup.workshop", "maintenance.workshop"])
    work.workers.send_heartbeat([TICK, BEAT])
    now = work.database.now()
    alarm = Alarm(
        key="failed:x",
        kind="failed",
        target=target,
        happened_at=now,
        facts={"sentence": "secret-of-the-alarm"},
    )
    work.outbox.add_all([alarm], now=now)
    # A repository that grows by a mebibyte each day.
    work.space.add(
        SpaceSample(
            place="repository",
            where=work.settings.repository,
            measured_at=now - timedelta(days=days),
            usage=Usage(used=(20 - days) * MEBIBYTE, capacity=100 * MEBIBYTE),
        )
        for days in range(10)
    )
    job, _ = work.ledger.request(
        "restore_all", target="*", key="all", request={}, requested_by="ana"
    )
    work.ledger.request("backup", target=target, key="one", request={}, requested_by="ana")
    with work.database.transaction() as cursor:
        cursor.execute(
            "UPDATE job SET state = 'succeeded', started_at = clock_timestamp() - interval '90 s',"
            " ended_at = clock_timestamp() WHERE id = %s",
            (job.id,),
        )
    _point(installation)


def _point(installation: Installation) -> None:
    """Form a recovery point of the newest backup and a snapshot, by the index alone."""
    work = installation.shop.work
    newest = work.index.backups(installation.target)[0]
    assert newest.snapshot_at is not None
    listed = newest.snapshot_at + timedelta(minutes=6)
    with work.database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO backup (repository, target, id, sequence, state, job, started_at,"
            " snapshot_at, manifest_sha256) SELECT repository, 'bucket/documents', id, 1, state,"
            " job, started_at, snapshot_at, manifest_sha256 FROM backup WHERE id = %s",
            (newest.id,),
        )
    counts = dict.fromkeys(("unreadable", "size", "hash", "metadata", "orphan", "recoverable"), 0)
    digest = newest.manifest_sha256 or ""
    work.index.add_point(
        samples.recovery_point(
            repository=installation.tools.repository.id,
            members=(
                samples.point_member(
                    "bucket/documents", backup=newest.id, manifest=digest, snapshot_time=listed
                ),
                samples.point_member(
                    str(installation.target),
                    backup=newest.id,
                    manifest=digest,
                    snapshot_time=newest.snapshot_at,
                ),
            ),
            check=CrossCheck(references=9, objects=9, missing=2, faults=None, **counts),
        )
    )


def scrape(environment: dict[str, str]) -> Scrape:
    return Scrape(exposition(Source(Settings.load(environment)).read()).decode())


def test_every_metric_has_a_sample_in_an_installation_that_has_worked(told: Told) -> None:
    found = told.answer
    names = {one.name for one in found.samples}
    assert {one.full_name for one in FAMILIES} - names == set()
    assert names <= {one.full_name for one in FAMILIES}
    labels = {one.full_name: set(one.labels) for one in FAMILIES}
    assert [one for one in found.samples if {k for k, _ in one.labels} != labels[one.name]] == []


def test_whatever_rules_and_dashboard_name_is_in_the_answer(told: Told) -> None:
    found = told.answer
    values: dict[tuple[str, str], set[str]] = {}
    for sample in found.samples:
        for label, value in sample.labels:
            values.setdefault((sample.name, label), set()).add(value)
    states = values["pgben_target_state", "state"]
    for where, expression in promql.expressions():
        for one in promql.used(expression).selectors:
            assert one.metric in {each.name for each in found.samples}, where
            for label, pattern in one.labels - {("instance", "$instance")}:
                known = values[one.metric, label] | (states if label == "state" else set())
                assert set(pattern.split("|")) <= known, where


def test_figures_are_those_of_the_catalog(told: Told) -> None:
    found, target, newest = told.answer, told.target, told.newest
    assert newest.snapshot_at is not None
    of = found.value
    assert of("up") == of("broker_up") == 1
    assert of("target_newest_verified_timestamp_seconds", target=target) == pytest.approx(
        newest.snapshot_at.timestamp()
    )
    assert 0 <= of("target_newest_verified_age_seconds", target=target) < 600
    assert of("target_newest_verified_bytes", target=target) == newest.stored_bytes
    assert of("target_last_backup_bytes", target=target) == newest.stored_bytes
    assert of("target_backups", target=target, state="verified") == 3
    assert of("target_state", target=target, state="verified") == 1
    assert sum(one.value for one in found.of("target_state")) == 1
    assert of("target_failures", target=target) == 0
    assert of("rpo_seconds") == 86400
    assert of("restore_everything_duration_seconds") == pytest.approx(90, abs=1)
    assert of("recovery_point_cross_check_faults") == 2
    assert of("jobs_open", kind="backup", state="queued") == 1
    assert of("jobs_ended_total", kind="backup", state="succeeded") == 1
    assert of("jobs_ended_total", kind="verify", state="failed") == 0
    assert of("queue_messages", queue="verify") == 2
    assert of("queue_messages", queue="backup.workshop") == 0
    assert {one.labels[0][1]: one.value for one in found.of("workers")} == {
        "backup": 1,
        "restore": 0,
        "verify": 0,
        "maintenance": 1,
    }
    assert time.time() - of("beat_last_tick_timestamp_seconds") < 600
    assert of("alarms_open", kind="failed") == of("alarms_unsent") == 1
    capacity = found.of("space_capacity_bytes")[0].value
    assert 0 < found.of("space_free_bytes")[0].value <= capacity


def test_a_target_without_a_backup_is_not_restorable_and_has_no_age(
    environment: dict[str, str], installation: Installation
) -> None:
    both = f"{installation.target.name},forgotten"
    found = scrape({**environment, "PGBEN_DB_NAME": both})
    assert found.value("target_restorable", target="postgres/forgotten") == 0
    assert found.value("target_state", target="postgres/forgotten", state="none") == 1
    assert [
        one.name
        for one in found.samples
        if ("target", "postgres/forgotten") in one.labels and "newest" in one.name
    ] == []


def test_suspect_damaged_and_failed_are_told(
    installation: Installation, environment: dict[str, str]
) -> None:
    target = str(installation.target)
    with installation.shop.work.database.transaction() as cursor:
        cursor.execute(
            "UPDATE backup SET suspect = 'it shrank' WHERE target = %s AND sequence = 2", (target,)
        )
        cursor.execute(
            "UPDATE backup SET state = 'damaged' WHERE target = %s AND sequence = 1", (target,)
        )
    failed = installation.chain("backup")
    installation.ledger.fail(failed.ref, state="failed", error={"type": "X", "sentence": "no"})
    found = scrape(environment)
    assert found.value("target_state", target=target, state="suspect") == 1
    assert found.value("target_backups", target=target, state="damaged") == 1
    assert found.value("target_restorable", target=target) == 0
    assert found.value("target_failures", target=target) == 1
    assert found.value("jobs_ended_total", kind="backup", state="failed") == 1


def test_nothing_secret_and_nothing_that_people_typed_is_told(told: Told) -> None:
    password = told.environment["PGBEN_REDIS_URL"].partition("@")[0].rpartition(":")[2]
    for secret in (PASSWORD, password, "secret-of-the-alarm", "ana", "cidadao"):
        assert not re.search(rf"\b{re.escape(secret)}\b", told.answer.text)


def test_without_its_catalog_it_says_so_in_time_and_nothing_old(told: Told) -> None:
    found = told.without_catalog
    assert told.seconds < 10
    assert (found.value("up"), found.value("broker_up")) == (0, 1)
    assert {one.name for one in found.samples} == {
        "pgben_build_info",
        "pgben_up",
        "pgben_broker_up",
        "pgben_rpo_seconds",
        "pgben_rto_seconds",
        "pgben_verification_interval_seconds",
        "pgben_queue_messages",
        "pgben_messages_set_aside",
    }


def test_without_the_broker_the_catalog_is_told_all_the_same(told: Told) -> None:
    found = told.without_broker
    assert (found.value("up"), found.value("broker_up")) == (1, 0)
    assert found.of("queue_messages") == []
    assert found.value("target_restorable", target=told.target) == 1


def test_one_question_at_a_time_is_asked_and_its_answer_is_kept() -> None:
    clock, asked, gate = [0.0], [0], threading.Event()

    def ask() -> int:
        asked[0] += 1
        if asked[0] == 2:
            gate.wait(60)
        return asked[0]

    remembered = Remembered(
        "it",
        ask,
        patience=timedelta(milliseconds=200),
        fresh=timedelta(seconds=10),
        now=lambda: clock[0],
    )
    assert [remembered.answer() for _ in range(3)] == [1, 1, 1]
    clock[0] = 11
    # The second hangs: it is not asked again while it is under way, and nothing old is told.
    assert remembered.answer() is None
    clock[0] = 22
    assert remembered.answer() is None
    assert asked[0] == 2
    gate.set()
    # Its answer is of a moment that is past by now.
    eventually(lambda: _later(remembered, clock) == 3, seconds=30, what="it was asked anew")
    clock[0] += 11
    assert (remembered.answer(), asked[0]) == (4, 4)


def _later(remembered: Remembered[int], clock: list[float]) -> int | None:
    clock[0] += 11
    return remembered.answer()


@dataclass(frozen=True)
class Exporter:
    """The process, and where it listens."""

    process: subprocess.Popen[bytes]
    url: str

    def get(self, path: str, *, data: bytes | None = None) -> tuple[int, str]:
        request = urllib.request.Request(f"{self.url}{path}", data=data)  # noqa: S310 - our own
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()


@contextmanager
def exporter(environment: dict[str, str], log: Path) -> Iterator[Exporter]:
    """Start the process; it listens when this yields."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with log.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers", "metrics", f"--port={port}"],
            env=clean_environment() | environment,
            stderr=err,
            stdout=err,
        )
    try:
        eventually(
            lambda: b"metrics_listen" in log.read_bytes() or process.poll() is not None,
            seconds=60,
            what="the exporter listens",
        )
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield Exporter(process, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait(30)


def talk_to(found: Exporter) -> str:
    """Ask for all that the process serves, then end it; return the metrics."""
    status, text = found.get("/metrics")
    assert status == 200
    assert found.get("/healthz") == (200, "ok\n")
    assert found.get("/")[0] == 404
    assert found.get("/metrics", data=b"x")[0] == 405
    taken = parse([f"--port={found.url.rpartition(':')[2]}"])
    with pytest.raises(ConfigurationError, match="cannot be listened on: Address already in use"):
        listen(lambda: pytest.fail("nobody asked"), taken)
    found.process.send_signal(signal.SIGTERM)
    assert found.process.wait(30) == 0
    return text


def test_the_process_answers_scrapes_until_it_is_ended(told: Told) -> None:
    names = {(one.name, one.labels) for one in told.answer.samples}
    assert {(one.name, one.labels) for one in Scrape(told.of_process).samples} == names


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port=70000"], "'70000' is no port"),
        (["--loglevel=LOUD"], "'LOUD' is no level of a log"),
    ],
)
def test_what_it_cannot_be_started_with_is_said(flags: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse(flags)

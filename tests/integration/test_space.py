"""Disks that are really full: told before the run; room is made first, then the run is refused."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from psycopg import sql
from psycopg.types.json import Jsonb

from pgben_tasks import runtime
from pgben_tasks.app import create_app
from pgben_tasks.contracts import BackupRequest, PruneRequest
from pgben_tasks.direct.jobs import LedgerJobs
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.space import MOST_DAYS, Forecast, Sample, Usage
from pgben_tasks.domain.target import Target
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.health import space
from pgben_tasks.operations import room
from pgben_tasks.operations.spool import usage
from pgben_tasks.operations.toolbox import Toolbox
from pgben_tasks.tasks import reconciler
from tests.support.timetables import Later
from tests.support.workshop import Workshop
from workers.presence import Presence

MIB = 1024 * 1024
DAY = timedelta(days=1)
#: What one night stores, about: text that hardly compresses.
ROWS = 8_000
NODE = "workshop"


@dataclass
class Disk:
    """A small file system of its own."""

    folder: Path

    @property
    def free(self) -> int:
        return usage(self.folder, limit=None).free or 0

    @contextmanager
    def filled(self, *, but: int) -> Iterator[None]:
        """Let somebody else take all room but some bytes."""
        filling = self.folder / "filling"
        with filling.open("wb", buffering=0) as file, suppress(OSError):
            while self.free > but:
                file.write(bytes(min(64 * 1024, self.free - but)))
        try:
            yield
        finally:
            filling.unlink()


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Disk]:
    folder.mkdir(mode=0o700)
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    if subprocess.run(mounting, check=False, timeout=60, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=60)


@dataclass
class Site:
    """An installation whose spool and repository are small disks."""

    shop: Workshop
    spool: Disk
    repository: Disk
    queue: Celery | None

    def measure(self) -> None:
        """Publish what a worker of this node does."""
        work = self.shop.work
        work.workers.send_heartbeat([f"backup.{NODE}", f"restore.{NODE}"])
        now = work.database.now()
        running = work.open_jobs()
        work.space.add(space.measure_here(work.settings, node=NODE, running=running, now=now))

    def forecasts(self) -> dict[str, Forecast]:
        self.measure()
        found = space.forecasts(self.shop.work, now=self.shop.work.database.now())
        assert len(found) == len({(one.place, one.where) for one in found})
        own = self.shop.work.settings.spool_dir
        return {one.place: one for one in found if one.place != "restore" or str(own) in one.where}

    def tick(self) -> int:
        assert self.queue is not None
        return int(reconciler.tick(self.shop.work, self.queue)["alarms_raised"])

    def backup(self, tools: Toolbox | None = None) -> Job:
        """Back up as workers of all roles would."""
        return LedgerJobs(self.shop.work.ledger, tools or self.shop.tools).finish(self.ask())

    def ask(self) -> Job:
        """Ask for a backup."""
        job, _ = self.shop.work.ledger.request(
            "backup",
            target=str(self.shop.target),
            key=secrets.token_hex(8),
            request=BackupRequest(target=str(self.shop.target)).model_dump(mode="json"),
            requested_by="test",
        )
        return job

    def jobs_since(self, backup: Job) -> list[tuple[str, str]]:
        """Return kind and state of the jobs that a backup asked for."""
        jobs = self.shop.work.ledger.jobs(limit=100)
        asked = [one for one in jobs if one.request.get("part_of") == str(backup.id)]
        return [(one.kind, one.state) for one in reversed(asked)]


@pytest.fixture(scope="module")
def made(
    postgres: EmbeddedPostgres,
    redis_server: EmbeddedRedis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path_factory.mktemp("space")
    with ExitStack() as stack:
        spool, repository = (
            stack.enter_context(mounted(folder / name, "24m")) for name in ("spool", "repository")
        )
        database = f"space_{secrets.token_hex(6)}"
        with postgres.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        with postgres.connect(database) as connection:
            connection.execute(
                "CREATE TABLE pedido AS SELECT g AS id, string_agg(md5(g::text || h::text), '')"
                " AS texto FROM generate_series(1, %s) g, generate_series(1, 8) h GROUP BY g",
                (ROWS,),
            )
        # Due until this time tomorrow, and not now: not even for whoever makes up for a window.
        due = datetime.now(UTC) + timedelta(hours=6)
        settings = {
            "PGBEN_REDIS_URL": redis_server.url,
            "PGBEN_SPOOL_DIR": str(spool.folder / "own"),
            "PGBEN_REPOSITORY": f"file://{repository.folder / 'own'}",
            "PGBEN_SCHEDULE_POSTGRES": f"{due.minute} {due.hour} * * *",
            "PGBEN_TIMEZONE": "UTC",
        }
        shop = stack.enter_context(
            Workshop.open(folder / "shop", postgres, database, settings=settings)
        )
        queue = create_app(redis_server.url.rpartition("/")[0] + "/11")
        site = Site(shop, spool, repository, queue)
        # Their first dump is smaller than the database: what that has of bytes refuses nothing.
        with spool.filled(but=7 * MIB):
            assert site.backup().state == "succeeded"
        assert site.backup().state == "succeeded"
        yield site


@pytest.fixture
def site(made: Site) -> Site:
    """Return the installation, which has forgotten what the last test measured and was told."""
    site = made
    with site.shop.work.database.transaction() as cursor:
        cursor.execute("TRUNCATE worker, space_sample, alarm CASCADE")
    return site


def nights(site: Site) -> tuple[int, int]:
    """Return the most and the least that nights stored so far."""
    stored = [one.repository or 0 for one in site.shop.work.ledger.nights(site.shop.target)]
    return max(stored), min(stored)


def test_what_a_night_wrote_is_known_of_spool_and_repository(site: Site) -> None:
    newest, *_ = site.shop.work.ledger.nights(site.shop.target)
    repository = site.shop.tools.repository
    backup = repository.backups(site.shop.target)[-1]
    assert newest.repository == repository.manifest(site.shop.target, backup).new_bytes
    assert newest.repository is not None
    assert newest.spool is not None
    # The dump and its packs.
    assert 2 * newest.repository * 0.9 < newest.spool < 3 * newest.repository


def test_where_there_is_room_nothing_is_critical(site: Site) -> None:
    found = site.forecasts()
    assert {name: (one.fits, one.critical) for name, one in found.items()} == {
        "spool": (True, False),
        "repository": (True, False),
        "restore": (True, False),
    }
    most, _ = nights(site)
    assert found["repository"].tonight == pytest.approx(most * 1.1, abs=1)
    assert found["repository"].growth_per_day is None, "it was measured on one day only"
    assert site.tick() == 0


def test_a_disk_that_fills_is_told_before_the_run_and_once(site: Site) -> None:
    _, least = nights(site)
    with site.repository.filled(but=least // 2):
        found = site.forecasts()
        assert (found["repository"].fits, found["repository"].critical) == (False, True)
        assert not found["spool"].critical
        assert (site.tick(), site.tick()) == (1, 0)
        assert site.shop.work.ledger.jobs(open_only=True) == []
    (told,) = site.shop.work.outbox.newest(10)
    where = site.shop.work.settings.repository
    assert (told.alarm.kind, told.alarm.key) == ("space", f"space:repository:{where}")
    assert told.alarm.facts["what"] == "short"


def test_a_full_disk_that_nobody_measures_any_more_is_not_announced_as_resolved(
    site: Site,
) -> None:
    work = site.shop.work
    with site.repository.filled(but=nights(site)[1] // 2):
        site.measure()
        assert site.tick() == 1
    for elapsed, still in ((timedelta(days=2), True), (timedelta(days=MOST_DAYS + 1), False)):
        with work.database.transaction() as cursor:
            cursor.execute(
                "UPDATE space_sample SET measured_at = clock_timestamp() - %s", (elapsed,)
            )
            cursor.execute("UPDATE alarm SET absent_since = NULL")
        site.tick()
        (told,) = work.outbox.open()
        assert (told.absent_since is None) == still


def test_a_disk_beyond_its_critical_share_is_told_however_little_is_to_come(site: Site) -> None:
    settings = site.shop.work.settings.model_copy(update={"disk_critical": Decimal("0.001")})
    site.measure()
    work = replace(site.shop.work, settings=settings)
    found = space.forecasts(work, now=work.database.now())
    assert {one.place for one in found if one.critical} == {"repository"}


@pytest.mark.parametrize("place", ["repository", "spool"])
def test_room_is_made_first_then_the_run_is_refused_with_the_numbers(
    site: Site, place: str
) -> None:
    _, least = nights(site)
    disk = site.repository if place == "repository" else site.spool
    kept = site.shop.tools.repository.backups(site.shop.target)
    with disk.filled(but=least // 2):
        job = site.backup()
    assert (job.state, job.retry_at) == ("refused", None)
    assert job.error is not None
    assert job.error["type"] == "RoomRefused"
    assert f"does not fit into the {place}" in job.error["sentence"]
    assert re.search(r"it needs [\d.]+ \wiB at least, and [\d.]+ \wiB of 24", job.error["sentence"])
    assert f"`pgben backup {site.shop.target}`" in job.error["hint"]
    assert site.jobs_since(job) == [("prune", "succeeded"), ("sweep", "succeeded")]
    # Nothing was begun, and nothing is left of it.
    assert job.backup is None
    assert site.shop.tools.repository.backups(site.shop.target) == kept
    assert list((site.shop.work.settings.spool_dir / "jobs").glob("*-*")) == []


def test_a_run_that_fits_alone_is_tried_again_when_others_have_ended(site: Site) -> None:
    _, least = nights(site)
    folder = site.shop.work.settings.spool_dir / "jobs" / str(uuid4())
    folder.mkdir(parents=True)
    strange = folder.with_name("no-job-of-our-ledger")
    strange.mkdir()
    with (folder / "dump").open("wb") as file:
        file.truncate(0)
        while site.spool.free > least // 2:
            file.write(bytes(min(64 * 1024, site.spool.free - least // 2)))
            file.flush()
    try:
        job = site.backup()
    finally:
        shutil.rmtree(folder)
        strange.rmdir()
    assert job.error is not None
    # A scheduled one is tried again after this, and not after a refusal.
    assert (job.state, job.error["type"]) == ("failed", "SpoolFull")


def test_a_backup_that_fits_after_retention_is_made(site: Site) -> None:
    for _ in range(2):
        assert site.backup().state == "succeeded"
    limits = site.shop.tools.limits
    strict = replace(limits.retention, max_age=timedelta(0), brake=Decimal(1), floor=1)
    tools = replace(site.shop.tools, limits=replace(limits, retention=strict))
    before = site.shop.tools.repository.backups(site.shop.target)
    _, least = nights(site)
    with site.repository.filled(but=least // 2):
        job = site.backup(tools)
    assert job.state == "succeeded", job.error
    assert site.jobs_since(job) == [("prune", "succeeded")], "that was enough"
    after = site.shop.tools.repository.backups(site.shop.target)
    assert len(after) < len(before)
    assert job.backup in [str(one) for one in after]


def test_a_run_that_may_not_fit_is_made_all_the_same(site: Site) -> None:
    """Between the largest of the earlier nights with its margin, and the smallest of them."""
    most, _ = nights(site)
    with site.repository.filled(but=most + 96 * 1024):
        job = site.backup()
    assert site.jobs_since(job) == [("prune", "succeeded"), ("sweep", "succeeded")]
    assert job.state == "succeeded", job.error


def test_where_no_worker_makes_room_the_backup_does_not_wait_for_ever(site: Site) -> None:
    late = replace(
        site.shop.tools, clock=Later(site.shop.tools.clock, room.BEGINS_WITHIN + timedelta(hours=1))
    )
    _, least = nights(site)
    work = site.shop.work
    with site.repository.filled(but=least // 2):
        job = site.ask()
        jobs = LedgerJobs(work.ledger, late)
        # Only the backup is done, as where no maintenance worker lives.
        for _ in range(4):
            job = jobs.advance(work.ledger.job(job.id))
    assert job.state == "refused"
    assert [state for _, state in site.jobs_since(job)] == ["queued", "queued"]
    # A worker that comes later does nothing for a backup that waits no more.
    LedgerJobs(work.ledger, site.shop.tools).round()
    for one in work.ledger.jobs(limit=2):
        done = one.result.get("prune") or one.result["sweep"]
        assert room.NOT_AWAITED in (done.get("refused"), done.get("skipped"))


def test_a_stranger_cannot_prune_while_a_backup_runs(site: Site) -> None:
    work = site.shop.work
    backup = site.ask()
    LedgerJobs(work.ledger, site.shop.tools).advance(backup, before="checksum")
    asked = PruneRequest(target=str(site.shop.target), part_of=backup.id)
    job, _ = work.ledger.request(
        "prune",
        target=str(site.shop.target),
        key=secrets.token_hex(8),
        request=asked.model_dump(mode="json"),
        requested_by="stranger",
    )
    jobs = LedgerJobs(work.ledger, site.shop.tools)
    done = jobs.advance(job)
    assert done.result["prune"]["refused"] == room.NOT_AWAITED
    assert jobs.finish(backup).state == "succeeded"


def test_the_last_measurement_of_a_day_stays_and_old_ones_go(site: Site) -> None:
    record, now = site.shop.work.space, site.shop.work.database.now()

    def sample(age: timedelta, used: int) -> Sample:
        return Sample(
            place="repository",
            where="s3://x",
            measured_at=now - age,
            usage=Usage(used=used, capacity=None),
        )

    days = [sample(timedelta(days=at), at) for at in range(130)]
    record.add([*days, sample(timedelta(0), 77), sample(timedelta(seconds=1), 5)])
    found = record.samples(since=now - timedelta(days=365))
    assert found[-1].usage.used == 77
    assert 119 <= len(found) <= 121
    assert record.newest("repository", "s3://x") == found[-1]


def test_growth_and_days_left_come_of_the_samples_of_many_days(site: Site) -> None:
    site.measure()
    work, now = site.shop.work, site.shop.work.database.now()
    stored = work.space.newest("repository", work.settings.repository)
    assert stored is not None
    earlier = [
        replace(
            stored,
            measured_at=now - timedelta(days=at),
            usage=replace(stored.usage, used=stored.usage.used - at * 1000),
        )
        for at in range(1, 20)
    ]
    work.space.add(earlier)
    found = site.forecasts()["repository"]
    assert found.growth_per_day == pytest.approx(1000, rel=0.02)
    assert found.days_left == pytest.approx((found.free or 0) / 1000, rel=0.05)


def test_the_first_snapshot_of_a_bucket_foretells_no_night(site: Site) -> None:
    ledger, target = site.shop.work.ledger, Target("bucket", "papers")

    def ended(**result: object) -> None:
        with site.shop.work.database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO job (kind, target, key, request, requested_by, state, result,"
                " ended_at) VALUES ('backup', %s, %s, '{}', 'test', 'succeeded', %s,"
                " clock_timestamp())",
                (str(target), secrets.token_hex(8), Jsonb(result)),
            )

    ended(compared_with=None, new_bytes=10**9, spool_bytes=10)
    assert ledger.nights(target) == []
    ended(compared_with="20261129T050000Z-aaaaaa", new_bytes=100, spool_bytes=20)
    # Of a version that measured nothing.
    ended(compared_with="20261130T050000Z-aaaaaa", stored_bytes=10**9)
    assert [(one.repository, one.spool) for one in ledger.nights(target)] == [
        (None, None),
        (100, 20),
    ]


def test_a_backup_of_an_earlier_version_foretells_from_its_dump_and_packs(site: Site) -> None:
    target = Target("postgres", "earlier")
    with site.shop.work.database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO job (kind, target, key, request, requested_by, state, result, ended_at)"
            " VALUES ('backup', %s, %s, '{}', 'test', 'succeeded', %s, clock_timestamp())",
            (str(target), secrets.token_hex(8), Jsonb({"dump_bytes": 70, "stored_bytes": 30})),
        )
    (night,) = site.shop.work.ledger.nights(target)
    assert (night.spool, night.repository, night.database) == (100, 30, None)


def test_a_worker_publishes_how_full_its_places_are(site: Site) -> None:
    work = site.shop.work
    present = Presence(work, [f"backup.{work.node}", f"restore.{work.node}"], app=None)
    present.leave()
    found = {one.place: one for one in work.space.samples(since=work.database.now() - DAY)}
    assert found["spool"].node == work.node
    assert found["spool"].usage.capacity == pytest.approx(24 * MIB, rel=0.01)
    assert found["repository"].where == work.settings.repository


def test_what_running_jobs_hold_in_the_spool_is_no_reason_for_an_alarm(site: Site) -> None:
    jobs = LedgerJobs(site.shop.work.ledger, site.shop.tools)
    job = jobs.advance(site.ask(), before="upload")
    held = site.shop.work.settings.spool_dir / "jobs" / str(job.id)
    (held / "large").write_bytes(bytes(18 * MIB))
    found = site.forecasts()["spool"]
    assert found.used is not None
    assert found.used < 2 * MIB
    assert not found.critical
    (held / "large").unlink()
    assert jobs.finish(job).state == "succeeded"


# A repository on a server


@pytest.fixture(scope="module")
def stored_shop(
    postgres: EmbeddedPostgres,
    repository_s3: EmbeddedS3,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Workshop]:
    settings = {
        "PGBEN_REPOSITORY": f"s3://space-{secrets.token_hex(4)}/inner",
        "PGBEN_REPOSITORY_ENDPOINT": repository_s3.endpoint,
        "PGBEN_REPOSITORY_ACCESS_KEY": repository_s3.access_key,
        "PGBEN_REPOSITORY_SECRET_KEY": repository_s3.secret_key,
        "PGBEN_REPOSITORY_QUOTA": "1GiB",
    }
    folder = tmp_path_factory.mktemp("stored")
    with Workshop.open(folder, postgres, "postgres", settings=settings) as shop:
        shop.backup()
        yield shop


def test_what_a_server_holds_is_listed_and_its_quota_is_its_capacity(stored_shop: Workshop) -> None:
    work = stored_shop.work
    now = work.database.now()
    assert [space.measure_stored(work, now=now) for _ in range(2)] == [1, 0], "not every minute"
    found = repository_of(work)
    assert found.used == sum(one.size for one in runtime.open_store(work.settings).list(""))
    assert found.used > stored_shop.tools.repository.stored_bytes() // 2 > 0
    assert found.capacity == 1024 * MIB
    later = now + space.MEASURE_EVERY + timedelta(seconds=1)
    assert space.measure_stored(work, now=later) == 1


def test_without_a_quota_what_it_may_hold_is_not_known(stored_shop: Workshop) -> None:
    settings = stored_shop.work.settings.model_copy(update={"repository_quota": None})
    work = replace(stored_shop.work, settings=settings)
    work.space.add([])
    now = work.database.now() + 2 * space.MEASURE_EVERY
    space.measure_stored(work, now=now)
    assert space.measure_stored(work, now=now + space.MEASURE_EVERY) == 0, "once a day"
    found = repository_of(work)
    assert (found.capacity, found.fits, found.critical) == (None, None, False)
    assert found.used


def test_a_quota_that_a_run_does_not_keep_refuses_it(stored_shop: Workshop) -> None:
    work, tools = stored_shop.work, stored_shop.tools
    site = Site(stored_shop, Disk(stored_shop.folder), Disk(stored_shop.folder), None)
    assert site.backup().state == "succeeded"
    quota = tools.repository.stored_bytes() + 100
    tight = replace(tools, limits=replace(tools.limits, repository_quota=quota))
    job = site.backup(tight)
    assert job.state == "refused"
    assert "PGBEN_REPOSITORY_QUOTA" in (job.error or {})["hint"]
    assert work.settings.repository in (job.error or {})["sentence"]


def repository_of(work: runtime.Workplace) -> Forecast:
    found = space.forecasts(work, now=work.database.now())
    return next(one for one in found if one.place == "repository")

"""Everything is gone but the repository and an identity: in direct mode, and by a bootstrap."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pgben_tasks import runtime
from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.keys.key_set import ESCROW_IDENTITY
from pgben_tasks.embedded.child import Command, Supervisor, wait_until
from pgben_tasks.embedded.data.compare import contents
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.embedded.stack import PROTECTED_BUCKET
from pgben_tasks.operations.repository.rebuild import read_trail
from pgben_tasks.operations.toolbox import NoProgress
from pgben_tasks.ports import ObjectStore
from pgben_tasks.runtime.places import bucket_at
from pgben_tasks.settings import Settings
from pgben_tasks.settings.env_file import parse
from tests.support.bucket_servers import bucket_location
from tests.support.bucketshop import contents as objects_of
from tests.support.commands import Ran
from tests.support.deployment import DATABASE, TARGET, Deployment, fill_bucket, process_environment
from tests.support.lost_site import SETTINGS, Left, OldSite, fingerprint_on_card, platform, text_of
from tests.support.needs import needs
from tests.support.npm_postgres import NpmPostgres
from tests.support.timetables import NOTHING_SCHEDULED

pytestmark = pytest.mark.unmeasured

#: A second database beside ``DATABASE``.
SECOND = "cadastro"
#: All that a person brings to a new site, beside the address of its server.
KEPT = (
    "PGBEN_REPOSITORY",
    "PGBEN_REPOSITORY_ENDPOINT",
    "PGBEN_REPOSITORY_ACCESS_KEY",
    "PGBEN_REPOSITORY_SECRET_KEY",
    "PGBEN_TRUSTED_KEYS_FILE",
    "PGBEN_REDIS_URL",
    "PGBEN_CATALOG_URL",
    "PGBEN_DB_NAME",
)


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with Deployment.build(PGBEN_PACK_SIZE="256KiB") as built:
        yield built


def backup_of(ran: Ran) -> str:
    (job,) = ran.json["jobs"]
    return str(job["backup"])


def states(ran: Ran) -> dict[str, tuple[str, str | None]]:
    """Return the state and the suspicion of every backup of a listing."""
    assert ran.code == 0, ran.err
    return {one["backup"]: (one["state"], one["suspect"]) for one in ran.json["backups"]}


def damage(store: ObjectStore, key: str) -> None:
    """Flip the last bit of a stored object."""
    data = b"".join(store.stream(key))
    store.delete(key)
    store.put(key, data[:-1] + bytes([data[-1] ^ 1]))


def server_settings(server: EmbeddedPostgres) -> Mapping[str, str]:
    return {
        "PGBEN_DB_HOST": server.host,
        "PGBEN_DB_PORT": str(server.port),
        "PGBEN_DB_USER": server.user,
        "PGBEN_DB_PASS": server.password,
    }


@pytest.mark.timeout(280)
def test_repository_and_keys_bring_back_the_database_and_then_the_catalog(
    deployment: Deployment,
) -> None:
    worker = deployment.start("all", name="worker")
    damaged = backup_of(deployment.pgben("backup", DATABASE, "--json"))
    good = backup_of(deployment.pgben("backup", DATABASE, "--json"))
    rows = contents(deployment.stack.postgres.dsn(), DATABASE)
    text = text_of(deployment.stack.postgres, DATABASE)
    with deployment.stack.postgres.connect(DATABASE) as connection:
        connection.execute("TRUNCATE cidadao CASCADE")
    shrunk = deployment.pgben("backup", DATABASE, "--json")
    assert shrunk.code == 4, shrunk.err
    suspect = backup_of(shrunk)
    store = runtime.open_store(deployment.work.settings)
    damage(store, next(pack for pack in deployment.stored_packs() if f"/{damaged}/" in pack))
    assert deployment.pgben("verify", "--level", "full").code == 5
    # One whose worker died between commit and read-back: nobody ever said a word about it.
    unverified = backup_of(deployment.pgben("backup", DATABASE, "--json"))
    for said in list(store.list(f"verifications/{TARGET}/{unverified}/")):
        store.delete(said.key)
    deployment.work.trail.store_missing()
    numbers = {
        str(one): deployment.work.repository.manifest(TARGET, one).sequence
        for one in deployment.work.repository.backups(TARGET)
    }
    assert sorted(numbers.values()) == [1, 2, 3, 4]

    worker.send(signal.SIGKILL, tree=True)
    for lost in (deployment.stack.redis, deployment.catalog, deployment.stack.postgres):
        lost.kill()
    site = EmbeddedPostgres.start(supervisor=deployment.stack.supervisor)
    bare = replace(
        deployment,
        environment={
            **{name: deployment.environment[name] for name in KEPT},
            **server_settings(site),
            "PGBEN_AGE_IDENTITY_FILE": str(deployment.stack.folder / "keys" / ESCROW_IDENTITY),
            "PGBEN_SPOOL_DIR": str(deployment.stack.folder / "new-spool"),
        },
    )

    restored = bare.pgben("restore", DATABASE, "--direct", "--into", DATABASE, "--json")

    assert restored.code == 0, restored.err
    assert backup_of(restored) == good
    assert contents(site.dsn(), DATABASE) == rows
    assert text_of(site, DATABASE) == text
    direct = states(bare.pgben("list", "--direct", "--json"))

    # A new Redis and a new, empty server for the catalog; keys and repository are the old ones.
    deployment.stack.redis.restart()
    environment = {
        **deployment.environment,
        **server_settings(site),
        "PGBEN_CATALOG_URL": site.url("pgben_catalog"),
        "PGBEN_SPOOL_DIR": str(deployment.stack.folder / "new-spool"),
        "PGBEN_NODE": "node-b",
    }
    anew = replace(
        deployment, environment=environment, work=runtime.Workplace(Settings.load(environment))
    )
    rebuilt = anew.pgben("catalog", "rebuild", "--json")

    assert rebuilt.code == 0, rebuilt.err
    shown = states(anew.pgben("list", "--json"))
    assert {backup: state for backup, (state, _) in shown.items()} == {
        damaged: "damaged",
        good: "verified",
        suspect: "verified",
        unverified: "unverified",
    }
    assert shown == direct
    assert shown[suspect][1] is not None
    assert shown[good][1] is None

    anew.start("all", name="worker-anew")
    next_one = anew.pgben("backup", DATABASE, "--json")
    assert next_one.code == 0, next_one.err
    assert next_one.json["jobs"][0]["result"]["sequence"] == 5
    assert states(anew.pgben("list", "--json"))[backup_of(next_one)] == ("verified", None)
    anew.work.trail.store_missing()
    trail = read_trail(anew.work.repository, NoProgress())
    assert trail.findings == ()
    actions = [entry.action for entry in trail.entries]
    begun = actions.index("catalog rebuild")
    assert begun == rebuilt.json["audit"]["taken_up"] > 0
    assert actions[begun:] == ["catalog rebuild", "backup", "statement", "backup"]


class Lost:
    """What a platform held, read before it was lost."""

    def __init__(self, deployment: Deployment) -> None:
        self.bucket = bucket_at(deployment.work.settings, PROTECTED_BUCKET)
        server = deployment.stack.postgres
        self.platform = platform(server)
        self.text = text_of(server, DATABASE)
        self.second = contents(server.dsn(), SECOND)
        self.objects = objects_of(self.bucket)
        self.settings = self.bucket.settings()


@pytest.mark.timeout(200)
def test_a_directory_an_identity_and_a_card_bring_everything_back(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    with Deployment.build(
        bucket=True,
        PGBEN_REPOSITORY=f"file://{repository}",
        PGBEN_POINT_SETTLE="0",
        PGBEN_DB_NAME=f"{DATABASE},{SECOND}",
    ) as deployment:
        with deployment.stack.postgres.connect() as connection:
            connection.execute(f"CREATE DATABASE {SECOND}".encode())
        with deployment.stack.postgres.connect(SECOND) as connection:
            connection.execute("CREATE TABLE rua AS SELECT g FROM generate_series(1, 99) g")
        bucket = bucket_at(deployment.work.settings, PROTECTED_BUCKET)
        bucket.apply(SETTINGS)
        fill_bucket(bucket, 40)
        deployment.start("all", name="worker")
        deployment.start("beat", name="beat")
        done = deployment.pgben("backup", "--all", "--json")
        assert done.code == 0, done.all
        lost = Lost(deployment)
        keys = deployment.stack.folder / "keys"
        shutil.copy(keys / ESCROW_IDENTITY, tmp_path / "identity.txt")
        card = fingerprint_on_card(keys)
    # Every server, every key and every setting of the old site is gone with its folder.
    assert not keys.exists()

    left = Left(tmp_path, card)
    with ExitStack() as stack:
        supervisor = stack.enter_context(Supervisor.start())
        server = EmbeddedPostgres.start(supervisor=supervisor)
        catalog = EmbeddedPostgres.start(supervisor=supervisor)
        s3 = EmbeddedS3.start(kind="ministack", supervisor=supervisor)
        redis = EmbeddedRedis.start(supervisor=supervisor)
        settings = {
            "PGBEN_CATALOG_URL": catalog.url("pgben_catalog"),
            "PGBEN_REDIS_URL": redis.url,
            "PGBEN_POINT_SETTLE": "0",
            **NOTHING_SCHEDULED,
        }
        done = left.pgben(*left.arguments(server, s3), settings=settings)
        assert done.code == 0, done.all
        assert "falls with it" not in done.err
        assert platform(server) == lost.platform
        assert text_of(server, DATABASE) == lost.text
        assert contents(server.dsn(), SECOND) == lost.second
        place = bucket_location(s3, bucket=PROTECTED_BUCKET)
        assert objects_of(S3Bucket(place)) == lost.objects
        assert S3Bucket(place).settings() == lost.settings

        # What was written is all that the new site needs.
        file = left.keys / "pgben.env"
        environment = parse(file.read_text(encoding="utf-8"), file)
        worker = supervisor.spawn(
            "worker",
            Command(
                argv=(sys.executable, "-m", "workers", "all", "--loglevel=INFO"),
                environment={**process_environment(None), **environment},
                folder=tmp_path,
            ),
        )
        assert wait_until(lambda: "worker_ready" in worker.log.read_text(), seconds=60)
        with_settings = ("--env-file", str(file))
        backup = left.pgben(*with_settings, "backup", "--all", "--json")
        assert backup.code == 0, backup.all
        points = left.pgben(*with_settings, "points", "--json").json["points"]
        assert [one["state"] for one in points] == ["verified", "verified"]
        verified = left.pgben(*with_settings, "verify", "--level", "full", "--json")
        assert verified.code == 0, verified.all


@needs("npm", "tar")
@pytest.mark.timeout(200)
def test_everything_comes_back_to_a_newer_major_and_another_s3_server(tmp_path: Path) -> None:
    """PostgreSQL 15 goes to 17, and ministack's objects to rclone.

    That one keeps metadata, no tags and no settings of buckets: the command says so.
    """
    with ExitStack() as stack:
        old = stack.enter_context(NpmPostgres.start_major(15))
        old_s3 = stack.enter_context(EmbeddedS3.start(kind="ministack"))
        server = stack.enter_context(EmbeddedPostgres.start())
        s3 = stack.enter_context(EmbeddedS3.start(kind="rclone"))
        site = OldSite.make(tmp_path / "old", old, old_s3)
        stack.callback(site.close)
        left = site.leave(tmp_path)
        done = left.pgben(*left.arguments(server, s3), "--json")
        assert done.code == 0, done.all
        assert platform(server) == platform(old)
        there = left.bucket(s3)
        assert objects_of(there, tags=False) == objects_of(site.bucket, tags=False)
        (part,) = done.json["job"]["result"]["buckets"].values()
        assert part["tags_not_kept"] == 4
        assert sorted(part["settings_refused"]) == ["encryption", "tagging", "versioning"]

"""What is killed: the database in mid-dump, the worker in mid-upload. Nothing wrong survives."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pgben_tasks.app import VISIBILITY_TIMEOUT
from pgben_tasks.client import Client
from pgben_tasks.embedded.data.compare import contents
from tests.support.deployment import DATABASE, TARGET, Deployment, SlowPath, eventually, steps
from tests.support.timetables import TICK_OF_PRODUCTION

pytestmark = pytest.mark.unmeasured

#: From the SIGKILL of a worker to the verified backup, in production: a tick is the first that can
#: notice, and comes up to a minute later there.
DONE_WITHIN = timedelta(minutes=3) - TICK_OF_PRODUCTION


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with Deployment.build(megabytes=40, PGBEN_PACK_SIZE="256KiB", PGBEN_DUMP_JOBS="1") as built:
        yield built


@pytest.mark.timeout(180)
def test_a_database_killed_in_mid_dump_never_becomes_a_backup(deployment: Deployment) -> None:
    deployment.start("all", name="worker")
    spool = Path(deployment.environment["PGBEN_SPOOL_DIR"]) / "jobs"
    Client(deployment.environment["PGBEN_REDIS_URL"]).backup(str(TARGET))
    eventually(
        lambda: any(spool.glob("*/dump/*.dat*")), seconds=30, what="pg_dump writes its first table"
    )
    deployment.stack.postgres.kill()
    (job,) = deployment.jobs("backup")
    deployment.wait_for(job, "waiting", "failed", seconds=60)

    assert deployment.work.repository.backups(TARGET) == []
    assert deployment.stored_packs() == []
    voided = deployment.work.ledger.job(job.id).backup
    assert voided is not None
    assert "dump" not in steps(deployment, job)

    deployment.stack.postgres.restart()
    ended = deployment.wait_for(job, seconds=90)

    assert ended.state == "succeeded", ended.error
    assert ended.backup != voided
    (only,) = deployment.work.repository.backups(TARGET)
    assert str(only) == ended.backup


@pytest.mark.timeout(300)
def test_a_worker_killed_in_mid_upload_is_done_within_three_minutes(deployment: Deployment) -> None:
    assert timedelta(hours=8) < VISIBILITY_TIMEOUT, "the broker alone would take hours"
    with closing(SlowPath(deployment.stack.s3.endpoint, rate=400_000)) as slow:
        worker = deployment.start(
            "all", name="worker", changed={"PGBEN_REPOSITORY_ENDPOINT": slow.endpoint}
        )
        deployment.start("beat", name="beat")
        asked = Client(deployment.environment["PGBEN_REDIS_URL"]).backup(str(TARGET))
        eventually(
            lambda: len(deployment.stored_packs()) >= 2, seconds=90, what="two packs are stored"
        )
        (job,) = deployment.jobs("backup")
        assert job.step is not None
        assert job.step.endswith(".upload")
        worker.send(signal.SIGKILL, tree=True)
        killed = datetime.now(UTC)
    assert deployment.work.repository.backups(TARGET) == []
    before = {
        pack: deployment.work.repository.packs(TARGET)[pack] for pack in deployment.stored_packs()
    }

    # An orchestrator starts it again under its name; its line is no longer slow.
    deployment.start("all", name="worker-again")
    ended = deployment.wait_for(job, seconds=DONE_WITHIN.total_seconds())

    assert ended.state == "succeeded", ended.error
    assert ended.result["state"] == "verified"
    assert ended.ended_at is not None
    assert ended.ended_at - killed < DONE_WITHIN
    # The same capture went on: one attempt, no second dump, nothing stored twice.
    assert ended.attempt == 1
    assert steps(deployment, job).count("dump") == 1
    assert ended.backup == job.backup
    after = deployment.work.repository.packs(TARGET)
    assert {pack: after[pack] for pack in before} == before
    assert asked.get(timeout=10)["backup"] == ended.backup

    ran = deployment.pgben("restore", DATABASE, "--into", "after_the_kill", "--json")
    assert ran.code == 0, ran.err
    server = deployment.stack.postgres.dsn()
    assert contents(server, "after_the_kill") == contents(server, DATABASE)


@pytest.mark.timeout(280)
def test_a_broker_killed_in_mid_step_ends_neither_the_worker_nor_the_job(
    deployment: Deployment,
) -> None:
    with closing(SlowPath(deployment.stack.s3.endpoint, rate=600_000)) as slow:
        changed = {"PGBEN_REPOSITORY_ENDPOINT": slow.endpoint}
        worker = deployment.start("all", name="worker", changed=changed)
        deployment.start("beat", name="beat")
        Client(deployment.environment["PGBEN_REDIS_URL"]).backup(str(TARGET))
        eventually(lambda: len(deployment.stored_packs()) >= 1, seconds=90, what="a pack is stored")
        (job,) = deployment.jobs("backup")
        deployment.stack.redis.kill()
        deployment.stack.redis.restart()
        ended = deployment.wait_for(job, seconds=DONE_WITHIN.total_seconds())

    assert ended.state == "succeeded", ended.error
    assert worker.alive
    assert steps(deployment, job).count("dump") == 1

"""Jobs that are called off: nothing of them stays, and whoever waits is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pgben_tasks.client import Client
from pgben_tasks.domain.job import Job
from pgben_tasks.errors import JobCancelled
from tests.support.deployment import DATABASE, TARGET, Deployment, SlowPath, eventually

pytestmark = pytest.mark.unmeasured

#: From the cancellation to the end of the child and the removal of what it made, in seconds.
STOPPED_WITHIN = 20.0
COPY = "called_off"


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with Deployment.build(megabytes=25, PGBEN_DUMP_JOBS="1") as built:
        yield built


@pytest.fixture(autouse=True)
def ended_workers(deployment: Deployment) -> Iterator[None]:
    """End the workers of a test that failed, so that they take no job of the next one."""
    yield
    for process in deployment.processes:
        process.stop()


def spool(deployment: Deployment) -> list[Path]:
    """Return the folders of jobs that are in the spool."""
    folder = Path(deployment.environment["PGBEN_SPOOL_DIR"]) / "jobs"
    return [one for one in folder.glob("*") if one.is_dir()]


def clients(deployment: Deployment) -> list[str]:
    """Name the client programs that run below this installation's spool or for its copy."""
    with deployment.stack.postgres.connect() as connection:
        rows = connection.execute(
            "SELECT application_name FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname IN (%s, %s) AND application_name LIKE 'pgben%%'",
            (DATABASE, COPY),
        ).fetchall()
    return [name for (name,) in rows]


def database_path(deployment: Deployment, slow: SlowPath) -> dict[str, str]:
    host, _, port = slow.endpoint.removeprefix("http://").partition(":")
    return {"PGBEN_DB_HOST": host, "PGBEN_DB_PORT": port}


def slow_database(
    deployment: Deployment, *, rate: int | None = None, back: int | None = None
) -> SlowPath:
    server = deployment.stack.postgres
    return SlowPath(f"http://{server.host}:{server.port}", rate=rate, back=back)


def cancelled(deployment: Deployment, job: Job) -> None:
    """Cancel a running job as a person does; return when nothing of it is left."""
    began = time.monotonic()
    ran = deployment.pgben("cancel", str(job.id)[:12], "--json")
    assert ran.code == 0, ran.err
    assert ran.json["jobs"][0]["state"] == "cancelled"
    with deployment.work.database.transaction() as cursor:
        assert cursor.execute("SELECT * FROM lease").fetchall() == []
    eventually(lambda: spool(deployment) == [], seconds=STOPPED_WITHIN, what="its folder is gone")
    eventually(lambda: COPY not in deployment.databases(), seconds=STOPPED_WITHIN, what="no copy")
    eventually(
        lambda: clients(deployment) == [], seconds=STOPPED_WITHIN, what="no client is connected"
    )
    assert time.monotonic() - began < STOPPED_WITHIN
    ended = deployment.work.ledger.job(job.id)
    assert (ended.state, ended.attempt, ended.retry_at) == ("cancelled", 1, None)
    # The worker notes that it removed everything after it did.
    eventually(lambda: deployment.work.ledger.to_clean() == [], seconds=10, what="noted as cleaned")


@pytest.mark.timeout(180)
def test_a_cancelled_dump_leaves_nothing_and_the_next_backup_works(deployment: Deployment) -> None:
    with closing(slow_database(deployment, back=500_000)) as slow:
        worker = deployment.start("all", name="slow", changed=database_path(deployment, slow))
        asked = Client(deployment.environment["PGBEN_REDIS_URL"]).backup(str(TARGET))
        eventually(
            lambda: any(one.glob("dump/*.dat*") for one in spool(deployment)),
            seconds=60,
            what="pg_dump writes its first table",
        )
        (job,) = deployment.jobs("backup")
        assert (job.step or "").endswith(".dump")
        cancelled(deployment, job)
        with pytest.raises(JobCancelled, match="was cancelled by '"):
            asked.get(timeout=10)
        worker.stop()
    assert deployment.work.repository.backups(TARGET) == []
    assert deployment.stored_packs() == []

    deployment.start("all", name="fast")
    ran = deployment.pgben("backup", DATABASE, "--json")
    assert ran.code == 0, ran.err
    assert deployment.work.ledger.job(job.id).state == "cancelled"
    assert deployment.pgben("cancel", str(job.id)).code == 3
    refused = deployment.pgben("jobs", "retry", ran.json["jobs"][0]["job"])
    assert refused.code == 3
    assert "succeeded" in refused.err
    deployment.processes[-1].stop()


@pytest.mark.timeout(180)
def test_a_cancelled_restore_leaves_nothing_and_is_begun_again_by_hand(
    deployment: Deployment,
) -> None:
    with closing(slow_database(deployment, rate=300_000)) as slow:
        worker = deployment.start("all", name="slow-again", changed=database_path(deployment, slow))
        ran = deployment.pgben("restore", DATABASE, "--into", COPY, "--no-wait", "--json")
        (job,) = deployment.jobs("restore")
        assert ran.json["jobs"][0]["job"] == str(job.id)
        eventually(
            lambda: "pgben restore" in clients(deployment) and COPY in deployment.databases(),
            seconds=60,
            what="pg_restore loads",
        )
        assert (deployment.work.ledger.job(job.id).step or "").endswith(".load")
        cancelled(deployment, job)
        worker.stop()

    deployment.start("all", name="fast-again")
    again = deployment.pgben("jobs", "retry", str(job.id), "--follow", "--json")
    assert again.code == 0, again.err
    (ended,) = again.json["jobs"]
    assert (ended["job"], ended["attempt"]) == (str(job.id), 2)
    assert COPY in deployment.databases()
    deployment.processes[-1].stop()


@pytest.mark.timeout(120)
def test_a_job_cancelled_before_anybody_took_it_is_never_begun(deployment: Deployment) -> None:
    ran = deployment.pgben("backup", DATABASE, "--no-wait", "--json")
    queued = ran.json["jobs"][0]["job"]
    before = deployment.work.repository.backups(TARGET)
    assert deployment.pgben("cancel", queued).code == 0
    deployment.start("all", name="late")
    eventually(
        lambda: "JobCancelled" in deployment.processes[-1].log.read_text(),
        seconds=30,
        what="the worker read the message and said why it does nothing",
    )
    shown = deployment.pgben("jobs", queued, "--json").json["jobs"][0]
    assert (shown["state"], shown["attempt"], shown["steps"]) == ("cancelled", 0, [])
    assert deployment.work.repository.backups(TARGET) == before

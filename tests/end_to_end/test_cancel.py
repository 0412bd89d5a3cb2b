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
from tests.end_to_end.house import DATABASE, TARGET, House, SlowPath, eventually

#: From the cancellation to the end of the child and the removal of what it made, in seconds.
STOPPED_WITHIN = 20.0
COPY = "called_off"


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with House.build(megabytes=25, PGBEN_DUMP_JOBS="1") as built:
        yield built


def spool(house: House) -> list[Path]:
    """Return the folders of jobs that are in the spool."""
    folder = Path(house.environment["PGBEN_SPOOL_DIR"]) / "jobs"
    return [one for one in folder.glob("*") if one.is_dir()]


def clients(house: House) -> list[str]:
    """Name the client programs that run below this installation's spool or for its copy."""
    with house.stack.postgres.connect() as connection:
        rows = connection.execute(
            "SELECT application_name FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname IN (%s, %s) AND application_name LIKE 'pgben%%'",
            (DATABASE, COPY),
        ).fetchall()
    return [name for (name,) in rows]


def database_path(house: House, slow: SlowPath) -> dict[str, str]:
    host, _, port = slow.endpoint.removeprefix("http://").partition(":")
    return {"PGBEN_DB_HOST": host, "PGBEN_DB_PORT": port}


def slow_database(house: House, *, rate: int | None = None, back: int | None = None) -> SlowPath:
    server = house.stack.postgres
    return SlowPath(f"http://{server.host}:{server.port}", rate=rate, back=back)


def cancelled(house: House, job: Job) -> None:
    """Cancel a running job as a person does; return when nothing of it is left."""
    began = time.monotonic()
    ran = house.pgben("cancel", str(job.id)[:12], "--json")
    assert ran.code == 0, ran.err
    assert ran.json["jobs"][0]["state"] == "cancelled"
    with house.work.database.transaction() as cursor:
        assert cursor.execute("SELECT * FROM lease").fetchall() == []
    eventually(lambda: spool(house) == [], seconds=STOPPED_WITHIN, what="its folder is gone")
    eventually(lambda: COPY not in house.databases(), seconds=STOPPED_WITHIN, what="no copy")
    eventually(lambda: clients(house) == [], seconds=STOPPED_WITHIN, what="no client is connected")
    assert time.monotonic() - began < STOPPED_WITHIN
    ended = house.work.ledger.job(job.id)
    assert (ended.state, ended.attempt, ended.retry_at) == ("cancelled", 1, None)
    assert house.work.ledger.to_clean() == []


@pytest.mark.timeout(180)
def test_a_cancelled_dump_leaves_nothing_and_the_next_backup_works(house: House) -> None:
    with closing(slow_database(house, back=500_000)) as slow:
        worker = house.start("all", name="slow", changed=database_path(house, slow))
        asked = Client(house.environment["PGBEN_REDIS_URL"]).backup(str(TARGET))
        eventually(
            lambda: any(one.glob("dump/*.dat*") for one in spool(house)),
            seconds=60,
            what="pg_dump writes its first table",
        )
        (job,) = house.jobs("backup")
        assert (job.step or "").endswith(".dump")
        cancelled(house, job)
        with pytest.raises(JobCancelled, match="was cancelled by '"):
            asked.get(timeout=10)
        worker.stop()
    assert house.work.repository.backups(TARGET) == []
    assert house.stored_packs() == []

    house.start("all", name="fast")
    ran = house.pgben("backup", DATABASE, "--json")
    assert ran.code == 0, ran.err
    assert house.work.ledger.job(job.id).state == "cancelled"
    assert house.pgben("cancel", str(job.id)).code == 3
    refused = house.pgben("jobs", "retry", ran.json["jobs"][0]["job"])
    assert refused.code == 3
    assert "succeeded" in refused.err
    house.processes[-1].stop()


@pytest.mark.timeout(180)
def test_a_cancelled_restore_leaves_nothing_and_is_begun_again_by_hand(house: House) -> None:
    with closing(slow_database(house, rate=300_000)) as slow:
        worker = house.start("all", name="slow-again", changed=database_path(house, slow))
        ran = house.pgben("restore", DATABASE, "--into", COPY, "--no-wait", "--json")
        (job,) = house.jobs("restore")
        assert ran.json["jobs"][0]["job"] == str(job.id)
        eventually(
            lambda: "pgben restore" in clients(house) and COPY in house.databases(),
            seconds=60,
            what="pg_restore loads",
        )
        assert (house.work.ledger.job(job.id).step or "").endswith(".load")
        cancelled(house, job)
        worker.stop()

    house.start("all", name="fast-again")
    again = house.pgben("jobs", "retry", str(job.id), "--follow", "--json")
    assert again.code == 0, again.err
    (ended,) = again.json["jobs"]
    assert (ended["job"], ended["attempt"]) == (str(job.id), 2)
    assert COPY in house.databases()
    house.processes[-1].stop()


@pytest.mark.timeout(120)
def test_a_job_cancelled_before_anybody_took_it_is_never_begun(house: House) -> None:
    ran = house.pgben("backup", DATABASE, "--no-wait", "--json")
    queued = ran.json["jobs"][0]["job"]
    before = house.work.repository.backups(TARGET)
    assert house.pgben("cancel", queued).code == 0
    house.start("all", name="late")
    eventually(
        lambda: "JobCancelled" in house.processes[-1].log.read_text(),
        seconds=30,
        what="the worker read the message and said why it does nothing",
    )
    shown = house.pgben("jobs", queued, "--json").json["jobs"][0]
    assert (shown["state"], shown["attempt"], shown["steps"]) == ("cancelled", 0, [])
    assert house.work.repository.backups(TARGET) == before

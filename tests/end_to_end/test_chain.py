"""The nightly chain, a verification and a restore, by real workers, asked for as people do."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from pgben_tasks import names
from pgben_tasks.app import create_app
from pgben_tasks.client import Client
from pgben_tasks.embedded.data.compare import contents
from pgben_tasks.errors import BackupNotFound, RequestRefused
from tests.support.deployment import (
    DATABASE,
    TARGET,
    Deployment,
    command_lines,
    eventually,
    plain_dump,
    steps,
)


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with Deployment.build(PGBEN_PACK_SIZE="256KiB") as built:
        built.start("all", name="worker")
        yield built


@pytest.fixture(scope="module")
def client(deployment: Deployment) -> Client:
    return Client(deployment.environment["PGBEN_REDIS_URL"])


def test_the_chain_ends_with_a_verified_backup(deployment: Deployment) -> None:
    ran = deployment.pgben("backup", DATABASE, "--json")

    assert ran.code == 0, ran.err
    (job,) = ran.json["jobs"]
    assert job["state"] == "succeeded"
    assert job["result"]["state"] == "verified"
    manifest = deployment.work.repository.manifest(
        TARGET, deployment.work.repository.backups(TARGET)[-1]
    )
    assert manifest.backup == job["backup"]
    assert len(manifest.packs) > 1
    assert job["result"]["bytes_read_back"] == manifest.stored_bytes
    assert steps(deployment, deployment.jobs("backup")[0]) == [
        "dump",
        "checksum",
        "upload",
        "prune",
        "record",
    ]


def test_what_a_chain_leaves_is_its_backup_and_nothing_else(deployment: Deployment) -> None:
    ran = deployment.pgben("backup", DATABASE, "--json")
    assert ran.code == 0

    spool = Path(deployment.environment["PGBEN_SPOOL_DIR"])
    assert [path for path in (spool / "jobs").iterdir() if path.is_dir()] == []
    with deployment.catalog.connect("pgben_catalog") as connection:
        assert connection.execute("SELECT count(*) FROM lease").fetchone() == (0,)
    history = Path(deployment.environment["PGBEN_BACKUP_DIR"])
    queue = create_app(deployment.environment["PGBEN_REDIS_URL"])
    queue.send_task(names.TICK, queue=names.QUEUE_MAINTENANCE).get(timeout=60)
    with (history / "backup-history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["job"] == ran.json["jobs"][0]["job"]
    assert rows[-1]["status"] == "verified"
    assert int(rows[-1]["size"]) > 0
    line = (history / "backup-log.txt").read_text(encoding="utf-8").splitlines()[-1]
    assert re.match(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] backup of 'postgres/pgben' verified", line)


def test_a_restore_beside_is_identical_and_leaves_the_original_alone(
    deployment: Deployment,
) -> None:
    assert deployment.pgben("backup", DATABASE).code == 0
    before = contents(deployment.stack.postgres.dsn(), DATABASE)

    ran = deployment.pgben("restore", DATABASE, "--into", "copy_of_pgben", "--json")

    assert ran.code == 0, ran.err
    assert ran.json["jobs"][0]["result"]["database"] == "copy_of_pgben"
    assert contents(deployment.stack.postgres.dsn(), "copy_of_pgben") == before
    assert contents(deployment.stack.postgres.dsn(), DATABASE) == before
    assert plain_dump(deployment.stack.postgres, "copy_of_pgben") == plain_dump(
        deployment.stack.postgres, DATABASE
    )


def test_a_restore_into_an_existing_name_is_refused_and_changes_nothing(
    deployment: Deployment,
) -> None:
    assert deployment.pgben("backup", DATABASE).code == 0
    before = deployment.databases()

    ran = deployment.pgben("restore", DATABASE, "--into", DATABASE, "--json")

    assert ran.code == 3
    assert ran.json["jobs"][0]["state"] == "refused"
    assert deployment.databases() == before


def test_every_verification_of_a_whole_repository_is_green(deployment: Deployment) -> None:
    assert deployment.pgben("backup", DATABASE).code == 0

    assert deployment.pgben("verify").code == 0
    assert deployment.pgben("verify", "--level", "full").code == 0


def test_another_service_gets_the_outcome_of_what_it_enqueued(
    deployment: Deployment, client: Client
) -> None:
    asked = client.backup("postgres/pgben", requested_by="billing", idempotency_key="close-11")

    outcome = asked.get(timeout=60)

    assert outcome["state"] == "succeeded"
    assert outcome["result"]["state"] == "verified"
    again = client.backup("postgres/pgben", requested_by="billing", idempotency_key="close-11")
    assert again.get(timeout=60) == outcome
    assert [job.key for job in deployment.jobs("backup")].count("close-11") == 1


def test_another_service_sees_a_failure_as_the_error_it_was(client: Client) -> None:
    asked = client.restore("postgres/pgben", backup="20200101T000000Z-000000")

    with pytest.raises(BackupNotFound, match="20200101T000000Z-000000"):
        asked.get(timeout=60)


def test_another_service_cannot_restore_under_an_impossible_name(
    deployment: Deployment, client: Client
) -> None:
    known = len(deployment.jobs())

    with pytest.raises(RequestRefused, match="63 bytes"):
        client.restore("postgres/pgben", into="n" * 64)
    assert len(deployment.jobs()) == known


def test_a_request_for_a_stranger_is_refused_and_recorded(
    deployment: Deployment, client: Client
) -> None:
    asked = client.backup("postgres/stranger", requested_by="curious")

    with pytest.raises(RequestRefused, match="not protected"):
        asked.get(timeout=60)
    (job,) = [job for job in deployment.jobs("backup") if job.target == "postgres/stranger"]
    assert job.state == "refused"
    assert job.requested_by == "curious"


def test_malformed_arguments_are_refused_and_recorded(
    deployment: Deployment, client: Client
) -> None:
    asked = client._app.send_task(
        "pgben.backup.postgres", args=({"target": "postgres/pgben", "force": True},), queue="backup"
    )

    with pytest.raises(RequestRefused, match="force"):
        asked.get(timeout=60)
    assert deployment.jobs("backup")[0].state == "refused"


def test_ctrl_c_leaves_the_job_running_and_says_its_id(deployment: Deployment) -> None:
    before = len(deployment.jobs("backup"))
    person = subprocess.Popen(
        [sys.executable, "-m", "pgben_tasks.cli.main", "backup", DATABASE],
        env=deployment.process_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(
        lambda: len(deployment.jobs("backup")) > before, seconds=30, what="the job is written"
    )
    person.send_signal(signal.SIGINT)
    _, said = person.communicate(timeout=30)

    job = deployment.wait_for(deployment.jobs("backup")[0], seconds=60)
    assert job.state == "succeeded"
    # A person who is quicker than the chain sees 130; one who is slower, the end of the job.
    assert (person.returncode, str(job.id) in said) in {(130, True), (0, False)}


def test_no_secret_reaches_logs_arguments_or_results(deployment: Deployment) -> None:
    assert deployment.pgben("backup", DATABASE).code == 0
    secrets = {
        deployment.stack.postgres.password,
        deployment.catalog.password,
        deployment.stack.redis.password,
        deployment.stack.s3.secret_key,
        Path(deployment.environment["PGBEN_AGE_IDENTITY_FILE"]).read_text().splitlines()[-1],
    }
    with deployment.catalog.connect("pgben_catalog") as connection:
        rows = [
            str(row)
            for table in ("job", "attempt", "step", "audit", "backup")
            for row in connection.execute(
                sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))
            ).fetchall()
        ]
    texts = [process.log.read_text() for process in deployment.processes] + rows
    arguments = list(command_lines().values())

    assert texts
    for secret in secrets:
        assert not [text for text in texts + arguments if secret in text]

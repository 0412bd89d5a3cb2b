"""What other services see of jobs that real workers run: states, progress, errors and events."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery

from pgben_tasks import canvases, names
from pgben_tasks.app import create_app
from pgben_tasks.client import Client
from pgben_tasks.contracts import BackupRequest
from pgben_tasks.errors import BackupNotFound, JobCancelled, RequestRefused
from tests.support import snippets
from tests.support.deployment import DATABASE, Deployment, eventually

TARGET = f"postgres/{DATABASE}"
CANARY = "cidadao-canary"


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with Deployment.build() as built:
        built.start("all", name="worker")
        yield built


@pytest.fixture(scope="module")
def client(deployment: Deployment) -> Client:
    return Client(deployment.environment["PGBEN_REDIS_URL"])


@pytest.fixture(scope="module")
def stranger(deployment: Deployment) -> Celery:
    """Return a service's own application, which knows nothing of pgben."""
    url = deployment.environment["PGBEN_REDIS_URL"]
    return Celery(broker=url, backend=url.rpartition("/")[0] + "/1", set_as_current=False)


class States:
    """Every state that is written under one id, as it is written."""

    def __init__(self, deployment: Deployment, task: str) -> None:
        """Subscribe to the channel that Celery's store of results writes to."""
        url = deployment.environment["PGBEN_REDIS_URL"]
        self._pubsub = redis.Redis.from_url(url).pubsub()  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(f"celery-task-meta-{task}")

    def to_the_end(self) -> list[dict[str, Any]]:
        """Return all of them, up to one that is an end."""
        found: list[dict[str, Any]] = []
        while not found or found[-1]["status"] not in {"SUCCESS", "FAILURE", "REVOKED"}:
            message = self._pubsub.get_message(timeout=60)
            assert message is not None, found
            if message["type"] == "message":
                found.append(json.loads(message["data"]))
        self._pubsub.close()
        return found


@contextmanager
def heard(deployment: Deployment) -> Iterator[list[dict[str, Any]]]:
    """Yield the events that come while the block runs, and those that follow within a second."""
    app = create_app(deployment.environment["PGBEN_REDIS_URL"])
    found: list[dict[str, Any]] = []
    listening, over = threading.Event(), threading.Event()

    def listen() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection)

            def hear(event: dict[str, Any]) -> None:
                # Workers send one every two seconds.
                listening.set()
                found.append(event)
                receiver.should_stop = over.is_set()

            receiver.handlers["*"] = hear
            receiver.capture(limit=None, timeout=60, wakeup=False)

    thread = threading.Thread(target=listen)
    thread.start()
    assert listening.wait(30)
    try:
        yield found
    finally:
        over.set()
        thread.join(timeout=30)


def test_progress_is_shown_from_the_claim_to_the_end_through_all_steps(
    deployment: Deployment, client: Client
) -> None:
    task = str(uuid4())
    states = States(deployment, task)
    client.send("backup", BackupRequest(target=TARGET), task_id=task)
    seen = states.to_the_end()
    kinds = [one["status"] for one in seen]
    assert kinds[0] == "STARTED"
    assert kinds == ["STARTED", *["PROGRESS"] * (len(kinds) - 2), "SUCCESS"]
    (job,) = [one for one in deployment.jobs("backup") if one.root_task == task]
    progress = [one["result"] for one in seen[1:-1]]
    assert {one["job"] for one in progress} == {str(job.id)}
    assert {one["target"] for one in progress} == {TARGET}
    shown = list(dict.fromkeys(one["step"] for one in progress))
    assert shown == [step for step, _ in canvases.CHAINS["backup"]]
    fields = {"phase", "done", "total", "unit", "rate", "seconds_left"}
    assert all(fields <= set(one) for one in progress)


def test_a_failure_says_what_to_do_to_services_in_any_language(
    deployment: Deployment, client: Client
) -> None:
    asked = client.restore(TARGET, backup="20200101T000000Z-000000")
    with pytest.raises(BackupNotFound):
        asked.get(timeout=60)
    url = deployment.environment["PGBEN_REDIS_URL"].rpartition("/")[0] + "/1"
    with redis.Redis.from_url(url) as server:
        metas = [json.loads(server.get(key)) for key in server.scan_iter("celery-task-meta-*")]
    failed = [one for one in metas if one["status"] in {"FAILURE", "RETRY"}]
    assert {one["result"]["code"] for one in failed} == {"BackupNotFound"}
    assert all(one["result"]["sentence"] for one in failed)
    assert {one["traceback"] for one in metas} == {None}


def test_events_tell_target_and_job_and_a_failure_is_told_once_with_its_worker(
    deployment: Deployment, stranger: Celery
) -> None:
    request = {
        "target": TARGET,
        "backup": "20200101T000000Z-000000",
        "requested_by": CANARY,
        "idempotency_key": CANARY,
    }
    with heard(deployment) as events:
        asked = stranger.send_task(names.RESTORE_POSTGRES, args=(request,), queue="restore")
        with pytest.raises(Exception, match="there is no") as caught:
            asked.get(timeout=60)
        assert type(caught.value).__name__ == "BackupNotFound"
    received = [one for one in events if one["type"] == "task-received"]
    assert {one["args"] for one in received if one["uuid"] == asked.id} == {
        f"({{'target': '{TARGET}'}},)"
    }
    job = deployment.jobs("restore")[0]
    steps = [one for one in received if one["name"].startswith("pgben.restore.postgres.")]
    assert {one["args"] for one in steps} == {f"({{'job': '{job.id}'}},)"}
    assert {one["kwargs"] for one in received} == {"{}"}
    assert CANARY not in json.dumps(events)
    failed = [one for one in events if one["type"] == "task-failed"]
    assert [one["uuid"] == asked.id for one in failed if one.get("root")] == [True]
    assert [one["uuid"] == asked.id for one in failed if not one.get("root")] == [False]
    workers = {one["hostname"] for one in events if one["type"] == "worker-heartbeat"}
    assert {one["hostname"] for one in failed} == workers
    assert len(workers) == 1


def test_workers_do_not_tell_the_arguments_of_what_waits(
    deployment: Deployment, stranger: Celery
) -> None:
    request = {"target": TARGET, "reason": CANARY, "keys": [CANARY]}
    stranger.send_task(
        names.ACKNOWLEDGE_RUN, args=(request,), queue="maintenance", countdown=3600, expires=3600
    )
    inspect = stranger.control.inspect(timeout=5)

    def scheduled() -> list[Any]:
        return [one for found in (inspect.scheduled() or {}).values() for one in found]

    eventually(lambda: scheduled() != [], seconds=30, what="the worker has it")
    (waiting,) = scheduled()
    assert waiting["request"]["args"] == f"({{'target': '{TARGET}'}},)"
    assert CANARY not in json.dumps(waiting)


def test_lists_the_status_and_a_cancellation_reach_services(
    deployment: Deployment, client: Client
) -> None:
    assert deployment.pgben("backup", DATABASE).code == 0
    listed = client.backups(TARGET, limit=1, expires=60).get(timeout=60)
    shown = deployment.pgben("list", DATABASE, "--json").json["backups"]
    assert listed["backups"] == shown[:1]
    jobs = client.jobs(limit=200, expires=60).get(timeout=60)
    assert jobs == {"jobs": deployment.pgben("jobs", "--json").json["jobs"], "more": False}
    status = client.status(expires=60).get(timeout=60)
    typed = deployment.pgben("status", "--json").json
    assert set(status) == set(typed)
    for field in ("verdict", "workers", "targets"):
        assert _settled(status[field]) == _settled(typed[field])
    with pytest.raises(RequestRefused, match="has ended already"):
        client.cancel(jobs["jobs"][0]["job"]).get(timeout=60)


def _settled(found: Any) -> Any:
    """Return a part of the status without what grows by the second."""
    if isinstance(found, list) and found and isinstance(found[0], dict):
        return [{key: one[key] for key in one if key != "age_seconds"} for one in found]
    return found


def test_a_service_cancels_a_job_that_it_has_asked_for(
    deployment: Deployment, client: Client
) -> None:
    # Asked for a node that does not live, so that it waits.
    with heard(deployment) as events:
        job, _ = deployment.work.ledger.request(
            "backup",
            target=TARGET,
            key=str(uuid4()),
            request={"target": TARGET},
            requested_by="ana",
            root_task=str(uuid4()),
            published=True,
        )
        waits = create_app(deployment.environment["PGBEN_REDIS_URL"]).AsyncResult(
            str(job.root_task)
        )
        answer = client.cancel(job.id, requested_by="billing").get(timeout=60)
        assert (answer["job"], answer["state"]) == (str(job.id), "cancelled")
        with pytest.raises(JobCancelled, match="cancelled by 'billing'"):
            waits.get(timeout=30)
    (told,) = [one for one in events if one["type"] == "task-failed"]
    assert (told["uuid"], told["root"]) == (job.root_task, True)
    assert told["hostname"].startswith("all@")


@pytest.mark.timeout(180)
def test_the_examples_in_python_restore_and_print_the_name(deployment: Deployment) -> None:
    assert deployment.pgben("backup", DATABASE).code == 0
    environment = deployment.process_environment()
    examples = snippets.restores("python")
    assert len(examples) == 2
    for example in examples:
        done = subprocess.run(
            [sys.executable, "-c", example],
            env=environment,
            cwd=deployment.stack.folder,
            capture_output=True,
            text=True,
            timeout=80,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() in deployment.databases() - {DATABASE}
    assert len(snippets.restores("sh")) == len(snippets.restores("typescript")) == 1

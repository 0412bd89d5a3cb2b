"""Messages that are none are set aside, and those that died with a worker are sent again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from pgben_tasks import names
from pgben_tasks.adapters.postgres.clients import published_clients
from pgben_tasks.adapters.redis import inspect_broker
from pgben_tasks.app import create_app
from pgben_tasks.client import Client
from pgben_tasks.domain.documents import CHAINED_STATEMENTS
from tests.support import poison
from tests.support.deployment import TARGET, Deployment, eventually

pytestmark = pytest.mark.unmeasured

COUNT = 300
CONTROL = "celery.pidbox"


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with Deployment.build() as built:
        yield built
        # Workers still sign hundreds of entries of the trail, for which nothing waits.
        for process in built.processes:
            process.kill()


@pytest.mark.timeout(280)
def test_three_hundred_messages_that_are_none_end_no_worker_and_are_recorded_once_each(
    deployment: Deployment,
) -> None:
    url = deployment.environment["PGBEN_REDIS_URL"]
    queues = (*names.QUEUES, names.node_queue("backup", "node-a"))
    worker = deployment.start("all", name="worker")
    to_all = list(poison.commands(str(TARGET), seed=6))
    every = COUNT + len(to_all)
    with closing(redis.Redis.from_url(url)) as broker:
        for message in to_all:
            assert broker.publish(f"/0.{CONTROL}", message) == 1, "the worker does not listen"
        for number, message in enumerate(poison.messages(str(TARGET), COUNT, seed=5)):
            broker.lpush(queues[number % len(queues)], message)
        # What is good stands behind them and gets through.
        asked = Client(url).backup(str(TARGET))
        eventually(
            lambda: broker.llen(names.SET_ASIDE) == every, seconds=90, what="all are set aside"
        )
        assert worker.alive
        # A worker publishes its clients: backups are judged by those of who restores.
        site = deployment.work.workers.restore_site()
        assert site.current
        assert set(site.clients or ()) == set(published_clients())
        assert deployment.work.workers.may_use_new_fields(CHAINED_STATEMENTS, in_use=False)
        assert {one.queue for one in inspect_broker(url, ()).set_aside} == {*queues, CONTROL}
    assert create_app(url).control.ping(timeout=10), "what is a command is answered"
    shown = deployment.pgben("doctor")
    assert "was set aside at" in shown.out
    (job,) = deployment.jobs()
    assert deployment.wait_for(job, seconds=60).state == "succeeded"
    assert asked.get(timeout=60)["job"] == str(job.id)

    # The tick records each, and no tick after it records one again.
    deployment.start("beat", name="beat")
    eventually(lambda: not inspect_broker(url, ()).set_aside, seconds=60, what="all are recorded")
    rows = deployment.work.database.fetch_all("SELECT detail FROM audit WHERE action = 'message'")
    assert len({row["detail"] for row in rows}) == len(rows) == every
    alarms = deployment.work.database.fetch_all("SELECT 1 FROM alarm WHERE key LIKE 'message:%%'")
    assert len(alarms) == every
    assert worker.alive
    assert [one.kind for one in deployment.jobs()] == ["backup"]
    worker.kill()


@pytest.mark.timeout(120)
def test_a_job_whose_message_died_with_its_worker_starts_when_one_is_back(
    deployment: Deployment,
) -> None:
    worker = deployment.start("backup", name="dying")
    for process in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split():
        os.kill(int(process), signal.SIGSTOP)
    asked = deployment.pgben("backup", str(TARGET), "--no-wait", "--json")
    assert asked.code == 0, asked.err
    (job, *_) = deployment.jobs("backup")
    with closing(redis.Redis.from_url(deployment.environment["PGBEN_REDIS_URL"])) as broker:
        eventually(lambda: not broker.llen("backup"), seconds=30, what="the worker has the message")
        worker.kill()
        assert broker.hlen("unacked"), "nobody else gets it for hours"
    assert deployment.work.ledger.job(job.id).state == "queued"
    back = deployment.start("all", name="back")
    deployment.wait_for(job, "running", "waiting", "succeeded", seconds=60)
    back.kill()


@pytest.mark.timeout(120)
def test_what_no_task_can_take_is_recorded_and_what_cannot_be_set_aside_ends_no_worker(
    deployment: Deployment,
) -> None:
    url = deployment.environment["PGBEN_REDIS_URL"]
    strange = poison.envelope(str(TARGET))
    strange["headers"]["task"] = "somebody.else"
    named = poison.envelope(str(TARGET), body=poison.body([[], {"target": str(TARGET)}, None]))
    worker = deployment.start("all", name="net")
    with closing(redis.Redis.from_url(url)) as broker:
        eventually(lambda: not broker.llen(names.SET_ASIDE), seconds=60, what="all are recorded")
        broker.set(names.SET_ASIDE, "no list")
        broker.lpush("backup", b"null")
        eventually(
            lambda: "message_not_kept" in worker.log.read_text(), seconds=30, what="the log has it"
        )
        broker.delete(names.SET_ASIDE)
        for message in (strange, named):
            broker.lpush("backup", json.dumps(message))
    audit = deployment.work.database.fetch_all
    eventually(
        lambda: bool(audit("SELECT 1 FROM audit WHERE detail LIKE '%%names no task of this%%'")),
        seconds=60,
        what="the strange one is recorded",
    )
    eventually(
        lambda: deployment.jobs("backup")[0].state == "refused", seconds=30, what="it is refused"
    )
    assert "malformed" in str(deployment.jobs("backup")[0].error)
    assert worker.alive

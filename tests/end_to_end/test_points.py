"""A recovery point formed by real workers: asked for by a person, and by a killed worker's heir."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from pgben_tasks.embedded.stack import PROTECTED_BUCKET
from pgben_tasks.runtime.places import bucket_at
from tests.support.deployment import BUCKET, TARGET, Deployment, eventually, fill_bucket, steps


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with Deployment.build(bucket=True, megabytes=1) as built:
        fill_bucket(bucket_at(built.work.settings, PROTECTED_BUCKET), 20)
        yield built


@pytest.mark.timeout(180)
def test_everything_is_backed_up_and_joined_and_every_command_tells_the_same(
    deployment: Deployment,
) -> None:
    early = deployment.pgben("list")
    assert "recovery point" not in early.out, "there is nothing to list"
    assert "there are no recovery points" in deployment.pgben("points").err
    deployment.start("all", name="worker")
    done = deployment.pgben("backup", "--all", "--json")
    assert done.code == 0, done.all
    (job,) = done.json["jobs"]
    assert (job["kind"], job["target"], job["result"]["state"]) == ("point", "*", "verified")
    members = {one["target"]: one["backup"] for one in job["result"]["members"]}
    assert list(members) == [str(BUCKET), str(TARGET)]

    shown = deployment.pgben("points", "--json").json
    (point,) = shown["points"]
    assert (point["id"], point["state"]) == (job["result"]["point"], "verified")
    assert {one["target"]: one["backup"] for one in point["members"]} == members
    assert deployment.pgben("points", "--direct", "--json").json == shown
    listed = deployment.pgben("list")
    assert listed.out.startswith("recovery point: everything as of ")
    assert listed.out.splitlines()[0].endswith(f"verified ({point['id']})")
    assert deployment.pgben("list", "--json").json["point"] == point
    status = deployment.pgben("status", "--json").json
    assert (status["point"]["id"], status["point"]["within_rpo"]) == (point["id"], True)
    assert "; recovery point of 20" in deployment.pgben("status").out.splitlines()[0]
    assert deployment.pgben("verify", "--full").code == 0

    anew = {"PGBEN_CATALOG_URL": deployment.catalog.url("anew")}
    rebuilt = deployment.pgben("catalog", "rebuild", "--json", changed=anew)
    assert (rebuilt.code, rebuilt.json["points"]["points"]) == (0, 1), rebuilt.err
    assert deployment.pgben("points", "--json", changed=anew).json == shown


@pytest.mark.timeout(240)
@pytest.mark.unmeasured
def test_a_worker_killed_while_a_point_waits_loses_nothing(deployment: Deployment) -> None:
    (worker,) = [one for one in deployment.processes if one.name == "worker"]
    before = len(deployment.work.repository.points())
    asked = deployment.pgben("backup", "--all", "--no-wait", "--json").json["jobs"][0]
    job = next(one for one in deployment.jobs("point") if str(one.id) == asked["job"])
    eventually(
        lambda: (deployment.work.ledger.job(job.id).step or "").endswith(".databases"),
        seconds=60,
        what="the point waits for its databases",
    )
    worker.send(signal.SIGKILL, tree=True)
    deployment.start("beat")
    deployment.start("all", name="heir")
    ended = deployment.wait_for(job, seconds=200)
    assert ended.state == "succeeded", ended.error
    assert steps(deployment, ended) == ["databases", "buckets", "join", "record"]
    assert len(deployment.work.repository.points()) == before + 1
    assert ended.result["state"] == "verified"

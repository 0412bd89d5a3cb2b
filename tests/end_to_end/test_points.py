"""A recovery point formed by real workers: asked for by a person, and by a killed worker's heir."""

from __future__ import annotations

import csv
import shlex
import signal
import stat
from collections.abc import Iterator

import pytest

from pgben_tasks.embedded.stack import PROTECTED_BUCKET
from pgben_tasks.runtime.places import bucket_at
from tests.support.deployment import BUCKET, TARGET, Deployment, eventually, papers, steps


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with papers(tmp_path_factory.mktemp("settings"), 20, megabytes=1) as built:
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
    assert listed.out.startswith("recovery point of 20")
    assert listed.out.splitlines()[0].endswith(f": verified ({point['id']})")
    assert deployment.pgben("list", "--json").json["point"] == point
    status = deployment.pgben("status", "--json").json
    assert (status["point"]["id"], status["point"]["within_rpo"]) == (point["id"], True)
    assert "; recovery point of 20" in deployment.pgben("status").out.splitlines()[0]
    assert deployment.pgben("verify", "--full").code == 0

    assert point["check"] == {**dict.fromkeys(point["check"], 0), "references": 20, "objects": 20}

    anew = {"PGBEN_CATALOG_URL": deployment.catalog.url("anew")}
    rebuilt = deployment.pgben("catalog", "rebuild", "--json", changed=anew)
    assert (rebuilt.code, rebuilt.json["points"]["points"]) == (0, 1), rebuilt.err
    assert deployment.pgben("points", "--json", changed=anew).json == shown


@pytest.mark.timeout(120)
def test_rows_without_their_documents_are_named_with_the_way_back(deployment: Deployment) -> None:
    bucket = bucket_at(deployment.work.settings, PROTECTED_BUCKET)
    lost = min(one.key for one in bucket.list())
    bucket.delete(lost)
    done = deployment.pgben("backup", "--all")
    assert done.code == 4, done.all
    assert "rows whose objects are not as they say: 1 (missing 1), before 0" in done.out
    status = deployment.pgben("status", "--json").json
    (reason,) = [one for one in status["restorable"]["reasons"] if "not as they say" in one["text"]]
    assert reason["colour"] == "yellow"
    assert "`pgben points " in reason["hint"]
    strict = deployment.pgben("status", "--json", changed={"PGBEN_REFERENCES_STRICT": "on"})
    assert (strict.code, strict.json["restorable"]["colour"]) == (1, "red")

    newest = deployment.pgben("points", "--json").json["points"][0]["id"]
    shown = deployment.pgben("points", newest)
    assert shown.code == 0
    assert "papers 1" in shown.out
    (line,) = [one for one in shown.err.splitlines() if "pgben restore" in one]
    command = shlex.split(line.partition("`")[2].rpartition("`")[0])
    assert deployment.pgben(*command[1:]).code == 0
    assert lost in {one.key for one in bucket.list()}

    file = deployment.stack.folder / "rows.csv"
    assert deployment.pgben("points", newest, "--csv", str(file)).code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (row,) = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    assert (row["fault"], row["key"], row["reference"], row["row"]) == (
        "missing",
        lost,
        "papers",
        "1",
    )
    again = deployment.pgben("points", newest, "--csv", str(file))
    assert (again.code, "cannot be written: file exists" in again.err) == (2, True)
    for wrong in (("points", "--csv", "x"), ("points", "20200101T000000Z-abcdef")):
        assert deployment.pgben(*wrong).code in {1, 2}
    elsewhere = {"PGBEN_AGE_IDENTITY_FILE": "", "PGBEN_INVENTORY_IDENTITY_FILE": ""}
    without = deployment.pgben("points", newest, changed=elsewhere)
    assert without.code == 0
    assert "which rows these are cannot be read here" in without.err
    for where in (done.all, str(deployment.jobs("point")[0])):
        assert lost not in where


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

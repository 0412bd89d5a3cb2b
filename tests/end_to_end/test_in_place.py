"""Objects put back into their own bucket by real workers; one is killed while it writes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing

import pytest

from pgben_tasks import names
from pgben_tasks.adapters.catalog.locks import holding, target_lock
from pgben_tasks.client import Client
from pgben_tasks.contracts import BucketRestoreRequest
from pgben_tasks.embedded.child import Child
from pgben_tasks.embedded.stack import PROTECTED_BUCKET
from pgben_tasks.errors import RestoreRefused
from pgben_tasks.ports import Bucket
from pgben_tasks.runtime.places import bucket_at
from tests.support.bucketshop import contents
from tests.support.deployment import BUCKET, Deployment, SlowPath, eventually, fill_bucket

pytestmark = pytest.mark.unmeasured


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with Deployment.build(bucket=True, megabytes=1, PGBEN_PACK_SIZE="64KiB") as built:
        yield built


def ruin(bucket: Bucket, before: dict[str, tuple[object, ...]]) -> list[str]:
    """Lose five objects, overwrite five, retag one, add one; gives the overwritten keys."""
    keys = sorted(before)
    for key in keys[:5]:
        bucket.delete(key)
    for key in keys[5:10]:
        bucket.put(key, iter([b"locked"]), size=6, headers={}, metadata={"pay": "1"}, tags={})
    bucket.put_tags(keys[10], {"setor": "nenhum"})
    bucket.put("extra", iter([b"e"]), size=1, headers={}, metadata={}, tags={"a": "b"})
    return keys[5:10]


def require_refused(deployment: Deployment) -> None:
    """Ask for a restore in place without its confirmation, by hand and by a task."""
    for wrong in ((), ("--confirm", "documents")):
        assert deployment.pgben("restore", str(BUCKET), "--in-place", *wrong).code == 3
    asked = Client(deployment.environment["PGBEN_REDIS_URL"]).send(
        "restore", BucketRestoreRequest(target=str(BUCKET), in_place=True, confirm="documents")
    )
    with pytest.raises(RestoreRefused, match="would be replaced"):
        asked.get(timeout=60)
    assert [job.state for job in deployment.jobs("restore")] == ["refused"]


def require_waiting(deployment: Deployment, worker: Child, bucket: Bucket) -> None:
    """Restore in place while a snapshot is copied: nothing is written until that has ended."""
    ruin(bucket, contents(bucket))
    ruined = contents(bucket)
    request = BucketRestoreRequest(target=str(BUCKET), in_place=True, confirm=PROTECTED_BUCKET)
    put_off = f"Task {names.RESTORE_BUCKET_REPLACE_WRITE}["
    with holding(deployment.work.database, [target_lock("live", str(BUCKET), shared=True)]):
        Client(deployment.environment["PGBEN_REDIS_URL"]).send("restore", request)
        eventually(
            lambda: any(
                put_off in line and "retry" in line for line in worker.log.read_text().splitlines()
            ),
            seconds=60,
            what="the step is put off",
        )
        assert contents(bucket) == ruined
    ended = deployment.wait_for(deployment.jobs("restore")[0], seconds=60)
    assert (ended.state, ended.result["written"]) == ("succeeded", 10)


@pytest.mark.timeout(240)
def test_what_was_lost_and_overwritten_comes_back_in_place(deployment: Deployment) -> None:
    bucket = bucket_at(deployment.work.settings, PROTECTED_BUCKET)
    fill_bucket(bucket, 40)
    worker = deployment.start("all", name="worker")
    assert deployment.pgben("backup", str(BUCKET)).code == 0
    before = contents(bucket)
    overwritten = ruin(bucket, before)
    ruined = contents(bucket)

    shown = deployment.pgben("objects", "diff", str(BUCKET))
    assert shown.code == 0, shown.err
    assert shown.out.splitlines()[-1] == "5 gone, 1 new, 6 changed, 29 same, 0 unreadable"
    assert "+ extra" in shown.out
    assert f"~ {overwritten[0]}  (size)" in shown.out
    plan = deployment.pgben("restore", str(BUCKET), "--in-place", "--dry-run", "--json")
    assert plan.code == 0, plan.err
    assert len(plan.json["objects"]) == 12
    assert plan.json["totals"]["missing"]["objects"] == 5

    require_refused(deployment)
    assert contents(bucket) == ruined

    in_place = ("restore", str(BUCKET), "--in-place", "--json")
    confirmed = (*in_place, "--confirm", PROTECTED_BUCKET)
    ran = deployment.pgben(*confirmed)
    assert ran.code == 0, ran.err
    result = ran.json["jobs"][0]["result"]
    assert (result["written"], result["retagged"], result["extra"]) == (10, 1, 1)
    assert contents(bucket) == {**before, "extra": ruined["extra"]}
    aside = contents(bucket_at(deployment.work.settings, result["aside"]))
    changed = {key: ruined[key] for key in (*overwritten, sorted(before)[10])}
    assert (aside, result["aside_objects"]) == (changed, 6)
    assert not any(key in ran.out for key in before)

    # Nothing differs any more, so nothing is written; what is extra goes when that is asked.
    ran = deployment.pgben(*confirmed, "--delete-extra")
    assert ran.code == 0, ran.err
    result = ran.json["jobs"][0]["result"]
    assert (result["written"], result["deleted"], result["already_same"]) == (0, 1, 40)
    assert contents(bucket) == before
    assert contents(bucket_at(deployment.work.settings, result["aside"])) == {
        "extra": ruined["extra"]
    }

    again = deployment.pgben("backup", str(BUCKET), "--json")
    assert (again.code, again.json["jobs"][0]["result"]["suspect"]) == (0, None)
    (older, newer) = sorted(
        one["backup"] for one in deployment.pgben("list", "--json").json["backups"]
    )
    both = deployment.pgben("objects", "diff", str(BUCKET), older, newer, "--json")
    assert both.json == {
        "snapshot": older,
        "with": newer,
        "differences": [],
        "totals": {"gone": 0, "new": 0, "changed": 0, "same": 40, "unreadable": 0},
    }

    # With Redis, workers and catalog gone it goes on all the same.
    ruin(bucket, before)
    away = {"PGBEN_REDIS_URL": "redis://localhost:1/0"}
    refused = deployment.pgben(*confirmed, "--direct", "--key", "nenhum", changed=away)
    assert (refused.code, "nothing was changed" in refused.err) == (3, True)
    ran = deployment.pgben(*confirmed, "--direct", "--delete-extra", changed=away)
    assert ran.code == 0, ran.err
    assert contents(bucket) == before

    require_waiting(deployment, worker, bucket)


@pytest.mark.timeout(240)
def test_a_worker_killed_while_it_writes_in_place_goes_on_and_loses_nothing(
    deployment: Deployment,
) -> None:
    assert deployment.stack.protected_s3 is not None
    bucket = bucket_at(deployment.work.settings, PROTECTED_BUCKET)
    fill_bucket(bucket, 120)
    worker = deployment.start("all", name="worker")
    assert deployment.pgben("backup", str(BUCKET)).code == 0
    worker.stop(signal.SIGQUIT)
    before = contents(bucket)
    ruin(bucket, before)
    for key in sorted(before)[20:]:
        bucket.put(key, iter([b"locked"]), size=6, headers={}, metadata={"pay": "1"}, tags={})
    ruined = contents(bucket)

    def back() -> int:
        return sum(listed.size != 6 for listed in bucket.list())

    with closing(SlowPath(deployment.stack.protected_s3.endpoint, rate=20_000)) as slow:
        changed = {"PGBEN_MINIO_HOST": slow.endpoint, "PGBEN_COPY_CONCURRENCY": "2"}
        worker = deployment.start("all", name="worker", changed=changed)
        deployment.start("beat", name="beat")
        begun = back()
        asked = BucketRestoreRequest(target=str(BUCKET), in_place=True, confirm=PROTECTED_BUCKET)
        Client(deployment.environment["PGBEN_REDIS_URL"]).send("restore", asked)
        eventually(lambda: back() >= begun + 15, seconds=90, what="some objects are put back")
        (job,) = deployment.jobs("restore")
        assert job.step == names.RESTORE_BUCKET_REPLACE_WRITE
        worker.send(signal.SIGKILL, tree=True)
    live, aside = (
        contents(bucket),
        contents(bucket_at(deployment.work.settings, job.context["aside"])),
    )
    for key, what in ruined.items():
        assert what in (live[key], aside.get(key))

    deployment.start("all", name="worker-again")
    ended = deployment.wait_for(job, seconds=150)
    assert ended.state == "succeeded", ended.error
    assert ended.attempt == 1
    assert contents(bucket) == {**before, "extra": ruined["extra"]}
    assert contents(bucket_at(deployment.work.settings, job.context["aside"])) == aside

"""A bucket on a real server: backed up by real workers, killed in the middle, and given back."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.s3.errors import BUCKET_HINTS
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.client import Client
from pgben_tasks.domain.job import StepRun
from pgben_tasks.domain.target import BackupId
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.embedded.stack import PROTECTED_BUCKET
from pgben_tasks.runtime.places import bucket_at
from tests.support.bucketshop import contents
from tests.support.deployment import BUCKET, Deployment, SlowPath, eventually, fill_bucket, steps

pytestmark = pytest.mark.unmeasured

INTO = "documentos-de-volta"


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with Deployment.build(bucket=True, megabytes=1, PGBEN_PACK_SIZE="64KiB") as built:
        yield built


@pytest.mark.timeout(240)
def test_a_bucket_goes_round_by_the_command_line_and_real_workers(deployment: Deployment) -> None:
    bucket = bucket_at(deployment.work.settings, PROTECTED_BUCKET)
    fill_bucket(bucket, 60)
    deployment.start("all", name="worker")

    first = deployment.pgben("backup", str(BUCKET), "--json")
    assert first.code == 0, first.err
    result = first.json["jobs"][0]["result"]
    assert (result["objects"], result["state"]) == (60, "verified")

    second = deployment.pgben("backup", str(BUCKET), "--json")
    assert second.code == 0, second.err
    # What was stored minutes ago is fetched once more; its bytes are known.
    newest = BackupId.parse(second.json["jobs"][0]["backup"])
    assert deployment.work.tools.repository.manifest(BUCKET, newest).own_packs == ()

    before = contents(bucket)
    lost = sorted(before)[:5]
    for key in lost:
        bucket.delete(key)
    bucket.put(lost[0], iter([b"x"]), size=1, headers={}, metadata={}, tags={})
    ran = deployment.pgben("restore", str(BUCKET), "--into", INTO, "--json")
    assert ran.code == 0, ran.err
    assert contents(bucket_at(deployment.work.settings, INTO)) == before

    listed = deployment.pgben("objects", "ls", str(BUCKET), "--prefix", "cidadão 00", "--json")
    keys = [one["key"] for one in listed.json["objects"]]
    assert keys == sorted(key for key in before if key.startswith("cidadão 00"))
    nothing = deployment.pgben("objects", "ls", str(BUCKET), "--prefix", "nenhum")
    assert "has no object whose key begins with 'nenhum'" in nothing.err
    place = deployment.stack.folder / "rg.jpg"
    got = deployment.pgben("objects", "get", str(BUCKET), lost[0], "--to", str(place), "--json")
    assert got.code == 0, got.err
    assert (place.read_bytes(), got.json["metadata"]) == (before[lost[0]][0], before[lost[0]][2])
    again = deployment.pgben("objects", "get", str(BUCKET), lost[0], "--to", str(place))
    assert (again.code, "exists already" in again.err) == (2, True)
    spool = Path(deployment.environment["PGBEN_SPOOL_DIR"])
    assert list((spool / "direct" / "jobs").iterdir()) == []
    for nowhere in ("", str(place.parent)):
        said = deployment.pgben("objects", "get", str(BUCKET), lost[0], "--to", nowhere)
        assert (said.code, said.out) == (2, "")
        assert f"--to names no file: '{nowhere}'" in said.err
    absent = deployment.pgben("objects", "get", str(BUCKET), "nenhum", "--to", "-")
    assert (absent.code, absent.out) == (1, "")

    assert deployment.pgben("verify", str(BUCKET), "--full").code == 0
    listed = deployment.pgben("list", "--json")
    assert {one["objects"] for one in listed.json["backups"]} == {60}


@pytest.mark.timeout(180)
def test_whoever_stops_looking_leaves_no_document_behind(deployment: Deployment) -> None:
    bucket = bucket_at(deployment.work.settings, PROTECTED_BUCKET)
    fill_bucket(bucket, 3)
    data = random.Random(3).randbytes(3_000_000)
    bucket.put("grande.bin", iter([data]), size=len(data), headers={}, metadata={}, tags={})
    deployment.start("all", name="worker")
    assert deployment.pgben("backup", str(BUCKET)).code == 0
    spool = Path(deployment.environment["PGBEN_SPOOL_DIR"])
    place = deployment.stack.folder / "aqui" / "grande.bin"
    place.parent.mkdir()

    def opened() -> list[Path]:
        """Return what lies opened, or sealed, on its way to a person."""
        return [one for one in (spool / "direct").rglob("*") if one.is_file()]

    with closing(SlowPath(deployment.stack.s3.endpoint, rate=None, back=150_000)) as slow:
        for number, code, left in ((signal.SIGINT, 130, False), (signal.SIGKILL, -9, True)):
            changed = {"PGBEN_REPOSITORY_ENDPOINT": slow.endpoint}
            command = ("objects", "get", str(BUCKET), "grande.bin", "--to", str(place))
            with deployment.begin(*command, changed=changed) as process:
                eventually(
                    lambda: any(one.stat().st_size > 200_000 for one in opened()),
                    seconds=60,
                    what="its pack is on its way",
                )
                process.send_signal(number)
                process.communicate(timeout=30)
            assert process.returncode == code
            assert bool(opened()) is left
            assert list(place.parent.iterdir()) == []

    with deployment.begin("objects", "ls", str(BUCKET), "--json") as process:
        assert process.stdout is not None
        # As `| true` does; the few lines are written when the command is done with them.
        process.stdout.close()
        assert process.stderr is not None
        assert (process.wait(timeout=60), process.stderr.read()) == (141, "")
    assert opened() == [], "what the killed one left is gone with the next look"
    assert (
        deployment.pgben("objects", "get", str(BUCKET), "grande.bin", "--to", str(place)).code == 0
    )
    assert place.read_bytes() == data


@pytest.mark.timeout(240)
def test_a_worker_killed_while_it_copies_goes_on_where_it_was(deployment: Deployment) -> None:
    stack = deployment.stack
    assert stack.protected_s3 is not None
    bucket = bucket_at(deployment.work.settings, PROTECTED_BUCKET)
    fill_bucket(bucket, 150)

    def stored() -> list[str]:
        return sorted(deployment.work.repository.packs(BUCKET))

    with closing(SlowPath(stack.protected_s3.endpoint, rate=None, back=60_000)) as slow:
        changed = {"PGBEN_MINIO_HOST": slow.endpoint, "PGBEN_COPY_CONCURRENCY": "2"}
        worker = deployment.start("all", name="worker", changed=changed)
        deployment.start("beat", name="beat")
        Client(deployment.environment["PGBEN_REDIS_URL"]).backup(str(BUCKET))
        eventually(lambda: len(stored()) >= 2, seconds=90, what="two packs are stored")
        (job,) = deployment.jobs("backup")
        assert job.step is not None
        assert job.step.endswith(".copy")
        worker.send(signal.SIGKILL, tree=True)
    assert deployment.work.repository.backups(BUCKET) == []
    before = {path: deployment.work.repository.packs(BUCKET)[path] for path in stored()}

    deployment.start("all", name="worker-again")
    ended = deployment.wait_for(job, seconds=180)
    assert ended.state == "succeeded", ended.error
    assert (ended.attempt, ended.result["objects"]) == (1, 150)
    assert steps(deployment, job).count("snapshot") == 1
    after = deployment.work.repository.packs(BUCKET)
    assert {path: after[path] for path in before} == before
    assert list(deployment.work.repository.unfinished_uploads(BUCKET)) == []

    ran = deployment.pgben("restore", str(BUCKET), "--into", INTO, "--json")
    assert ran.code == 0, ran.err
    assert contents(bucket_at(deployment.work.settings, INTO)) == contents(bucket)


@pytest.mark.timeout(240)
def test_two_workers_share_a_large_copy_and_one_of_them_is_killed(deployment: Deployment) -> None:
    stack = deployment.stack
    assert stack.protected_s3 is not None
    bucket = bucket_at(deployment.work.settings, PROTECTED_BUCKET)
    # Some 25 shards of eight packs of 64 KiB.
    fill_bucket(bucket, 420, sizes=(29_000, 31_000))

    def shards(node: str) -> list[StepRun]:
        found = [
            one
            for job in deployment.jobs("backup")
            for one in deployment.work.ledger.steps(job.id, shards=True)
        ]
        return [one for one in found if ".copy/" in one.name and one.node == node]

    with closing(SlowPath(stack.protected_s3.endpoint, rate=None, back=600_000)) as slow:
        changed = {"PGBEN_MINIO_HOST": slow.endpoint, "PGBEN_COPY_CONCURRENCY": "4"}
        other = {"PGBEN_NODE": "node-b", "PGBEN_SPOOL_DIR": str(stack.folder / "spool-b")}
        workers = {
            "node-a": deployment.start("backup", name="worker-a", changed=changed),
            "node-b": deployment.start("backup", name="worker-b", changed={**changed, **other}),
        }
        deployment.start("maintenance", name="maintenance")
        Client(deployment.environment["PGBEN_REDIS_URL"]).backup(str(BUCKET))
        eventually(
            lambda: any(job.node for job in deployment.jobs("backup")),
            seconds=60,
            what="it is claimed",
        )
        (job,) = deployment.jobs("backup")
        owner = str(job.node)
        (helper,) = set(workers) - {owner}
        eventually(
            lambda: any(
                one.state == "running" and len(one.result["parts"]) >= 2 for one in shards(helper)
            ),
            seconds=90,
            what="the helper stored two packs of a shard",
        )
        workers[helper].send(signal.SIGKILL, tree=True)
        held = {one.name for one in shards(helper) if one.state == "running"}
        ended = deployment.wait_for(job, seconds=120)
    assert ended.state == "succeeded", ended.error
    assert (ended.attempt, ended.result["objects"]) == (1, 420)
    assert held
    assert held <= {one.name for one in shards(owner)}
    assert list(deployment.work.repository.unfinished_uploads(BUCKET)) == []

    deployment.start("restore", name="restore")
    ran = deployment.pgben("restore", str(BUCKET), "--into", INTO, "--json")
    assert ran.code == 0, ran.err
    assert contents(bucket_at(deployment.work.settings, INTO)) == contents(bucket)


@pytest.mark.timeout(120)
def test_a_snapshot_is_given_back_on_another_server(deployment: Deployment) -> None:
    fill_bucket(bucket_at(deployment.work.settings, PROTECTED_BUCKET), 20)
    deployment.start("all", name="worker")
    assert deployment.pgben("backup", str(BUCKET)).code == 0
    before = contents(bucket_at(deployment.work.settings, PROTECTED_BUCKET))

    server = EmbeddedS3.start(kind="moto", supervisor=deployment.stack.supervisor)
    changed = {
        "PGBEN_MINIO_HOST": server.endpoint,
        "PGBEN_MINIO_ACCESS_KEY": server.access_key,
        "PGBEN_MINIO_SECRET_KEY": server.secret_key,
    }
    ran = deployment.pgben(
        "restore", str(BUCKET), "--into", INTO, "--direct", "--json", changed=changed
    )
    assert ran.code == 0, ran.err
    there = S3Bucket(
        S3Location(
            hints=BUCKET_HINTS,
            endpoint=server.endpoint,
            bucket=INTO,
            access_key=server.access_key,
            secret_key=server.secret_key,
        )
    )
    assert contents(there) == before

"""A bucket on a real server: backed up by real workers, killed in the middle, and given back."""

from __future__ import annotations

import json
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
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.embedded.stack import PROTECTED_BUCKET
from pgben_tasks.runtime.places import bucket_at
from tests.end_to_end.bucket_house import BUCKET, BucketHouse, fill
from tests.end_to_end.house import House, SlowPath, eventually, steps
from tests.support.bucketshop import contents

INTO = "documentos-de-volta"


@pytest.fixture
def house() -> Iterator[House]:
    with BucketHouse.build(megabytes=1, PGBEN_PACK_SIZE="64KiB") as built:
        yield built


@pytest.mark.timeout(240)
def test_a_bucket_goes_round_by_the_command_line_and_real_workers(house: House) -> None:
    bucket = bucket_at(house.work.settings, PROTECTED_BUCKET)
    fill(bucket, 60)
    house.start("all", name="worker")

    first = house.pgben("backup", str(BUCKET), "--json")
    assert first.code == 0, first.err
    result = first.json["jobs"][0]["result"]
    assert (result["objects"], result["state"]) == (60, "verified")

    second = house.pgben("backup", str(BUCKET), "--json")
    assert second.code == 0, second.err
    assert second.json["jobs"][0]["result"]["fetched"] <= 6

    before = contents(bucket)
    lost = sorted(before)[:5]
    for key in lost:
        bucket.delete(key)
    bucket.put(lost[0], iter([b"x"]), size=1, headers={}, metadata={}, tags={})
    ran = house.pgben("restore", str(BUCKET), "--into", INTO, "--json")
    assert ran.code == 0, ran.err
    assert contents(bucket_at(house.work.settings, INTO)) == before

    listed = house.pgben("objects", "ls", str(BUCKET), "--prefix", "cidadão 00", "--json")
    keys = [json.loads(line)["key"] for line in listed.out.splitlines()]
    assert keys == sorted(key for key in before if key.startswith("cidadão 00"))
    place = house.stack.folder / "rg.jpg"
    got = house.pgben("objects", "get", str(BUCKET), lost[0], "--to", str(place), "--json")
    assert got.code == 0, got.err
    assert (place.read_bytes(), got.json["metadata"]) == (before[lost[0]][0], before[lost[0]][2])
    again = house.pgben("objects", "get", str(BUCKET), lost[0], "--to", str(place))
    assert (again.code, "exists already" in again.err) == (2, True)
    spool = Path(house.environment["PGBEN_SPOOL_DIR"])
    assert list((spool / "direct" / "jobs").iterdir()) == []
    absent = house.pgben("objects", "get", str(BUCKET), "nenhum", "--to", "-")
    assert (absent.code, absent.out) == (1, "")

    assert house.pgben("verify", str(BUCKET), "--full").code == 0
    listed = house.pgben("list", "--json")
    assert {one["objects"] for one in listed.json["backups"]} == {60}


@pytest.mark.timeout(180)
def test_whoever_stops_looking_leaves_no_document_behind(house: House) -> None:
    bucket = bucket_at(house.work.settings, PROTECTED_BUCKET)
    fill(bucket, 3)
    data = random.Random(3).randbytes(3_000_000)
    bucket.put("grande.bin", iter([data]), size=len(data), headers={}, metadata={}, tags={})
    house.start("all", name="worker")
    assert house.pgben("backup", str(BUCKET)).code == 0
    spool = Path(house.environment["PGBEN_SPOOL_DIR"])
    place = house.stack.folder / "aqui" / "grande.bin"
    place.parent.mkdir()

    def opened() -> list[Path]:
        """Return what lies opened, or sealed, on its way to a person."""
        return [one for one in (spool / "direct").rglob("*") if one.is_file()]

    with closing(SlowPath(house.stack.s3.endpoint, rate=None, back=150_000)) as slow:
        for number, code, left in ((signal.SIGINT, 130, False), (signal.SIGKILL, -9, True)):
            changed = {"PGBEN_REPOSITORY_ENDPOINT": slow.endpoint}
            command = ("objects", "get", str(BUCKET), "grande.bin", "--to", str(place))
            with house.begin(*command, changed=changed) as process:
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

    with house.begin("objects", "ls", str(BUCKET), "--json") as process:
        assert process.stdout is not None
        # As `| true` does; the few lines are written when the command is done with them.
        process.stdout.close()
        assert process.stderr is not None
        assert (process.wait(timeout=60), process.stderr.read()) == (141, "")
    assert opened() == [], "what the killed one left is gone with the next look"
    assert house.pgben("objects", "get", str(BUCKET), "grande.bin", "--to", str(place)).code == 0
    assert place.read_bytes() == data


@pytest.mark.timeout(240)
def test_a_worker_killed_while_it_copies_goes_on_where_it_was(house: House) -> None:
    stack = house.stack
    assert stack.protected_s3 is not None
    bucket = bucket_at(house.work.settings, PROTECTED_BUCKET)
    fill(bucket, 150)

    def stored() -> list[str]:
        return sorted(house.work.repository.packs(BUCKET))

    with closing(SlowPath(stack.protected_s3.endpoint, rate=None, back=60_000)) as slow:
        changed = {"PGBEN_MINIO_HOST": slow.endpoint, "PGBEN_COPY_CONCURRENCY": "2"}
        worker = house.start("all", name="worker", changed=changed)
        house.start("beat", name="beat")
        Client(house.environment["PGBEN_REDIS_URL"]).backup(str(BUCKET))
        eventually(lambda: len(stored()) >= 2, seconds=90, what="two packs are stored")
        (job,) = house.jobs("backup")
        assert job.step is not None
        assert job.step.endswith(".copy")
        worker.send(signal.SIGKILL, tree=True)
    assert house.work.repository.backups(BUCKET) == []
    before = {path: house.work.repository.packs(BUCKET)[path] for path in stored()}

    house.start("all", name="worker-again")
    ended = house.wait_for(job, seconds=180)
    assert ended.state == "succeeded", ended.error
    assert (ended.attempt, ended.result["objects"]) == (1, 150)
    assert steps(house, job).count("snapshot") == 1
    after = house.work.repository.packs(BUCKET)
    assert {path: after[path] for path in before} == before
    assert list(house.work.repository.unfinished_uploads(BUCKET)) == []

    ran = house.pgben("restore", str(BUCKET), "--into", INTO, "--json")
    assert ran.code == 0, ran.err
    assert contents(bucket_at(house.work.settings, INTO)) == contents(bucket)


@pytest.mark.timeout(240)
def test_two_workers_share_a_large_copy_and_one_of_them_is_killed(house: House) -> None:
    stack = house.stack
    assert stack.protected_s3 is not None
    bucket = bucket_at(house.work.settings, PROTECTED_BUCKET)
    # Some 25 shards of eight packs of 64 KiB.
    fill(bucket, 420, sizes=(29_000, 31_000))

    def shards(node: str) -> list[StepRun]:
        found = [
            one
            for job in house.jobs("backup")
            for one in house.work.ledger.steps(job.id, shards=True)
        ]
        return [one for one in found if ".copy/" in one.name and one.node == node]

    with closing(SlowPath(stack.protected_s3.endpoint, rate=None, back=600_000)) as slow:
        changed = {"PGBEN_MINIO_HOST": slow.endpoint, "PGBEN_COPY_CONCURRENCY": "4"}
        other = {"PGBEN_NODE": "node-b", "PGBEN_SPOOL_DIR": str(stack.folder / "spool-b")}
        workers = {
            "node-a": house.start("backup", name="worker-a", changed=changed),
            "node-b": house.start("backup", name="worker-b", changed={**changed, **other}),
        }
        house.start("maintenance", name="maintenance")
        Client(house.environment["PGBEN_REDIS_URL"]).backup(str(BUCKET))
        eventually(
            lambda: any(job.node for job in house.jobs("backup")), seconds=60, what="it is claimed"
        )
        (job,) = house.jobs("backup")
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
        ended = house.wait_for(job, seconds=120)
    assert ended.state == "succeeded", ended.error
    assert (ended.attempt, ended.result["objects"]) == (1, 420)
    assert held
    assert held <= {one.name for one in shards(owner)}
    assert list(house.work.repository.unfinished_uploads(BUCKET)) == []

    house.start("restore", name="restore")
    ran = house.pgben("restore", str(BUCKET), "--into", INTO, "--json")
    assert ran.code == 0, ran.err
    assert contents(bucket_at(house.work.settings, INTO)) == contents(bucket)


@pytest.mark.timeout(120)
def test_a_snapshot_is_given_back_on_another_server(house: House) -> None:
    fill(bucket_at(house.work.settings, PROTECTED_BUCKET), 20)
    house.start("all", name="worker")
    assert house.pgben("backup", str(BUCKET)).code == 0
    before = contents(bucket_at(house.work.settings, PROTECTED_BUCKET))

    server = EmbeddedS3.start(kind="moto", supervisor=house.stack.supervisor)
    changed = {
        "PGBEN_MINIO_HOST": server.endpoint,
        "PGBEN_MINIO_ACCESS_KEY": server.access_key,
        "PGBEN_MINIO_SECRET_KEY": server.secret_key,
    }
    ran = house.pgben("restore", str(BUCKET), "--into", INTO, "--direct", "--json", changed=changed)
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

"""Tags are data: those of unchanged objects are read every night, and a restore invents none."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.target import BackupId
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import SpoolFull
from pgben_tasks.ports import ObjectFacts
from tests.support.bucketshop import TARGET, BucketShop
from tests.support.memory_bucket import MemoryBucket
from tests.support.troubled_bucket import TroubledBucket
from tests.support.workshop import Workshop

COUNT = 60


@pytest.fixture
def bucket() -> TroubledBucket:
    return TroubledBucket(TARGET.name)


@pytest.fixture
def shop(
    tmp_path: Path, postgres: EmbeddedPostgres, bucket: TroubledBucket
) -> Iterator[BucketShop]:
    with Workshop.open(tmp_path / "shop", postgres, "postgres") as workshop:
        made = BucketShop(workshop, bucket, partial(MemoryBucket, made=False))
        for number in range(COUNT):
            made.put(f"doc/{number:03}", f"documento {number}".encode(), tags={"setor": "social"})
        yield made


def budget(shop: BucketShop, length: timedelta, *, at_once: int = 16) -> None:
    limits = replace(shop.tools.limits, tag_budget=length, copy_concurrency=at_once)
    shop.tools = replace(shop.tools, limits=limits)


def retag(bucket: TroubledBucket, tags: dict[str, str]) -> None:
    """Set the tags of every object, as an application does: nothing else changes."""
    for key in list(bucket._objects):
        bucket.put_tags(key, tags)


def unread(manifest: Manifest) -> int | None:
    assert manifest.bucket is not None
    return manifest.bucket.tags_unread


def tags_in(shop: BucketShop, manifest: Manifest) -> list[dict[str, str]]:
    return [entry.tags for entry in shop.entries(manifest).values()]


def test_tags_set_on_unchanged_objects_are_all_in_the_next_snapshot(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    shop.snapshot()
    bucket.fetched.clear()
    retag(bucket, {"setor": "saúde"})
    job = shop.run("backup")
    manifest = shop.manifest(job)
    assert tags_in(shop, manifest) == [{"setor": "saúde"}] * COUNT
    assert bucket.fetched == []
    assert (job.result["fetched"], job.result["tags_read"]) == (0, COUNT)
    assert unread(manifest) is None
    assert b"tags_unread" not in manifest.encode()


def test_tags_of_an_object_that_was_stored_over_meanwhile_are_not_given_to_the_one_before(
    shop: BucketShop, bucket: TroubledBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.snapshot()
    tags = bucket.tags

    def after_another_was_stored(key: str) -> dict[str, str]:
        if key == "doc/001":
            shop.put(key, b"another document", tags={"setor": "obras"})
        return tags(key)

    monkeypatch.setattr(bucket, "tags", after_another_was_stored)
    manifest = shop.snapshot()
    monkeypatch.undo()
    assert tags_in(shop, manifest) == [{"setor": "social"}] * COUNT
    assert unread(manifest) == 1
    # The snapshot did not read the tags of its object, so a restore takes none away.
    shop.put("doc/001", b"documento 1", tags={"setor": "social", "revisado": "sim"})
    shop.run(
        "restore",
        {"in_place": True, "confirm": TARGET.name, "backup": manifest.backup},
        into=TARGET.name,
        aside="aside",
    )
    assert bucket.tags("doc/001") == {"setor": "social", "revisado": "sim"}


@pytest.mark.parametrize("rounded_by", [timedelta(0), timedelta(seconds=1)])
def test_an_object_is_looked_at_again_only_where_its_tags_changed(
    shop: BucketShop,
    bucket: TroubledBucket,
    monkeypatch: pytest.MonkeyPatch,
    rounded_by: timedelta,
) -> None:
    bucket.listed_later = rounded_by
    shop.snapshot()
    bucket.put_tags("doc/001", {"setor": "saúde"})
    looked_at: list[str] = []
    head = bucket.head

    def counted(key: str) -> ObjectFacts:
        looked_at.append(key)
        return head(key)

    monkeypatch.setattr(bucket, "head", counted)
    manifest = shop.snapshot()
    assert looked_at == ["doc/001"]
    assert shop.entries(manifest)["doc/001"].tags == {"setor": "saúde"}
    assert unread(manifest) is None


def test_the_time_for_tags_is_limited_and_the_snapshot_says_how_old_they_are(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    first = shop.snapshot()
    retag(bucket, {"setor": "saúde"})
    budget(shop, timedelta(0))
    manifest = shop.snapshot()
    assert tags_in(shop, manifest) == [{"setor": "social"}] * COUNT
    assert unread(manifest) == COUNT
    assert manifest.bucket is not None
    assert first.bucket is not None
    assert manifest.bucket.tags_as_of == first.bucket.tags_as_of


def test_a_disk_that_is_full_while_tags_are_read_fails_the_night_and_the_next_has_them(
    shop: BucketShop, bucket: TroubledBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shop.snapshot()
    retag(bucket, {"setor": "saúde"})
    tags, limits = bucket.tags, resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_a_full_disk(key: str) -> dict[str, str]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        return tags(key)

    monkeypatch.setattr(bucket, "tags", on_a_full_disk)
    try:
        with pytest.raises(SpoolFull):
            shop.run("backup")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert shop.tools.repository.backups(TARGET) == [BackupId.parse(first.backup)]
    manifest = shop.snapshot()
    assert tags_in(shop, manifest) == [{"setor": "saúde"}] * COUNT
    assert unread(manifest) is None


def test_the_longest_unread_come_first(
    shop: BucketShop, bucket: TroubledBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.snapshot()
    asked: list[str] = []
    tags = bucket.tags

    def slow(key: str) -> dict[str, str]:
        asked.append(key)
        # A slow server is what this is; nothing is waited for.
        time.sleep(0.01)
        return tags(key)

    monkeypatch.setattr(bucket, "tags", slow)
    # Time for one batch of 16 a night.
    budget(shop, timedelta(milliseconds=100), at_once=1)
    seen: set[str] = set()
    for night in range(4):
        asked.clear()
        manifest = shop.snapshot()
        assert not seen & set(asked) or len(seen) >= COUNT - 16
        seen |= set(asked)
        assert unread(manifest) == (COUNT - 16 if night < 4 else None)
    assert len(seen) == COUNT


def test_an_older_worker_that_lives_keeps_the_field_out_of_the_manifest(shop: BucketShop) -> None:
    shop.snapshot()
    budget(shop, timedelta(0))
    shop.shop.work.workers.register(["verify.older"])
    job = shop.run("backup")
    assert unread(shop.manifest(job)) is None
    assert job.result["tags_unread"] == COUNT


@pytest.mark.parametrize("known", [True, False])
def test_a_restore_in_place_takes_away_only_tags_that_its_snapshot_can_deny(
    shop: BucketShop, bucket: TroubledBucket, known: bool
) -> None:
    shop.snapshot()
    budget(shop, timedelta(minutes=10) if known else timedelta(0))
    shop.snapshot()
    retag(bucket, {"setor": "outro", "revisado": "sim"})
    shop.put("doc/000", b"overwritten", tags={"setor": "outro", "revisado": "sim"})
    job = shop.run(
        "restore",
        {"in_place": True, "confirm": TARGET.name},
        into=TARGET.name,
        aside="aside",
    )
    expected = {"setor": "social"} if known else {"setor": "social", "revisado": "sim"}
    assert [bucket.tags(key) for key in bucket._objects] == [expected] * COUNT
    assert job.result.get("tags_kept", 0) == (0 if known else COUNT)

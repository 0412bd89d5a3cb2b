"""What is fetched and stored again in the same second is in the next snapshot as it is."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import BackupIncomplete, PermanentError
from pgben_tasks.ports import FetchedObject
from tests.support.archive import SetClock
from tests.support.bucket_servers import bucket_location
from tests.support.bucketshop import TARGET, BucketShop
from tests.support.memory_bucket import MemoryBucket
from tests.support.troubled_bucket import TroubledBucket
from tests.support.workshop import Workshop

#: How often it is tried to store twice, and fetch in between, within one second.
TRIES = 20
BEFORE, AFTER = {"iv": "before"}, {"iv": "after"}


@pytest.fixture
def bucket() -> TroubledBucket:
    """Return a bucket whose objects were stored right now."""
    bucket = TroubledBucket(TARGET.name)
    bucket.ago = timedelta(0)
    return bucket


def let_pass(shop: BucketShop, passed: timedelta) -> None:
    """Let time pass for the worker."""
    clock = SetClock(datetime.now(UTC) + passed)
    shop.tools = replace(shop.tools, clock=clock, own_clock=clock)


def test_metadata_stored_after_the_fetch_are_in_the_next_snapshot_and_bytes_kept_once(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    data = secrets.token_bytes(50_000)
    shop.put("a", data, metadata=BEFORE)
    first = shop.snapshot()
    bucket.give_metadata("a", AFTER)
    second = shop.snapshot()
    assert shop.entries(first)["a"].metadata == BEFORE
    assert shop.entries(second)["a"].metadata == AFTER
    assert shop.content(second, shop.entries(second)["a"]) == data
    assert second.own_packs == ()


def test_an_object_is_fetched_once_more_and_then_left_alone(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    shop.put("a", b"bytes")
    shop.snapshot()
    for passed, fetched in ((4, 2), (7, 3), (8, 3)):
        let_pass(shop, timedelta(minutes=passed))
        shop.snapshot()
        assert len(bucket.fetched) == fetched, passed


def test_what_is_fetched_once_more_and_is_the_same_makes_no_snapshot_suspect(
    shop: BucketShop,
) -> None:
    for number in range(30):
        shop.put(f"doc/{number}", b"bytes")
    shop.snapshot()
    job = shop.run("backup")
    manifest = shop.manifest(job)
    assert (manifest.suspect, job.result["fetched"], job.result["carried"]) == (None, 30, 0)


def test_what_cannot_be_fetched_once_more_is_said_and_tried_again(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    """Its line may be wrong, and the snapshot after this one would believe it."""
    data = secrets.token_bytes(100)
    shop.put("a", data, metadata=BEFORE)
    shop.snapshot()
    bucket.give_metadata("a", AFTER)
    bucket.broken["a"] = PermanentError("bit rot")
    let_pass(shop, timedelta(minutes=10))
    with pytest.raises(BackupIncomplete):
        shop.run("backup")
    bucket.broken.clear()
    let_pass(shop, timedelta(minutes=20))
    assert shop.entries(shop.snapshot())["a"].metadata == AFTER


class StoredAgain(S3Bucket):
    """A bucket on a server in which something happens before and after each fetch."""

    happens: Callable[[], None] = staticmethod(lambda: None)

    @contextmanager
    def fetch(self, key: str) -> Iterator[FetchedObject]:
        self.happens()
        with super().fetch(key) as got:
            yield got
        self.happens()


def test_an_object_that_a_server_stores_over_at_each_fetch_is_right_in_the_snapshot_after(
    workshop: Workshop, protected_s3: EmbeddedS3
) -> None:
    """However often it is fetched that very second, the last one may come after the last fetch."""
    bucket = StoredAgain(bucket_location(protected_s3))
    bucket.create()
    shop = BucketShop(workshop, bucket, MemoryBucket)
    data = secrets.token_bytes(1000)

    def store() -> None:
        shop.put("a", data, metadata={"iv": secrets.token_hex(12)})

    store()
    for _ in range(TRIES):
        bucket.happens = store
        kept = shop.entries(shop.snapshot())["a"]
        bucket.happens = staticmethod(lambda: None)
        now = bucket.head("a")
        if now.modified == kept.modified:
            break
    assert (now.etag, now.size, now.modified) == (kept.etag, kept.size, kept.modified)
    assert now.metadata != kept.metadata
    after = shop.snapshot()
    assert shop.entries(after)["a"].metadata == now.metadata
    assert after.own_packs == ()

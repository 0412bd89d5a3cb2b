"""Claims about keys that are lost for good: acknowledged once, and later snapshots count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from pgben_tasks import names
from pgben_tasks.domain.buckets.acknowledged import digest_of, reasons_of
from pgben_tasks.domain.states import BackupStanding
from pgben_tasks.errors import BackupIncomplete, BackupNotFound, PermanentError
from pgben_tasks.operations.repository.survey import survey
from pgben_tasks.ports import FetchedObject
from tests.support.bucketshop import TARGET, BucketShop
from tests.support.memory_bucket import MemoryBucket
from tests.support.timetables import Later
from tests.support.workshop import Workshop

LOST = "cidadao-de-teste/rg.jpg"
OTHER = "cidadao-de-teste/cpf.jpg"
LOST_NAME = digest_of(LOST)


class BrokenBucket(MemoryBucket):
    """A bucket some of whose objects cannot be read."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.broken = {LOST}

    @contextmanager
    def fetch(self, key: str) -> Iterator[FetchedObject]:
        if key in self.broken:
            raise PermanentError(f"'{key}' is on a disk that is gone")
        with super().fetch(key) as got:
            yield got


@pytest.fixture
def bucket() -> BrokenBucket:
    return BrokenBucket(TARGET.name)


@pytest.fixture
def shop(workshop: Workshop, bucket: BrokenBucket) -> BucketShop:
    shop = BucketShop(workshop, bucket, MemoryBucket)
    for number in range(10):
        shop.put(f"doc {number}", b"bytes")
    for key in (LOST, OTHER):
        shop.put(key, b"bytes")
    return shop


def newest(shop: BucketShop) -> BackupStanding:
    found = survey(shop.tools.repository, TARGET).newest
    assert found is not None
    return found.known.standing


def night(shop: BucketShop) -> str:
    """Take a snapshot; gives its state."""
    try:
        return str(shop.run("backup").result["state"])
    except BackupIncomplete:
        assert not newest(shop).counts
        return newest(shop).state.label


def acknowledge(shop: BucketShop, *keys: str) -> dict[str, object]:
    digests = [digest_of(key) for key in keys]
    return shop.run("acknowledge", {"keys": digests, "requested_by": "ana@host"}).result


def test_a_later_snapshot_counts_when_all_it_lacks_was_acknowledged(shop: BucketShop) -> None:
    assert night(shop) == "incomplete"
    result = acknowledge(shop, LOST)
    assert (result["keys_acknowledged"], result["reasons"]) == (1, ["acknowledged by ana@host"])
    # The statement is about the nights to come; this one is acknowledged as a whole or not.
    assert newest(shop).state.label == "incomplete"
    assert night(shop) == "verified with exceptions"
    assert newest(shop).counts


def test_another_key_that_cannot_be_read_is_told_all_the_same(
    shop: BucketShop, bucket: BrokenBucket
) -> None:
    night(shop)
    acknowledge(shop, LOST)
    bucket.broken.add(OTHER)
    shop.put(OTHER, b"stored anew")
    assert night(shop) == "incomplete"
    acknowledge(shop, OTHER)
    assert night(shop) == "verified with exceptions"


def lose(shop: BucketShop, bucket: BrokenBucket, *keys: str) -> None:
    """Store keys anew, of which then no byte can be read."""
    bucket.broken = set(keys)
    for key in keys:
        shop.put(key, f"stored {len(shop.tools.repository.backups(TARGET))} nights in".encode())


def heal(bucket: BrokenBucket) -> None:
    bucket.broken = set()


def test_a_key_that_was_read_again_and_is_lost_once_more_is_news(
    shop: BucketShop, bucket: BrokenBucket
) -> None:
    night(shop)
    acknowledge(shop, LOST)
    assert night(shop) == "verified with exceptions"
    heal(bucket)
    assert night(shop) == "verified"
    lose(shop, bucket, LOST)
    assert night(shop) == "incomplete"
    # Nothing was said of it since, so it is told until somebody says it again.
    assert night(shop) == "incomplete"
    acknowledge(shop, LOST)
    assert night(shop) == "verified with exceptions"


def test_a_key_that_was_read_in_an_incomplete_night_is_news_as_well(
    shop: BucketShop, bucket: BrokenBucket
) -> None:
    night(shop)
    acknowledge(shop, LOST)
    lose(shop, bucket, OTHER)
    assert night(shop) == "incomplete"
    acknowledge(shop, OTHER)
    lose(shop, bucket, LOST, OTHER)
    assert night(shop) == "incomplete"
    acknowledge(shop, LOST)
    assert night(shop) == "verified with exceptions"


def test_it_lasts_over_a_suspect_night(shop: BucketShop) -> None:
    night(shop)
    acknowledge(shop, LOST)
    for number in range(10):
        shop.put(f"doc {number}", b"overwritten")
    assert night(shop) == "incomplete"
    assert night(shop) == "verified with exceptions"


def test_what_a_snapshot_lacked_that_cannot_be_believed_is_not_guessed(
    shop: BucketShop, bucket: BrokenBucket
) -> None:
    night(shop)
    acknowledge(shop, LOST)
    heal(bucket)
    assert night(shop) == "verified"
    lose(shop, bucket, LOST)
    damaged = survey(shop.tools.repository, TARGET).backups[0].manifest
    stored = shop.shop.repository / f"backups/{TARGET}/{damaged.backup}/manifest.json"
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes().replace(b'"sequence":2', b'"sequence":9'))
    # Dates of snapshots have whole seconds.
    shop.tools = replace(shop.tools, clock=Later(shop.tools.clock, timedelta(hours=1)))
    assert night(shop) == "incomplete"
    assert len(survey(shop.tools.repository, TARGET).unreadable) == 1
    acknowledge(shop, LOST)
    assert night(shop) == "verified with exceptions"


def test_it_outlives_the_snapshot_that_it_was_said_about(shop: BucketShop) -> None:
    night(shop)
    acknowledge(shop, LOST)
    night(shop)
    for backup in survey(shop.tools.repository, TARGET).backups[1:]:
        shop.tools.repository.remove_manifest(TARGET, backup.manifest.backup_id)
    assert len(survey(shop.tools.repository, TARGET).backups) == 1
    assert night(shop) == "verified with exceptions"


def test_a_suspect_snapshot_is_never_accepted_by_itself(shop: BucketShop) -> None:
    night(shop)
    acknowledge(shop, LOST)
    night(shop)
    for number in range(10):
        shop.put(f"doc {number}", b"overwritten")
    assert night(shop) == "incomplete"
    assert newest(shop).open_suspicion


def test_no_key_stands_in_the_clear(shop: BucketShop) -> None:
    night(shop)
    acknowledge(shop, LOST)
    chain = shop.chain("backup")
    chain.run()
    assert chain.job.result["unreadable_keys"] == [digest_of(LOST)]
    stored = [path.read_bytes() for path in shop.shop.repository.rglob("verifications/**/*.json")]
    assert any(digest_of(LOST).encode() in data for data in stored)
    assert not any(LOST.encode() in data for data in stored)


def test_a_step_that_is_run_again_says_it_once(shop: BucketShop) -> None:
    night(shop)
    chain = shop.chain("acknowledge", {"keys": [digest_of(LOST)]})
    for _ in range(2):
        chain.step(names.ACKNOWLEDGE_RUN_FINISH)
    chain = shop.chain("backup")
    for step in ("snapshot", "copy", "checksum", "upload", "prune", "prune", "record"):
        chain.step(f"{names.BACKUP_BUCKET}.{step}")
    found = survey(shop.tools.repository, TARGET).backups
    said = [one.kind for backup in found for one in backup.statements]
    assert (said.count("acknowledged_keys"), said.count("acknowledgement")) == (1, 1)


def test_a_step_that_is_run_again_names_once_what_is_known_of_more(
    shop: BucketShop, bucket: BrokenBucket
) -> None:
    night(shop)
    acknowledge(shop, LOST)
    lose(shop, bucket, LOST, OTHER)
    chain = shop.chain("backup")
    for step in ("snapshot", "copy", "checksum", "upload", "prune", "prune"):
        chain.step(f"{names.BACKUP_BUCKET}.{step}")
    assert chain.job.result["exceptions_acknowledged"] is False
    said = survey(shop.tools.repository, TARGET).backups[0].statements
    (again,) = (one for one in said if one.kind == "acknowledged_keys")
    assert again.reasons == ("acknowledged before, and still unreadable", *reasons_of([LOST_NAME]))


def test_without_a_snapshot_there_is_nothing_to_acknowledge(shop: BucketShop) -> None:
    with pytest.raises(BackupNotFound, match="has no snapshot"):
        acknowledge(shop, LOST)

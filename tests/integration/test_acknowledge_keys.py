"""Claims about keys that are lost for good: acknowledged once, and later snapshots count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgben_tasks import names
from pgben_tasks.adapters.bucket.memory import MemoryBucket
from pgben_tasks.domain.acknowledged import digest_of
from pgben_tasks.domain.states import BackupStanding
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import BackupIncomplete, BackupNotFound, PermanentError
from pgben_tasks.operations.survey import survey
from pgben_tasks.ports import FetchedObject
from tests.bucketshop import TARGET, BucketShop
from tests.workshop import Workshop

LOST = "cidadao-de-teste/rg.jpg"
OTHER = "cidadao-de-teste/cpf.jpg"


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
def shop(tmp_path: Path, postgres: EmbeddedPostgres, bucket: BrokenBucket) -> Iterator[BucketShop]:
    with Workshop.open(tmp_path / "shop", postgres, "postgres") as workshop:
        shop = BucketShop(workshop, bucket, MemoryBucket)
        for number in range(10):
            shop.put(f"doc {number}", b"bytes")
        for key in (LOST, OTHER):
            shop.put(key, b"bytes")
        yield shop


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
        chain._step(names.ACKNOWLEDGE_RUN_FINISH)
    chain = shop.chain("backup")
    for step in ("snapshot", "copy", "checksum", "upload", "prune", "prune", "record"):
        chain._step(f"{names.BACKUP_BUCKET}.{step}")
    found = survey(shop.tools.repository, TARGET).backups
    said = [one.kind for backup in found for one in backup.statements]
    assert (said.count("acknowledged_keys"), said.count("acknowledgement")) == (1, 1)


def test_without_a_snapshot_there_is_nothing_to_acknowledge(shop: BucketShop) -> None:
    with pytest.raises(BackupNotFound, match="has no snapshot"):
        acknowledge(shop, LOST)

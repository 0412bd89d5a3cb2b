"""Claims about snapshots of a bucket in trouble: nothing good is lost, nothing false is claimed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from pgben_tasks import names
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.errors import (
    BackupIncomplete,
    ConfigurationError,
    IntegrityError,
    ObjectMissing,
    PermanentError,
    PgbenError,
    StoreUnavailable,
)
from pgben_tasks.operations.buckets import copying
from pgben_tasks.operations.repository.survey import survey
from tests.support.bucketshop import TARGET, BucketShop
from tests.support.troubled_bucket import TroubledBucket, fill, require_whole

KEY = "doc/00001"


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_RETRY_DELAYS", (0.0, 0.0))


def limited(shop: BucketShop, **limits: object) -> None:
    made = replace(shop.tools.limits, **limits)  # type: ignore[arg-type]
    shop.tools = replace(shop.tools, limits=made)


def state_of(shop: BucketShop, manifest: Manifest) -> str:
    found = survey(shop.tools.repository, TARGET).readable_backup(manifest.backup_id)
    assert found is not None
    return found.known.standing.state.label


def newest(shop: BucketShop) -> Manifest:
    return survey(shop.tools.repository, TARGET).backups[0].manifest


def stored(shop: BucketShop, manifest: Manifest, key: str) -> Path:
    """Return the file of the pack that holds an object."""
    pack = shop.entries(manifest)[key].pack
    return shop.shop.repository / "packs" / str(TARGET) / str(pack)


# Objects that are said not to be there


def test_an_object_that_is_listed_but_not_found_is_tried_again(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    objects = fill(shop, count=3)
    bucket.passing[KEY] = [ObjectMissing("404 of a proxy"), ObjectMissing("404 of a proxy")]
    job = shop.run("backup")
    assert (job.result["state"], job.result["vanished"]) == ("verified", 0)
    require_whole(shop, shop.manifest(job), objects)


def test_an_object_that_is_listed_but_never_found_makes_the_snapshot_incomplete(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    fill(shop, count=3)
    bucket.broken[KEY] = ObjectMissing("404 of a proxy")
    with pytest.raises(BackupIncomplete, match="lacks objects that could not be read: 1"):
        shop.run("backup")
    assert shop.entries(newest(shop))[KEY].error == "StoreUnavailable"


def test_tags_that_are_said_not_to_be_there_cost_no_object(
    shop: BucketShop, bucket: TroubledBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = fill(shop, count=3)
    shop.snapshot()

    def missing(_key: str) -> dict[str, str]:
        raise ObjectMissing("404 of a proxy")

    monkeypatch.setattr(bucket, "tags", missing)
    job = shop.run("backup")
    assert job.result["vanished"] == 0
    require_whole(shop, shop.manifest(job), objects)


def test_a_known_object_deleted_in_mid_copy_is_kept_and_missed_the_night_after(
    shop: BucketShop, bucket: TroubledBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = fill(shop, count=3)
    shop.snapshot()
    chain = shop.chain("backup")
    chain.step(names.BACKUP_BUCKET_SNAPSHOT)
    bucket.delete(KEY)
    for step in ("copy", "checksum", "upload", "prune", "record"):
        chain.step(f"{names.BACKUP_BUCKET}.{step}")
    require_whole(shop, shop.manifest(chain.job), objects)
    assert shop.run("backup").result["gone"] == 1


# What is kept already


def test_a_pack_is_not_emptied_of_what_its_bucket_can_no_longer_give(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    objects = {f"doc/{number}": secrets.token_bytes(50_000) for number in range(4)}
    for key, data in objects.items():
        shop.put(key, data)
    limited(shop, vacate_share=Decimal(1), suspect_changed=Decimal(1))
    first = shop.snapshot()
    for key in ("doc/0", "doc/1", "doc/2"):
        objects[key] = secrets.token_bytes(60_000)
        shop.put(key, objects[key])
    shop.snapshot()
    bucket.fetched.clear()
    bucket.broken["doc/3"] = PermanentError("bit rot")
    third = shop.snapshot()
    assert bucket.fetched == ["doc/3"], "its pack was half dead"
    assert shop.entries(third)["doc/3"].pack == shop.entries(first)["doc/3"].pack
    require_whole(shop, third, objects)
    bucket.broken.clear()
    fourth = shop.snapshot()
    assert shop.entries(fourth)["doc/3"].pack != shop.entries(first)["doc/3"].pack
    require_whole(shop, fourth, objects)


def test_damage_that_a_restore_met_is_not_inherited(shop: BucketShop) -> None:
    objects = fill(shop, count=5)
    first = shop.snapshot()
    pack = stored(shop, first, KEY)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    with pytest.raises(IntegrityError):
        shop.run("restore", into="outro")
    assert state_of(shop, first) == "damaged"
    second = shop.snapshot()
    assert stored(shop, second, KEY) != pack
    require_whole(shop, second, objects)
    assert state_of(shop, second) == "verified"


@pytest.mark.parametrize("fault", ["gone", "cut"])
def test_a_pack_that_is_gone_is_fetched_anew_the_same_night_and_told(
    shop: BucketShop, fault: str
) -> None:
    objects = fill(shop, count=5)
    first = shop.snapshot()
    pack = stored(shop, first, KEY)
    if fault == "gone":
        pack.unlink()
    else:
        pack.write_bytes(pack.read_bytes()[:-1])
    second = shop.snapshot()
    require_whole(shop, second, objects)
    assert [state_of(shop, one) for one in (first, second)] == ["damaged", "verified"]


# What was never proved


def test_packs_of_a_capture_that_was_never_read_back_are_read_by_the_next(
    shop: BucketShop,
) -> None:
    objects = fill(shop, count=5)
    chain = shop.chain("backup")
    for step in ("snapshot", "copy", "checksum", "upload"):
        chain.step(f"{names.BACKUP_BUCKET}.{step}")
    first = shop.manifest(chain.job)
    assert state_of(shop, first) == "unverified"
    second = shop.run("backup")
    assert second.result["bytes_read_back"] > sum(pack.size for pack in first.packs)
    require_whole(shop, shop.manifest(second), objects)
    assert shop.run("backup").result["bytes_read_back"] < first.packs[0].size


def test_damage_in_a_pack_that_was_never_read_back_makes_no_verified_snapshot(
    shop: BucketShop,
) -> None:
    fill(shop, count=5)
    chain = shop.chain("backup")
    for step in ("snapshot", "copy", "checksum", "upload"):
        chain.step(f"{names.BACKUP_BUCKET}.{step}")
    pack = stored(shop, shop.manifest(chain.job), KEY)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    with pytest.raises(IntegrityError, match="is damaged in the repository"):
        shop.run("backup")
    assert state_of(shop, newest(shop)) == "damaged"


@pytest.mark.parametrize("file", ["carried.jsonl", "wanted.jsonl"])
def test_a_spool_that_lost_a_list_makes_no_snapshot(shop: BucketShop, file: str) -> None:
    fill(shop, count=5)
    shop.snapshot()
    shop.put("novo", b"new")
    chain = shop.chain("backup")
    chain.step(names.BACKUP_BUCKET_SNAPSHOT)
    (chain.folder / file).write_bytes(b"")
    chain.step(names.BACKUP_BUCKET_COPY)
    with pytest.raises(IntegrityError, match="the listing had"):
        chain.step(names.BACKUP_BUCKET_CHECKSUM)


def test_a_full_verification_looks_for_every_object_in_the_pack_that_is_named(
    shop: BucketShop,
) -> None:
    for number in range(3):
        shop.put(f"doc/{number}", secrets.token_bytes(17_000_000))
    chain = shop.chain("backup")
    for step in ("snapshot", "copy"):
        chain.step(f"{names.BACKUP_BUCKET}.{step}")
    lines = sorted((chain.folder / "done").glob("*.jsonl"))
    packs = sorted({pack for one in lines for pack in _packs_in(one)})
    assert len(packs) == 3
    for one in lines:
        # As a fault of numbering or of deduplication would write them.
        one.write_text(one.read_text().replace(packs[-1], packs[-2]))
    for step in ("checksum", "upload", "prune", "record"):
        chain.step(f"{names.BACKUP_BUCKET}.{step}")
    with pytest.raises(IntegrityError, match="that are not there: 1"):
        shop.run("verify", {"level": "full"})
    assert state_of(shop, newest(shop)) == "damaged"
    assert not list(chain.folder.parent.glob("*/contents"))


def _packs_in(file: Path) -> Iterator[str]:
    for line in file.read_text().splitlines():
        yield line.partition('"pack":"')[2].partition('"')[0]


# Whose fault it is


@pytest.mark.parametrize("error", [StoreUnavailable, ConfigurationError])
def test_a_bucket_that_does_not_answer_is_told_without_a_key(
    shop: BucketShop, bucket: TroubledBucket, error: type[PgbenError]
) -> None:
    fill(shop, count=3)
    chain = shop.chain("backup")
    chain.step(names.BACKUP_BUCKET_SNAPSHOT)
    bucket.broken[KEY] = error(f"the server says no to '{KEY}'")

    def no() -> bool:
        raise error("the server says no")

    bucket.exists = no  # type: ignore[method-assign]
    with pytest.raises(error) as caught:
        chain.step(names.BACKUP_BUCKET_COPY)
    assert str(caught.value).startswith("the server says no to an object")


def test_an_object_that_may_not_be_read_does_not_stop_the_others(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    objects = fill(shop, count=3)
    bucket.broken[KEY] = ConfigurationError("it refuses the credentials for one object")
    with pytest.raises(BackupIncomplete, match="lacks objects that could not be read: 1"):
        shop.run("backup")
    entries = shop.entries(newest(shop))
    assert [key for key, entry in entries.items() if not entry.readable] == [KEY]
    assert set(entries) == set(objects)

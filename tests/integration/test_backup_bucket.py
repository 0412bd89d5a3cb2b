"""Claims about snapshots of a bucket: complete, truthful, and no more work than needed."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from pgben_tasks import names
from pgben_tasks.domain.documents import Pack
from pgben_tasks.domain.layout import inventory_of
from pgben_tasks.domain.states import BackupStanding
from pgben_tasks.errors import (
    BackupIncomplete,
    ConfigurationError,
    IntegrityError,
    ListingUnordered,
    PermanentError,
    StoreUnavailable,
)
from pgben_tasks.operations.repository.survey import survey
from pgben_tasks.ports import Repository
from tests.support.bucketshop import TARGET, BucketShop
from tests.support.fixtures_postgres import RecordingProgress
from tests.support.troubled_bucket import TroubledBucket, fill, require_whole

UNKNOWN = "20200101T050000Z-abcdef"


def test_a_first_snapshot_holds_every_object_byte_for_byte(shop: BucketShop) -> None:
    objects = fill(shop)
    job = shop.run("backup")
    manifest = shop.manifest(job)
    assert job.result["state"] == "verified"
    assert manifest.bucket is not None
    assert (manifest.objects, manifest.bucket.bytes) == (
        len(objects),
        sum(len(data) for data in objects.values()),
    )
    require_whole(shop, manifest, objects)


def test_everything_an_object_carries_is_kept(shop: BucketShop) -> None:
    metadata = {
        "iv": "00ff",
        "nome-original": "Declara\u00c3\u00a7\u00c3\u00a3o.pdf",
        "x": "y" * 1500,
    }
    headers = {"content-type": "application/pdf", "content-encoding": "gzip"}
    tags = {f"t{number}": f"v{number}" for number in range(10)}
    shop.put("doc", b"bytes", headers=headers, metadata=metadata, tags=tags)
    entry = shop.entries(shop.snapshot())["doc"]
    assert (entry.headers, entry.metadata, entry.tags) == (headers, metadata, tags)
    assert entry.tags_at is not None


def test_an_unchanged_night_fetches_nothing_and_stores_no_pack(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    objects = fill(shop)
    first = shop.snapshot()
    packs = set(shop.tools.repository.packs(TARGET))
    bucket.fetched.clear()
    second = shop.snapshot()
    assert bucket.fetched == []
    assert set(shop.tools.repository.packs(TARGET)) == packs
    assert second.own_packs == ()
    assert {pack.path for pack in second.packs} == {pack.path for pack in first.packs}
    assert second.bucket is not None
    assert (second.bucket.carried, second.bucket.fetched) != (0, 0)
    require_whole(shop, second, objects)


def test_a_listing_expects_as_many_objects_as_there_were_the_last_time(shop: BucketShop) -> None:
    for before in (None, 1):
        chain = shop.chain("backup")
        chain.progress = told = RecordingProgress()
        chain.step(names.BACKUP_BUCKET_SNAPSHOT)
        assert (told.phases[-1], told.total) == ("list in objects", before)
        if before is None:
            shop.put("a", b"bytes")
            shop.snapshot()


def test_a_server_that_rounds_dates_of_listings_otherwise_is_not_copied_every_night(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    shop.put("a", os.urandom(50_000))
    bucket.listed_later = timedelta(seconds=1)
    shop.snapshot()
    bucket.fetched.clear()
    assert shop.snapshot().bucket is not None
    assert bucket.fetched == []
    # An object that came meanwhile is not taken for the one that was listed.
    bucket.listed_later = timedelta(seconds=2)
    shop.snapshot()
    assert bucket.fetched == ["a"]
    shop.snapshot()
    assert bucket.fetched == ["a", "a"]


def test_an_object_stored_this_very_second_is_fetched_again_when_it_is_over(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    """Stored over within that second, it has the same date, and may have the same etag."""
    data = os.urandom(50_000)
    shop.put("a", data, metadata={"iv": "before"})
    bucket.just_stored = [lambda: bucket.give_metadata("a", {"iv": "after"})]
    manifest = shop.snapshot()
    assert bucket.fetched == ["a", "a"]
    assert shop.entries(manifest)["a"].metadata == {"iv": "after"}
    assert shop.snapshot().bucket is not None
    assert bucket.fetched == ["a", "a"]


def test_tags_in_listings_are_seen_the_same_night(shop: BucketShop, bucket: TroubledBucket) -> None:
    objects = fill(shop)
    shop.snapshot()
    bucket.fetched.clear()
    bucket.lists_tags = True
    one = bucket._objects["a/b"]
    bucket._objects["a/b"] = replace(one, tags={"setor": "outro"})
    manifest = shop.snapshot()
    assert bucket.fetched == []
    assert manifest.bucket is not None
    assert (manifest.bucket.carried, manifest.bucket.fetched) == (len(objects), 0)
    assert shop.entries(manifest)["a/b"].tags == {"setor": "outro"}
    again = shop.snapshot()
    assert again.bucket is not None
    assert again.bucket.fetched == 0


def test_only_what_changed_is_fetched(shop: BucketShop, bucket: TroubledBucket) -> None:
    objects = fill(shop)
    shop.snapshot()
    bucket.fetched.clear()
    changes = {"doc/00003": b"changed", "doc/novo": b"new"}
    for key, data in changes.items():
        shop.put(key, data)
    bucket.delete("a//b")
    manifest = shop.snapshot()
    assert sorted(bucket.fetched) == sorted(changes)
    expected = {**objects, **changes}
    del expected["a//b"]
    require_whole(shop, manifest, expected)


def test_bytes_that_are_known_are_not_stored_again(shop: BucketShop) -> None:
    data = secrets.token_bytes(300_000)
    shop.put("um", data)
    shop.put("dois", data)
    first = shop.snapshot()
    assert first.stored_bytes < 310_000
    shop.put("tres", data)
    second = shop.snapshot()
    assert second.own_packs == ()
    require_whole(shop, second, {"um": data, "dois": data, "tres": data})


def test_an_empty_bucket_has_a_snapshot(shop: BucketShop) -> None:
    job = shop.run("backup")
    manifest = shop.manifest(job)
    assert (manifest.objects, manifest.packs) == (0, ())
    assert job.result["state"].startswith("verified")


def test_a_key_that_cannot_be_read_is_said_and_the_snapshot_does_not_count(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    objects = fill(shop, count=5)
    bucket.broken["doc/00002"] = PermanentError("bit rot")
    with pytest.raises(BackupIncomplete, match="lacks objects that could not be read: 1"):
        shop.run("backup")
    (backup,) = shop.tools.repository.backups(TARGET)
    manifest = shop.tools.repository.manifest(TARGET, backup)
    entry = shop.entries(manifest)["doc/00002"]
    assert (entry.readable, entry.error) == (False, "PermanentError")
    bucket.broken.clear()
    job = shop.run("backup")
    assert job.result["state"] == "verified"
    require_whole(shop, shop.manifest(job), objects)


def test_an_object_that_is_gone_when_it_is_fetched_is_not_in_the_snapshot(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    objects = fill(shop, count=3)

    listed = bucket.list

    def list_then_delete(prefix: str = "") -> Iterator[object]:
        yield from list(listed(prefix))
        bucket.delete("doc/00001")

    bucket.list = list_then_delete  # type: ignore[method-assign, assignment]
    job = shop.run("backup")
    assert job.result["vanished"] == 1
    del objects["doc/00001"]
    require_whole(shop, shop.manifest(job), objects)


def test_overwriting_many_documents_makes_a_snapshot_suspect(shop: BucketShop) -> None:
    fill(shop, count=30)
    assert shop.snapshot().suspect is None
    for number in range(20):
        shop.put(f"doc/{number:05}", b"encrypted by a stranger")
    manifest = shop.snapshot()
    assert manifest.suspect is not None
    assert "20 of" in manifest.suspect


def test_a_server_with_an_order_of_its_own_is_sorted(
    shop: BucketShop, bucket: TroubledBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = fill(shop, count=20)
    listed = bucket.list
    monkeypatch.setattr(bucket, "list", lambda prefix="": reversed(list(listed(prefix))))
    require_whole(shop, shop.snapshot(), objects)


def test_a_listing_that_names_a_key_twice_is_no_snapshot(
    shop: BucketShop, bucket: TroubledBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(shop, count=3)
    listed = bucket.list
    monkeypatch.setattr(bucket, "list", lambda prefix="": iter([*listed(prefix)] * 2))
    with pytest.raises(ListingUnordered):
        shop.run("backup")
    assert shop.tools.repository.backups(TARGET) == []


def test_a_bucket_that_is_missing_is_a_sentence(shop: BucketShop, bucket: TroubledBucket) -> None:
    bucket._made = False
    with pytest.raises(ConfigurationError, match="does not exist"):
        shop.run("backup")
    assert shop.tools.repository.backups(TARGET) == []


def test_a_server_that_goes_away_fails_the_step_not_the_objects(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    fill(shop, count=3)
    bucket.broken["doc/00001"] = StoreUnavailable("away")

    def away() -> bool:
        raise StoreUnavailable("away")

    chain = shop.chain("backup")
    chain.step(names.BACKUP_BUCKET_SNAPSHOT)
    bucket.exists = away  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        chain.step(names.BACKUP_BUCKET_COPY)
    assert shop.tools.repository.backups(TARGET) == []


def test_tags_that_cannot_be_read_again_cost_no_object(
    shop: BucketShop, bucket: TroubledBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = fill(shop, count=3)
    shop.snapshot()

    def broken(_key: str) -> dict[str, str]:
        raise PermanentError("no tags today")

    monkeypatch.setattr(bucket, "tags", broken)
    job = shop.run("backup")
    require_whole(shop, shop.manifest(job), objects)
    assert (job.result["tags_read"], job.result["tags_unread"]) == (0, len(objects))


class TroubledRepository:
    """A repository that, while it is away, takes no pack."""

    def __init__(self, real: Repository) -> None:
        self._real = real
        self.away = True
        self.tried = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def store_pack(self, pack: Pack, path: Path, *, advance: Callable[[int], None]) -> None:
        if self.away:
            self.tried.set()
            raise StoreUnavailable("the repository is away")
        self._real.store_pack(pack, path, advance=advance)


def test_a_repository_that_goes_away_makes_no_object_unreadable(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    objects = {f"doc/{number}": secrets.token_bytes(100) for number in range(300)}
    objects |= {"!first": secrets.token_bytes(5_000_000)}
    for key, data in objects.items():
        shop.put(key, data)
    repository = TroubledRepository(shop.tools.repository)
    shop.tools = replace(
        shop.tools,
        repository=cast("Repository", repository),
        limits=replace(shop.tools.limits, copy_concurrency=2),
    )
    chain = shop.chain("backup")
    chain.step(names.BACKUP_BUCKET_SNAPSHOT)
    bucket.awaited = repository.tried
    with pytest.raises(StoreUnavailable, match="the repository is away"):
        chain.step(names.BACKUP_BUCKET_COPY)
    # An object whose fetch went well is not tried again for the repository's sake.
    assert len(bucket.fetched) == len(set(bucket.fetched))
    repository.away = False
    for step in ("copy", "checksum", "upload", "prune", "record"):
        chain.step(f"{names.BACKUP_BUCKET}.{step}")
    require_whole(shop, shop.manifest(chain.job), objects)


def test_an_incomplete_snapshot_counts_once_somebody_acknowledged_it(
    shop: BucketShop, bucket: TroubledBucket
) -> None:
    fill(shop, count=3)
    bucket.broken["doc/00001"] = PermanentError("bit rot")
    with pytest.raises(BackupIncomplete):
        shop.run("backup")
    (backup,) = shop.tools.repository.backups(TARGET)

    def standing() -> BackupStanding:
        found = survey(shop.tools.repository, TARGET).readable_backup(backup)
        assert found is not None
        return found.known.standing

    assert (standing().state.label, standing().counts) == ("incomplete", False)
    shop.run("acknowledge", {"backup": str(backup), "reason": "lost in 2019"})
    assert (standing().state.label, standing().counts) == ("verified with exceptions", True)


@pytest.mark.parametrize("what", ["pack", "inventory"])
@pytest.mark.parametrize("how", ["removed", "flipped"])
def test_damage_is_found_and_nothing_is_inherited_from_it(
    shop: BucketShop, bucket: TroubledBucket, what: str, how: str
) -> None:
    objects = fill(shop, count=10)
    manifest = shop.snapshot()
    path = manifest.packs[0].path if what == "pack" else inventory_of(manifest).path
    stored = shop.shop.repository / path
    if how == "removed":
        stored.unlink()
    else:
        data = bytearray(stored.read_bytes())
        data[len(data) // 2] ^= 1
        stored.chmod(0o600)
        stored.write_bytes(data)
    with pytest.raises(IntegrityError, match="verification found faults, 1 in all"):
        shop.run("verify", {"level": "full"})
    bucket.fetched.clear()
    after = shop.snapshot()
    assert bucket.fetched
    assert path not in {pack.path for pack in after.packs}
    require_whole(shop, after, objects)


def test_a_full_verification_reads_a_shared_pack_once(shop: BucketShop) -> None:
    fill(shop, count=10)
    first = shop.snapshot()
    shop.snapshot()
    read = shop.run("verify", {"level": "full"}).result["bytes_read"]
    assert read < first.stored_bytes + 20_000


def test_an_inventory_without_a_manifest_leaves_by_the_sweep(shop: BucketShop) -> None:
    fill(shop, count=3)
    kept = shop.snapshot()
    lone = shop.shop.repository / inventory_of(kept).path.replace(kept.backup, UNKNOWN)
    lone.parent.mkdir()
    lone.write_bytes(b"left by a worker that died")
    assert shop.run("sweep").result["sweep"]["removed"] == 0
    os.utime(lone, (0, 0))
    assert shop.run("sweep").result["sweep"]["removed"] == 1
    assert set(shop.tools.repository.inventories(TARGET)) == {inventory_of(kept).path}
    with pytest.raises(PermanentError, match="is no inventory"):
        shop.tools.repository.remove_inventory(kept.packs[0].path)
    shop.tools.repository.remove_inventory(inventory_of(kept).path)
    assert shop.entries(kept)


def test_retention_removes_a_snapshot_with_its_inventory_and_keeps_shared_packs(
    shop: BucketShop,
) -> None:
    objects = fill(shop, count=10)
    first = shop.snapshot()
    kept = shop.snapshot()
    shop.tools.repository.remove_manifest(TARGET, first.backup_id)
    assert set(shop.tools.repository.inventories(TARGET)) == {inventory_of(kept).path}
    require_whole(shop, kept, objects)


def test_a_server_without_tags_is_not_asked_for_them_and_old_ones_stay(
    shop: BucketShop, bucket: TroubledBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put("a", secrets.token_bytes(2000), tags={"setor": "social"})
    shop.put("b", b"two", tags={"setor": "social"})
    shop.snapshot()
    shop.put("b", b"three", tags={"setor": "social"})

    def nonsense(_key: str) -> dict[str, str]:
        raise StoreUnavailable("it answers with the object")

    monkeypatch.setattr(bucket, "tags", nonsense)
    monkeypatch.setattr(bucket, "keeps_tags", lambda _key: False)
    limits = replace(shop.tools.limits, suspect_changed=Decimal(1))
    shop.tools = replace(shop.tools, limits=limits)
    manifest = shop.snapshot()
    entries = shop.entries(manifest)
    assert (entries["a"].tags, entries["b"].tags) == ({"setor": "social"}, {})
    assert manifest.bucket is not None
    assert "object tags" in manifest.bucket.settings.unknown

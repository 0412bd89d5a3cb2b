"""Claims about restoring a snapshot into another bucket: whole, compared, and nothing replaced."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, current_thread, enumerate as threads
from typing import Any

import pytest

from pgben_tasks.domain.buckets.capture import places
from pgben_tasks.domain.documents import Pack
from pgben_tasks.domain.layout import manifest_path
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import (
    BackupIncomplete,
    ConfigurationError,
    IntegrityError,
    ObjectRefused,
    PermanentError,
    RequestMistaken,
    RestoreRefused,
    SpoolFull,
    StoreUnavailable,
)
from pgben_tasks.operations.buckets import restoring
from pgben_tasks.operations.repository.verify import record_damage
from pgben_tasks.operations.toolbox import NoProgress, Run
from pgben_tasks.ports import Bucket, FetchedObject
from tests.support.archive import SetClock
from tests.support.bucketshop import TARGET, BucketShop, contents
from tests.support.memory_bucket import MemoryBucket
from tests.support.workshop import Workshop

INTO = "documentos-copia"


@pytest.fixture
def shop(workshop: Workshop) -> BucketShop:
    """Protect a bucket with a few documents, and take a snapshot."""
    shop = BucketShop(workshop, MemoryBucket(TARGET.name), MemoryBucket)
    for number in range(30):
        shop.put(
            f"cidadao/{number:03}/../rg {number}.jpg",
            f"bytes {number}".encode() * number,
            headers={"content-type": "image/jpeg"},
            metadata={"iv": f"{number:032x}", "nome": "Jo\u00c3\u00a3o"},
            tags={"setor": "social"} if number % 2 else {},
        )
    shop.put("grande", b"a" * 5_000_000)
    shop.snapshot()
    return shop


def copy_of(shop: BucketShop) -> Bucket:
    return shop.tools.other_bucket(INTO)


def test_a_whole_snapshot_comes_back_with_all_it_carries(shop: BucketShop) -> None:
    job = shop.run("restore", into=INTO)
    assert contents(copy_of(shop)) == contents(shop.bucket)
    assert (job.result["objects"], job.result["compared"]) == (31, 31)
    assert job.result["state"] == "restored"


def test_what_was_lost_and_overwritten_comes_back_as_it_was(shop: BucketShop) -> None:
    before = contents(shop.bucket)
    for number in range(3):
        shop.bucket.delete(f"cidadao/{number:03}/../rg {number}.jpg")
    shop.put("grande", b"encrypted by a stranger")
    shop.run("restore", into=INTO)
    assert contents(copy_of(shop)) == before


def test_a_snapshot_that_cannot_be_believed_is_refused_and_passed_over(shop: BucketShop) -> None:
    second = shop.snapshot()
    path = shop.shop.folder / "repository" / manifest_path(TARGET, BackupId.parse(second.backup))
    path.write_bytes(second.model_copy(update={"job": "other"}).encode())
    with pytest.raises(RestoreRefused, match="cannot be believed"):
        shop.run("restore", {"backup": second.backup}, into=INTO)
    assert contents(copy_of(shop)) == {}
    found = shop.run("restore", into=INTO)
    assert found.backup != second.backup
    assert f"cannot be believed: {second.backup}" in found.result["note"]


def test_a_prefix_is_restored_below_another_beginning(shop: BucketShop) -> None:
    shop.run("restore", {"prefix": "cidadao/00", "put_below": "volta/"}, into=INTO)
    whole = contents(shop.bucket)
    wanted = {f"volta/{key}": what for key, what in whole.items() if key.startswith("cidadao/00")}
    assert contents(copy_of(shop)) == wanted


def test_single_keys_are_restored(shop: BucketShop) -> None:
    shop.run("restore", {"keys": ["grande"]}, into=INTO)
    assert list(contents(copy_of(shop))) == ["grande"]


def test_a_key_that_the_snapshot_lacks_is_a_refusal(shop: BucketShop) -> None:
    sentence = "keys that were named are not in snapshot .*: 1 of 2"
    with pytest.raises(RequestMistaken, match=sentence):
        shop.run("restore", {"keys": ["grande", "nenhum"]}, into=INTO)


def test_a_prefix_that_no_object_begins_with_is_a_refusal(shop: BucketShop) -> None:
    with pytest.raises(RequestMistaken, match="no object begins with the prefix in snapshot") as no:
        shop.run("restore", {"prefix": "cidadoa/"}, into=INTO)
    assert "cidadoa" not in str(no.value)
    assert not contents(copy_of(shop))


def test_what_a_snapshot_could_not_read_is_a_refusal_where_it_is_asked_for(
    shop: BucketShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = shop.bucket.fetch

    def broken(key: str) -> AbstractContextManager[FetchedObject]:
        if key.startswith("perdido/"):
            raise PermanentError("it is on a disk that is gone")
        return fetch(key)

    monkeypatch.setattr(shop.bucket, "fetch", broken)
    for key in ("perdido/a", "perdido/b"):
        shop.put(key, b"bytes")
    with pytest.raises(BackupIncomplete):
        shop.run("backup")
    backup = max(shop.tools.repository.backups(TARGET), key=lambda one: sequence(shop, one))
    snapshot = {"backup": str(backup), "allow_unverified": True}
    for asked, why in (
        ({"keys": ["grande", "perdido/a"]}, "keys that were named cannot be read in snapshot"),
        ({"prefix": "perdido/"}, "no object that begins with the prefix can be read in snapshot"),
    ):
        with pytest.raises(RequestMistaken, match=why) as no:
            shop.run("restore", {**snapshot, **asked}, into=INTO)
        assert "perdido" not in str(no.value)
        in_place = {"in_place": True, "confirm": TARGET.name}
        with pytest.raises(RequestMistaken, match=why):
            shop.run("restore", {**snapshot, **asked, **in_place}, into=TARGET.name, aside="aside")
    assert not contents(copy_of(shop))
    result = shop.run("restore", snapshot, into=INTO).result
    assert (result["compared"], result["not_in_snapshot"]) == (31, 2)


def sequence(shop: BucketShop, backup: BackupId) -> int:
    return shop.tools.repository.manifest(TARGET, backup).sequence


def test_a_place_that_is_not_empty_is_refused_and_stays(shop: BucketShop) -> None:
    there = copy_of(shop)
    there.put("x", iter([b"1"]), size=1, headers={}, metadata={}, tags={})
    with pytest.raises(RequestMistaken, match="is not empty"):
        shop.run("restore", into=INTO)
    assert list(contents(there)) == ["x"]


def test_the_original_is_never_a_place(shop: BucketShop) -> None:
    with pytest.raises(RequestMistaken, match="the bucket that was backed up"):
        shop.run("restore", into=TARGET.name)


def test_a_moment_that_has_not_come_by_the_clock_of_the_catalog_is_refused(
    shop: BucketShop,
) -> None:
    now = shop.tools.clock.now()
    shop.tools = replace(shop.tools, clock=SetClock(now - timedelta(hours=1)))
    with pytest.raises(RequestMistaken, match="has not come yet"):
        shop.run("restore", {"at": now.isoformat()}, into=INTO)
    assert not contents(copy_of(shop))


def damage(shop: BucketShop, key: str) -> set[str]:
    """Change a byte of the pack that holds an object; gives the keys that lie in it."""
    manifest = shop.snapshot()
    entries = shop.entries(manifest)
    place = entries[key].pack
    pack = shop.shop.repository / "packs" / str(TARGET) / str(place)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    return {key for key, entry in entries.items() if entry.pack == place}


def test_of_a_damaged_snapshot_comes_back_what_is_whole(shop: BucketShop) -> None:
    shop.put("inteiro", secrets.token_bytes(1000))
    damaged = damage(shop, "grande")
    whole = {key: one for key, one in contents(shop.bucket).items() if key not in damaged}
    assert whole
    chain = shop.chain("restore", into=INTO)
    sentence = f"^{len(damaged)} of 32 objects are not .* lie in packs that are damaged or gone"
    with pytest.raises(IntegrityError, match=sentence) as caught:
        chain.run()
    assert contents(copy_of(shop)) == whole
    assert f"diff {TARGET} {chain.job.backup} --bucket {INTO}" in caught.value.hint
    # Nobody chooses it again unawares …
    with pytest.raises(RestoreRefused, match="is damaged"):
        shop.run("restore", {"backup": chain.job.backup}, into="outro")
    # … but who knows gets what there is.
    with pytest.raises(IntegrityError, match=sentence):
        shop.run("restore", {"backup": chain.job.backup, "allow_damaged": True}, into="outro")
    assert contents(shop.tools.other_bucket("outro")) == whole


def test_an_object_that_a_server_does_not_take_stops_no_other(
    shop: BucketShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = copy_of(shop)
    put = there.put

    def picky(key: str, chunks: Iterator[bytes], **carried: object) -> str:
        if key == "grande":
            raise ObjectRefused(f"the server does not take '{key}' as it is")
        return put(key, chunks, **carried)  # type: ignore[arg-type]

    monkeypatch.setattr(there, "put", picky)
    with pytest.raises(IntegrityError, match="1 of 31 objects .* 1 are not taken by that server"):
        shop.run("restore", into=INTO)
    whole = contents(shop.bucket)
    del whole["grande"]
    assert contents(there) == whole


def test_a_further_attempt_goes_on_in_the_place_that_the_first_one_began(
    shop: BucketShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put("inteiro", secrets.token_bytes(1000))
    shop.snapshot()
    there = copy_of(shop)
    put = there.put
    stored: list[str] = []

    def dying(key: str, chunks: Iterator[bytes], **carried: object) -> str:
        if len(stored) == 20:
            raise StoreUnavailable("the node is gone")
        stored.append(key)
        return put(key, chunks, **carried)  # type: ignore[arg-type]

    monkeypatch.setattr(there, "put", dying)
    first = shop.chain("restore", into=INTO)
    for step in ("select", "plan"):
        first.step(f"pgben.restore.bucket.{step}")
    with pytest.raises(StoreUnavailable):
        first.step("pgben.restore.bucket.copy")
    # Whatever happens meanwhile, the next attempt takes the snapshot of the first.
    shop.put("novo", b"stored later")
    shop.snapshot()
    context = places(
        str(TARGET), datetime.now(UTC), into=INTO, in_place=False, kept=first.job.context
    )
    monkeypatch.setattr(there, "put", put)
    done = set(contents(there))
    again: list[str] = []

    def counted(key: str, chunks: Iterator[bytes], **carried: object) -> str:
        again.append(key)
        return put(key, chunks, **carried)  # type: ignore[arg-type]

    monkeypatch.setattr(there, "put", counted)
    assert shop.run("restore", **context).result["state"] == "restored"
    assert (len(done), set(again) & done) == (20, set())
    whole = contents(shop.bucket)
    del whole["novo"]
    assert contents(there) == whole


def test_a_server_that_keeps_other_metadata_is_found_out(
    shop: BucketShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = copy_of(shop)
    put = there.put

    def forget(key: str, chunks: Iterator[bytes], **carried: object) -> str:
        return put(key, chunks, **{**carried, "metadata": {}})  # type: ignore[arg-type]

    monkeypatch.setattr(there, "put", forget)
    with pytest.raises(IntegrityError, match=r"30 × metadata"):
        shop.run("restore", into=INTO)


def test_a_copy_that_died_goes_on_with_the_packs_that_are_left(shop: BucketShop) -> None:
    there = copy_of(shop)
    chain = shop.chain("restore", into=INTO)
    for step in ("select", "plan"):
        chain.step(f"pgben.restore.bucket.{step}")
    chain.step("pgben.restore.bucket.copy")
    there.delete("grande")
    chain.step("pgben.restore.bucket.copy")
    # Packs that were done are not done again: what was taken away meanwhile stays away …
    assert "grande" not in contents(there)
    # … and the comparison says so.
    with pytest.raises(IntegrityError, match=r"1 × missing"):
        chain.step("pgben.restore.bucket.finish")


# --- the next pack is opened ahead


@pytest.fixture
def packs(shop: BucketShop) -> BucketShop:
    """Add objects that have a pack each."""
    for number in range(4):
        shop.put(f"gross {number}", bytes([number]) * 4_300_000)
    shop.snapshot()
    return shop


def opening(
    shop: BucketShop, monkeypatch: pytest.MonkeyPatch, before: Callable[[int, Pack], None]
) -> list[str]:
    """Call ``before`` a pack is opened, with the packs opened so far; return all their paths."""
    real = shop.tools.objects.open_objects
    opened: list[str] = []

    def observed(pack: Pack, *arguments: Any, **named: Any) -> dict[str, int]:
        before(len(opened), pack)
        opened.append(pack.path)
        return real(pack, *arguments, **named)

    monkeypatch.setattr(shop.tools.objects, "open_objects", observed)
    return opened


def test_the_next_pack_is_opened_while_objects_are_stored(
    packs: BucketShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, there = Event(), copy_of(packs)
    put = there.put

    def waiting(key: str, chunks: Iterator[bytes], **carried: object) -> str:
        assert second.wait(60)
        return put(key, chunks, **carried)  # type: ignore[arg-type]

    monkeypatch.setattr(there, "put", waiting)
    opened = opening(packs, monkeypatch, lambda so_far, _: second.set() if so_far else None)
    packs.run("restore", into=INTO)
    assert contents(there) == contents(packs.bucket)
    assert len(opened) == len(set(opened)) == 6


def test_a_pack_for_which_there_was_no_room_is_opened_in_its_turn(
    packs: BucketShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = current_thread()

    def full(_so_far: int, _pack: Pack) -> None:
        if current_thread() is not main:
            raise SpoolFull("there is no room", "free some")

    opened = opening(packs, monkeypatch, full)
    packs.run("restore", into=INTO)
    assert contents(copy_of(packs)) == contents(packs.bucket)
    assert len(opened) == len(set(opened)) == 6


def test_a_pack_that_takes_much_room_is_not_opened_ahead(
    packs: BucketShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sealed they are much smaller.
    monkeypatch.setattr(restoring, "_MOST_AHEAD", 4_000_000)
    main = current_thread()
    ahead: list[int] = []
    opening(
        packs,
        monkeypatch,
        lambda _, pack: None if current_thread() is main else ahead.append(pack.size),
    )
    packs.run("restore", into=INTO)
    # Only the small objects' one.
    assert len(ahead) <= 1
    assert contents(copy_of(packs)) == contents(packs.bucket)


def test_a_restore_that_ends_stops_what_it_opens_ahead_and_leaves_no_document(
    packs: BucketShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, there = Event(), copy_of(packs)

    def fails(_key: str, _chunks: Iterator[bytes], **_carried: object) -> str:
        assert begun.wait(60)
        raise ConfigurationError("the account may not write", "let it")

    def ahead(so_far: int, _pack: Pack) -> None:
        if so_far:
            begun.set()

    monkeypatch.setattr(there, "put", fails)
    opening(packs, monkeypatch, ahead)
    chain = packs.chain("restore", into=INTO)
    for step in ("select", "plan"):
        chain.step(f"pgben.restore.bucket.{step}")
    with pytest.raises(ConfigurationError):
        chain.step("pgben.restore.bucket.copy")
    assert list(packs.tools.spool.rglob("opened")) == []


def test_a_fetch_that_hangs_keeps_no_restore_from_ending(
    packs: BucketShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "_CLOSING_LIMIT", 0.1)
    over, hangs, there = Event(), Event(), copy_of(packs)
    fetch, main = packs.tools.repository.fetch_pack, current_thread()

    def hanging(pack: Pack, destination: Path, *, advance: Callable[[int], None]) -> None:
        def hang(amount: int) -> None:
            if current_thread() is not main:
                hangs.set()
                over.wait(60)
            advance(amount)

        fetch(pack, destination, advance=hang)

    def fails(_key: str, _chunks: Iterator[bytes], **_carried: object) -> str:
        assert hangs.wait(60)
        raise ConfigurationError("the account may not write", "let it")

    monkeypatch.setattr(there, "put", fails)
    monkeypatch.setattr(packs.tools.repository, "fetch_pack", hanging)
    chain = packs.chain("restore", into=INTO)
    for step in ("select", "plan"):
        chain.step(f"pgben.restore.bucket.{step}")
    with pytest.raises(ConfigurationError):
        chain.step("pgben.restore.bucket.copy")
    (thread,) = [one for one in threads() if one.name.startswith("open-ahead")]
    assert list(packs.tools.spool.rglob("opened")) == []
    over.set()
    thread.join(60)
    assert list(packs.tools.spool.rglob("opened")) == []


def test_objects_are_readable_after_an_error_until_the_opener_is_closed(
    packs: BucketShop, tmp_path: Path
) -> None:
    manifest = packs.snapshot()
    entry = packs.entries(manifest)["grande"]
    wanted = restoring.sizes_by_digest([entry])
    row = packs.chain("restore", into=INTO).row
    run = Run(
        job=row.job,
        ledger=row,
        progress=NoProgress(),
        folder=tmp_path,
        try_lock=row.try_lock,
    )
    opener = restoring.PackOpener(run, packs.tools, manifest)
    with (
        pytest.raises(ZeroDivisionError),
        opener.opened(entry.pack or "", wanted) as objects,
    ):
        raise ZeroDivisionError
    # Threads that have not noticed the error may still read.
    assert b"".join(objects.chunks(entry.sha256 or "")) == b"a" * 5_000_000
    opener.close()
    with pytest.raises(ValueError, match="closed file"):
        next(objects.chunks(entry.sha256 or ""))


def test_damage_of_a_pack_that_is_opened_ahead_is_recorded_once(
    packs: BucketShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = damage(packs, "gross 2")
    recorded: list[object] = []

    def counted(*arguments: Any) -> None:
        recorded.append(arguments)
        record_damage(*arguments)

    monkeypatch.setattr(restoring, "record_damage", counted)
    with pytest.raises(IntegrityError, match="^1 of 35 objects are not .* damaged or gone"):
        packs.run("restore", into=INTO)
    whole = {key: one for key, one in contents(packs.bucket).items() if key not in damaged}
    assert contents(copy_of(packs)) == whole
    assert len(recorded) == 1

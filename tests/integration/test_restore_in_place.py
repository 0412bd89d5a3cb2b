"""Claims about restoring objects in place: only what differs is written, and nothing is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pgben_tasks import names
from pgben_tasks.adapters.packs.object_writer import SpoolPacks
from pgben_tasks.direct import chain as in_process
from pgben_tasks.errors import (
    ConfigurationError,
    IntegrityError,
    ObjectMissing,
    ObjectRefused,
    RequestMistaken,
    StoreUnavailable,
    TargetBusy,
)
from pgben_tasks.ports import Bucket, FetchedObject, Uploads
from tests.support.bucketshop import TARGET, BucketShop
from tests.support.fixtures_postgres import RecordingProgress
from tests.support.installation import Crash
from tests.support.memory_bucket import MemoryBucket
from tests.support.workshop import Workshop

ASIDE = "documentos-aside-20261126-020000"
STEPS = (
    names.RESTORE_BUCKET_SELECT,
    names.RESTORE_BUCKET_REPLACE_PLAN,
    names.RESTORE_BUCKET_REPLACE_ASIDE,
    names.RESTORE_BUCKET_REPLACE_WRITE,
    names.RESTORE_BUCKET_REPLACE_FINISH,
)
SECRET = "cidadao-de-teste"

Contents = dict[str, tuple[object, ...]]


class WatchedBucket(MemoryBucket):
    """Counts what is asked of it; ``before`` runs first and may let the process die."""

    def __init__(self, name: str, *, made: bool = True) -> None:
        super().__init__(name, made=made)
        self.asked: Counter[str] = Counter()
        self.before: Callable[[str, str], None] = lambda _what, _key: None

    def _watch(self, what: str, key: str = "") -> None:
        self.before(what, key)
        self.asked[what] += 1

    def create(self) -> None:
        self._watch("create")
        super().create()

    @contextmanager
    def fetch(self, key: str) -> Iterator[FetchedObject]:
        self._watch("fetch", key)
        with super().fetch(key) as got:
            yield got

    def put(
        self,
        key: str,
        chunks: Iterator[bytes],
        *,
        size: int,
        headers: Mapping[str, str],
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
        before_commit: Callable[[], None] | None = None,
        uploads: Uploads | None = None,
    ) -> str:
        self._watch("put", key)

        def commit() -> None:
            self.before("commit", key)
            if before_commit is not None:
                before_commit()

        return super().put(
            key,
            chunks,
            size=size,
            headers=headers,
            metadata=metadata,
            tags=tags,
            before_commit=commit,
            uploads=uploads,
        )

    def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        self._watch("put_tags", key)
        super().put_tags(key, tags)

    def delete(self, key: str) -> None:
        self._watch("delete", key)
        super().delete(key)

    def written(self) -> tuple[int, int, int]:
        """Count the objects that were put, given tags, and deleted."""
        return self.asked["put"], self.asked["put_tags"], self.asked["delete"]


class Place:
    """A protected bucket with documents, a snapshot of it, and the bucket aside."""

    def __init__(self, workshop: Workshop) -> None:
        self.live = WatchedBucket(TARGET.name)
        self.shop = BucketShop(workshop, self.live, lambda name: WatchedBucket(name, made=False))
        tools = self.shop.tools
        self.shop.tools = replace(
            tools,
            object_packs=SpoolPacks(tools.objects, pack_size=2048),
            limits=replace(tools.limits, copy_concurrency=4),
        )
        # Stored long before the snapshot, but for the last ones.
        for number in range(30):
            self.live.ago = timedelta(hours=1) if number < 25 else timedelta(0)
            self.put(number, f"bytes {number}".encode() * (number + 1))
        self.manifest = self.shop.snapshot()
        self.before = contents(self.live)
        self.live.asked.clear()

    def key(self, number: int) -> str:
        return f"{SECRET}/{number:03}/../rg {number}.jpg"

    def put(self, number: int, data: bytes, **carried: Any) -> None:
        fields: dict[str, Any] = {
            "headers": {"content-type": "image/jpeg"},
            "metadata": {"iv": f"{number:032x}", "nome": "Jo\u00c3\u00a3o"},
            "tags": {"setor": "social"} if number % 2 else {},
        }
        self.shop.put(self.key(number), data, **{**fields, **carried})

    def aside(self, number: int = 1) -> Bucket:
        return self.shop.tools.other_bucket(ASIDE if number == 1 else f"{ASIDE}-{number}")

    def restore(self, **request: Any) -> dict[str, Any]:
        self.live.asked.clear()
        return self.chain(**request).run().result

    def chain(self, **request: Any) -> in_process.Chain:
        asked = {"in_place": True, "confirm": TARGET.name, **request}
        return self.shop.chain("restore", asked, into=TARGET.name, aside=ASIDE)

    def ruin(self) -> Contents:
        """Lose, overwrite, retag and add objects; gives what was there of those that still are."""
        for number in (0, 1, 2):
            self.live.delete(self.key(number))
        self.put(5, b"encrypted by a stranger", metadata={"note": "pay"}, tags={"x": "y"})
        self.put(6, b"bytes 6" * 7, metadata={"iv": "lost"})
        self.put(29, b"bytes 29" * 30, metadata={"iv": "lost in the same second"})
        self.put(7, b"bytes 7" * 8, headers={"content-type": "text/html"})
        self.live.put_tags(self.key(9), {"setor": "other"})
        self.shop.put("new", b"uploaded since", tags={"a": "b"})
        self.live.asked.clear()
        return contents(self.live)


def content(bucket: Bucket, key: str) -> tuple[object, ...]:
    """Return one object's bytes, headers, metadata and tags."""
    with MemoryBucket.fetch(bucket, key) as got:  # type: ignore[arg-type]
        data = b"".join(got.chunks)
        facts = got.facts
    return data, dict(facts.headers), dict(facts.metadata), bucket.tags(key)


def contents(bucket: Bucket) -> Contents:
    return {listed.key: content(bucket, listed.key) for listed in bucket.list()}


@pytest.fixture
def place(workshop: Workshop) -> Place:
    return Place(workshop)


def test_what_is_missing_or_differs_comes_back_and_nothing_else_is_written(place: Place) -> None:
    ruined = place.ruin()
    result = place.restore()
    now = contents(place.live)
    assert now == {**place.before, "new": ruined["new"]}
    assert place.live.written() == (7, 1, 0)
    wanted = {"written": 7, "retagged": 1, "already_same": 22, "extra": 1, "deleted": 0}
    assert {name: result[name] for name in wanted} == wanted
    assert (result["missing"], result["differing"], result["tags_differing"]) == (3, 4, 1)
    assert (result["compared"], result["state"]) == (30, "restored")


def test_how_many_objects_are_planned_is_told_beforehand(place: Place) -> None:
    chain = place.chain()
    chain.progress = told = RecordingProgress()
    for name in STEPS[:2]:
        chain.step(name)
    assert (told.phases[-1], told.total) == ("plan in objects", 30)


def test_what_was_overwritten_lies_aside_as_it_was(place: Place) -> None:
    ruined = place.ruin()
    result = place.restore()
    overwritten = [place.key(number) for number in (5, 6, 7, 9, 29)]
    assert contents(place.aside()) == {key: ruined[key] for key in overwritten}
    assert (result["copied_aside"], result["aside"], result["aside_objects"]) == (5, ASIDE, 5)
    assert result["aside_further"] == []


def test_extra_objects_go_only_when_asked_and_lie_aside(place: Place) -> None:
    ruined = place.ruin()
    result = place.restore(delete_extra=True)
    assert contents(place.live) == place.before
    assert contents(place.aside())["new"] == ruined["new"]
    assert (result["extra"], result["deleted"], result["copied_aside"]) == (1, 1, 6)


def test_a_bucket_that_is_as_it_was_is_not_written_to_and_no_bucket_is_made(place: Place) -> None:
    result = place.restore(delete_extra=True)
    assert place.live.written() == (0, 0, 0)
    # Only those need to be fetched whose date does not prove that they are the very same: each
    # is compared twice.
    assert place.live.asked["fetch"] == 2 * 5
    assert (result["already_same"], result["copied_aside"], result["aside"]) == (30, 0, None)
    assert not place.aside().exists()


def test_what_was_stored_anew_with_the_same_contents_is_not_written(place: Place) -> None:
    for number in range(30):
        place.live.delete(place.key(number))
    assert place.restore()["written"] == 30
    result = place.restore()
    assert (place.live.written(), result["already_same"]) == ((0, 0, 0), 30)


def test_a_prefix_leaves_everything_else_alone(place: Place) -> None:
    ruined = place.ruin()
    result = place.restore(prefix=f"{SECRET}/00", delete_extra=True)
    outside = ("new", place.key(29))
    assert contents(place.live) == {**place.before, **{key: ruined[key] for key in outside}}
    assert (result["objects"], result["extra"]) == (10, 0)


def test_what_is_removed_right_before_it_gets_its_tags_comes_back_whole(place: Place) -> None:
    ruined = place.ruin()

    def removed(what: str, key: str) -> None:
        if what == "put_tags":
            MemoryBucket.delete(place.live, key)

    place.live.before = removed
    result = place.restore()
    assert contents(place.live) == {**place.before, "new": ruined["new"]}
    assert (place.live.written(), result["refused"]) == ((8, 1, 0), 0)


@pytest.mark.parametrize("as_a_whole_too", [False, True])
def test_an_object_that_does_not_take_its_tags_alone_is_written_whole(
    place: Place, *, as_a_whole_too: bool
) -> None:
    ruined = place.ruin()

    def refuse(what: str, key: str) -> None:
        if what == "put_tags" or (as_a_whole_too and what == "put" and key == place.key(9)):
            raise ObjectRefused(f"'{key}' keeps its tags")

    place.live.before = refuse
    chain = place.chain()
    sentence = r"1 of 30 objects .* \(1 × tags\): 1 are not taken by that server"
    with pytest.raises(IntegrityError, match=sentence) if as_a_whole_too else nullcontext():
        chain.run()
    kept = {place.key(9): ruined[place.key(9)]} if as_a_whole_too else {}
    assert contents(place.live) == {**place.before, "new": ruined["new"], **kept}
    result = chain.job.result
    wanted = (7, 0, 1) if as_a_whole_too else (7, 1, 0)
    assert (result["written"], result["retagged"], result["refused"]) == wanted


def test_single_keys_are_put_back_and_nothing_else_is_looked_at(place: Place) -> None:
    ruined = place.ruin()
    keys = [place.key(0), place.key(5)]
    result = place.restore(keys=keys)
    assert contents(place.live) == {**ruined, **{key: place.before[key] for key in keys}}
    assert (result["written"], result["extra"], result["copied_aside"]) == (2, 0, 1)


def test_a_named_key_that_the_snapshot_lacks_changes_nothing(place: Place) -> None:
    ruined = place.ruin()
    sentence = "keys that were named are not in snapshot .*: 1 of 2"
    with pytest.raises(RequestMistaken, match=sentence):
        place.restore(keys=[place.key(0), "new"])
    assert contents(place.live) == ruined


@pytest.mark.parametrize("delete_extra", [False, True])
def test_a_prefix_that_the_snapshot_lacks_changes_nothing(
    place: Place, *, delete_extra: bool
) -> None:
    ruined = place.ruin()
    with pytest.raises(RequestMistaken, match="no object begins with the prefix in snapshot"):
        place.restore(prefix="ne", delete_extra=delete_extra)
    assert contents(place.live) == ruined
    assert not place.aside().exists()


def test_a_bucket_that_was_lost_whole_is_made_again(place: Place) -> None:
    for key in place.before:
        place.live.delete(key)
    place.live._made = False
    result = place.restore()
    assert contents(place.live) == place.before
    assert (result["written"], result["aside"]) == (30, None)


def test_a_key_that_may_not_make_buckets_changes_nothing(place: Place) -> None:
    ruined = place.ruin()

    def refuse(what: str, _key: str) -> None:
        if what == "create":
            raise ConfigurationError("'s3' refuses the credentials", "check the keys")

    aside = place.aside()
    assert isinstance(aside, WatchedBucket)
    aside.before = refuse
    with pytest.raises(ConfigurationError, match="cannot be made: 's3' refuses") as failed:
        place.restore()
    assert "PGBEN_MINIO_ACCESS_KEY" in failed.value.hint
    assert contents(place.live) == ruined


def test_a_place_aside_that_keeps_less_is_found_out_before_anything_is_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruined = place.ruin()
    aside = place.aside()
    put = aside.put

    def forget(key: str, chunks: Iterator[bytes], **carried: Any) -> str:
        return put(key, chunks, **{**carried, "metadata": {}})

    monkeypatch.setattr(aside, "put", forget)
    with pytest.raises(IntegrityError, match="differs: metadata") as failed:
        place.restore()
    assert SECRET not in str(failed.value)
    assert contents(place.live) == ruined


@pytest.mark.parametrize("step", [2, 3, 4])
@pytest.mark.parametrize("what", ["put", "fetch"])
def test_what_a_bucket_aside_loses_is_not_taken_for_a_live_object_that_is_gone(
    place: Place, step: int, what: str
) -> None:
    ruined = place.ruin()
    chain = place.chain(delete_extra=True)
    for name in STEPS[:step]:
        chain.step(name)
    victim = "new" if step == 4 else place.key(5)
    # After the copies were made it is stored once more, so that it must be copied again.
    place.shop.put(victim, b"stored just now")
    stored = contents(place.live)[victim]
    seen: list[str] = []

    def lose(asked: str, key: str) -> None:
        # The first look at the place aside finds it free.
        if asked == what and key == victim and (what == "put" or key in seen):
            raise ObjectMissing(f"'{key}' is not in 'aside'", "NoSuchUpload")
        seen.append(key)

    last = place.aside(1 if step == 2 else 2)
    assert isinstance(last, WatchedBucket)
    last.before = lose
    with pytest.raises(StoreUnavailable, match="does not keep an object") as failed:
        chain.step(STEPS[step])
    assert SECRET not in str(failed.value)
    assert contents(place.live)[victim] == stored
    last.before = lambda _what, _key: None
    for name in STEPS[step:]:
        chain.step(name)
    assert contents(place.live) == place.before
    require_somewhere(
        place, [*((k, v) for k, v in ruined.items() if k != victim), (victim, stored)]
    )


def test_a_server_that_does_not_keep_what_is_written_is_found_out_before_a_deletion(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.ruin()
    put = place.live.put

    def forget(key: str, chunks: Iterator[bytes], **carried: Any) -> str:
        return put(key, chunks, **{**carried, "metadata": {}})

    monkeypatch.setattr(place.live, "put", forget)
    with pytest.raises(IntegrityError, match=r"7 of 30 objects are not .*metadata") as failed:
        place.restore(delete_extra=True)
    assert SECRET not in str(failed.value)
    assert "new" in contents(place.live)


def test_a_damaged_pack_keeps_nothing_else_from_being_put_back(place: Place) -> None:
    ruined = place.ruin()
    entries = place.shop.entries(place.manifest)
    lost = entries[place.key(0)].pack
    pack = place.shop.shop.repository / "packs" / str(TARGET) / str(lost)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    with pytest.raises(IntegrityError, match="packs that are damaged or gone") as failed:
        place.restore(delete_extra=True)
    assert SECRET not in str(failed.value)
    now = contents(place.live)
    for key, one in place.before.items():
        # What lay in that pack is as it was found, retagged ones included; all else is back.
        whole = entries[key].pack != lost or ruined.get(key) == one or key == place.key(9)
        assert now.get(key) == (one if whole else ruined.get(key)), entries[key].pack
    assert "new" in now, "nothing extra goes unless all else is well"


def test_an_object_that_the_server_does_not_take_stops_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruined = place.ruin()
    put = place.live.put

    def picky(key: str, chunks: Iterator[bytes], **carried: Any) -> str:
        if key == place.key(5):
            raise ObjectRefused(f"the server does not take '{key}' as it is")
        return put(key, chunks, **carried)

    monkeypatch.setattr(place.live, "put", picky)
    with pytest.raises(IntegrityError, match="1 of 30 .* 1 are not taken by that server") as failed:
        place.restore()
    assert SECRET not in str(failed.value)
    kept = {place.key(5): ruined[place.key(5)], "new": ruined["new"]}
    assert contents(place.live) == {**place.before, **kept}


@pytest.mark.parametrize("victim", [0, 5, 9])
def test_what_somebody_stores_between_plan_and_write_is_kept(place: Place, victim: int) -> None:
    ruined = place.ruin()
    chain = place.chain()
    for step in STEPS[:3]:
        chain.step(step)
    place.put(victim, b"stored just now", tags={"late": "yes"})
    stored = contents(place.live)[place.key(victim)]
    for step in STEPS[3:]:
        chain.step(step)
    assert contents(place.live) == {**place.before, "new": ruined["new"]}
    # Where a version of that key lies aside already, both are kept.
    further = 1 if victim == 0 else 2
    assert contents(place.aside(further))[place.key(victim)] == stored
    if victim:
        assert contents(place.aside())[place.key(victim)] == ruined[place.key(victim)]
        assert chain.job.result["aside_further"] == [f"{ASIDE}-2"]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(("step", "victim"), [(3, 0), (3, 5), (3, 9), (4, 30)])
def test_what_is_stored_while_its_forerunner_is_copied_is_kept_as_well(
    place: Place, step: int, victim: int, times: int
) -> None:
    ruined = place.ruin()
    place.put(30, b"in no snapshot")
    chain = place.chain(delete_extra=True)
    for name in STEPS[:step]:
        chain.step(name)
    key = place.key(victim)
    must_be = [*((k, v) for k, v in ruined.items() if k != key)]

    def store(number: int) -> None:
        place.put(victim, f"stored just now {number}".encode(), tags={"late": str(number)})
        # Not the contents of all: another thread may delete an object between two looks.
        must_be.append((key, content(place.live, key)))

    stored = 0

    def interfere(what: str, asked: str) -> None:
        nonlocal stored
        if what == "put" and asked == key and stored < times:
            stored += 1
            store(stored)

    store(0)
    for number in (1, 2, 3, 4):
        aside = place.aside(number)
        assert isinstance(aside, WatchedBucket)
        aside.before = interfere
    for name in STEPS[step:]:
        chain.step(name)
    assert stored == times
    assert contents(place.live) == place.before
    require_somewhere(place, must_be)


def test_an_object_that_changes_as_fast_as_it_is_copied_is_left_alone(place: Place) -> None:
    place.ruin()
    chain = place.chain()
    for name in STEPS[:3]:
        chain.step(name)
    numbers = iter(range(1000))

    def interfere(what: str, key: str) -> None:
        if what == "put" and key == place.key(5):
            place.put(5, f"stored just now {next(numbers)}".encode())

    place.put(5, b"stored just now")
    for number in range(1, 9):
        aside = place.aside(number)
        assert isinstance(aside, WatchedBucket)
        aside.before = interfere
    with pytest.raises(TargetBusy, match="changes as fast as it is copied") as failed:
        chain.step(STEPS[3])
    assert SECRET not in str(failed.value)
    assert contents(place.live)[place.key(5)][0] == b"stored just now %d" % (next(numbers) - 1)


@pytest.mark.parametrize("how", ["stored", "tagged", "put back"])
@pytest.mark.parametrize("victim", [0, 5])
def test_what_changes_while_an_object_is_uploaded_is_kept_before_it_is_overwritten(
    place: Place, victim: int, how: str
) -> None:
    ruined = place.ruin()
    chain = place.chain()
    for name in STEPS[:3]:
        chain.step(name)
    key = place.key(victim)
    changed: list[tuple[object, ...]] = []

    def interfere(what: str, asked: str) -> None:
        if (what, asked) != ("commit", key) or changed:
            return
        changed.append(())
        if how == "put back":
            data, headers, metadata, tags = place.before[key]
            place.put(victim, data, headers=headers, metadata=metadata, tags=tags)  # type: ignore[arg-type]
        elif how == "stored" or victim == 0:
            place.put(victim, b"stored just now")
        else:
            place.live.put_tags(key, {"late": "yes"})
        changed[:] = [contents(place.live)[key]]

    place.live.before = interfere
    for name in STEPS[3:]:
        chain.step(name)
    assert contents(place.live) == {**place.before, "new": ruined["new"]}
    require_somewhere(place, [(key, one) for one in changed])


@pytest.mark.parametrize("number", [5, 9])
def test_metadata_stored_in_the_second_of_what_lies_aside_are_kept_as_well(
    place: Place, number: int
) -> None:
    """Etag and date are the same: object 5 differs in its bytes, object 9 in its tags."""
    place.ruin()
    chain = place.chain()
    for name in STEPS[:3]:
        chain.step(name)
    key = place.key(number)
    place.live.give_metadata(key, {"iv": "stored just now"})
    stored = content(place.live, key)
    for name in STEPS[3:]:
        chain.step(name)
    assert content(place.live, key) == place.before[key]
    assert content(place.aside(2), key) == stored


def test_an_object_that_changes_as_fast_as_it_is_uploaded_is_left_alone(place: Place) -> None:
    place.ruin()
    chain = place.chain()
    for name in STEPS[:3]:
        chain.step(name)
    key, numbers, storing = place.key(5), iter(range(1000)), False

    def interfere(what: str, asked: str) -> None:
        nonlocal storing
        if (what, asked) == ("commit", key) and not storing:
            storing = True
            place.put(5, f"stored just now {next(numbers)}".encode())
            storing = False

    place.live.before = interfere
    with pytest.raises(TargetBusy, match="changes as fast as it is copied"):
        chain.step(STEPS[3])
    last = next(numbers) - 1
    assert contents(place.live)[key][0] == b"stored just now %d" % last
    there = [one[key][0] for one in asides(place) if key in one]
    assert [b"stored just now %d" % number for number in range(last)] == there[1:]


@pytest.mark.parametrize(("step", "victim"), [(3, 0), (3, 5), (4, 30)])
def test_an_object_that_was_gone_for_a_moment_is_kept_nevertheless(
    place: Place, step: int, victim: int
) -> None:
    place.ruin()
    place.put(30, b"in no snapshot")
    chain = place.chain(delete_extra=True)
    for name in STEPS[:step]:
        chain.step(name)
    key = place.key(victim)
    place.put(victim, b"stored just now", tags={"late": "yes"})
    stored = contents(place.live)[key]
    fetched: Counter[str] = Counter()

    def vanish(what: str, asked: str) -> None:
        fetched[asked] += what == "fetch"
        if what == "fetch" and asked == key and fetched[key] < 3:
            raise ObjectMissing(f"'{key}' is not in 'live'")

    place.live.before = vanish
    for name in STEPS[step:]:
        chain.step(name)
    require_somewhere(place, [(key, stored)])
    assert contents(place.live) == place.before


@pytest.mark.parametrize(("step", "victim"), [(3, 5), (3, 9), (4, 30)])
def test_tags_that_somebody_sets_between_plan_and_write_are_kept(
    place: Place, step: int, victim: int
) -> None:
    place.ruin()
    place.put(30, b"in no snapshot")
    chain = place.chain(delete_extra=True)
    for name in STEPS[:step]:
        chain.step(name)
    key = place.key(victim)
    place.live.put_tags(key, {"late": "yes"})
    tagged = contents(place.live)[key]
    for name in STEPS[step:]:
        chain.step(name)
    assert contents(place.live) == place.before
    assert contents(place.aside(2))[key] == tagged


def test_an_extra_object_that_changes_before_it_is_deleted_is_kept_as_it_was_last(
    place: Place,
) -> None:
    place.ruin()
    chain = place.chain(delete_extra=True)
    for step in STEPS[:4]:
        chain.step(step)
    place.shop.put("new", b"changed again")
    place.shop.put("newer", b"was in no plan")
    chain.step(STEPS[4])
    assert "new" not in contents(place.live)
    assert contents(place.aside(2))["new"][0] == b"changed again"
    assert contents(place.live)["newer"][0] == b"was in no plan"


def test_the_next_snapshot_does_not_suspect_our_own_restore(place: Place) -> None:
    for number in range(20):
        place.put(number, b"overwritten")
    place.restore()
    assert place.shop.run("backup").result["suspect"] is None
    # … which has been said then: the next night expects nothing of us.
    for number in range(10):
        place.put(number, b"overwritten by a stranger")
    assert "known objects were overwritten" in place.shop.run("backup").result["suspect"]


def test_our_own_restore_does_not_hide_what_a_stranger_does_in_the_same_night(
    place: Place,
) -> None:
    for number in range(20):
        place.put(number, b"overwritten")
    place.restore()
    for number in range(20, 30):
        place.put(number, b"overwritten by a stranger")
    assert "30 of 30 known objects" in place.shop.run("backup").result["suspect"]


def test_extra_objects_that_we_delete_are_expected(place: Place) -> None:
    older = place.manifest.backup
    for number in range(30, 50):
        place.put(number, b"new, and backed up")
    place.shop.snapshot()
    assert place.restore(backup=older, delete_extra=True)["deleted"] == 20
    result = place.shop.run("backup").result
    assert (result["gone"], result["suspect"]) == (20, None)


def test_a_further_attempt_goes_back_to_the_snapshot_of_the_one_before(place: Place) -> None:
    place.ruin()
    first = place.chain()
    for step in STEPS[:2]:
        first.step(step)
    place.shop.snapshot()
    asked = {"in_place": True, "confirm": TARGET.name}
    again = place.shop.chain("restore", asked, **first.job.context).run()
    assert again.backup == place.manifest.backup
    assert again.result["written"] == 7


def test_a_further_attempt_keeps_what_the_one_before_set_aside(place: Place) -> None:
    ruined = place.ruin()
    left = 3

    def die(what: str, _key: str) -> None:
        nonlocal left
        left -= what == "put"
        if not left:
            raise Crash("now")

    first = place.chain()
    place.live.before = die
    with pytest.raises(Crash):
        first.run()
    assert not first.folder.exists()
    left = -1
    result = place.restore()
    assert contents(place.live) == {**place.before, "new": ruined["new"]}
    lost = [place.key(number) for number in (5, 6, 7, 9, 29)]
    assert contents(place.aside()) == {key: ruined[key] for key in lost}
    assert (result["aside_objects"], result["aside_further"]) == (5, [])


@pytest.mark.parametrize("written", range(1, 8))
def test_what_a_run_that_died_had_put_back_is_not_taken_for_somebody_elses(
    place: Place, written: int
) -> None:
    ruined = place.ruin()
    chain = place.chain()
    for step in STEPS[:3]:
        chain.step(step)
    left = written

    def die(what: str, _key: str) -> None:
        nonlocal left
        left -= what == "put"
        if not left:
            left = -1
            raise Crash("now")

    place.live.before = die
    with pytest.raises(Crash):
        chain.step(STEPS[3])
    assert chain.job.result["aside"] == ASIDE
    for step in STEPS[3:]:
        chain.step(step)
    lost = [place.key(number) for number in (5, 6, 7, 9, 29)]
    assert contents(place.aside()) == {key: ruined[key] for key in lost}
    assert (chain.job.result["aside"], chain.job.result["aside_further"]) == (ASIDE, [])


@pytest.mark.parametrize("seed", range(20))
def test_a_restore_that_died_anywhere_goes_on_and_nothing_is_ever_lost(
    place: Place, seed: int
) -> None:
    chance = random.Random(seed)
    ruined = place.ruin()
    left = chance.randrange(0, 90)

    def die(_what: str, _key: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Crash("now")

    aside = place.aside()
    assert isinstance(aside, WatchedBucket)
    place.live.before = aside.before = die
    chain = place.chain(delete_extra=True)
    victim = place.key(5)
    must_be = list(ruined.items())
    for step in STEPS:
        try:
            chain.step(step)
        except Crash:
            require_somewhere(place, must_be)
            if contents(place.live)[victim] != place.before[victim] and chance.random() < 0.5:
                # Somebody stores an object while the worker is dead: what is lost by that is lost.
                place.put(5, b"stored while nobody worked")
                if victim not in asides(place)[0]:
                    must_be.remove((victim, ruined[victim]))
                must_be.append((victim, contents(place.live)[victim]))
            chain.step(step)
    assert contents(place.live) == place.before
    require_somewhere(place, must_be)
    assert chain.job.result["state"] == "restored"


def asides(place: Place) -> list[Contents]:
    """Return what lies in the first and in the further bucket aside."""
    buckets = [place.aside(number) for number in range(1, 6)]
    return [contents(bucket) if bucket.exists() else {} for bucket in buckets]


def require_somewhere(place: Place, must_be: list[tuple[str, tuple[object, ...]]]) -> None:
    """Every object is there, live or aside, with all that it carried."""
    there = [contents(place.live), *asides(place)]
    for key, what in must_be:
        assert what in [one.get(key) for one in there]

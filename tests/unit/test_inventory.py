"""Claims about inventories: lines that are canonical or refused, and what a comparison decides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from pgben_tasks.domain.buckets.capture import restored_bucket
from pgben_tasks.domain.buckets.diff import (
    Carried,
    Change,
    Gone,
    Totals,
    Wanted,
    compare,
    listed_moment,
    mass_change,
    vacating,
)
from pgben_tasks.domain.buckets.inventory import Entry, Line, parse_line, read_line
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.layout import inventory_of, inventory_path, is_inventory, is_known
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import ListingUnordered, ManifestInvalid
from pgben_tasks.ports import ListedObject
from tests.support import samples

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
#: When everything that was stored at noon was listed.
LATER = NOON + timedelta(hours=1)
PACK = "20261123T050000Z-1f0c9a/1.tar.age"
OTHER = "20261123T050000Z-1f0c9a/2.tar.age"
DIGEST = "a" * 64


def entry(key: str = "a", **changed: Any) -> Entry:
    facts = {"etag": "e", "size": 3, "modified": NOON, "sha256": DIGEST, "pack": PACK}
    return Entry(key=key, **{**facts, **changed})


def line(key: str = "a", **changed: Any) -> Line:
    return read_line(entry(key, **changed).line(), where="inventory")


def failed(key: str) -> Line:
    return line(key, sha256=None, pack=None, error="StoreUnavailable")


def listed(key: str = "a", **changed: Any) -> ListedObject:
    facts = {"etag": "e", "size": 3, "modified": NOON, **changed}
    return ListedObject(key, facts["etag"], facts["size"], facts["modified"])


def words(changes: Iterator[Change]) -> list[str]:
    def word(change: Change) -> str:
        if isinstance(change, Wanted):
            return f"{change.listed.key} {change.why}"
        return f"{change.line.key} {'carried' if isinstance(change, Carried) else 'gone'}"

    return [word(change) for change in changes]


def test_a_line_is_read_as_it_was_written() -> None:
    one = entry("é\n", headers={"b": "2", "a": "1"}, metadata={"x": "Ã£"}, tags={"t": "v"})
    assert parse_line(one.line(), where="x") == one
    assert list(json.loads(one.line())) == sorted(json.loads(one.line()))
    assert list(json.loads(one.line())["headers"]) == ["a", "b"]
    assert b"version" not in one.line()


@pytest.mark.parametrize(
    "raw",
    [
        b"{}\n",
        b"no\n",
        entry().line().replace(b'"a"', b'"a" '),
        entry().line().replace(b"}", b',"more":1}'),
        entry().line().replace(b'"key":"a"', b'"key":""'),
        entry().line().replace(b'"key":"a"', b'"key":"' + b"k" * 1025 + b'"'),
        entry().line().replace(b'"sha256":"' + DIGEST.encode() + b'",', b""),
        entry().line().replace(b"1.tar.age", b"../x"),
    ],
)
def test_a_line_that_is_not_canonical_is_refused(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        parse_line(raw, where="inventory")


def test_a_key_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        entry("\ud800")


def test_an_object_has_a_place_or_an_error() -> None:
    assert not failed("a").entry().readable
    for changed in ({"error": "x"}, {"pack": None}, {"pack": None, "sha256": None}):
        with pytest.raises(ValueError, match="a digest and a place, or an error"):
            entry(**changed)


@pytest.mark.parametrize(
    "raw", [b"x\n", b"[]\n", b'{"key":1}\n', b'{"key":"a","size":"1"}\n', b'{"key":"\xff"}\n']
)
def test_a_line_without_a_key_is_no_line(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid, match="describes no object"):
        read_line(raw, where="inventory")


def test_what_a_line_lacks_is_none() -> None:
    bare = read_line(b'{"key":"a"}\n', where="inventory")
    assert (bare.size, bare.pack, bare.sha256, bare.tags_at) == (0, None, None, None)
    assert not bare.is_of(listed())


def test_unchanged_objects_are_carried_changed_ones_wanted_and_lost_ones_gone() -> None:
    previous = [line("a"), line("b"), line("c"), line("d", pack=OTHER), failed("e"), line("z")]
    listing = [
        listed("a"),
        listed("b", etag="other"),
        listed("b2"),
        listed("d"),
        listed("e"),
    ]
    assert words(compare(listing, previous, previous_at=LATER, avoid={OTHER})) == [
        "a carried",
        "b changed",
        "b2 new",
        "c gone",
        "d pack avoided",
        "e unreadable before",
        "z gone",
    ]


@pytest.mark.parametrize(
    "changed", [{"size": 4}, {"etag": "x"}, {"modified": NOON + timedelta(seconds=1)}]
)
def test_any_difference_in_the_listing_is_a_change(changed: dict[str, Any]) -> None:
    (change,) = compare([listed(**changed)], [line()], previous_at=LATER)
    assert words(iter([change])) == ["a changed"]
    totals = Totals()
    totals.count(change)
    assert (totals.known, totals.changed, totals.again, totals.wanted) == (1, 1, 0, 1)


def test_a_line_without_a_moment_is_of_no_object() -> None:
    for more in (b"", b',"modified":"never"'):
        bare = read_line(b'{"etag":"e","key":"a"' + more + b',"size":3}\n', where="inventory")
        assert not bare.is_of(listed())


def test_other_tags_in_a_listing_that_says_them_are_a_change_of_their_own() -> None:
    tagged = line("a", tags={"k": "v"}, tags_at=NOON)
    changes = []
    for tags in (None, {"k": "v"}, {}, {"k": "w"}):
        one = ListedObject("a", "e", 3, NOON, tags)
        changes += list(compare([one], [tagged], previous_at=LATER))
    assert words(iter(changes)) == ["a carried", "a carried", "a tags", "a tags"]
    totals = Totals()
    for change in changes:
        totals.count(change)
    assert (totals.known, totals.carried, totals.wanted) == (4, 4, 0)


def test_parts_of_a_second_make_no_change() -> None:
    moment = NOON + timedelta(milliseconds=300)
    changes = compare([listed(modified=moment)], [line()], previous_at=LATER)
    assert words(changes) == ["a carried"]


@pytest.mark.parametrize(
    ("seconds", "word"),
    [
        (-301, "carried"),
        (-300, "unsettled"),
        (-1, "unsettled"),
        (0, "unsettled"),
        (400 * 86400, "unsettled"),
    ],
)
@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-3))])
def test_a_date_is_believed_when_it_was_settled_as_the_listing_before_began(
    seconds: int, word: str, zone: tzinfo
) -> None:
    """Clocks may differ by five minutes."""
    modified = NOON + timedelta(seconds=seconds)
    now, before = listed(modified=modified), line(modified=modified)
    (change,) = compare([now], [before], previous_at=NOON.astimezone(zone))
    assert words(iter([change])) == [f"a {word}"]
    totals = Totals()
    totals.count(change)
    carried = word == "carried"
    assert (totals.known, totals.changed, totals.again) == (1, 0, 1 - carried)
    assert totals.carried == carried


@given(
    listing_took=st.integers(0, 10**6),
    apart=st.integers(-300_000, 300_000),
    part=st.integers(0, 999),
    rounds_up=st.booleans(),
)
@example(listing_took=0, apart=-300_000, part=0, rounds_up=False)
@example(listing_took=0, apart=-300_000, part=999, rounds_up=False)
def test_nothing_that_was_stored_since_the_listing_before_is_believed_for_its_date(
    listing_took: int, apart: int, part: int, rounds_up: bool
) -> None:
    """Wherever in a second it began, and whatever the server's clock shows within five minutes."""
    began = NOON + timedelta(milliseconds=part)
    shown = began + timedelta(milliseconds=listing_took + apart)
    modified = shown.replace(microsecond=0) + timedelta(seconds=rounds_up)
    now, before = listed(modified=modified), line(modified=modified)
    assert words(compare([now], [before], previous_at=began)) == ["a unsettled"]


def test_without_a_listing_before_no_date_is_believed() -> None:
    assert words(compare([listed()], [line()], previous_at=None)) == ["a unsettled"]


def test_an_unsettled_object_is_fetched_whatever_else_is_known_of_it() -> None:
    """The line of an object in an emptied pack stands when it cannot be fetched; this must not."""
    at: Any = {"previous_at": NOON, "avoid": {PACK}}
    tagged = ListedObject("a", "e", 3, NOON, {"other": "tags"})
    assert words(compare([tagged], [line()], **at)) == ["a unsettled"]
    assert words(compare([listed(etag="x")], [line()], **at)) == ["a changed"]
    assert words(compare([listed()], [failed("a")], **at)) == ["a unreadable before"]


def test_a_moment_is_the_listed_one_where_the_server_means_the_same() -> None:
    second = int(NOON.timestamp())
    for listed_at, expected in ((second, NOON), (second - 1, NOON - timedelta(seconds=1))):
        assert listed_moment(listed_at, NOON) == expected
    assert listed_moment(second - 2, NOON) == NOON
    assert listed_moment(None, NOON) == NOON


def test_a_listing_out_of_order_and_a_key_twice_are_told() -> None:
    for keys in (["b", "a"], ["a", "a"], ["é", "z"]):
        with pytest.raises(ListingUnordered):
            list(compare(map(listed, keys), [], previous_at=None))


def test_an_inventory_out_of_order_is_invalid() -> None:
    with pytest.raises(ManifestInvalid, match="out of order"):
        list(compare([], [line("b"), line("a")], previous_at=LATER))


KEYS = st.dictionaries(st.text(min_size=1, max_size=4), st.sampled_from(["e", "f"]), max_size=20)


@given(before=KEYS, now=KEYS)
def test_a_comparison_is_what_two_dictionaries_say(
    before: dict[str, str], now: dict[str, str]
) -> None:
    def ordered(keys: dict[str, str]) -> list[str]:
        return sorted(keys, key=str.encode)

    previous = [line(key, etag=before[key]) for key in ordered(before)]
    listing = [listed(key, etag=now[key]) for key in ordered(now)]
    changes = list(compare(listing, previous, previous_at=LATER))
    carried = {change.line.key for change in changes if isinstance(change, Carried)}
    wanted = {change.listed.key for change in changes if isinstance(change, Wanted)}
    gone = {change.line.key for change in changes if isinstance(change, Gone)}
    assert carried == {key for key in now if before.get(key) == now[key]}
    assert wanted == now.keys() - carried
    assert gone == before.keys() - now.keys()
    totals = Totals()
    for change in changes:
        totals.count(change)
    assert (totals.listed, totals.known) == (len(now), len(before))
    assert totals.wanted == len(wanted)
    assert totals.listed == totals.carried + totals.wanted


def test_too_many_overwritten_or_deleted_objects_are_suspect() -> None:
    fifth = Decimal("0.2")
    assert mass_change(Totals(known=100, changed=15, gone=5), fifth) is None
    reason = mass_change(Totals(known=100, changed=15, gone=6), fifth)
    assert reason is not None
    assert "15 of 100 known objects were overwritten and 6 deleted" in reason
    assert mass_change(Totals(known=100, changed=15, gone=6), fifth, expected=10) is None
    assert mass_change(Totals(known=0, new=1000), fifth) is None
    assert mass_change(Totals(known=10, new=1000), fifth) is None


def test_half_dead_packs_are_vacated_emptiest_first_within_their_share() -> None:
    kib = 1024
    packs = dict.fromkeys(("whole", "dead", "poor", "poorer"), 100 * kib) | {"none": 0}
    lines = [
        line("a", pack=None, sha256=None, error="x"),
        *(
            Line(key, size=size, pack=pack)
            for key, size, pack in (
                ("b", 90 * kib, "whole"),
                ("c", 40 * kib, "poor"),
                ("d", 30 * kib, "poorer"),
            )
        ),
    ]
    assert vacating(lines, packs, share=Decimal(1)) == {"dead", "poor", "poorer"}
    assert vacating(lines, packs, share=Decimal("0.1")) == {"dead", "poorer"}
    assert vacating(lines, packs, share=Decimal(0)) == {"dead"}


def test_a_pack_of_the_smallest_objects_is_alive() -> None:
    """Their tar, and what sealing adds, are larger than they are."""
    alone = [line("a", size=1, pack=PACK)]
    assert vacating(alone, {PACK: 3000}, share=Decimal(1)) == frozenset()
    many = [line(f"{number:05}", size=1, pack=PACK) for number in range(10_000)]
    assert vacating(many, {PACK: 11_000_000}, share=Decimal(1)) == frozenset()
    assert vacating(many[:4000], {PACK: 11_000_000}, share=Decimal(1)) == {PACK}


@given(
    key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    carried=st.dictionaries(
        st.sampled_from(["pack", "sha256", "size", "raw", '"pack":"', "x"]),
        st.sampled_from(["1", '"', '","sha256":"', f'p","sha256":"{"a" * 64}","size":5', "\\"]),
    ),
    size=st.integers(0, 2**40),
)
def test_the_place_of_an_object_is_found_whatever_people_wrote_beside_it(
    key: str, carried: dict[str, str], size: int
) -> None:
    digest, pack = "0123456789abcdef" * 4, "20261123T050000Z-abcdef/12.tar.zst.age"
    made = Entry(
        key=key,
        etag="e",
        size=size,
        modified=NOON,
        headers=carried,
        metadata=carried,
        tags=carried,
        tags_at=NOON,
        sha256=digest,
        pack=pack,
    )
    read = read_line(made.line(), where="x")
    assert (read.key, read.pack, read.sha256, read.size) == (key, pack, digest, size)
    assert (read.raw, read.where) == (made.line(), "x")
    lost = Entry(key=key, etag="e", size=size, modified=NOON, metadata=carried, error="gone")
    assert read_line(lost.line(), where="x").pack is None


def test_a_restored_bucket_has_a_name_that_s3_takes() -> None:
    assert restored_bucket("bucket/docs", NOON) == "docs-restored-20261123-120000"
    assert len(restored_bucket(f"bucket/{'d' * 63}", NOON)) == 63
    # Two whose names begin alike are restored in the same second by a restore of everything.
    one, other = (restored_bucket(f"bucket/{'d' * 55}-{end}", NOON) for end in ("front", "back"))
    assert one != other
    assert one.endswith("-restored-20261123-120000")


def test_the_place_of_an_inventory_says_whether_it_is_sealed() -> None:
    target, backup = Target("bucket", "docs"), BackupId.parse("20261123T050000Z-1f0c9a")
    for sealed in (True, False):
        path = inventory_path(target, backup, sealed=sealed)
        assert path.endswith(".age") == sealed
        assert is_inventory(path)
        assert is_known(path, target)
    assert not is_inventory("backups/bucket/docs/20261123T050000Z-1f0c9a/manifest.json")


def snapshot(**changed: Any) -> Manifest:
    database = samples.manifest()
    facts = {
        "bucket": "docs",
        "listing_started": NOON,
        "listing_ended": NOON,
        "objects": 2,
        "bytes": 6,
        "carried": 0,
        "fetched": 2,
        "gone": 0,
        "unreadable": 0,
        "inventory": DIGEST,
        "inventory_size": 10,
        "lines": DIGEST,
        "tags_as_of": None,
        "settings": {"versioning": "off"},
    }
    values = {**database.values(), "target": "bucket/docs", "packs": [], "bucket": facts}
    del values["postgres"]
    return Manifest.model_validate({**values, **changed}, strict=False)


def test_a_manifest_of_a_bucket_is_read_as_it_was_written() -> None:
    one = snapshot()
    assert b'"postgres"' not in one.encode()
    assert Manifest.decode(one.encode(), where="x") == one
    assert (one.objects, one.rows, one.tables, one.unreadable) == (2, None, None, 0)
    assert one.snapshot_time == NOON
    assert inventory_of(one).path.startswith("backups/bucket/docs/")


def test_a_manifest_of_a_database_has_no_word_of_buckets() -> None:
    one = samples.manifest()
    assert b'"bucket"' not in one.encode()
    assert (one.objects, one.unreadable, one.rows) == (None, 0, one.database.rows)
    assert one.tables == len(one.database.tables)
    with pytest.raises(ManifestInvalid, match="is no bucket"):
        inventory_of(one)


def test_a_snapshot_is_no_database() -> None:
    with pytest.raises(ManifestInvalid, match="is no database"):
        _ = snapshot().database


def test_a_manifest_describes_its_own_kind_and_a_dump_has_packs() -> None:
    with pytest.raises(ValueError, match="another kind of target"):
        snapshot(target="postgres/docs")
    values = {**samples.manifest().values(), "packs": []}
    with pytest.raises(ValueError, match="a dump without packs"):
        Manifest.model_validate(values, strict=False)

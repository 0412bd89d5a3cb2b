"""Claims about the plan of a restore in place: what is the same, what differs, where things go."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.contracts import BucketRestoreRequest
from pgben_tasks.domain.buckets.capture import (
    OBJECT_TAGS,
    BucketSettings,
    aside_bucket,
    further_aside,
    places,
)
from pgben_tasks.domain.buckets.inventory import Entry, Line, read_line
from pgben_tasks.domain.buckets.restore_plan import (
    Content,
    KeyChoice,
    Planned,
    PlanTotals,
    Verdict,
    between,
    planned,
    version_mark,
)
from pgben_tasks.errors import ManifestInvalid, RequestRefused

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PACK = "20261123T050000Z-1f0c9a/1.tar.age"
TARGET = "bucket/documentos"


def content(**changed: Any) -> Content:
    facts: dict[str, Any] = {
        "sha256": "a" * 64,
        "size": 3,
        "headers": {"content-type": "image/jpeg"},
        "metadata": {"iv": "1"},
        "tags": {"setor": "social"},
    }
    return Content(**{**facts, **changed})


def line(key: str = "a", **changed: Any) -> Line:
    facts = {"etag": "e", "size": 3, "modified": NOON, "sha256": "a" * 64, "pack": PACK}
    return read_line(Entry(key=key, **{**facts, **changed}).line(), where="inventory")


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({}, ()),
        ({"sha256": "b" * 64}, ("bytes",)),
        ({"size": 4}, ("size",)),
        ({"headers": {"content-type": "text/html"}}, ("headers",)),
        ({"headers": {"content-type": "image/jpeg", "expires": "0"}}, ("headers",)),
        ({"metadata": {}}, ("metadata",)),
        ({"tags": {}, "metadata": {"iv": "2"}}, ("metadata", "tags")),
    ],
)
def test_an_object_differs_in_what_is_not_the_same(
    changed: dict[str, Any], differs: tuple[str, ...]
) -> None:
    assert content().differs(content(**changed)) == differs


def test_a_content_type_that_a_server_gave_by_itself_is_no_difference() -> None:
    plain = content(headers={})
    assert plain.differs(content(headers={"content-type": "binary/octet-stream"})) == ()
    assert content().differs(plain) == ("headers",)


def test_tags_that_nobody_knows_are_not_compared_and_known_ones_are() -> None:
    unknown = content(tags=None)
    assert unknown.differs(content()) == ()
    assert content().differs(unknown) == ("tags",)
    assert content(tags={}).differs(unknown) == ()


def test_a_snapshot_of_a_server_without_tags_says_so() -> None:
    assert BucketSettings(versioning="off").knows_object_tags
    assert not BucketSettings(versioning="off", unknown=("lock", OBJECT_TAGS)).knows_object_tags


def test_the_same_bytes_stored_again_are_another_version() -> None:
    tags, metadata = {"setor": "sa\u00fade", "a": "b"}, {"iv": "00ff", "c": "d"}
    same = partial(version_mark, "e", NOON, metadata=metadata, tags=tags)
    mark = same()
    assert mark == version_mark("e", NOON + timedelta(milliseconds=4), metadata=metadata, tags=tags)
    assert mark == same(tags=dict(reversed(tags.items())))
    assert mark == same(metadata=dict(reversed(metadata.items())))
    later = NOON + timedelta(seconds=1)
    assert mark != version_mark("e", later, metadata=metadata, tags=tags)
    assert mark != version_mark("f", NOON, metadata=metadata, tags=tags)
    for other in ({}, {"setor": "b", "a": "sa\u00fade"}):
        assert mark != same(tags=other)
        assert mark != same(metadata=other)
    assert mark != same(tags=metadata, metadata=tags)
    assert "setor" not in mark
    assert "00ff" not in mark


@pytest.mark.parametrize("found", ["missing", "differing", "tags"])
def test_a_line_of_the_plan_is_read_as_it_was_written_and_groups_like_its_pack(found: Any) -> None:
    one = planned(Verdict(found=found, line=line("\u00e9")))
    assert one is not None
    read = read_line(one.raw(), where="plan")
    assert Planned.read(read) == one
    assert (read.key, read.pack, read.size) == ("\u00e9", PACK, 3)
    assert one.entry() == line("\u00e9").entry()


@pytest.mark.parametrize("found", ["same", "unreadable"])
def test_what_is_left_alone_is_in_no_plan(found: Any) -> None:
    assert planned(Verdict(found=found, line=line())) is None


def test_an_extra_object_has_no_content_in_the_snapshot() -> None:
    extra = planned(Verdict(found="extra", listed=line()))
    assert extra is not None
    with pytest.raises(ManifestInvalid, match="not in the snapshot"):
        extra.entry()
    with pytest.raises(ManifestInvalid, match="no plan"):
        Planned.read(line())


def test_totals_count_objects_and_bytes() -> None:
    totals = PlanTotals()
    for found in ("same", "same", "missing", "extra", "unreadable"):
        totals.count(Verdict(found=found, line=line()))
    assert (totals.objects_of("same"), totals.size("same", "missing"), totals.readable) == (2, 9, 3)


def test_single_keys_and_a_prefix_choose() -> None:
    assert KeyChoice().takes("a")
    assert KeyChoice(prefix="a/").takes("a/b")
    assert not KeyChoice(prefix="a/").takes("ab")
    assert KeyChoice(keys=frozenset({"a"})).takes("a")
    assert not KeyChoice(keys=frozenset({"a"})).takes("a/b")


keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3)
snapshots = st.dictionaries(keys, st.sampled_from(["1", "2", "unreadable"]), max_size=8)


@given(before=snapshots, after=snapshots)
def test_two_snapshots_differ_as_two_dictionaries_do(
    before: dict[str, str], after: dict[str, str]
) -> None:
    def lines(found: dict[str, str]) -> list[Line]:
        kept: dict[str, dict[str, Any]] = {
            "1": {"metadata": {"iv": "1"}},
            "2": {"metadata": {"iv": "2"}},
            "unreadable": {"sha256": None, "pack": None, "error": "StoreUnavailable"},
        }
        return [line(key, **kept[found[key]]) for key in sorted(found)]

    def word(key: str) -> str:
        if key not in before:
            return "extra"
        if key not in after:
            return "missing"
        if "unreadable" in (before[key], after[key]):
            return "unreadable"
        return "same" if before[key] == after[key] else "differing"

    got = [(verdict.key, verdict.found) for verdict in between(lines(before), lines(after))]
    every = sorted(before.keys() | after.keys())
    assert got == [(key, word(key)) for key in every]


def test_two_lines_say_the_same_whenever_the_tags_were_read() -> None:
    later = NOON + timedelta(days=1)
    named = {"tags_at": "2026-11-23T12:00:00Z", "version": "v"}
    one = line(tags=named, tags_at=NOON, version="1")
    assert one.says_the_same(line(tags=named, tags_at=NOON, version="1"))
    assert one.says_the_same(line(tags=named, tags_at=later, version="1"))
    for other in (
        line(tags=named, tags_at=later, version="2"),
        line(tags={**named, "tags_at": later.isoformat()}, tags_at=later, version="1"),
        line(tags=named, tags_at=later, version="1", metadata={"iv": "1"}),
        line(tags=named, version="1"),
    ):
        assert not one.says_the_same(other)
        assert not other.says_the_same(one)


def test_what_differs_in_its_tags_only_is_told_apart_where_both_know_tags() -> None:
    before, after = [line(tags={"a": "1"})], [line(tags={"a": "2"})]
    (verdict,) = between(before, after)
    assert (verdict.found, verdict.differs) == ("tags", ("tags",))
    assert (verdict.line, verdict.listed) == (before[0], after[0])
    (verdict,) = between(before, after, tags=False)
    assert verdict.found == "same"


def test_a_further_attempt_writes_aside_where_the_one_before_did() -> None:
    first = places(TARGET, NOON, into=None, in_place=True, kept={})
    assert first == {"into": "documentos", "aside": "documentos-aside-20261123-120000"}
    later = NOON + timedelta(hours=1)
    assert places(TARGET, later, into=None, in_place=True, kept=first) == first
    chosen = {**first, "snapshot": "20261123T050000Z-1f0c9a"}
    assert places(TARGET, later, into=None, in_place=True, kept=chosen) == chosen
    beside = places(TARGET, NOON, into=None, in_place=False, kept={})
    assert beside == {"into": "documentos-restored-20261123-120000"}
    assert places(TARGET, later, into=None, in_place=False, kept=beside) == beside
    assert places(TARGET, NOON, into="x", in_place=False, kept=beside) == {"into": "x"}
    begun = {**beside, "snapshot": "the first", "copying": True}
    assert places(TARGET, later, into=None, in_place=False, kept=begun) == begun


def test_places_aside_have_names_that_s3_takes() -> None:
    long = aside_bucket(f"bucket/{'d' * 63}", NOON)
    for number in (1, 2, 12):
        name = further_aside(long, number)
        assert len(name) <= 63
        assert re.search(r"ddd-[0-9a-f]{6}-aside-20261123-120000", name)
    assert further_aside("docs-aside-1", 1) == "docs-aside-1"
    assert len({further_aside(long, number) for number in range(1, 30)}) == 29


@pytest.mark.parametrize(
    "fields",
    [
        {"in_place": True, "into": "other-bucket"},
        {"in_place": True, "put_below": "x/"},
        {"delete_extra": True},
        {"confirm": "documentos"},
        {"in_place": True, "delete_extra": True, "keys": ["a"]},
        {"in_place": True, "prefix": "a", "keys": ["a"]},
    ],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused):
        BucketRestoreRequest.parse({"target": TARGET, **fields})


def test_only_in_place_replaces_something() -> None:
    def replaces(**fields: Any) -> bool:
        return BucketRestoreRequest.parse({"target": TARGET, **fields}).replaces

    assert replaces(in_place=True)
    assert not replaces()

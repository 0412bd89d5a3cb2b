"""Claims about snapshots one after another: counts, versions, what is from before a suspicion."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.buckets.history import (
    Changes,
    Part,
    Sighting,
    Span,
    count_changes,
    first_suspect,
    good_before,
    spans,
)
from pgben_tasks.domain.buckets.inventory import Entry, Line, read_line
from pgben_tasks.domain.documents import Finding
from pgben_tasks.domain.states import BackupStanding, KnownBackup, State
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import ManifestInvalid
from pgben_tasks.operations.buckets.history import choose
from pgben_tasks.operations.repository.survey import Survey, Surveyed
from tests.support import samples

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PACK = "20261123T050000Z-1f0c9a/1.tar.age"
UNREADABLE: dict[str, Any] = {"sha256": None, "pack": None, "error": "StoreUnavailable"}
NONE = Part(objects=0, bytes=0)


def line(key: str = "a", **changed: Any) -> Line:
    facts = {"etag": "e", "size": 3, "modified": NOON, "sha256": "a" * 64, "pack": PACK}
    return read_line(Entry(key=key, **{**facts, **changed}).line(), where="inventory")


def snapshot(number: int, state: State = State.VERIFIED, **standing: Any) -> KnownBackup:
    at = NOON + timedelta(days=number)
    return KnownBackup(
        id=BackupId.make(at, "1f0c9a"),
        sequence=number,
        started=at,
        snapshot_time=at,
        standing=BackupStanding(state=state, **standing),
        bytes=1,
    )


# --- counts

#: What an object is like: its size, and what is different about it.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "longer": {"size": 5, "sha256": "b" * 64},
    "with metadata": {"metadata": {"iv": "1"}},
    "with a header": {"headers": {"content-language": "pt"}},
    "with tags": {"tags": {"setor": "social"}, "tags_at": NOON},
    "unreadable": UNREADABLE,
}
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3)
snapshots = st.dictionaries(keys, st.sampled_from(sorted(KINDS)), max_size=8)


@given(before=snapshots, after=snapshots)
def test_changes_are_counted_as_two_dictionaries_differ(
    before: dict[str, str], after: dict[str, str]
) -> None:
    def lines(found: dict[str, str]) -> Iterator[Line]:
        return (line(key, **KINDS[found[key]]) for key in sorted(found))

    def part(found: dict[str, str], which: set[str]) -> Part:
        sizes = [KINDS[found[key]].get("size", 3) for key in which]
        return Part(objects=len(sizes), bytes=sum(sizes))

    both = before.keys() & after.keys()
    unknown = {one for one in both if "unreadable" in (before[one], after[one])}
    other = {one for one in both - unknown if before[one] != after[one]}
    retagged = {one for one in other if {before[one], after[one]} == {"plain", "with tags"}}
    assert count_changes(lines(before), lines(after), tags=True) == Changes(
        known=len(before),
        added=part(after, after.keys() - before.keys()),
        changed=part(before, other - retagged),
        retagged=part(before, retagged),
        deleted=part(before, before.keys() - after.keys()),
        not_compared=len(unknown),
    )
    assert count_changes(lines(before), lines(after), tags=False).retagged == NONE


def test_a_night_is_marked_by_the_measure_of_the_tripwire() -> None:
    before = [line(f"{number:02d}") for number in range(10)]
    after = [line("00", size=9, sha256="b" * 64), *before[2:]]
    changes = count_changes(before, after, tags=True)
    assert changes.mass_change(Decimal("0.2")) is None
    assert changes.mass_change(Decimal("0.1")) == (
        "1 of 10 known objects were overwritten and 1 deleted: more than 10%"
    )
    retagged = [line(one.key, tags={"a": "b"}) for one in before]
    assert count_changes(before, retagged, tags=True).mass_change(Decimal(0)) is None


def test_nothing_is_counted_of_an_inventory_that_is_out_of_order() -> None:
    right, wrong = [line("a"), line("b")], [line("b"), line("a")]
    for both in ((right, wrong), (wrong, right)):
        with pytest.raises(ManifestInvalid, match="out of order"):
            count_changes(*both, tags=True)


def test_counting_needs_no_more_memory_for_more_objects() -> None:
    plain = line("KEY", tags={"a": "b"}, tags_at=NOON)
    later = line("KEY", tags={"a": "b"}, tags_at=NOON + timedelta(days=1))

    def peak(number: int) -> int:
        def lines(like: Line) -> Iterator[Line]:
            for n in range(number):
                yield read_line(like.raw.replace(b"KEY", f"{n:06d}".encode()), where="inventory")

        tracemalloc.start()
        try:
            assert count_changes(lines(plain), lines(later), tags=True).known == number
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(20_000) < peak(200) + 10_000


# --- versions of one object


def told(*lines: Line | None, knows_tags: tuple[bool, ...] = ()) -> list[Span]:
    knows = knows_tags or (True,) * len(lines)
    return spans(
        Sighting(backup=snapshot(number), line=one, knows_tags=tags)
        for number, (one, tags) in enumerate(zip(lines, knows, strict=True), 1)
    )


def test_the_history_of_an_object_begins_where_it_appeared() -> None:
    assert told(None, None) == []
    (only,) = told(None, line(), line(tags_at=NOON))
    assert (only.what, only.differs, only.again, only.entry) == ("kept", (), False, line().entry())
    assert [one.sequence for one in only.backups] == [2, 3]


def test_each_other_version_says_what_differs_from_the_one_before() -> None:
    other = line(size=4, sha256="b" * 64)
    found = told(line(), other, line(), line(metadata={"iv": "1"}), line(metadata={"iv": "1"}))
    assert [one.differs for one in found] == [
        (),
        ("size", "bytes"),
        ("size", "bytes"),
        ("metadata",),
    ]
    assert [len(one.backups) for one in found] == [1, 1, 1, 2]


def test_what_is_gone_or_unreadable_is_told_and_what_comes_back_is_compared() -> None:
    lost = line(**UNREADABLE)
    found = told(line(), None, None, line(), lost, line(size=4, sha256="b" * 64))
    assert [(one.what, one.again, bool(one.differs)) for one in found] == [
        ("kept", False, False),
        ("gone", False, False),
        ("kept", True, False),
        ("unreadable", False, False),
        ("kept", False, True),
    ]
    assert found[1].entry is None
    assert [one.what for one in told(lost, None)] == ["unreadable", "gone"]


def test_tags_count_between_snapshots_that_know_them() -> None:
    tagged, other = line(tags={"a": "1"}), line(tags={"a": "2"})
    assert [one.differs for one in told(tagged, other)] == [(), ("tags",)]
    blind = (True, False, True)
    assert len(told(tagged, line(), tagged, knows_tags=blind)) == 1
    found = told(tagged, line(), other, knows_tags=blind)
    assert [one.differs for one in found] == [(), ("tags",)]
    found = told(line(), tagged, other, knows_tags=(False, True, True))
    assert [(one.differs, len(one.backups)) for one in found] == [((), 2), (("tags",), 1)]
    bytes_too = line(size=4, sha256="b" * 64)
    last = line(size=4, sha256="b" * 64, tags={"a": "1"})
    found = told(tagged, bytes_too, last, knows_tags=blind)
    assert [one.differs for one in found] == [(), ("size", "bytes")]


def test_the_source_of_a_version_is_the_newest_snapshot_that_a_restore_takes() -> None:
    good = [State.VERIFIED, State.INCOMPLETE, State.VERIFIED_UNOPENED, State.VERIFIED_EXCEPTIONS]
    bad = [State.UNVERIFIED, State.DAMAGED]
    backups = [snapshot(n, state) for n, state in enumerate([*good, *bad])]
    assert Span(what="kept", backups=backups).source == backups[3]
    assert Span(what="kept", backups=backups[4:]).source == backups[5]
    assert Span(what="kept", backups=[snapshot(1, suspect="much")]).source.sequence == 1


# --- which snapshots


def test_snapshots_are_chosen_in_the_order_of_their_numbers_and_the_unreadable_by_time() -> None:
    # The clock was set back before the third.
    known = [snapshot(1), snapshot(4), replace(snapshot(2), sequence=5), snapshot(6)]
    backups = tuple(
        Surveyed(manifest=samples.manifest(), statements=(), known=one) for one in known[::-1]
    )
    lost = BackupId.make(NOON + timedelta(days=3), "ffffff")
    finding = Finding(kind="invalid", path="manifest.json", detail="it is no JSON")
    found = Survey(target=samples.TARGET, backups=backups, unreadable=((lost, finding),))
    every = [known[0].id, lost, *(one.id for one in known[1:])]

    def chosen(last: int | None = None, since: datetime | None = None) -> list[BackupId]:
        choice = choose(found, last=last, since=since)
        assert [one.id for one in (*choice.older, *choice.chosen)] == every
        return [one.id for one in choice.chosen]

    assert chosen() == every
    assert chosen(last=2) == every[-2:]
    assert chosen(last=9) == every
    assert chosen(since=NOON + timedelta(days=3)) == every[1:]
    assert chosen(since=NOON + timedelta(days=3, seconds=1)) == every[2:]
    assert chosen(last=1, since=NOON) == every[-1:]
    assert chosen(last=4, since=NOON + timedelta(days=5)) == every[-1:]
    assert chosen(since=NOON + timedelta(days=7)) == []
    (doubtful,) = [one for one in choose(found, last=None, since=None).chosen if one.fault]
    assert (doubtful.id, doubtful.fault, doubtful.moment) == (lost, "it is no JSON", None)


# --- before a suspicion


def test_the_first_suspicion_counts_that_nobody_acknowledged() -> None:
    seen = snapshot(2, suspect="much", acknowledged=True)
    open_ones = [snapshot(4, suspect="much"), snapshot(6, suspect="much")]
    every = [snapshot(7), open_ones[1], snapshot(5), open_ones[0], snapshot(3), seen, snapshot(1)]
    assert first_suspect(every) == open_ones[0]
    assert first_suspect([seen, snapshot(3)]) is None
    assert [one.sequence for one in good_before(every, open_ones[0])] == [1, 2, 3]


def test_what_does_not_count_is_not_good_before_a_suspicion() -> None:
    suspect = snapshot(9, suspect="much")
    states = [State.DAMAGED, State.UNVERIFIED, State.INCOMPLETE, State.VERIFIED_UNOPENED]
    every = [snapshot(number, state) for number, state in enumerate(states)]
    assert [one.sequence for one in good_before([*every, suspect], suspect)] == [3]
    # The sequence tells which is older, whatever clocks said.
    late = replace(snapshot(30), sequence=5)
    assert good_before([late], suspect) == [late]

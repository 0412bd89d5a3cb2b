"""The chain of the audit trail: whole it is silent, and nothing done to it goes unnoticed."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, strategies as st

from pgben_tasks.domain.documents import AuditEntry, Finding
from pgben_tasks.domain.trail import assemble, entry_digest
from tests.support.samples import START, audit_entry


def chain(length: int, *, first: int = 1, who: str = "ana") -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for number in range(first, first + length):
        entries.append(
            audit_entry(
                sequence=number,
                previous=entry_digest(entries[-1]) if entries else None,
                at=START + timedelta(minutes=number),
                who=who,
            )
        )
    return entries


lengths = st.integers(min_value=2, max_value=12)


@given(st.data())
def test_a_whole_chain_has_no_findings_in_whatever_order_it_is_read(data: st.DataObject) -> None:
    entries = chain(data.draw(lengths))
    trail = assemble(data.draw(st.permutations(entries)))
    assert list(trail.entries) == entries
    assert trail.findings == ()


def test_an_empty_trail_is_whole() -> None:
    assert assemble([]).findings == ()


@given(st.data())
def test_an_entry_that_was_taken_out_is_missed(data: st.DataObject) -> None:
    entries = chain(data.draw(lengths))
    gone = data.draw(st.integers(min_value=0, max_value=len(entries) - 2))
    del entries[gone]
    (finding,) = assemble(entries).findings
    assert finding.kind == "missing"
    assert f"entry {gone + 1} cannot be found" in finding.detail


@given(st.data())
def test_an_entry_that_was_replaced_breaks_the_chain_after_it(data: st.DataObject) -> None:
    entries = chain(data.draw(lengths))
    at = data.draw(st.integers(min_value=0, max_value=len(entries) - 2))
    entries[at] = entries[at].model_copy(update={"who": "eva"})
    (finding,) = assemble(entries).findings
    assert finding.kind == "forged"
    assert finding.path == f"audit/2026/11/{at + 2}.json"


def test_a_range_that_was_taken_out_is_named_once() -> None:
    (finding,) = assemble(chain(9)[6:]).findings
    assert "entries 1 to 6 cannot be found" in finding.detail


def test_an_unreadable_entry_is_told_as_what_it_is_and_not_as_missing() -> None:
    entries = chain(4)
    fault = Finding(kind="forged", path="audit/2026/11/2.json", detail="it has no signature")
    trail = assemble([entries[0], *entries[2:]], {2: fault})
    assert trail.findings == (fault,)


def test_of_a_trail_that_is_read_from_its_middle_only_that_part_is_judged() -> None:
    tail = chain(9)[4:]
    assert assemble(tail, first=5).findings == ()
    assert [one.kind for one in assemble(tail).findings] == ["missing"]
    gap = assemble([*tail[:1], *tail[2:]], first=5).findings
    assert [one.detail for one in gap] == ["before it, entry 6 cannot be found"]


def test_of_two_trails_in_one_repository_the_one_that_goes_on_is_kept() -> None:
    old, new = chain(6), chain(3, who="eva")
    trail = assemble([*old, *new])
    assert list(trail.entries) == old
    assert [one.kind for one in trail.findings] == ["extra"] * 3
    longer = assemble([*chain(2), *chain(5, who="eva")])
    assert [one.who for one in longer.entries] == ["eva"] * 5

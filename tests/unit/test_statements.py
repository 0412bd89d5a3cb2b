"""Claims about the chain of statements: none is taken out unnoticed, and the worse one counts."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.documents import Finding, Verification
from pgben_tasks.domain.statements import breaks, in_order, next_link, statement_digest
from pgben_tasks.domain.states import State, state_of
from pgben_tasks.domain.values import canonical
from pgben_tasks.errors import ManifestInvalid
from tests.support import samples

MANIFEST = samples.manifest()
FINDING = Finding(kind="damaged", path="packs/1.tar.age", detail="another digest")
COUNTER = itertools.count(1)


def statement(kind: str = "full", *, bad: bool = False, **fields: Any) -> Verification:
    """Make a statement a minute after the last one; ``link`` chains it."""
    number = next(COUNTER)
    link = fields.pop("link", None)
    chained = {} if link is None else link._asdict()
    return samples.verification(
        id=f"20261123T05{number // 60 % 60:02}{number % 60:02}Z-{number:06x}",
        at=samples.START + timedelta(minutes=number),
        kind=kind,
        opened=True,
        manifest=samples.sha256(MANIFEST.encode()),
        findings=(FINDING,) if bad else (),
        **chained,
        **fields,
    )


def chain(marks: str, before: tuple[Verification, ...] = ()) -> list[Verification]:
    """Make a chain of full verifications after statements without links; ``x`` has findings."""
    made = list(before)
    for mark in marks:
        made.append(statement(bad=mark == "x", link=next_link(made)))
    return made


def state(statements: list[Verification]) -> State:
    return state_of(MANIFEST, statements).state


def test_a_statement_without_a_link_is_written_as_it_always_was() -> None:
    alone = statement("readback")
    assert not {"number", "previous", "earlier", "needs"} & set(alone.values())
    assert samples.audit_entry().values().keys() == {
        *("format", "repository", "sequence", "previous", "at", "who", "action", "target"),
        *("backup", "job", "result", "detail"),
    }


def test_the_first_link_lists_all_statements_before_it_and_the_next_names_the_one_before() -> None:
    old = (statement("readback"), statement("quick"))
    first, second = chain("--", before=old)[2:]
    assert (first.number, first.previous) == (1, None)
    assert first.earlier == tuple(sorted(map(statement_digest, old)))
    assert (second.number, second.previous, second.earlier) == (2, statement_digest(first), None)
    assert next_link([]).earlier is None


@given(st.text("x-", min_size=1, max_size=5), st.integers(0, 2), st.data())
def test_any_statement_but_the_newest_that_is_taken_out_leaves_a_break(
    marks: str, unchained: int, data: st.DataObject
) -> None:
    made = chain(marks, before=tuple(statement("quick") for _ in range(unchained)))
    assert list(breaks(made)) == []
    taken = data.draw(st.sampled_from(made[:-1] or made))
    left = [one for one in made if one is not taken]
    if taken is made[-1]:
        assert list(breaks(left)) == []
        return
    assert [found.kind for found in breaks(left)].count("missing") == 1


def test_a_number_that_does_not_follow_is_found() -> None:
    first = chain("-")[0]
    wrong = statement(link=next_link([first])._replace(number=7))
    assert [found.kind for found in breaks([first, wrong])] == ["invalid"]
    without = statement(link=next_link([])._replace(number=2))
    assert [found.kind for found in breaks([without])] == ["invalid"]


def test_the_order_is_that_of_the_chain_not_of_clocks() -> None:
    damaged, healed = chain("x-")
    early = healed.model_copy(update={"at": samples.START, "id": "20261101T000000Z-aaaaaa"})
    assert in_order([early, damaged]) == [damaged, early]
    assert state([early, damaged]) is State.VERIFIED


def test_of_two_that_did_not_know_of_each_other_the_worse_one_counts() -> None:
    for main_is_bad in (True, False):
        start = chain("-")
        main = statement(bad=main_is_bad, link=next_link(start))
        # A second writer, as direct mode, saw the same head; its statement comes later.
        aside = statement(bad=not main_is_bad, link=next_link(start))
        both = [*start, main, aside]
        assert list(breaks(both)) == []
        assert state(both) is State.DAMAGED
        later = statement(link=next_link([*start, main]))
        assert state([*both, later]) is (State.DAMAGED if not main_is_bad else State.VERIFIED)
        # Whoever has seen both and read everything anew may clear it.
        joined = statement(link=next_link([*both, later]))
        assert joined.earlier is not None
        assert list(breaks([*both, later, joined])) == []
        assert state([*both, later, joined]) is State.VERIFIED


def test_a_statement_without_a_link_after_the_first_link_counts_when_it_is_bad() -> None:
    made = chain("--")
    older_version = statement(bad=True)
    assert state([*made, older_version]) is State.DAMAGED
    assert state([*made, older_version, statement(link=next_link(made))]) is State.DAMAGED
    seen = statement(link=next_link([*made, older_version]))
    assert state([*made, older_version, seen]) is State.VERIFIED
    clean = statement()
    assert state([*chain("-x"), clean]) is State.DAMAGED


@given(st.text("x-", max_size=6), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_how_statements_are_found(marks: str, chance: Any) -> None:
    made = chain(marks, before=(statement("readback"), statement("quick")))
    mixed = list(made)
    chance.shuffle(mixed)
    assert in_order(mixed) == made


@pytest.mark.parametrize("field", ["needs", "number", "previous", "earlier"])
def test_a_field_that_says_nothing_is_refused_when_it_is_written(field: str) -> None:
    values = {**statement().values(), field: None}
    with pytest.raises(ManifestInvalid, match="canonical"):
        Verification.decode(canonical(values), where="here")

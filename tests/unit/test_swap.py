"""Claims about swaps as values: what became of one, and how databases are named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.swap import (
    Swap,
    check_confirmation,
    marker,
    replaced_name,
    restored_name,
    undone_name,
    way_back,
)
from pgben_tasks.errors import RestoreRefused

NOW = datetime(2026, 11, 23, 2, 0, 5, tzinfo=UTC)
LIVE, COPY, SOMEBODY = 16384, 20000, 30000
SWAP = Swap(
    job=uuid4(),
    target="postgres/pgben",
    live="pgben",
    incoming="pgben_restored",
    aside="pgben_replaced",
    live_oid=LIVE,
    incoming_oid=COPY,
)


@pytest.mark.parametrize(
    ("oids", "standing"),
    [
        ({"pgben": LIVE, "pgben_restored": COPY}, "not done"),
        ({"pgben": LIVE}, "not done"),
        ({"pgben": COPY, "pgben_replaced": LIVE}, "done"),
        # Names alone prove nothing, and half a swap is none.
        ({"pgben": SOMEBODY, "pgben_replaced": LIVE}, "unclear"),
        ({"pgben": COPY, "pgben_replaced": SOMEBODY}, "unclear"),
        ({"pgben": COPY}, "unclear"),
        ({"pgben_restored": COPY}, "unclear"),
        ({}, "unclear"),
    ],
)
def test_what_became_of_a_swap_is_told_by_oids(oids: dict[str, int], standing: str) -> None:
    assert SWAP.standing({**oids, "postgres": 5}) == standing


@pytest.mark.parametrize(
    ("oids", "standing"),
    [
        ({"pgben_restored": COPY}, "not done"),
        ({}, "not done"),
        # Somebody made a database of that name first; it is nothing that the swap has touched.
        ({"pgben": SOMEBODY, "pgben_restored": COPY}, "not done"),
        ({"pgben": COPY}, "done"),
    ],
)
def test_a_swap_that_replaces_nothing_is_done_when_the_copy_has_the_name(
    oids: dict[str, int], standing: str
) -> None:
    swap = replace(SWAP, aside=None, live_oid=None)
    assert swap.standing({**oids, "postgres": 5}) == standing


def test_a_swap_that_replaced_nothing_is_not_offered_to_be_undone() -> None:
    assert f"pgben undo {SWAP.job} --confirm pgben" in way_back(SWAP)
    assert "undo" not in way_back(replace(SWAP, aside=None, live_oid=None))


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=63))
def test_every_name_fits_into_63_bytes_and_says_what_it_is(name: str) -> None:
    made = {
        what: make(name, NOW)
        for what, make in (
            ("replaced", replaced_name),
            ("undone", undone_name),
            ("restored", restored_name),
        )
    }
    assert len(set(made.values())) == 3
    for what, found in made.items():
        assert len(found) <= 63
        assert found.endswith(f"_{what}_20261123_020005")
        assert found.startswith(name[:30])


def test_only_the_very_name_confirms() -> None:
    check_confirmation("pgben", "pgben")
    for wrong in (None, "", "PGBEN", "pgben ", "pgben_copy"):
        with pytest.raises(RestoreRefused, match="'pgben' would be replaced") as caught:
            check_confirmation("pgben", wrong)
        assert "`confirm=pgben`" in caught.value.hint


def test_a_copy_is_marked_for_one_job_only() -> None:
    assert marker(SWAP.job) != marker(uuid4())

"""Claims about when a backup is suspect beside the one before it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.plausibility import Measure, suspicion

BEFORE = Measure(bytes=1000, rows=100, tables=10)
counts = st.integers(min_value=0, max_value=2**50)
measures = st.builds(Measure, counts, counts, counts)


def test_the_first_backup_is_never_suspect() -> None:
    assert suspicion(None, (0, 0, 0), shrink=Decimal("0.3")) is None


@pytest.mark.parametrize(
    ("current", "reason"),
    [
        ((699, 100, 10), "bytes shrank from 1000 to 699: more than 30%"),
        ((1000, 69, 10), "rows shrank from 100 to 69: more than 30%"),
        ((1000, 100, 6), "tables shrank from 10 to 6: more than 30%"),
        ((1, 0, 10), "bytes shrank from 1000 to 1, rows shrank from 100 to 0: more than 30%"),
    ],
)
def test_shrinking_beyond_the_share_is_suspect(current: tuple[int, int, int], reason: str) -> None:
    assert suspicion(BEFORE, current, shrink=0.3) == reason


def test_shrinking_by_exactly_the_share_is_plausible() -> None:
    assert suspicion(BEFORE, (700, 70, 7), shrink=0.3) is None


def test_growing_is_plausible() -> None:
    assert suspicion(BEFORE, (5000, 500, 50), shrink=Decimal(0)) is None


@given(measures, measures)
def test_a_share_of_one_suspects_nothing(before: Measure, after: Measure) -> None:
    assert suspicion(before, after, shrink=1.0) is None


@given(measures, measures)
def test_a_share_of_nothing_suspects_any_loss(before: Measure, after: Measure) -> None:
    lost = any(new < old for old, new in zip(before, after, strict=True))
    assert (suspicion(before, after, shrink=0.0) is not None) == lost

"""Claims about what is left over and what stays."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import get_args

from hypothesis import given, strategies as st

from pgben_tasks.domain.sweeping import Remnant, RemnantKind, decide_remnants
from pgben_tasks.domain.target import BackupId

NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
WEEK = timedelta(days=7)
CAPTURE = BackupId.parse("20261101T050000Z-aaaaaa")
OTHER = BackupId.parse("20261101T050000Z-bbbbbb")


def remnant(age: timedelta = 2 * WEEK, **fields: object) -> Remnant:
    values = {"kind": "pack", "key": "k", "capture": CAPTURE, "touched": NOW - age}
    return Remnant(**(values | fields))  # type: ignore[arg-type]  # test values by name


def reasons(one: Remnant, *, running: Collection[str] = (), lost: Collection[BackupId] = ()) -> str:
    (verdict,) = decide_remnants([one], now=NOW, running=running, lost=lost)
    assert verdict.remnant == one
    return ", ".join(verdict.reasons)


def test_what_is_old_and_nobodys_leaves() -> None:
    for kind in get_args(RemnantKind):
        assert reasons(remnant(kind=kind)) == ""


def test_seven_days_are_not_enough_a_moment_more_is() -> None:
    assert reasons(remnant(WEEK)) == "younger than 7 days"
    assert reasons(remnant(WEEK + timedelta(microseconds=1))) == ""


def test_what_a_job_still_writes_stays_however_old() -> None:
    assert reasons(remnant(9 * WEEK), running={str(CAPTURE)}) == "its job has not ended"
    assert reasons(remnant(9 * WEEK), running={str(OTHER)}) == ""


def test_packs_of_a_lost_backup_stay_however_old() -> None:
    assert reasons(remnant(9 * WEEK), lost={CAPTURE}) == "the manifest of its backup was lost"
    assert reasons(remnant(9 * WEEK), lost={OTHER}) == ""


def test_a_moment_in_the_future_is_young() -> None:
    assert reasons(remnant(-WEEK)) == "younger than 7 days"


@given(
    st.lists(st.tuples(st.timedeltas(-WEEK, 3 * WEEK), st.sampled_from([CAPTURE, OTHER]))),
    st.sets(st.sampled_from([str(CAPTURE), str(OTHER)])),
    st.sets(st.sampled_from([CAPTURE, OTHER])),
)
def test_nothing_leaves_that_any_rule_keeps(
    found: list[tuple[timedelta, BackupId]], running: set[str], lost: set[BackupId]
) -> None:
    verdicts = decide_remnants(
        [remnant(age, capture=capture) for age, capture in found],
        now=NOW,
        running=running,
        lost=lost,
    )
    assert len(verdicts) == len(found)
    for verdict, (age, capture) in zip(verdicts, found, strict=True):
        leaves = age > WEEK and str(capture) not in running and capture not in lost
        assert leaves == (not verdict.reasons)

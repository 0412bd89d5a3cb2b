"""What is foretold of a place: growth, days left, whether tonight fits, and what is an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.report import SpaceFacts
from pgben_tasks.domain.space import (
    LEAST_DAYS,
    MARGIN,
    MOST_DAYS,
    Forecast,
    Night,
    Sample,
    Usage,
    cause,
    coming,
    days_left,
    forecast,
    growth_per_day,
    need,
    space_alarms,
    tighter,
)
from pgben_tasks.domain.windows import Schedule

NOW = datetime(2026, 11, 30, 15, 0, tzinfo=UTC)
DAY = timedelta(days=1)
GIB = 1024**3
NIGHTLY = Schedule.parse("0 2 * * *", "America/Fortaleza")
SIZES = st.integers(min_value=0, max_value=2**50)


def days(values: Sequence[int]) -> list[tuple[datetime, int]]:
    """Return one sample a day, the last one now."""
    return [(NOW - (len(values) - 1 - at) * DAY, value) for at, value in enumerate(values)]


def of(usage: Usage | None, **fields: Any) -> Forecast:
    return forecast("spool", "one:/spool", usage, critical_share=0.8, **fields)


def test_a_place_that_grows_evenly_grows_by_that_a_day() -> None:
    assert growth_per_day(days([at * 100 for at in range(LEAST_DAYS)])) == 100


def test_growth_of_few_days_is_not_told() -> None:
    assert growth_per_day([]) is None
    assert growth_per_day(days([at * 100 for at in range(LEAST_DAYS - 1)])) is None
    # Many samples of one day are no trend either.
    close = [(NOW + at * timedelta(minutes=5), at) for at in range(50)]
    assert growth_per_day(close) is None


def test_a_large_import_that_was_removed_again_changes_no_growth() -> None:
    values = [at * 100 for at in range(MOST_DAYS)]
    values[10] = values[11] = values[12] = 10**9
    assert growth_per_day(days(values)) == pytest.approx(100, abs=5)


def test_growth_before_the_last_month_does_not_count() -> None:
    assert growth_per_day(days([*range(0, 10**6, 10**4), *[10**6] * (MOST_DAYS + 1)])) == 0


@given(st.lists(SIZES, min_size=LEAST_DAYS, max_size=40), st.integers(-(10**9), 10**9))
def test_growth_lies_between_the_slopes_and_shifts_with_them(values: list[int], by: int) -> None:
    samples = days(values)
    found = growth_per_day(samples)
    assert found is not None
    recent = values[-MOST_DAYS - 1 :]
    steps = [b - a for a, b in pairwise(recent)]
    assert min(steps) - 1 <= found <= max(steps) + 1
    shifted = growth_per_day([(at, value + by) for at, value in samples])
    assert shifted == found
    assert growth_per_day(samples[::-1]) == found


def test_days_left_are_told_of_what_fills() -> None:
    assert days_left(100, 10) == 10
    assert days_left(0, 10) == 0
    for free, growth in ((100, 0), (100, -5), (100, None), (None, 10)):
        assert days_left(free, growth) is None


def test_a_run_needs_the_largest_of_the_last_nights_and_surely_the_smallest() -> None:
    found = need([100, None, 40, 70])
    assert found is not None
    assert found.likely == pytest.approx(100 * (1 + MARGIN), abs=1)
    assert found.surely == 40
    assert need([]) is need([None]) is None


@given(st.lists(SIZES, min_size=1, max_size=7))
def test_what_is_sure_is_never_more_than_what_is_likely(written: list[int]) -> None:
    found = need(written)
    assert found is not None
    assert found.surely <= max(written) <= found.likely


def test_tonight_is_what_all_store_and_the_largest_that_one_holds() -> None:
    nights = [Night(spool=100, repository=10)] * 2
    more = [Night(spool=50, repository=200)]
    found = coming({"a": (NIGHTLY, nights), "b": (NIGHTLY, more)}, now=NOW)
    assert (found.spool, found.repository, found.known) == (111, 11 + 221, True)


def test_every_window_until_this_time_tomorrow_stores() -> None:
    often = Schedule.parse("0 */6 * * *", "UTC")
    found = coming({"a": (often, [Night(spool=100, repository=100)])}, now=NOW)
    assert (found.spool, found.repository) == (111, 4 * 111)


def test_a_target_without_earlier_nights_leaves_the_rest_a_lower_bound() -> None:
    nights = [Night(spool=100, repository=100)]
    found = coming({"a": (NIGHTLY, nights), "b": (NIGHTLY, [])}, now=NOW)
    assert (found.spool, found.repository, found.known) == (111, 111, False)
    nothing = coming({"b": (NIGHTLY, [])}, now=NOW)
    assert (nothing.spool, nothing.repository, nothing.known) == (None, None, False)


def test_where_nothing_is_due_nothing_is_written() -> None:
    rare = Schedule.parse("0 2 1 1 *", "UTC")
    found = coming({"a": (rare, []), "b": (None, [])}, now=NOW)
    assert (found.spool, found.repository, found.known) == (0, 0, True)


def test_what_jobs_hold_now_is_there_for_tonight() -> None:
    found = of(Usage(used=90, capacity=100, passing=80), tonight=85)
    assert (found.used, found.free, found.fits, found.critical) == (10, 90, True, False)


@pytest.mark.parametrize(
    ("usage", "tonight", "known", "fits", "critical"),
    [
        (Usage(used=10, capacity=100), 90, True, True, False),
        (Usage(used=10, capacity=100), 91, True, False, True),
        (Usage(used=10, capacity=100), 90, False, None, False),
        # What is known of it is too much already.
        (Usage(used=10, capacity=100), 91, False, False, True),
        (Usage(used=10, capacity=100), None, False, None, False),
        (Usage(used=80, capacity=100), 0, True, True, True),
        (Usage(used=79, capacity=100), 0, True, True, False),
        (Usage(used=10, capacity=None), 10**9, True, None, False),
        (Usage(used=0, capacity=0), 0, True, True, True),
        (None, 10, True, None, False),
    ],
)
def test_what_fits_and_what_is_critical(
    usage: Usage | None, tonight: int | None, known: bool, fits: bool | None, critical: bool
) -> None:
    found = of(usage, tonight=tonight, known=known)
    assert (found.fits, found.critical) == (fits, critical)


@given(used=SIZES, capacity=st.none() | SIZES, tonight=st.none() | SIZES, known=st.booleans())
def test_nothing_unknown_is_ever_critical_and_nothing_that_fits_is_too_much(
    used: int, capacity: int | None, tonight: int | None, known: bool
) -> None:
    found = of(Usage(used=used, capacity=capacity), tonight=tonight, known=known)
    if capacity is None:
        assert (found.free, found.fits, found.critical) == (None, None, False)
    if found.fits:
        assert found.tonight is not None
        assert found.free is not None
        assert found.tonight <= found.free


def test_samples_of_another_bound_say_nothing_of_growth() -> None:
    def sample(at: datetime, used: int, *, limited: bool) -> Sample:
        usage = Usage(used=used, capacity=10**6, limited=limited)
        return Sample(place="spool", where="one:/spool", measured_at=at, usage=usage)

    volume = [sample(at, used, limited=False) for at, used in days([5 * at for at in range(20)])]
    limit = [sample(at, 7, limited=True) for at, _ in days([0] * 3)]
    found = of(volume[-1].usage, history=[*volume, *limit])
    assert (found.growth_per_day, found.days_left) == (5, round((10**6 - 95) / 5, 1))
    assert of(limit[-1].usage, history=[*volume, *limit]).growth_per_day is None


def test_the_spool_is_bound_by_what_leaves_less_room() -> None:
    disk = Usage(used=50, capacity=100)
    assert tighter(disk, held=10, passing=5, limit=None).capacity == 100
    assert tighter(disk, held=10, passing=5, limit=1000).capacity == 100
    limited = tighter(disk, held=10, passing=5, limit=30)
    assert (limited.used, limited.capacity, limited.limited) == (10, 30, True)
    assert limited.settled == 5


# Alarms


def test_only_critical_places_alarm_under_a_key_that_stays() -> None:
    well = of(Usage(used=1, capacity=GIB), tonight=5)
    full = of(Usage(used=9 * GIB, capacity=10 * GIB), tonight=0)
    short = of(Usage(used=GIB, capacity=2 * GIB), tonight=5 * GIB)
    first, second = space_alarms([well, full, short], now=NOW)
    assert first.key == second.key == "space:spool:one:/spool"
    assert (first.kind, first.target) == ("space", "")
    assert first.facts["share"] == "90%"
    assert second.facts["needed"] == "5.00 GiB"
    assert [cause(full), cause(short)] == ["full", "short"]


def test_too_little_room_for_a_restore_is_said_as_that() -> None:
    found = forecast("restore", "db:5432", Usage(used=9, capacity=10), tonight=2, critical_share=2)
    assert (found.critical, cause(found)) == (True, "no_room")
    roomy = forecast("restore", "db:5432", Usage(used=9, capacity=10), tonight=1, critical_share=2)
    assert not roomy.critical


def test_the_report_takes_a_forecast_as_it_is() -> None:
    assert set(SpaceFacts.model_fields) == set(Forecast.__dataclass_fields__)

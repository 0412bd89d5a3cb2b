"""Keys of scheduled jobs, and when a failed one is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgben_tasks.domain.job import (
    ATTEMPT_DELAYS,
    ENDED,
    HEARTBEAT_EVERY,
    STALE_AFTER,
    StepRun,
    next_attempt,
    window_key,
)

WINDOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
moments = st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1))  # noqa: DTZ001


def test_a_window_has_one_key_in_every_time_zone() -> None:
    fortaleza = WINDOW.astimezone(timezone(timedelta(hours=-3)))
    key = "backup:postgres/pgben:2026-11-23T05:00Z"
    assert window_key("backup", "postgres/pgben", WINDOW) == key
    assert window_key("backup", "postgres/pgben", fortaleza) == key


def test_a_window_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        window_key("backup", "postgres/pgben", WINDOW.replace(tzinfo=None))


@given(st.lists(moments.map(lambda at: at.replace(second=0, microsecond=0)), unique=True))
def test_two_windows_never_share_a_key(windows: list[datetime]) -> None:
    assert len({window_key("verify", "*", window) for window in windows}) == len(windows)


@pytest.mark.parametrize(
    ("attempt", "minutes"), [(1, 15), (2, 60), (3, 180), (4, None), (9, None), (0, None)]
)
def test_a_failed_window_is_tried_again_three_times(attempt: int, minutes: int | None) -> None:
    at = next_attempt(attempt=attempt, now=WINDOW, successor=None)
    assert at == (None if minutes is None else WINDOW + timedelta(minutes=minutes))


def test_an_attempt_never_reaches_into_the_next_window() -> None:
    delay = ATTEMPT_DELAYS[0]
    for successor, expected in (
        (WINDOW + delay + timedelta(seconds=1), WINDOW + delay),
        (WINDOW + delay, None),
        (WINDOW - timedelta(days=1), None),
    ):
        assert next_attempt(attempt=1, now=WINDOW, successor=successor) == expected


def test_a_step_that_misses_one_heartbeat_is_not_stale() -> None:
    assert STALE_AFTER >= 3 * HEARTBEAT_EVERY
    assert {"succeeded", "failed", "refused", "cancelled"} == ENDED


def test_a_running_step_has_no_length_yet() -> None:
    step = StepRun(
        attempt=1,
        name="dump",
        state="running",
        node="n1",
        started_at=WINDOW,
        ended_at=None,
        result={},
    )
    assert step.seconds is None

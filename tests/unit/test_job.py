"""Keys of scheduled jobs, and when a failed one is tried again."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.job import (
    ATTEMPT_DELAYS,
    ENDED,
    HEARTBEAT_EVERY,
    STALE_AFTER,
    Job,
    JobState,
    StepRun,
    next_attempt,
    uncancellable,
    unrepeatable,
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


def job(**fields: Any) -> Job:
    values: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Job))
    values |= {"id": UUID(int=1), "key": "key", "state": "failed", "request": {"target": "t"}}
    return Job(**{**values, **fields})


@pytest.mark.parametrize("state", get_args(JobState))
def test_what_has_ended_is_not_cancelled_and_only_what_went_wrong_is_repeated(state: Any) -> None:
    one = job(state=state)
    assert (uncancellable(one) is None) == (state in {"queued", "running", "waiting"})
    assert (unrepeatable(one) is None) == (state in {"failed", "cancelled"})


def test_a_further_attempt_that_is_still_to_come_can_be_cancelled() -> None:
    assert uncancellable(job(retry_at=WINDOW)) is None


def test_a_request_that_could_not_be_read_cannot_be_repeated() -> None:
    assert "could not be read" in (unrepeatable(job(request={})) or "")


def test_a_repeated_request_reaches_its_own_row_and_no_later_window() -> None:
    assert job().request_again == {"target": "t", "idempotency_key": "key"}
    scheduled = job(request={"target": "t", "scheduled": True, "idempotency_key": None})
    assert scheduled.request_again == {"target": "t", "idempotency_key": "key", "scheduled": False}


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

"""When the report of a week is made: after its verification, on the same day in any case."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from pgben_tasks.domain.job import ATTEMPT_DELAYS, Job
from pgben_tasks.domain.report_due import WAIT, is_due, window_to_report
from pgben_tasks.domain.windows import Schedule

MONDAYS = Schedule.parse("0 8 * * 1", "America/Fortaleza")
#: 08:00 of a Monday in Fortaleza.
WINDOW = datetime(2026, 11, 30, 11, 0, tzinfo=UTC)
LONG_AGO = WINDOW - timedelta(days=300)
MINUTE = timedelta(minutes=1)


def verification(**fields: Any) -> Job:
    values: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Job))
    values |= {"id": UUID(int=1), "key": "key", "kind": "verify", "state": "running"}
    return Job(**{**values, **fields})


@pytest.mark.parametrize("state", ["succeeded", "failed", "refused", "cancelled"])
def test_a_report_is_due_as_soon_as_its_verification_has_ended_for_good(state: Any) -> None:
    assert is_due(WINDOW, verification(state=state), now=WINDOW + MINUTE)


@pytest.mark.parametrize("state", ["queued", "running", "waiting"])
def test_a_verification_that_has_not_ended_is_waited_for_and_no_longer(state: Any) -> None:
    one = verification(state=state)
    assert not is_due(WINDOW, one, now=WINDOW + WAIT - MINUTE)
    assert is_due(WINDOW, one, now=WINDOW + WAIT)


def test_a_failed_verification_has_all_its_attempts_before_the_report() -> None:
    again = verification(state="failed", retry_at=WINDOW + MINUTE)
    assert not is_due(WINDOW, again, now=WINDOW + WAIT - MINUTE)
    assert sum(ATTEMPT_DELAYS, timedelta(0)) < WAIT


def test_a_verification_that_was_never_begun_is_reported_on_the_same_day() -> None:
    assert not is_due(WINDOW, None, now=WINDOW + MINUTE)
    local = (WINDOW + WAIT).astimezone(MONDAYS.zone)
    assert is_due(WINDOW, None, now=local)
    assert local.date() == WINDOW.astimezone(MONDAYS.zone).date()


def test_a_report_that_is_late_is_made_until_the_next_window_begins() -> None:
    sunday = WINDOW + timedelta(days=6)
    assert window_to_report(MONDAYS, now=sunday, since=LONG_AGO) == WINDOW
    following = WINDOW + timedelta(days=7)
    assert window_to_report(MONDAYS, now=following, since=LONG_AGO) == following


def test_a_new_installation_reports_nothing_before_its_first_window() -> None:
    tuesday = WINDOW + timedelta(days=1)
    assert window_to_report(MONDAYS, now=tuesday + timedelta(days=5), since=tuesday) is None
    following = WINDOW + timedelta(days=7)
    assert window_to_report(MONDAYS, now=following, since=tuesday) == following


def test_a_month_has_one_report_for_each_of_its_mondays() -> None:
    """Every minute that a tick may run is asked, with a verification that takes 20 minutes."""
    made: list[datetime] = []
    now = datetime(2026, 11, 1, 3, 0, tzinfo=UTC)
    while now < datetime(2026, 12, 1, 3, 0, tzinfo=UTC):
        window = window_to_report(MONDAYS, now=now, since=LONG_AGO)
        assert window is not None
        state = "succeeded" if now - window >= timedelta(minutes=20) else "running"
        if window not in made and is_due(window, verification(state=state), now=now):
            made.append(window)
        now += timedelta(minutes=7)
    # The first is that of the Monday before, which a month that begins on a Sunday still owes.
    assert len(made) == 6
    assert {one.astimezone(MONDAYS.zone).weekday() for one in made} == {0}

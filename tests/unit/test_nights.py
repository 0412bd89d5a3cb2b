"""The calendar of nights: what became of the windows of every local day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from pgben_tasks.console.summary import month
from pgben_tasks.domain.nights import Night, NightState, WindowJob, calendar
from pgben_tasks.domain.windows import Schedule

pytestmark = pytest.mark.unit

ZONE = ZoneInfo("America/Fortaleza")
NIGHTLY = Schedule.parse("0 2 * * *", ZONE)
#: Noon of a Monday, local.
NOW = datetime(2026, 11, 30, 15, tzinfo=UTC)
TARGET = "postgres/pgben"


def window(day: int, month_: int = 11) -> datetime:
    """Return the window of a local day, 02:00."""
    return datetime(2026, month_, day, 5, tzinfo=UTC)


def job(at: datetime, state: str = "succeeded", target: str = TARGET, **more: Any) -> WindowJob:
    known: dict[str, Any] = {"suspect": False, "again": False, "kind": "backup"} | more
    return WindowJob(job=uuid4(), target=target, window=at, state=state, **known)


def states(*jobs: WindowJob, days: int = 4, schedule: Schedule = NIGHTLY) -> list[NightState]:
    known = {TARGET: schedule}
    return [one.state for one in calendar(jobs, known, now=NOW, zone=ZONE, days=days)]


@pytest.mark.parametrize(
    ("state", "more", "night"),
    [
        ("succeeded", {}, "good"),
        ("succeeded", {"suspect": True}, "doubtful"),
        ("running", {}, "open"),
        ("waiting", {}, "open"),
        ("queued", {}, "open"),
        ("failed", {"again": True}, "open"),
        ("failed", {}, "failed"),
        ("refused", {}, "failed"),
        ("cancelled", {}, "failed"),
    ],
)
def test_a_night_is_what_became_of_its_window(
    state: str, more: dict[str, Any], night: NightState
) -> None:
    assert states(job(window(30), state, **more), days=1) == [night]


def test_a_window_that_passed_without_a_job_is_missing_and_none_before_the_first_is() -> None:
    assert states(job(window(28)), job(window(30))) == ["none", "good", "no backup", "good"]
    assert states() == ["none"] * 4


def test_a_window_to_come_is_not_missing() -> None:
    early = datetime(2026, 11, 30, 4, tzinfo=UTC)
    found = calendar([job(window(29))], {TARGET: NIGHTLY}, now=early, zone=ZONE, days=2)
    assert [one.state for one in found] == ["good", "none"]


def test_the_worst_target_makes_the_night_and_is_named() -> None:
    other = "bucket/documents"
    schedules = {TARGET: NIGHTLY, other: NIGHTLY}
    (night,) = calendar(
        [job(window(30)), job(window(30), "failed", other)], schedules, now=NOW, zone=ZONE, days=1
    )
    assert (night.state, night.troubled) == ("failed", (other,))
    assert night.subjects[TARGET] == "good"


def test_a_changed_timetable_leaves_the_past_as_it_was() -> None:
    jobs = [job(window(day)) for day in (27, 28, 30)]
    later = Schedule.parse("0 3 * * *", ZONE)
    assert states(*jobs, schedule=later) == ["good", "good", "no backup", "good"]
    weekly = Schedule.parse("0 2 * * 1", ZONE)
    assert states(*jobs, schedule=weekly) == ["good", "good", "none", "good"]


@pytest.mark.parametrize(("minutes", "night"), [(0, "open"), (9, "open"), (10, "no backup")])
def test_a_window_is_not_missed_before_the_tick_could_write_its_job(
    minutes: int, night: NightState
) -> None:
    now = window(30) + timedelta(minutes=minutes)
    found = calendar([job(window(29))], {TARGET: NIGHTLY}, now=now, zone=ZONE, days=1)
    assert [one.state for one in found] == [night]


def test_a_point_and_a_verification_belong_to_their_night() -> None:
    verify = job(window(30), "failed", "*", kind="verify")
    (night,) = calendar([job(window(30)), verify], {TARGET: NIGHTLY}, now=NOW, zone=ZONE, days=1)
    assert (night.state, night.troubled) == ("failed", ("verify",))


def test_the_local_day_counts() -> None:
    # 23:30 of the 29th there is the 30th in UTC.
    late = Schedule.parse("30 23 * * *", ZONE)
    at = datetime(2026, 11, 30, 2, 30, tzinfo=UTC)
    found = calendar([job(at)], {TARGET: late}, now=NOW, zone=ZONE, days=2)
    assert [(one.day, one.state) for one in found] == [
        (date(2026, 11, 29), "good"),
        (date(2026, 11, 30), "none"),
    ]


def test_a_target_that_is_protected_no_more_is_not_missed() -> None:
    assert states(job(window(28), target="postgres/old"), days=3) == ["good", "none", "none"]


def test_the_calendar_has_whole_weeks_from_monday_to_sunday() -> None:
    days = [date(2026, 11, 4) + timedelta(days=number) for number in range(9)]
    weeks = month([Night(day=day, state="good", subjects={}) for day in days])
    assert [len(week) for week in weeks] == [7, 7]
    assert [night and night.day.day for night in weeks[0]] == [None, None, 4, 5, 6, 7, 8]
    assert [night and night.day.day for night in weeks[1]] == [9, 10, 11, 12, None, None, None]
    assert month([]) == []

"""Claims about which window a moment belongs to, above all when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from celery.schedules import crontab
from hypothesis import given, strategies as st

from pgben_tasks.domain.windows import Schedule, crontab_fields, parse_zone
from pgben_tasks.errors import ConfigurationError

FORTALEZA = "America/Fortaleza"
SAO_PAULO = "America/Sao_Paulo"
BERLIN = "Europe/Berlin"
NIGHTLY = "0 2 * * *"
HOUR = timedelta(hours=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def windows(schedule: Schedule, start: str, end: str) -> list[str]:
    found, now = [], utc(start)
    while (now := schedule.next(now)) <= utc(end):
        found.append(f"{now:%d %H:%M}")
    return found


def test_the_nightly_window_in_fortaleza_is_at_five_utc() -> None:
    schedule = Schedule.parse(NIGHTLY, FORTALEZA)
    now = utc("2026-11-23 06:00")
    assert schedule.previous(now) == utc("2026-11-23 05:00")
    assert schedule.next(now) == utc("2026-11-24 05:00")
    assert schedule.interval(now) == 24 * HOUR


def test_a_window_is_due_from_its_own_minute_on() -> None:
    schedule = Schedule.parse(NIGHTLY, FORTALEZA)
    window = utc("2026-11-23 05:00")
    assert schedule.due(window, 12 * HOUR) == window
    assert schedule.due(window + timedelta(seconds=59, microseconds=1), 12 * HOUR) == window
    just_before = window - timedelta(microseconds=1)
    assert schedule.due(just_before, 12 * HOUR) is None
    assert schedule.next(just_before) == window
    assert schedule.next(window) == window + 24 * HOUR


def test_no_window_older_than_the_catch_up_limit_is_due() -> None:
    schedule = Schedule.parse(NIGHTLY, FORTALEZA)
    window = utc("2026-11-23 05:00")
    assert schedule.due(window + 12 * HOUR, 12 * HOUR) == window
    assert schedule.due(window + 12 * HOUR + timedelta(seconds=1), 12 * HOUR) is None


def test_only_the_latest_missed_window_is_due() -> None:
    schedule = Schedule.parse("0 * * * *", FORTALEZA)
    assert schedule.due(utc("2026-11-23 09:40"), 12 * HOUR) == utc("2026-11-23 09:00")


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        Schedule.parse(NIGHTLY, "UTC").due(datetime(2026, 11, 23), HOUR)  # noqa: DTZ001


def test_a_midnight_that_does_not_exist_runs_at_the_next_minute() -> None:
    # On 2018-11-04 clocks in São Paulo went from 23:59 to 01:00, which is 03:00 UTC.
    schedule = Schedule.parse("0 0 * * *", SAO_PAULO)
    window = utc("2018-11-04 03:00")
    assert schedule.due(window, 12 * HOUR) == window
    assert schedule.due(window - timedelta(minutes=1), 24 * HOUR) == utc("2018-11-03 03:00")
    assert windows(schedule, "2018-11-02 12:00", "2018-11-06 12:00") == [
        "03 03:00",
        "04 03:00",
        "05 02:00",
        "06 02:00",
    ]


def test_times_inside_the_gap_share_the_next_minute() -> None:
    schedule = Schedule.parse("*/20 0 * * *", SAO_PAULO)
    assert windows(schedule, "2018-11-04 02:00", "2018-11-04 12:00") == ["04 03:00"]


def test_a_time_that_exists_twice_runs_once() -> None:
    # On 2018-02-18 clocks in São Paulo went back from 24:00 to 23:00, which is 02:00 UTC.
    schedule = Schedule.parse("30 23 * * *", SAO_PAULO)
    assert windows(schedule, "2018-02-17 00:00", "2018-02-20 00:00") == [
        "17 01:30",
        "18 01:30",
        "19 02:30",
    ]
    first = utc("2018-02-18 01:30")
    for later in ("02:10", "02:30", "02:59"):
        assert schedule.previous(utc(f"2018-02-18 {later}")) == first


def test_berlin_in_spring_runs_at_three() -> None:
    # On 2018-03-25 clocks went from 01:59 to 03:00, which is 01:00 UTC.
    schedule = Schedule.parse("30 2 * * *", BERLIN)
    assert windows(schedule, "2018-03-24 00:00", "2018-03-26 12:00") == [
        "24 01:30",
        "25 01:00",
        "26 00:30",
    ]


def test_berlin_in_autumn_runs_once() -> None:
    # On 2018-10-28 clocks went back from 03:00 to 02:00, which is 01:00 UTC.
    schedule = Schedule.parse("30 2 * * *", BERLIN)
    assert windows(schedule, "2018-10-27 00:00", "2018-10-29 12:00") == [
        "27 00:30",
        "28 00:30",
        "29 01:30",
    ]
    assert schedule.due(utc("2018-10-28 01:10"), 12 * HOUR) == utc("2018-10-28 00:30")


def test_an_hourly_schedule_skips_the_repeated_hour() -> None:
    schedule = Schedule.parse("0 * * * *", BERLIN)
    assert windows(schedule, "2018-10-27 23:30", "2018-10-28 03:30") == [
        "28 00:00",
        "28 02:00",
        "28 03:00",
    ]


moments = st.datetimes(
    min_value=datetime(2018, 1, 1),  # noqa: DTZ001
    max_value=datetime(2019, 3, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
lines = st.sampled_from(
    [NIGHTLY, "0 0 * * *", "30 2 * * *", "*/20 * * * *", "30 23 * * 6,7", "15 2,23 1-20 * *"]
)
zones = st.sampled_from([FORTALEZA, SAO_PAULO, BERLIN, "UTC", "Australia/Lord_Howe"])


@given(lines, zones, moments)
def test_previous_and_next_enclose_every_moment(line: str, zone: str, now: datetime) -> None:
    schedule = Schedule.parse(line, zone)
    before, after = schedule.previous(now), schedule.next(now)
    assert before <= now < after
    assert schedule.previous(before) == before
    assert schedule.next(before) == after
    assert schedule.previous(after) == after
    assert schedule.previous(after - timedelta(microseconds=1)) == before


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "it has 0 fields, not 5"),
        ("@daily", "it has 1 fields, not 5"),
        ("0 0 2 * * *", "it has 6 fields, not 5"),
        ("60 2 * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 2 0 * *", "bad day of month"),
        ("0 2 30 2 *", "bad day of month"),
        ("0 2 * 13 *", "bad month"),
        ("0 2 * * 8", "bad day of week"),
        ("0 2 * * BAD", "bad day of week"),
        ("*/0 2 * * *", "bad minute"),
        ("0 2 L * *", "'L' is no day of month"),
        ("0 2 * * MON#2", "'MON#2' is no day of week"),
        ("0 2 1 * MON", "it limits both day of month and day of week"),
        ("-5 2 * * *", "'-5' is no minute"),
    ],
)
def test_a_bad_line_is_one_sentence_and_a_hint(line: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Schedule.parse(line, "UTC")
    assert caught.value.sentence.startswith(f"'{line}' is not a cron line")
    assert caught.value.sentence.endswith(why)
    assert caught.value.hint


def test_a_rare_day_is_found() -> None:
    schedule = Schedule.parse("0 2 29 2 */7", "UTC")
    assert schedule.next(utc("2026-11-23 00:00")) == utc("2032-02-29 02:00")
    assert schedule.previous(utc("2026-11-23 00:00")) == utc("2004-02-29 02:00")


@pytest.mark.parametrize("zone", ["America/Fortalesa", "", "../etc/passwd", "America", "x" * 99])
def test_an_unknown_zone_is_one_sentence_and_a_hint(zone: str) -> None:
    with pytest.raises(ConfigurationError, match="is not known") as caught:
        parse_zone(zone)
    assert caught.value.hint


def test_a_misspelt_zone_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Schedule.parse(NIGHTLY, "America/Fortalesa")
    assert caught.value.hint == "did you mean 'America/Fortaleza'?"


def test_celery_gets_plain_numbers() -> None:
    assert crontab_fields("*/15 1-3 * JAN,feb 5-7") == {
        "minute": "0,15,30,45",
        "hour": "1,2,3",
        "day_of_month": "*",
        "month_of_year": "1,2",
        "day_of_week": "0,5,6",
    }


def test_sunday_is_zero_for_celery_however_it_is_written() -> None:
    for sunday in ("0", "7", "SUN", "0,7"):
        assert crontab_fields(f"0 8 * * {sunday}")["day_of_week"] == "0"


@given(lines, moments)
def test_celery_fires_at_the_same_minutes(line: str, now: datetime) -> None:
    beat = crontab(**crontab_fields(line))
    window = Schedule.parse(line, "UTC").next(now)
    assert window.minute in beat.minute
    assert window.hour in beat.hour
    assert window.day in beat.day_of_month
    assert window.month in beat.month_of_year
    assert window.isoweekday() % 7 in beat.day_of_week

"""What is worth an alarm, what shares a mail, and what is overdue: decisions, without a clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import uuid4

from hypothesis import given, strategies as st

from pgben_tasks.domain.alarm import (
    LONGEST_WAIT,
    SEVERITY,
    Alarm,
    AlarmKind,
    alarm_of_job,
    in_place_alarm,
    one_line,
    wait_after,
)
from pgben_tasks.domain.job import BEAT_SILENCE, Job
from pgben_tasks.domain.overdue import Bounds, Restorable, Timed, late, missed, silent, stale
from pgben_tasks.domain.windows import Schedule

TARGET = "postgres/pgben"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=90)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BOUNDS = Bounds(begin_within=30 * MINUTE, end_within=12 * HOUR, objective=24 * HOUR)
NIGHTLY = Timed("backup", TARGET, Schedule.parse("0 2 * * *", "America/Fortaleza"))
#: 02:00 of that day in Fortaleza.
WINDOW = datetime(2026, 11, 23, 5, tzinfo=UTC)


def a_job(**fields: Any) -> Job:
    made = Job(
        id=uuid4(),
        key="backup:postgres/pgben:2026-11-23T05:00Z",
        kind="backup",
        target=TARGET,
        window=WINDOW,
        request={},
        requested_by="schedule",
        state="failed",
        fence=1,
        attempt=1,
        node="node",
        backup=None,
        root_task=None,
        step=None,
        context={},
        result={},
        error={"type": "ConfigurationError", "sentence": "no", "hint": "yes", "step": "dump"},
        retry_at=None,
        created_at=WINDOW,
        started_at=WINDOW,
        ended_at=NOW,
    )
    return replace(made, **fields)


def found(alarm: Alarm | None) -> Alarm:
    assert alarm is not None
    return alarm


# Ends of jobs


def test_an_open_or_well_ended_job_is_worth_no_alarm() -> None:
    assert alarm_of_job(a_job(state="running", ended_at=None)) is None
    assert alarm_of_job(a_job(state="succeeded", error=None, result={"suspect": None})) is None
    assert alarm_of_job(a_job(state="cancelled")) is None


def test_a_failure_is_told_once_at_first_and_once_when_it_is_given_up() -> None:
    later = NOW + HOUR
    job = a_job()
    first, second, third = (
        found(alarm_of_job(replace(job, attempt=attempt, retry_at=later))) for attempt in (1, 2, 3)
    )
    final = found(alarm_of_job(replace(job, attempt=4)))
    assert first.key == second.key == third.key != final.key
    assert first.facts["next_attempt"] == later.isoformat()
    assert "next_attempt" not in final.facts
    # Tried again by a person and failed again: that is told again.
    assert found(alarm_of_job(replace(job, attempt=5))).key != final.key


def test_a_typing_error_is_no_alarm() -> None:
    refused = a_job(state="refused")
    mistaken = {**(refused.error or {}), "type": "RequestMistaken"}
    assert alarm_of_job(replace(refused, error=mistaken)) is None


def test_every_refusal_is_an_alarm_of_its_own() -> None:
    one, other = (found(alarm_of_job(a_job(state="refused"))) for _ in range(2))
    assert one.kind == other.kind == "refused"
    assert one.key != other.key


def test_a_suspect_backup_is_an_alarm_although_it_succeeded() -> None:
    job = a_job(state="succeeded", error=None, result={"suspect": "rows shrank"}, backup="b-1")
    alarm = found(alarm_of_job(job))
    assert (alarm.kind, alarm.facts["sentence"]) == ("suspect", "rows shrank")
    assert alarm.facts["backup_id"] == "b-1"


def test_a_swap_whose_command_afterwards_failed_is_an_alarm_of_its_own() -> None:
    for kind in ("restore", "undo"):
        job = a_job(kind=kind, state="succeeded", error=None, result={"after_swap_failed": "no"})
        alarm = found(alarm_of_job(job))
        assert (alarm.kind, alarm.facts["sentence"]) == ("after_swap", "no")
        assert (alarm.key, alarm.facts["work"]) == (f"after_swap:{job.id}", kind)
        # What failed later is the worse news, and the result says the other.
        later = found(alarm_of_job(replace(job, kind="restore", state="failed")))
        assert later.kind == "failed"


def test_a_verification_that_did_not_look_is_told_apart_from_one_that_found_something() -> None:
    errors = {
        kind: {"type": kind, "sentence": "no"}
        for kind in ("IntegrityError", "NotRestorable", "StoreUnavailable", "JobCancelled")
    }
    ended = {kind: a_job(kind="verify", target="*", error=error) for kind, error in errors.items()}
    kinds = {name: found(alarm_of_job(job)).kind for name, job in ended.items()}
    assert kinds == {
        "IntegrityError": "damaged",
        "NotRestorable": "failed",
        "StoreUnavailable": "unverified",
        "JobCancelled": "unverified",
    }
    lost = ended["StoreUnavailable"]
    assert found(alarm_of_job(replace(lost, state="refused"))).kind == "unverified"
    # Tried again, it may still take place; and one on demand is nobody's schedule.
    assert found(alarm_of_job(replace(lost, retry_at=NOW + HOUR))).kind == "failed"
    assert found(alarm_of_job(replace(lost, window=None))).kind == "failed"
    cancelled = replace(ended["JobCancelled"], state="cancelled")
    assert found(alarm_of_job(cancelled)).facts["what"] == "cancelled"
    assert alarm_of_job(replace(cancelled, window=None)) is None


def test_a_verification_that_examined_nothing_is_none() -> None:
    empty = a_job(kind="verify", target="*", state="succeeded", error=None, result={"backups": 0})
    assert found(alarm_of_job(empty)).facts["what"] == "nothing_examined"
    assert alarm_of_job(replace(empty, result={"backups": 1})) is None
    assert alarm_of_job(replace(empty, window=None)) is None


def test_a_report_that_could_not_be_sent_is_an_alarm_of_its_own() -> None:
    report: Any = "report"
    job = a_job(kind=report, target="*")
    assert found(alarm_of_job(job)).kind == "unsent"
    # Its mail went, and only its file could not be kept.
    assert found(alarm_of_job(replace(job, context={"mailed": True}))).kind == "failed"


def test_a_backup_that_does_not_fit_has_failed_and_was_not_refused_to_somebody() -> None:
    error = {"type": "RoomRefused", "sentence": "it does not fit", "hint": ""}
    assert found(alarm_of_job(a_job(state="refused", error=error))).kind == "failed"
    assert (
        found(alarm_of_job(a_job(state="refused", error={**error, "type": "X"}))).kind == "refused"
    )


def in_place(**fields: Any) -> Job:
    return a_job(**{"kind": "restore", "window": None, "request": {"swap": True}, **fields})


def test_what_is_replaced_is_told_when_it_is_asked_for_and_when_it_ends() -> None:
    asked = in_place(state="queued", ended_at=None, error=None)
    first = found(in_place_alarm(asked))
    assert (first.facts["what"], first.happened_at) == ("in_place_asked", asked.created_at)
    for state in ("succeeded", "failed", "refused", "cancelled"):
        ended = replace(asked, state=state, ended_at=NOW)
        alarm = found(in_place_alarm(ended))
        assert (alarm.kind, alarm.facts["what"]) == ("in_place", f"in_place_{state}")
        assert alarm_of_job(ended) is None, "it is told once"
        assert alarm.key != first.key
    # Whoever heard that it was asked for hears that it was a mistake.
    mistaken = in_place(state="refused", error={"type": "RequestMistaken", "sentence": "no"})
    assert found(in_place_alarm(mistaken)).facts["sentence"] == "no"


def test_what_replaces_something_is_known_by_its_kind_or_its_request_or_its_refusal() -> None:
    for job in (
        in_place(request={"in_place": True}),
        in_place(kind="restore_all", request={"in_place": True}),
        in_place(kind="undo", request={}),
        in_place(kind="undo_all", request={}),
        in_place(request={}, state="refused", error={"in_place": "yes"}),
    ):
        assert in_place_alarm(job) is not None
    for job in (in_place(request={"swap": False}), a_job(request={"in_place": True})):
        assert in_place_alarm(job) is None
    part = in_place(request={"swap": True, "part_of": "x"})
    assert in_place_alarm(part) is None, "the whole is told"
    assert found(alarm_of_job(part)).kind == "failed"


def test_damage_is_told_apart_from_a_verification_that_could_not_look() -> None:
    damage = {"type": "IntegrityError", "sentence": "3 findings"}
    away = {"type": "StoreUnavailable", "sentence": "away"}
    assert found(alarm_of_job(a_job(kind="verify", error=damage))).kind == "damaged"
    assert found(alarm_of_job(a_job(kind="verify", error=away))).kind == "unverified"
    assert found(alarm_of_job(a_job(kind="backup", error=damage))).kind == "failed"


@given(st.text())
def test_whatever_a_stranger_writes_stays_on_one_printable_line(text: str) -> None:
    line = one_line(text)
    assert line == "" or line.isprintable()
    assert len(line.splitlines()) <= 1
    assert len(line) <= 600
    line.encode()


def test_a_secret_in_an_error_reaches_no_fact() -> None:
    sentence = "cannot open postgresql://ana:hunter2@db/pgben password=hunter2"
    alarm = found(alarm_of_job(a_job(error={"sentence": sentence, "hint": sentence})))
    assert "hunter2" not in repr(alarm)


# Mails


def test_every_kind_has_its_place_among_the_worst() -> None:
    assert set(SEVERITY) == set(get_args(AlarmKind))


def test_a_mail_that_was_not_taken_waits_longer_each_time_but_never_long() -> None:
    waits = [wait_after(tries) for tries in range(1, 40)]
    assert waits[:3] == [MINUTE, 2 * MINUTE, 4 * MINUTE]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT


# Windows


def test_a_job_that_nobody_begins_is_overdue_after_the_wait_for_a_worker() -> None:
    job = a_job(state="queued", started_at=None, ended_at=None)
    at = WINDOW + BOUNDS.begin_within
    assert late(job, now=at - MINUTE, bounds=BOUNDS) is None
    alarm = found(late(job, now=at, bounds=BOUNDS))
    assert (alarm.kind, alarm.facts["what"], alarm.job) == ("overdue", "not_begun", job.id)


def test_a_job_that_does_not_end_is_overdue_when_it_would_not_be_made_up_for_any_more() -> None:
    job = a_job(state="running", ended_at=None)
    at = WINDOW + BOUNDS.end_within
    assert late(job, now=at - MINUTE, bounds=BOUNDS) is None
    assert found(late(job, now=at, bounds=BOUNDS)).facts["what"] == "not_ended"


def test_a_window_made_up_for_is_judged_from_when_its_job_was_written() -> None:
    job = a_job(state="queued", started_at=None, ended_at=None, created_at=NOW)
    assert late(job, now=NOW + MINUTE, bounds=BOUNDS) is None
    assert late(job, now=NOW + BOUNDS.begin_within, bounds=BOUNDS) is not None


def test_jobs_of_no_window_and_ended_ones_are_never_overdue() -> None:
    far = NOW + timedelta(days=9)
    assert late(a_job(window=None, ended_at=None, state="queued"), now=far, bounds=BOUNDS) is None
    assert late(a_job(), now=far, bounds=BOUNDS) is None


def test_a_window_without_a_job_is_missed_when_it_cannot_be_made_up_for_any_more() -> None:
    at = WINDOW + BOUNDS.end_within
    assert missed(NIGHTLY, now=at, since=LONG_AGO, bounds=BOUNDS) is None
    alarm = found(missed(NIGHTLY, now=at + MINUTE, since=LONG_AGO, bounds=BOUNDS))
    assert (alarm.facts["what"], alarm.happened_at) == ("missed", WINDOW)
    # Whether it was late or missed, one window is one alarm.
    job = a_job(state="queued", started_at=None, ended_at=None)
    assert alarm.key == found(late(job, now=at, bounds=BOUNDS)).key


def test_a_window_of_before_the_installation_is_nobodys_fault() -> None:
    since = WINDOW + MINUTE
    for hours in range(20):
        assert missed(NIGHTLY, now=since + hours * HOUR, since=since, bounds=BOUNDS) is None


# Verified backups


def newest(at: datetime) -> Restorable:
    return Restorable(backup="20261123T050000Z-1f0c9a", state="verified", snapshot_at=at)


def test_data_older_than_the_objective_is_an_alarm_once_for_each_backup() -> None:
    old = newest(NOW - 24 * HOUR)
    assert stale(NIGHTLY, old, now=NOW, since=LONG_AGO, bounds=BOUNDS) is None
    one, other = (
        found(stale(NIGHTLY, old, now=NOW + minutes * MINUTE, since=LONG_AGO, bounds=BOUNDS))
        for minutes in (1, 600)
    )
    assert (one.kind, one.key) == ("stale", other.key)
    # A clock that ran ahead for one night does not keep the alarm away until then.
    future = newest(NOW + 60 * 24 * HOUR)
    assert stale(NIGHTLY, future, now=NOW, since=LONG_AGO, bounds=BOUNDS) is not None


def test_a_new_installation_has_until_the_objective_to_make_its_first_backup() -> None:
    assert stale(NIGHTLY, None, now=NOW + 24 * HOUR, since=NOW, bounds=BOUNDS) is None
    assert stale(NIGHTLY, None, now=NOW + 25 * HOUR, since=NOW, bounds=BOUNDS) is not None
    # An old repository that a new catalog has read is no reason either.
    ancient = newest(LONG_AGO)
    assert stale(NIGHTLY, ancient, now=NOW + HOUR, since=NOW, bounds=BOUNDS) is None


def test_a_night_that_is_an_hour_longer_is_no_alarm() -> None:
    """Clocks went back in Berlin on 25 October 2026, at three in the morning."""
    line = Timed("backup", TARGET, Schedule.parse("0 2 * * *", "Europe/Berlin"))
    before = datetime(2026, 10, 25, 0, tzinfo=UTC)
    after = datetime(2026, 10, 26, 1, tzinfo=UTC)
    assert line.schedule.next(before) == after
    last = after - MINUTE
    assert stale(line, newest(before), now=last, since=LONG_AGO, bounds=BOUNDS) is None


def test_a_schedule_that_runs_less_often_than_the_objective_is_taken_as_a_choice() -> None:
    weekly = Timed("backup", TARGET, Schedule.parse("0 2 * * 1", "UTC"))
    old = newest(datetime(2026, 11, 23, 2, tzinfo=UTC))
    on_sunday = datetime(2026, 11, 29, 12, tzinfo=UTC)
    assert stale(weekly, old, now=on_sunday, since=LONG_AGO, bounds=BOUNDS) is None
    on_tuesday = datetime(2026, 12, 1, 12, tzinfo=UTC)
    assert stale(weekly, old, now=on_tuesday, since=LONG_AGO, bounds=BOUNDS) is not None


# Beat


def test_beat_is_silent_after_a_while_under_one_key() -> None:
    last = NOW - BEAT_SILENCE
    assert silent(last + MINUTE, now=NOW, since=LONG_AGO) is None
    one = found(silent(last, now=NOW, since=LONG_AGO))
    assert found(silent(last, now=NOW + HOUR, since=LONG_AGO)).key == one.key
    assert silent(NOW, now=NOW + MINUTE, since=LONG_AGO) is None


def test_a_beat_that_was_never_heard_of_is_silent_since_the_installation() -> None:
    assert silent(None, now=NOW, since=NOW - MINUTE) is None
    assert silent(None, now=NOW, since=NOW - HOUR) is not None

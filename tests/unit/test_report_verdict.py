"""The verdict of a report: what makes it red, and what keeps it from being green."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from pgben_tasks.domain.outlook import Fault
from pgben_tasks.domain.report import (
    Answers,
    NightOf,
    OpenAlarm,
    TargetFacts,
    VerificationFacts,
)
from pgben_tasks.domain.report_verdict import Week, judge_report
from pgben_tasks.domain.verdicts import Reason, Verdict

WINDOW = datetime(2026, 11, 30, 11, 0, tzinfo=UTC)
GREEN = Verdict("green", ())
VERIFIED = VerificationFacts(state="succeeded", window=WINDOW, examined=14, bytes_read=1000)
HOUR = 3600.0


def target(**fields: Any) -> TargetFacts:
    values: dict[str, Any] = {
        "target": "postgres/pgben",
        "week": tuple(NightOf(day=date(2026, 11, 24 + day), state="good") for day in range(7)),
        "backup": "20261130T050000Z-1f0c9a",
        "state": "verified",
        "last_good": WINDOW,
        "age_seconds": HOUR,
        "within_rpo": True,
        "trend": (),
        "bytes_reread": 1000,
        "last_full_verification": WINDOW,
        "verification_overdue": False,
        "last_restore_seconds": 60.0,
        "last_restore_at": WINDOW,
        "within_rto": True,
        "next_window": None,
        "failures": 0,
    }
    return TargetFacts(**{**values, **fields})


WELL = Week(
    verification=VERIFIED,
    answers=Answers(colour="green", to=WINDOW, seconds=60.0, measured="sum"),
    targets=(target(),),
    rto_seconds=4 * HOUR,
    silent={},
)


def judged(**changed: Any) -> Verdict:
    return judge_report(GREEN, replace(WELL, **changed))


def verified(**changed: Any) -> Verdict:
    return judged(verification=VERIFIED.model_copy(update=changed))


def test_a_week_in_which_all_went_well_is_green() -> None:
    assert judged() == GREEN


def test_what_the_status_says_is_told_too() -> None:
    reason = Reason("red", "the broker cannot be used: it is away")
    assert judge_report(Verdict("red", (reason,)), WELL) == Verdict("red", (reason,))


@pytest.mark.parametrize("state", ["missing", "late", "failed", "refused", "cancelled"])
def test_a_verification_that_did_not_succeed_is_red(state: Any) -> None:
    found = verified(state=state)
    assert found.colour == "red"
    assert found.reasons[0].hint


def test_why_a_verification_failed_is_told_with_its_hint() -> None:
    found = verified(state="failed", sentence="the repository is away", hint="mount it")
    assert found.reasons == (
        Reason("red", "the verification of the week failed: the repository is away", "mount it"),
    )


def test_a_verification_that_found_faults_is_red_and_says_how_many() -> None:
    found = verified(state="failed", findings=1200, sentence="verification found faults, …")
    assert found.reasons[0].text == "the verification of the week found faults: 1,200"
    assert found.colour == "red"


def test_a_verification_that_examined_nothing_is_never_green() -> None:
    assert verified(examined=0).colour == "red"


def test_before_the_first_window_nothing_was_verified_and_that_is_said() -> None:
    assert verified(state="missing", window=None, examined=0).colour == "yellow"


def test_a_restore_that_was_never_measured_is_yellow_for_each_target() -> None:
    never = target(last_restore_seconds=None, within_rto=None)
    found = judged(targets=(never, target(), never.model_copy(update={"target": "bucket/docs"})))
    assert [one.colour for one in found.reasons] == ["yellow", "yellow"]
    assert "'bucket/docs'" in found.reasons[1].text


def test_a_restore_that_took_longer_than_declared_is_yellow() -> None:
    assert judged(targets=(target(within_rto=False),)).colour == "yellow"
    whole = Answers(colour="green", to=WINDOW, seconds=5 * HOUR, measured="everything")
    assert judged(answers=whole).colour == "yellow"
    # A sum of restores that can run side by side says nothing of how long all of them take.
    assert judged(answers=whole.model_copy(update={"measured": "sum"})).colour == "green"


@pytest.mark.parametrize("state", ["no backup", "failed"])
def test_a_night_of_the_week_that_is_missing_or_failed_is_yellow(state: Any) -> None:
    week = target().week
    bad = target(week=(*week[:5], week[5].model_copy(update={"state": state}), week[6]))
    found = judged(targets=(bad,))
    assert found.colour == "yellow"
    assert found.reasons[0].text.endswith(": 1")


def test_nights_without_a_window_or_still_open_are_no_fault() -> None:
    week = tuple(
        one.model_copy(update={"state": state})
        for one, state in zip(target().week[:2], ("none", "open"), strict=True)
    )
    assert judged(targets=(target(week=week),)) == GREEN


def test_retention_that_refuses_to_remove_anything_is_yellow() -> None:
    found = judged(targets=(target(retention_refused="the clocks differ"),))
    assert (found.colour, "the clocks differ" in found.reasons[0].text) == ("yellow", True)


def test_an_alarm_that_is_not_cleared_is_yellow() -> None:
    alarm = OpenAlarm(kind="failed", target="postgres/pgben", since=WINDOW, sentence="it failed")
    assert judged(alarms=(alarm, alarm)).colour == "yellow"
    assert judged(alarms=(alarm, alarm)).reasons[0].text.endswith(": 2")


def test_a_part_that_did_not_answer_is_red_and_hides_no_other() -> None:
    silent = {"nights": Fault("the catalog hangs", "look at it")}
    found = judged(silent=silent, targets=(target(within_rto=False),))
    assert [one.colour for one in found.reasons] == ["red", "yellow"]
    assert "could not be made, nights: the catalog hangs" in found.reasons[0].text

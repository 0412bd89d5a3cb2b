"""When alarms are over, what channels are told of them and when: decisions, without a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import uuid4

import pytest

from pgben_tasks.domain.alarm import (
    REFUSALS_APART,
    Alarm,
    AlarmKind,
    Delivery,
    KeptAlarm,
)
from pgben_tasks.domain.episodes import (
    CHANNEL_PATIENCE,
    CLEAR_AFTER,
    COURSES,
    LONGEST_EVENT,
    REMIND_AFTER,
    REMIND_WITH,
    Batch,
    GoodEnd,
    Restraint,
    Settled,
    Undecided,
    batch_of,
    by_readers,
    channel_alarm,
    occasion,
    settle,
    split_for_mail,
    to_send,
)
from pgben_tasks.operations.alarms.mail import HEADLINES

TARGET = "postgres/pgben"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOTHING = Settled(present=(), absent=(), over=())


def kept(kind: AlarmKind = "stale", number: int = 1, **changed: Any) -> KeptAlarm:
    fields: dict[str, Any] = {
        "key": f"{kind}:{number}",
        "kind": kind,
        "target": TARGET,
        "happened_at": NOW,
        "facts": {"work": "backup"},
    }
    own = {name: changed.pop(name) for name in tuple(changed) if name in fields or name == "job"}
    made = KeptAlarm(
        id=number,
        alarm=Alarm(**{**fields, **own}),
        episode=1,
        raised_at=NOW,
        absent_since=None,
        cleared_at=None,
    )
    return replace(made, **changed)


def settled(*alarms: KeptAlarm, now: datetime = NOW, **known: Any) -> Settled:
    given = {"found": set(), "undecided": set(), "good_ends": ()} | known
    return settle(alarms, now=now, **given)


# Conditions


def test_a_condition_that_is_not_found_is_over_only_after_a_while() -> None:
    one = kept()
    assert settled(one, found={one.alarm.key}) == NOTHING
    assert settled(one).absent == (1,)
    absent = replace(one, absent_since=NOW)
    assert settled(absent, now=NOW + CLEAR_AFTER - MINUTE) == NOTHING
    assert settled(absent, now=NOW + CLEAR_AFTER).over == (1,)
    assert settled(absent, found={one.alarm.key}).present == (1,)


def test_a_disk_that_hovers_at_its_limit_is_one_alarm() -> None:
    absent = replace(kept("space"), absent_since=NOW)
    assert settled(absent, now=NOW + 6 * HOUR - MINUTE) == NOTHING
    assert settled(absent, found={absent.alarm.key}, now=NOW + HOUR).present == (1,)
    assert settled(absent, now=NOW + 6 * HOUR).over == (1,)


@pytest.mark.parametrize(
    "undecided",
    [
        Undecided("stale"),
        Undecided("stale", TARGET),
        Undecided("stale", TARGET, "backup"),
    ],
)
def test_what_could_not_be_judged_is_not_over(undecided: Undecided) -> None:
    absent = kept(absent_since=NOW)
    assert settled(absent, undecided={undecided}, now=NOW + DAY) == NOTHING
    for other in (
        Undecided("silent"),
        Undecided("stale", "postgres/other"),
        Undecided("stale", TARGET, "verify"),
    ):
        assert settled(absent, undecided={other}, now=NOW + DAY).over == (1,)


def test_a_place_that_nobody_measures_stays_full_and_keeps_no_other_open() -> None:
    absent = kept("space", absent_since=NOW, facts={"place": "s3://one"})
    for place in ("s3://one", None):
        unmeasured = Undecided("space", place=place)
        assert settled(absent, undecided={unmeasured}, now=NOW + DAY) == NOTHING
    other = Undecided("space", place="s3://two")
    assert settled(absent, undecided={other}, now=NOW + DAY).over == (1,)


# Events


def test_a_failure_is_over_with_the_next_success_of_its_work_and_target() -> None:
    failed = kept("failed")
    good = GoodEnd("backup", TARGET, NOW + MINUTE)
    assert settled(failed, good_ends=[good]).over == (1,)
    for other in (
        good._replace(at=NOW),
        good._replace(work="restore"),
        good._replace(target="postgres/other"),
        good._replace(target="*"),
    ):
        assert settled(failed, good_ends=[other]) == NOTHING


def test_damage_is_over_when_a_verification_of_everything_passes_however_late() -> None:
    damaged = kept("damaged", facts={"work": "verify"})
    late = NOW + 10 * LONGEST_EVENT
    assert settled(damaged, now=late) == NOTHING
    everything = GoodEnd("verify", "*", late)
    assert settled(damaged, now=late, good_ends=[everything]).over == (1,)


def test_a_suspect_backup_is_over_when_it_is_acknowledged() -> None:
    acknowledged = GoodEnd("acknowledge", TARGET, NOW + MINUTE)
    assert settled(kept("suspect"), good_ends=[acknowledged]).over == (1,)
    assert settled(kept("failed"), good_ends=[acknowledged]) == NOTHING


def test_a_failure_that_nothing_followed_becomes_old() -> None:
    failed = kept("failed", facts={"work": "restore"})
    assert settled(failed, now=NOW + LONGEST_EVENT - MINUTE) == NOTHING
    assert settled(failed, now=NOW + LONGEST_EVENT).over == (1,)


def test_a_newer_alarm_of_the_same_work_takes_the_place_of_an_older_one() -> None:
    job = uuid4()
    first, final = kept("failed", 1, job=job), kept("failed", 2, job=job)
    assert settled(first, final).replaced == (1,)
    assert settled(first, final).over == ()
    assert settled(kept("failed", 1), kept("failed", 2, target="postgres/other")) == NOTHING
    gave_up = kept("unverified", 2, job=job, target="*", facts={"work": "verify"})
    assert settled(first, gave_up).replaced == (1,)
    # A verification that could not look says nothing of the damage that an earlier one found.
    damaged = kept("damaged", 1, job=job, target="*", facts={"work": "verify"})
    assert settled(damaged, gave_up) == NOTHING
    assert settled(
        kept("failed", 1, job=job), kept("overdue", 2, job=job), found={"overdue:2"}
    ) == (NOTHING)


# What a channel is told


def delivery(**changed: Any) -> Delivery:
    made = Delivery(
        channel="mail",
        told_at=None,
        last_sent_at=None,
        reminders=0,
        over_at=None,
        tries=0,
        next_try_at=NOW,
        last_error=None,
    )
    return replace(made, **changed)


def told(at: datetime = NOW, **changed: Any) -> Delivery:
    return delivery(told_at=at, last_sent_at=at, **changed)


def occasions(
    *waiting: tuple[KeptAlarm, Delivery],
    now: datetime = NOW,
    last_sent: Mapping[Restraint, datetime] | None = None,
) -> list[str]:
    found = to_send(waiting, now=now, last_sent=last_sent or {})
    return [one.occasion for one in found]


def test_what_is_new_is_told_at_once_and_once() -> None:
    assert occasions((kept(), delivery())) == ["raised"]
    assert occasions((kept(), told())) == []


def test_what_holds_is_told_again_each_day() -> None:
    held = (kept(), told())
    assert occasions(held, now=NOW + REMIND_AFTER - MINUTE) == []
    assert occasions(held, now=NOW + REMIND_AFTER) == ["reminder"]
    reminded = (kept(), replace(told(), last_sent_at=NOW + DAY))
    assert occasions(reminded, now=NOW + DAY + HOUR) == []
    assert occasions(reminded, now=NOW + 2 * DAY) == ["reminder"]


def test_reminders_of_one_day_share_a_message() -> None:
    half = (kept(number=2), told(NOW + REMIND_WITH))
    young = (kept(number=3), told(NOW + REMIND_WITH + MINUTE))
    assert occasions(half, young, now=NOW + REMIND_AFTER - MINUTE) == []
    assert occasions((kept(), told()), half, young, now=NOW + REMIND_AFTER) == ["reminder"] * 2
    # … and go with whatever is new.
    assert occasions((kept(number=4), delivery()), half, now=NOW + DAY) == ["raised", "reminder"]


def test_what_may_be_over_is_not_told_again() -> None:
    assert occasions((kept(absent_since=NOW), told()), now=NOW + 2 * DAY) == []


@pytest.mark.parametrize("kind", get_args(AlarmKind))
def test_only_what_holds_is_reminded_of_and_its_end_told(kind: AlarmKind) -> None:
    course = COURSES[kind]
    assert set(COURSES) == set(HEADLINES)
    assert bool(occasions((kept(kind), told()), now=NOW + DAY)) == course.reminded
    over = kept(kind, cleared_at=NOW + HOUR)
    assert occasions((over, told()), now=NOW + DAY) == (["over"] if course.resolved else [])
    assert occasions((over, told(over_at=NOW)), now=NOW + DAY) == []
    # Nobody hears of an end without a beginning.
    assert occasions((over, delivery()), now=NOW + DAY) == ["raised"]
    assert course.reminded == course.resolved
    assert course.ends != "at once" or not course.reminded


def test_nothing_goes_while_everything_waits_for_its_next_try() -> None:
    waits = (kept(), delivery(next_try_at=NOW + MINUTE, tries=1))
    assert occasions() == []
    assert occasions(waits) == []
    assert occasions(waits, (kept(number=2), delivery())) == ["raised"] * 2


def test_refusals_alone_keep_their_distance_and_hold_nothing_else_up() -> None:
    refused, recently = (kept("refused"), delivery()), NOW - MINUTE
    assert occasions(refused) == ["raised"]
    assert occasions(refused, last_sent={"refused": recently}) == []
    assert occasions(refused, last_sent={"refused": NOW - REFUSALS_APART}) == ["raised"]
    worse = (kept("failed", 2), delivery())
    assert occasions(refused, worse, last_sent={"refused": recently}) == ["raised"] * 2
    # A reminder that only could go along does not open the door.
    half = (kept(number=3), told(NOW - REMIND_WITH))
    assert occasions(refused, half, last_sent={"refused": recently}) == []


@pytest.mark.parametrize(
    ("what", "sort"),
    [
        ("in_place_asked", "asked"),
        ("in_place_cancelled", "asked"),
        ("in_place_failed", "failed"),
        ("in_place_refused", "refused"),
    ],
)
def test_what_anybody_can_ask_for_in_place_goes_at_once_and_then_keeps_its_distance(
    what: str, sort: Restraint
) -> None:
    storm = [(kept("in_place", number, facts={"what": what}), delivery()) for number in range(99)]
    assert len(occasions(*storm)) == 99
    assert occasions(*storm, last_sent={sort: NOW - MINUTE}) == []
    done = (kept("in_place", 100, facts={"what": "in_place_succeeded"}), delivery())
    assert len(occasions(*storm, done, last_sent={sort: NOW - MINUTE})) == 100
    # A refusal does not keep back that somebody asked.
    others: dict[Restraint, datetime] = dict.fromkeys(get_args(Restraint), NOW - MINUTE)
    others.pop(sort)
    assert len(occasions(*storm, last_sent=others)) == 99


def test_a_storm_of_what_anybody_can_provoke_hides_nothing_else() -> None:
    storm = [kept("refused", number) for number in range(50)]
    asked = [
        kept("in_place", number, facts={"what": "in_place_asked"}) for number in range(50, 100)
    ]
    # As of holds of backups that there are none of.
    mistaken = [kept("failed", number, facts={"work": "hold"}) for number in range(110, 150)]
    window = {"work": "backup", "window": "2026-11-23T05:00:00+00:00"}
    worse = [kept("failed", 100, facts=window), kept("damaged", 101), kept("stale", 102)]
    shown, others = split_for_mail([*storm, *asked, *mistaken, *worse], most=6)
    assert [one.id for one in shown] == [101, 50, 100, 110, 102, 0]
    assert others == {"refused": 49, "in_place": 49, "failed": 39}


def test_only_what_is_replaced_in_place_is_for_the_contacts() -> None:
    asked, failed = (kept("in_place"), delivery()), (kept("failed"), delivery())
    assert by_readers([asked, failed]) == ([asked], [failed])


def test_a_message_is_made_of_what_is_new_what_holds_and_what_is_over() -> None:
    new, holds, over = kept(number=1), kept(number=2), kept(number=3, cleared_at=NOW)
    pending = to_send(
        [(new, delivery()), (holds, told(NOW - DAY)), (over, told(NOW - DAY))],
        now=NOW,
        last_sent={},
    )
    batch = batch_of(pending)
    heard = told(NOW - DAY)
    assert batch == Batch(
        raised=(replace(new, deliveries=(delivery(),)),),
        reminders=(replace(holds, deliveries=(heard,)),),
        over=(replace(over, deliveries=(heard,)),),
    )
    assert [one.id for one in batch.all] == [1, 2, 3]
    assert occasion(new, told(), now=NOW) is None


def test_a_channel_is_an_alarm_when_it_has_long_taken_nothing() -> None:
    def alarm(elapsed: timedelta) -> Alarm | None:
        return channel_alarm("mail", NOW, "it does not answer", now=NOW + elapsed)

    assert alarm(CHANNEL_PATIENCE - MINUTE) is None
    found = alarm(CHANNEL_PATIENCE)
    assert found is not None
    assert (found.kind, found.key, found.happened_at) == ("channel", "channel:mail", NOW)

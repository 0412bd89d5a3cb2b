"""Episodes of alarms: when one is over, who can provoke it, what a channel is told and when. Pure.

Why each kind ends as it does stands in docs/decisions/0034-alarms-are-episodes.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from pgben_tasks.domain.alarm import (
    MOST_IN_A_MAIL,
    REFUSALS_APART,
    SEVERITY,
    Alarm,
    AlarmKind,
    Delivery,
    KeptAlarm,
    facts,
)
from pgben_tasks.domain.job import EVERYTHING

#: A condition is over when it was not found for this long, which is more than one tick.
CLEAR_AFTER: Final = timedelta(minutes=3)
#: What is open is told again after this; what is due within the second goes along.
REMIND_AFTER: Final = timedelta(days=1)
REMIND_WITH: Final = timedelta(hours=12)
#: A failure that no success has followed is old news after this: what holds is told by others.
LONGEST_EVENT: Final = timedelta(days=7)
#: A channel that took nothing for this long is an alarm of its own; some servers let everybody wait
#: for minutes at first (greylisting).
CHANNEL_PATIENCE: Final = timedelta(minutes=10)

#: How an alarm ends. ``absent``: when ticks do not find it any more, and it may come back as a new
#: episode. ``success``: when work of its kind and target succeeds, when a newer one takes its
#: place, or when it is old. ``at once``: it only happened, and is never open.
End = Literal["absent", "success", "at once"]


class Course(NamedTuple):
    """What becomes of a kind of alarm after it was raised."""

    ends: End
    #: Whether it is told again each day while it is open.
    reminded: bool = False
    #: Whether its end is told.
    resolved: bool = False
    #: For how long a condition must not be found.
    clear_after: timedelta = CLEAR_AFTER


_HOLDS: Final = Course("absent", reminded=True, resolved=True)
_HAPPENED: Final = Course("at once")
_UNTIL_SUCCESS: Final = Course("success")
_OWED: Final = Course("success", reminded=True, resolved=True)

COURSES: Final[Mapping[AlarmKind, Course]] = {
    "damaged": _OWED,
    "in_place": _HAPPENED,
    "failed": _UNTIL_SUCCESS,
    "after_swap": _UNTIL_SUCCESS,
    "unverified": _OWED,
    "suspect": _UNTIL_SUCCESS,
    "faulty": _UNTIL_SUCCESS,
    "audit": _HOLDS,
    "foreign": _HOLDS,
    "stale": _HOLDS,
    "overdue": _HOLDS,
    # A disk that hovers at its limit is one alarm.
    "space": _HOLDS._replace(clear_after=timedelta(hours=6)),
    "silent": _HOLDS,
    "channel": _HOLDS,
    "unsent": _OWED,
    "expiring": Course("absent"),
    "message": _HAPPENED,
    "refused": _HAPPENED,
}
#: Kinds of which a channel hears more than once.
RETOLD: Final = tuple(kind for kind, course in COURSES.items() if course.resolved)

#: What anybody who reaches the queue can provoke without end; messages of nothing but one of these
#: keep their distance. That a restore in place is done costs too much to be among them.
Restraint = Literal["refused", "asked", "failed"]
_RESTRAINED: Final[Mapping[tuple[str, str | None], Restraint]] = {
    ("refused", None): "refused",
    ("message", None): "refused",
    ("in_place", "in_place_refused"): "refused",
    ("in_place", "in_place_asked"): "asked",
    ("in_place", "in_place_cancelled"): "asked",
    ("in_place", "in_place_failed"): "failed",
}

#: What is sent about an alarm.
Occasion = Literal["raised", "reminder", "over"]


def restraint(kind: str, what: str | None) -> Restraint | None:
    """Return what keeps messages of such an alarm apart; None for what goes at once, always."""
    return _RESTRAINED.get((kind, what)) or _RESTRAINED.get((kind, None))


def channel_alarm(
    channel: str, failing_since: datetime, why: str, *, now: datetime
) -> Alarm | None:
    """Return the alarm that a channel has long taken nothing; None while it may be a hiccup."""
    if now - failing_since < CHANNEL_PATIENCE:
        return None
    return Alarm(
        key=f"channel:{channel}",
        kind="channel",
        target="",
        happened_at=failing_since,
        facts=facts(channel=channel, since=failing_since.isoformat(), why=why),
    )


def foreign_alarm(target: str, backup: str, needs: str, *, now: datetime) -> Alarm:
    """Return the alarm that no restore worker can restore the newest good backup of a target."""
    return Alarm(
        key=f"foreign:{target}",
        kind="foreign",
        target=target,
        happened_at=now,
        facts=facts(work="restore", backup_id=backup, needs=needs),
    )


# Ends


class Undecided(NamedTuple):
    """A condition that could not be judged: it neither holds nor is over.

    ``target`` None stands for all targets, ``work`` None for all work on it, and ``place`` None
    for all places.
    """

    kind: AlarmKind
    target: str | None = None
    work: str | None = None
    place: str | None = None


class GoodEnd(NamedTuple):
    """When work of a kind on a target last ended well."""

    work: str
    target: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Which open alarms (ids) are found again, not found for the first time, and over.

    ``replaced`` are those that a newer alarm takes the place of: nothing is better than before.
    """

    present: tuple[int, ...]
    absent: tuple[int, ...]
    over: tuple[int, ...]
    replaced: tuple[int, ...] = ()


def settle(
    open_alarms: Sequence[KeptAlarm],
    *,
    found: AbstractSet[str],
    undecided: AbstractSet[Undecided],
    good_ends: Iterable[GoodEnd],
    now: datetime,
) -> Settled:
    """Decide which open alarms are over; ``found`` are the keys of conditions that hold now."""
    ends = list(good_ends)
    present, absent, over, replaced = [], [], [], []
    for one in open_alarms:
        alarm = one.alarm
        if COURSES[alarm.kind].ends != "absent":
            if any(_replaces(other, one) for other in open_alarms):
                replaced.append(one.id)
            elif _has_ended(alarm, ends, now=now):
                over.append(one.id)
        elif alarm.key in found:
            if one.absent_since is not None:
                present.append(one.id)
        elif any(_leaves_open(what, alarm) for what in undecided):
            continue
        elif one.absent_since is None:
            absent.append(one.id)
        elif now - one.absent_since >= COURSES[alarm.kind].clear_after:
            over.append(one.id)
    return Settled(
        present=tuple(present), absent=tuple(absent), over=tuple(over), replaced=tuple(replaced)
    )


def _leaves_open(what: Undecided, alarm: Alarm) -> bool:
    return (
        what.kind == alarm.kind
        and what.target in {None, alarm.target}
        and what.work in {None, alarm.facts.get("work")}
        and what.place in {None, alarm.facts.get("place")}
    )


def _has_ended(alarm: Alarm, ends: Sequence[GoodEnd], *, now: datetime) -> bool:
    if now - alarm.happened_at >= LONGEST_EVENT and not COURSES[alarm.kind].reminded:
        return True
    return any(_answers(end, alarm) for end in ends)


def _replaces(newer: KeptAlarm, older: KeptAlarm) -> bool:
    """Return whether an alarm says of the same work what an older one said before."""
    one, other = newer.alarm, older.alarm
    if newer.id <= older.id or COURSES[one.kind].ends != "success":
        return False
    if other.kind == "failed" and one.job is not None and one.job == other.job:
        return True
    same = (one.kind, one.target, one.facts.get("work"))
    return same == (other.kind, other.target, other.facts.get("work"))


def _answers(end: GoodEnd, alarm: Alarm) -> bool:
    """Return whether a good end puts right what an alarm is about."""
    if end.at <= alarm.happened_at:
        return False
    works = {alarm.facts.get("work")} | ({"acknowledge"} if alarm.kind == "suspect" else set())
    # A verification of everything looks at every target.
    targets = {alarm.target} | ({EVERYTHING} if alarm.facts.get("work") == "verify" else set())
    return end.work in works and end.target in targets


# Messages


class Pending(NamedTuple):
    """What a channel is to hear of an alarm."""

    kept: KeptAlarm
    delivery: Delivery
    occasion: Occasion


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one message says."""

    raised: tuple[KeptAlarm, ...] = ()
    reminders: tuple[KeptAlarm, ...] = ()
    over: tuple[KeptAlarm, ...] = ()

    @property
    def all(self) -> tuple[KeptAlarm, ...]:
        """Every alarm of it."""
        return (*self.raised, *self.reminders, *self.over)


def occasion(kept: KeptAlarm, delivery: Delivery, *, now: datetime) -> Occasion | None:
    """Return what a channel is to hear of an alarm; None for nothing at this time."""
    course = COURSES[kept.alarm.kind]
    if delivery.told_at is None:
        return "raised"
    if kept.cleared_at is not None:
        return "over" if course.resolved and delivery.over_at is None else None
    holds = course.reminded and kept.absent_since is None
    last = delivery.last_sent_at or delivery.told_at
    return "reminder" if holds and now - last >= REMIND_WITH else None


def to_send(
    waiting: Iterable[tuple[KeptAlarm, Delivery]],
    *,
    now: datetime,
    last_sent: Mapping[Restraint, datetime],
) -> list[Pending]:
    """Return what goes to a channel now, as one message; nothing while all of it can wait.

    ``last_sent`` says when the channel last took something of each restraint. Whatever waits goes
    along with the first that is due.
    """
    pending = [
        Pending(kept, delivery, what)
        for kept, delivery in waiting
        if (what := occasion(kept, delivery, now=now)) is not None
    ]
    return pending if _may_go(pending, now=now, last_sent=last_sent) else []


def _may_go(
    pending: Sequence[Pending], *, now: datetime, last_sent: Mapping[Restraint, datetime]
) -> bool:
    due = [one for one in pending if _is_due(one, now)]
    if not due:
        return False
    for one in pending:
        if one.occasion == "reminder" and one not in due:
            continue
        sort = restraint(one.kept.alarm.kind, one.kept.alarm.facts.get("what"))
        last = last_sent.get(sort) if sort else None
        if last is None or now - last >= REFUSALS_APART:
            return True
    return False


def _is_due(one: Pending, now: datetime) -> bool:
    if one.delivery.next_try_at > now:
        return False
    last = one.delivery.last_sent_at
    return one.occasion != "reminder" or last is None or now - last >= REMIND_AFTER


def by_readers(
    waiting: Iterable[tuple[KeptAlarm, Delivery]],
) -> tuple[list[tuple[KeptAlarm, Delivery]], list[tuple[KeptAlarm, Delivery]]]:
    """Return what goes to the contacts, too, and what is only for those who operate."""
    contacts: list[tuple[KeptAlarm, Delivery]] = []
    operators: list[tuple[KeptAlarm, Delivery]] = []
    for one in waiting:
        (contacts if one[0].alarm.kind == "in_place" else operators).append(one)
    return contacts, operators


def batch_of(pending: Iterable[Pending]) -> Batch:
    """Return the message of what is pending."""
    sorts: dict[Occasion, list[KeptAlarm]] = {"raised": [], "reminder": [], "over": []}
    for one in pending:
        # What the channel heard before belongs to what it hears now.
        sorts[one.occasion].append(replace(one.kept, deliveries=(one.delivery,)))
    return Batch(
        raised=tuple(sorts["raised"]),
        reminders=tuple(sorts["reminder"]),
        over=tuple(sorts["over"]),
    )


def split_for_mail(
    waiting: Sequence[KeptAlarm], *, most: int = MOST_IN_A_MAIL
) -> tuple[list[KeptAlarm], Counter[AlarmKind]]:
    """Return the alarms that a message shows in full, the worst first, and counts of the rest.

    However many there are of what anybody can provoke, they hide nothing else.
    """
    ordered = [one for _, one in sorted(_ranked(waiting), key=lambda ranked: ranked[0])]
    return ordered[:most], Counter(one.alarm.kind for one in ordered[most:])


def _ranked(
    waiting: Sequence[KeptAlarm],
) -> Iterator[tuple[tuple[bool, int, int], KeptAlarm]]:
    seen: set[Restraint] = set()
    for one in sorted(waiting, key=lambda kept: kept.id):
        sort = restraint(one.alarm.kind, one.alarm.facts.get("what"))
        if one.alarm.kind == "failed" and "window" not in one.alarm.facts:
            # Anybody can ask for what fails.
            sort = "failed"
        again = sort in seen
        if sort is not None:
            seen.add(sort)
        kind: AlarmKind = "refused" if sort == "refused" else one.alarm.kind
        yield (again, SEVERITY.index(kind), one.id), one

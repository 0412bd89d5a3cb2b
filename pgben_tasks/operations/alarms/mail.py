"""Alarms as mails: what happened, what can still be restored, what to do, contacts. Pure.

What strangers wrote (targets, names of who asks, errors of servers) came through ``one_line`` and
stays on its line: nobody can write a line of a mail, let alone a header.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from pgben_tasks.domain.alarm import Alarm, AlarmKind, KeptAlarm, one_line, split_for_mail
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.domain.overdue import Restorable
from pgben_tasks.language import (
    Language,
    age,
    translatable as _,
    translate,
    translate_error,
    with_marks,
)
from pgben_tasks.ports import Mail
from pgben_tasks.words import ALARMS

#: What a job does, by its kind.
WORK: Final[Mapping[str, str]] = {
    "backup": _("backup of {target}"),
    "point": _("recovery point of {target}"),
    "restore": _("restore of {target}"),
    "restore_all": _("restore of {target} at once"),
    "verify": _("verification of {target}"),
    "prune": _("retention of {target}"),
    "undo": _("undoing of a swap of {target}"),
    "undo_all": _("undoing of the swaps of {target}"),
    "acknowledge": _("acknowledgement of a backup of {target}"),
    "hold": _("hold of a backup of {target}"),
    "sweep": _("sweep of {target}"),
    "report": _("report of {target}"),
}

#: What is refused without having become a job.
_NO_JOB: Final[Mapping[str, str]] = {"message": _("a message of a queue")}

#: One line for each kind of alarm: subjects and headings.
HEADLINES: Final[Mapping[AlarmKind, str]] = {
    "failed": _("{work} failed"),
    "after_swap": _("the command after the swap failed, {work}"),
    "refused": _("{work} was refused"),
    "damaged": _("damage found, {work}"),
    "suspect": _("{work} is suspect"),
    "faulty": _("rows and objects do not go together, {work}"),
    "overdue": _("{work} is overdue"),
    "stale": _("{target} has no recent verified backup"),
    "space": _("'{place}' is running out of room"),
    "silent": _("the scheduler (beat) is silent"),
    "expiring": _("a restored copy of {target} will be removed"),
}

#: What happened, where no error says it.
HAPPENED: Final[Mapping[str, str]] = {
    "not_begun": _("its job was written and no worker has begun it"),
    "not_ended": _("its job has begun and does not come to an end"),
    "missed": _("its window passed without any job, and is not made up for any more"),
    "stale": _("the newest verified backup is older than {hours} h, and none is under way"),
    "silent": _(
        "no tick of beat has been run; the maintenance worker does its work meanwhile, but only "
        "every five minutes"
    ),
    "full": _("{share} of {capacity} are used, and {free} are free"),
    "short": _(
        "what is due until this time tomorrow needs about {needed} by earlier nights, and {free} "
        "of {capacity} are free"
    ),
    "no_room": _(
        "a restore of the largest database beside the original needs about {needed}, and {free} of "
        "{capacity} are free"
    ),
    "expiring": _(
        "the copy '{database}' is removed on {until}, unless somebody uses it; "
        "`pgben databases keep {database}` keeps it"
    ),
}

RUNBOOK: Final = _("docs/operations.md, “{section}”")

#: Headings of the runbook.
SECTIONS: Final[Mapping[AlarmKind, str]] = {
    "failed": _("A backup failed"),
    "after_swap": _("Stopping the application for a swap"),
    "refused": _("Alarms"),
    "damaged": _("Verification found damage"),
    "suspect": _("A backup is suspect"),
    "faulty": _("Rows whose objects are not as they say"),
    "overdue": _("Nothing happened last night"),
    "stale": _("Alarms"),
    "space": _("The disk fills"),
    "silent": _("Alarms"),
    "expiring": _("Databases that restores left"),
}

#: States of a backup that can be restored.
_STATES: Final[Mapping[str, str]] = {
    "verified": _("verified"),
    "verified (unopened)": _("verified (unopened)"),
}

#: Facts that are written as they are, in this order, with their labels.
_PLAIN: Final[Mapping[str, str]] = {
    "requested_by": _("Asked for by"),
    "step": _("Step"),
    "backup_id": _("Backup"),
    "place": _("Place"),
    "days": _("Days left at its growth"),
}

#: Facts that are moments.
_MOMENTS: Final[Mapping[str, str]] = {
    "window": _("Window"),
    "last_sign": _("Last sign of life"),
}

#: Letters of a job's id that `pgben jobs` finds it by.
_SHORT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterhead:
    """What all mails of an installation share; ``contacts`` are (name, mail, phone)."""

    language: Language
    zone: ZoneInfo
    node: str
    contacts: Sequence[tuple[str, str, str]]

    def translate(self, text: str, **values: object) -> str:
        """Return a text in the mail's language, its gaps filled."""
        return translate(text, self.language, **values)

    def moment(self, at: datetime | str) -> str:
        """Return a moment in local time with its offset."""
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        return moment.astimezone(self.zone).replace(microsecond=0).isoformat(sep=" ")


def compose(
    waiting: Sequence[KeptAlarm],
    *,
    letterhead: Letterhead,
    restorable: Callable[[str], Restorable | None],
    now: datetime,
) -> Mail:
    """Return one mail of alarms: the worst in full, the others counted."""
    in_full, others = split_for_mail(waiting)
    about = headline(in_full[0].alarm, letterhead)
    count = len(waiting) - 1
    subject = (
        _("[pgben] ALARM: {headline} (and {count} more)")
        if count
        else _("[pgben] ALARM: {headline}")
    )
    parts = [
        "\n".join(_lines(one.alarm, letterhead, restorable=restorable, now=now)) for one in in_full
    ]
    if others:
        lines = [
            f"  {number} × {letterhead.translate(ALARMS[kind])}" for kind, number in others.items()
        ]
        heading = letterhead.translate("Further alarms, told only by their number:")
        parts.append(
            "\n".join([heading, *lines, letterhead.translate("`pgben alarms` lists them.")])
        )
    names = "\n".join(one.alarm.key for one in waiting)
    return Mail(
        subject=one_line(letterhead.translate(subject, headline=about, count=count)),
        body=_page(parts, letterhead),
        at=now,
        id=f"pgben.{hashlib.sha256(names.encode()).hexdigest()[:32]}",
    )


def compose_test(*, letterhead: Letterhead, now: datetime) -> Mail:
    """Return the mail by which an operator tests the settings."""
    return Mail(
        subject=letterhead.translate("[pgben] TEST: alarms arrive here"),
        body=_page(
            [
                letterhead.translate(
                    "This is a test. Nothing happened: if you read this, alarms will reach you."
                )
            ],
            letterhead,
        ),
        at=now,
        id=f"pgben.test.{now:%Y%m%dT%H%M%S%f}",
    )


def _page(parts: Sequence[str], letterhead: Letterhead) -> str:
    contacts = [f"  {one_line('; '.join(one))}" for one in letterhead.contacts]
    foot = letterhead.translate(
        "Sent by pgben on {node}. Nobody reads answers. Times are those of {zone}.",
        node=letterhead.node,
        zone=letterhead.zone.key,
    )
    if contacts:
        parts = [*parts, "\n".join([letterhead.translate("Contacts") + ":", *contacts])]
    # A line of two hyphens and a space begins what mail programs fold away.
    return "\n\n".join([*parts, f"-- \n{foot}"]) + "\n"


def _lines(
    alarm: Alarm,
    letterhead: Letterhead,
    *,
    restorable: Callable[[str], Restorable | None],
    now: datetime,
) -> Iterator[str]:
    about = headline(alarm, letterhead)
    yield about
    yield "=" * len(about)
    for label, text in _facts(alarm, letterhead):
        yield f"{letterhead.translate(label)}: {text}"
    if alarm.target.startswith("postgres/"):
        newest = restorable(alarm.target)
        label = letterhead.translate("Can be restored")
        yield f"{label}: {_newest_backup(newest, letterhead, now)}"
    yield letterhead.translate("What to do") + ":"
    if alarm.job:
        yield f"  pgben jobs {str(alarm.job)[:_SHORT]}"
    section = letterhead.translate(SECTIONS[alarm.kind])
    yield f"  {letterhead.translate(RUNBOOK, section=section)}"


def _facts(alarm: Alarm, letterhead: Letterhead) -> Iterator[tuple[str, str]]:
    """Yield what is known of an alarm: labels, not translated, and their values."""
    facts = alarm.facts
    yield _("What happened"), what_happened(alarm, letterhead)
    yield _("When"), letterhead.moment(alarm.happened_at)
    if alarm.target:
        yield _("Target"), _target(alarm, letterhead)
    if alarm.job:
        yield _("Job"), str(alarm.job)
    if hint := _error(alarm, letterhead)[1]:
        yield _("Hint"), hint
    for name, label in _PLAIN.items():
        if text := facts.get(name):
            yield label, text
    for name, label in _MOMENTS.items():
        if text := facts.get(name):
            yield label, letterhead.moment(text)
    if alarm.kind in {"failed", "damaged"}:
        later = facts.get("next_attempt")
        when = letterhead.moment(later) if later else letterhead.translate("none by itself")
        yield _("Next attempt"), when


def what_happened(alarm: Alarm, letterhead: Letterhead) -> str:
    """Return what happened in one sentence: an error's own, ours, or at least the headline."""
    if sentence := _error(alarm, letterhead)[0]:
        return sentence
    facts = alarm.facts
    what = alarm.kind if alarm.kind in HAPPENED else facts.get("what")
    if not what:
        return headline(alarm, letterhead)
    until = facts.get("until")
    return letterhead.translate(
        HAPPENED[what],
        hours=facts.get("hours", "?"),
        database=facts.get("database", "?"),
        **{
            name: with_marks(facts.get(name, "?"), letterhead.language)
            for name in ("share", "capacity", "free", "needed")
        },
        until=letterhead.moment(until) if until else "?",
    )


def _error(alarm: Alarm, letterhead: Letterhead) -> tuple[str, str]:
    """Return the sentence and the hint of an error in the mail's language; empty without one."""
    facts = alarm.facts
    return translate_error(facts.get("sentence", ""), facts.get("hint", ""), letterhead.language)


def _newest_backup(newest: Restorable | None, letterhead: Letterhead, now: datetime) -> str:
    if newest is None:
        return letterhead.translate("nothing: there is no verified backup")
    return letterhead.translate(
        "backup {backup}, data as of {moment} ({age} old), {state}",
        backup=newest.backup,
        moment=letterhead.moment(newest.snapshot_at),
        age=age(now - newest.snapshot_at),
        state=letterhead.translate(_STATES.get(newest.state, newest.state)),
    )


def headline(alarm: Alarm, letterhead: Letterhead) -> str:
    """Return what an alarm is about, in a few words."""
    target = _target(alarm, letterhead)
    work = letterhead.translate(
        {**WORK, **_NO_JOB}[alarm.facts.get("work", "backup")], target=target
    )
    place = alarm.facts.get("place", "?")
    return letterhead.translate(HEADLINES[alarm.kind], work=work, target=target, place=place)


def _target(alarm: Alarm, letterhead: Letterhead) -> str:
    return letterhead.translate("everything") if alarm.target == EVERYTHING else alarm.target

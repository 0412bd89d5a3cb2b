"""Alarms as messages: what happened, what can still be restored, what to do, contacts. Pure.

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

from pgben_tasks.domain.alarm import (
    MOST_IN_A_MAIL,
    Alarm,
    AlarmKind,
    KeptAlarm,
    one_line,
)
from pgben_tasks.domain.episodes import COURSES, Batch, split_for_mail
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.domain.overdue import Restorable
from pgben_tasks.language import (
    Language,
    age,
    translatable as _,
    translate,
    translate_error,
    translation_of_error,
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

#: One line for each stage of what replaces something in use.
_IN_PLACE: Final[Mapping[str, str]] = {
    "in_place_asked": _("asked for in place: {work}"),
    "in_place_succeeded": _("done in place: {work}"),
    "in_place_failed": _("failed in place: {work}"),
    "in_place_refused": _("refused in place: {work}"),
    "in_place_cancelled": _("cancelled in place: {work}"),
}

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
    "unverified": _("{work} did not take place"),
    "audit": _("the audit trail cannot be continued"),
    "foreign": _("{target} cannot be restored by the workers here"),
    "channel": _("alarms do not go by '{channel}'"),
    "unsent": _("the report could not be sent"),
    "message": _("a message that is none was set aside"),
    "in_place": _("in place: {work}"),
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
    "foreign": _(
        "no restore worker can restore backup {backup}, the newest good one: it needs {needs}"
    ),
    "channel": _("it has taken nothing since {since}: {why}"),
    "nothing_examined": _("it ended, and had looked at no backup"),
    "cancelled": _("it was cancelled, and nothing was verified"),
    "in_place_asked": _(
        "somebody asked for it; when it is begun, what is in use will be replaced, and what is "
        "replaced is kept"
    ),
    "in_place_succeeded": _("what was in use has been replaced, and is kept"),
    "in_place_failed": _("it ended badly; its job says what is in use now"),
    "in_place_refused": _("it was refused, and nothing was changed"),
    "in_place_cancelled": _("it was cancelled"),
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
    "unverified": _("A verification did not take place"),
    "audit": _("The catalog is older than the repository"),
    "foreign": _("A backup is not restorable here"),
    "channel": _("A channel takes no alarms"),
    "unsent": _("The report could not be sent"),
    "message": _("Alarms"),
    "in_place": _("Something is replaced in place"),
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

#: How many alarms a message lists of what is still open, or over.
MOST_LISTED: Final = 20
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

    def phrase(self, text: str) -> str:
        """Return what an error says, or quotes, in the mail's language, where that is known."""
        if self.language == "en":
            return text
        return translation_of_error(text, self.language) or text

    def moment(self, at: datetime | str) -> str:
        """Return a moment in local time with its offset."""
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        return moment.astimezone(self.zone).replace(microsecond=0).isoformat(sep=" ")


def compose(
    batch: Batch,
    *,
    letterhead: Letterhead,
    restorable: Callable[[str], Restorable | None],
    now: datetime,
) -> Mail:
    """Return one message: new alarms, the worst in full; then what is still open, and what is over.

    What is replaced in place goes to the contacts, too.
    """
    in_full, others = split_for_mail(batch.raised)
    parts = ["\n".join(_lines(one, letterhead, restorable=restorable, now=now)) for one in in_full]
    if others:
        parts.append(_counted(others, letterhead))
    parts += _listed(batch, letterhead, now)
    return Mail(
        subject=_subject(batch, letterhead),
        body=_page(parts, letterhead),
        brief=_brief(batch, letterhead, now),
        at=now,
        id=f"pgben.{_digest(batch)}",
        to_contacts=any(one.alarm.kind == "in_place" for one in batch.raised),
    )


def _subject(batch: Batch, letterhead: Letterhead) -> str:
    """Return what the worst of a message is about, and how many more there are."""
    if batch.raised:
        one, many = (
            _("[pgben] ALARM: {headline}"),
            _("[pgben] ALARM: {headline} (and {count} more)"),
        )
    elif batch.reminders:
        one, many = (
            _("[pgben] STILL OPEN: {headline}"),
            _("[pgben] STILL OPEN: {headline} (and {count} more)"),
        )
    else:
        one, many = (
            _("[pgben] RESOLVED: {headline}"),
            _("[pgben] RESOLVED: {headline} (and {count} more)"),
        )
    sort = batch.raised or batch.reminders or batch.over
    about = headline(split_for_mail(sort)[0][0].alarm, letterhead)
    count = len(batch.all) - 1
    text = letterhead.translate(many if count else one, headline=about, count=count)
    return one_line(text)


def _digest(batch: Batch) -> str:
    """Return what is the same for the same message, and for no other one."""
    names = [f"{one.alarm.key} {one.episode}" for one in batch.raised]
    names += [f"still {one.id} {_reminders(one)}" for one in batch.reminders]
    names += [f"over {one.id}" for one in batch.over]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]


def _reminders(one: KeptAlarm) -> int:
    return max((told.reminders for told in one.deliveries), default=0)


def _counted(others: Mapping[AlarmKind, int], letterhead: Letterhead) -> str:
    lines = [
        f"  {number} × {letterhead.translate(ALARMS[kind])}" for kind, number in others.items()
    ]
    heading = letterhead.translate("Further alarms, told only by their number:")
    return "\n".join([heading, *lines, letterhead.translate("`pgben alarms` lists them.")])


def _listed(batch: Batch, letterhead: Letterhead, now: datetime) -> Iterator[str]:
    """Yield what is still open and what is over, where there is any."""
    for heading, alarms, write in (
        (_("Still open:"), batch.reminders, _still_open),
        (_("Resolved:"), batch.over, _over),
    ):
        if alarms:
            shown = split_for_mail(alarms, most=MOST_LISTED)[0]
            lines = [f"  {write(one, letterhead, now)}" for one in shown]
            if len(alarms) > len(shown):
                lines.append("  …")
            lines.append(letterhead.translate("`pgben alarms` lists them."))
            yield "\n".join([letterhead.translate(heading), *lines])


def _still_open(one: KeptAlarm, letterhead: Letterhead, now: datetime) -> str:
    return letterhead.translate(
        "{headline}: since {since} ({age})",
        headline=headline(one.alarm, letterhead),
        since=letterhead.moment(one.raised_at),
        age=age(now - one.raised_at),
    )


def _over(one: KeptAlarm, letterhead: Letterhead, now: datetime) -> str:
    until = one.cleared_at or now
    # What the trail lacks stays so: once it is entered there, later verifications know it.
    text = (
        _("{headline}: from {since} to {until} ({age}); the verification since found nothing new")
        if one.alarm.kind == "damaged"
        else _("{headline}: from {since} to {until} ({age})")
    )
    return letterhead.translate(
        text,
        headline=headline(one.alarm, letterhead),
        since=letterhead.moment(one.raised_at),
        until=letterhead.moment(until),
        age=age(until - one.raised_at),
    )


def _brief(batch: Batch, letterhead: Letterhead, now: datetime) -> str:
    """Return a message in a few lines, for chats and telephones."""
    in_full, others = split_for_mail(batch.raised)
    lines = []
    for one in in_full:
        about, what = headline(one.alarm, letterhead), what_happened(one.alarm, letterhead)
        lines.append(about if what == about else f"{about}: {what}")
    if others:
        lines.append(letterhead.translate("and {count} more", count=others.total()))
    for heading, alarms, write in (
        (_("Still open:"), batch.reminders, _still_open),
        (_("Resolved:"), batch.over, _over),
    ):
        if alarms:
            lines.append(letterhead.translate(heading))
            lines += [
                f"- {write(one, letterhead, now)}"
                for one in split_for_mail(alarms, most=MOST_IN_A_MAIL)[0]
            ]
    return "\n".join(lines)


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
        brief=letterhead.translate(
            "This is a test. Nothing happened: if you read this, alarms will reach you."
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
    kept: KeptAlarm,
    letterhead: Letterhead,
    *,
    restorable: Callable[[str], Restorable | None],
    now: datetime,
) -> Iterator[str]:
    alarm = kept.alarm
    about = headline(alarm, letterhead)
    yield about
    yield "=" * len(about)
    for label, text in _facts(alarm, letterhead):
        yield f"{letterhead.translate(label)}: {text}"
    if kept.cleared_at is not None and COURSES[alarm.kind].ends != "at once":
        label = letterhead.translate("Over since")
        yield f"{label}: {letterhead.moment(kept.cleared_at)}"
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
    if alarm.kind in {"failed", "damaged", "unverified", "unsent"}:
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
    moments = {name: facts.get(name) for name in ("until", "since")}
    return letterhead.translate(
        HAPPENED[what],
        **{name: letterhead.moment(at) if at else "?" for name, at in moments.items()},
        hours=facts.get("hours", "?"),
        database=facts.get("database", "?"),
        backup=facts.get("backup_id", "?"),
        needs=letterhead.phrase(facts.get("needs", "?")),
        why=letterhead.phrase(facts.get("why", "?")),
        **{
            name: with_marks(facts.get(name, "?"), letterhead.language)
            for name in ("share", "capacity", "free", "needed")
        },
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
    kind = alarm.facts.get("work", "backup")
    # A worker of a newer version may have written it, whose kinds of jobs have no words here.
    work = letterhead.translate(
        {**WORK, **_NO_JOB}.get(kind, "{kind} {target}"), kind=kind, target=target
    )
    text = _IN_PLACE.get(alarm.facts.get("what", ""), HEADLINES[alarm.kind])
    return letterhead.translate(
        text,
        work=work,
        target=target,
        channel=alarm.facts.get("channel", "?"),
        place=alarm.facts.get("place", "?"),
    )


def _target(alarm: Alarm, letterhead: Letterhead) -> str:
    return letterhead.translate("everything") if alarm.target == EVERYTHING else alarm.target

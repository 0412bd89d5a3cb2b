"""Alarms as mails: what happened, what can still be restored, what to do, whom to call. Pure.

What strangers wrote (targets, names of who asks, errors of servers) came through ``one_line`` and
stays on its line: nobody can write a line of a mail, let alone a header.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from pgben_tasks.domain.alarm import Alarm, KeptAlarm, one_line, split_for_mail
from pgben_tasks.domain.overdue import Restorable
from pgben_tasks.ports import Mail
from pgben_tasks.words.alarms import WORDS
from pgben_tasks.words.recovery import Language

#: Facts that are said as they are, in this order, under the label of the same name.
_PLAIN: Final = ("hint", "requested_by", "step", "backup_id")
#: Letters of a job's id that `pgben jobs` finds it by.
_SHORT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterhead:
    """What all mails of an installation share; ``contacts`` are (name, mail, phone)."""

    language: Language
    zone: ZoneInfo
    node: str
    contacts: Sequence[tuple[str, str, str]]

    def say(self, word: str, **filled: object) -> str:
        """Return a word or sentence in the mail's language."""
        return WORDS[self.language][word].format(**filled)

    def moment(self, at: datetime | str) -> str:
        """Write a moment in local time with its offset."""
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        return moment.astimezone(self.zone).replace(microsecond=0).isoformat(sep=" ")


def compose(
    waiting: Sequence[KeptAlarm],
    *,
    letterhead: Letterhead,
    restorable: Callable[[str], Restorable | None],
    now: datetime,
) -> Mail:
    """Write one mail of alarms: the worst in full, the others counted."""
    say = letterhead.say
    told, others = split_for_mail(waiting)
    headline = _headline(told[0].alarm, letterhead)
    count = len(waiting) - 1
    subject = "subject_more" if count else "subject"
    parts = [
        "\n".join(_told(one.alarm, letterhead, restorable=restorable, now=now)) for one in told
    ]
    if others:
        lines = [f"  {number} × {_kind(kind, letterhead)}" for kind, number in others.items()]
        parts.append("\n".join([say("others"), *lines, say("see_alarms")]))
    names = "\n".join(one.alarm.key for one in waiting)
    return Mail(
        subject=one_line(say(subject, headline=headline, count=count)),
        body=_page(parts, letterhead),
        at=now,
        id=f"pgben.{hashlib.sha256(names.encode()).hexdigest()[:32]}",
    )


def compose_test(*, letterhead: Letterhead, now: datetime) -> Mail:
    """Write the mail by which an operator tries the settings."""
    return Mail(
        subject=letterhead.say("test_subject"),
        body=_page([letterhead.say("test_body")], letterhead),
        at=now,
        id=f"pgben.test.{now:%Y%m%dT%H%M%S%f}",
    )


def age(elapsed: timedelta) -> str:
    """Write an age in two units that every language reads: ``1 d 2 h``, ``3 h 20 min``."""
    minutes = max(int(elapsed.total_seconds() // 60), 0)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _page(parts: Sequence[str], letterhead: Letterhead) -> str:
    contacts = [f"  {one_line('; '.join(one))}" for one in letterhead.contacts]
    foot = letterhead.say("footer", node=letterhead.node, zone=letterhead.zone.key)
    if contacts:
        parts = [*parts, "\n".join([letterhead.say("contacts") + ":", *contacts])]
    # A line of two hyphens and a space begins what mail programs fold away.
    return "\n\n".join([*parts, f"-- \n{foot}"]) + "\n"


def _told(
    alarm: Alarm,
    letterhead: Letterhead,
    *,
    restorable: Callable[[str], Restorable | None],
    now: datetime,
) -> Iterator[str]:
    headline = _headline(alarm, letterhead)
    yield headline
    yield "=" * len(headline)
    for label, text in _facts(alarm, letterhead):
        yield f"{letterhead.say(label)}: {text}"
    if alarm.target.startswith("postgres/"):
        newest = restorable(alarm.target)
        yield f"{letterhead.say('restorable')}: {_standing(newest, letterhead, now)}"
    yield f"{letterhead.say('to_do')}:"
    if alarm.job:
        yield f"  pgben jobs {str(alarm.job)[:_SHORT]}"
    section = letterhead.say(f"on_{alarm.kind}")
    yield f"  {letterhead.say('runbook', section=section)}"


def _facts(alarm: Alarm, letterhead: Letterhead) -> Iterator[tuple[str, str]]:
    facts, say = alarm.facts, letterhead.say
    yield "happened", _what(alarm, letterhead)
    yield "when", letterhead.moment(alarm.happened_at)
    if alarm.target:
        yield "about", say("everything") if alarm.target == "*" else alarm.target
    if alarm.job:
        yield "job", str(alarm.job)
    for name in _PLAIN:
        if text := facts.get(name):
            yield name, text
    for name in ("window", "last_sign"):
        if text := facts.get(name):
            yield name, letterhead.moment(text)
    if alarm.kind in {"failed", "damaged"}:
        later = facts.get("next_attempt")
        yield "next_attempt", letterhead.moment(later) if later else say("no_attempt")


def _what(alarm: Alarm, letterhead: Letterhead) -> str:
    """Return what happened in one sentence: an error's own, ours, or at least the headline."""
    if sentence := alarm.facts.get("sentence"):
        return sentence
    if alarm.kind in {"stale", "silent"}:
        return letterhead.say(f"{alarm.kind}_what", hours=alarm.facts.get("hours", "?"))
    what = alarm.facts.get("what")
    return letterhead.say(what) if what else _headline(alarm, letterhead)


def _standing(newest: Restorable | None, letterhead: Letterhead, now: datetime) -> str:
    if newest is None:
        return letterhead.say("restorable_none")
    return letterhead.say(
        "restorable_what",
        backup=newest.backup,
        moment=letterhead.moment(newest.snapshot_at),
        age=age(now - newest.snapshot_at),
        state=newest.state,
    )


def _headline(alarm: Alarm, letterhead: Letterhead) -> str:
    say = letterhead.say
    target = say("everything") if alarm.target == "*" else alarm.target
    work = say(alarm.facts.get("work", "backup"), target=target)
    return say(alarm.kind, work=work, target=target)


def _kind(kind: str, letterhead: Letterhead) -> str:
    """Name a kind of alarm without a target."""
    return letterhead.say(f"many_{kind}")

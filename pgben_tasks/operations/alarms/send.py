"""Sending alarms: what waits in the outbox goes to every channel, to each as one message.

What is replaced in place is a message of its own: it also goes to the contacts, whom the rest does
not concern.

A message is marked as sent after the channel took it, so that one may come twice and none is lost.
All channels are tried at the same time, and each is waited for only so long: none keeps another
from telling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

import structlog

from pgben_tasks.domain.alarm import Delivery, KeptAlarm
from pgben_tasks.domain.episodes import Pending, Restraint, batch_of, by_readers, to_send
from pgben_tasks.domain.overdue import Restorable
from pgben_tasks.errors import PgbenError
from pgben_tasks.operations.alarms.mail import Letterhead, compose
from pgben_tasks.ports import Channel

log = structlog.get_logger(__name__)

#: How long a channel may take for one message.
SEND_WITHIN: Final = timedelta(seconds=60)


class Answer(Protocol):
    """A message under way."""

    def answer(self, limit: timedelta) -> tuple[str, ...]:
        """Return who did not take it, or raise why nobody did; ``limit`` is from its beginning."""


class Sending(Protocol):
    """Channels that no other process uses meanwhile."""

    @property
    def now(self) -> datetime:
        """The present moment."""

    def waiting(self, channel: str) -> list[tuple[KeptAlarm, Delivery]]:
        """Return the alarms that a channel may have to hear of."""

    def last_sent(self, channel: str) -> dict[Restraint, datetime]:
        """Return when a channel last took an alarm of each restraint."""

    def sent(self, channel: str, pending: Sequence[Pending], *, note: str | None) -> None:
        """Write that a channel took a message."""

    def not_sent(self, channel: str, pending: Sequence[Pending], error: str) -> None:
        """Write why a channel did not take a message."""


class Outbox(Protocol):
    """Where alarms wait for being told."""

    def sending(self, channels: Sequence[str], *, now: datetime) -> AbstractContextManager[Sending]:
        """Yield what these channels may have to hear, locked for this process."""


def send_alarms(
    outbox: Outbox,
    channels: Sequence[Channel],
    *,
    begin: Callable[[str, Callable[[], tuple[str, ...]]], Answer],
    letterhead: Letterhead,
    restorable: Callable[[str], Restorable | None],
    within: timedelta = SEND_WITHIN,
    now: datetime,
) -> int:
    """Send what waits for each channel; return how many alarms were told.

    ``begin`` begins to call something, named by what it asks, beside everything else; each channel
    has the time ``within`` for its message.
    """
    if not channels:
        return 0
    told: set[int] = set()
    with outbox.sending([one.name for one in channels], now=now) as sending:
        under_way: list[tuple[str, list[Pending], Answer]] = []
        for channel in channels:
            last_sent = sending.last_sent(channel.name)
            for waiting in by_readers(sending.waiting(channel.name)):
                pending = to_send(waiting, now=now, last_sent=last_sent)
                if pending:
                    mail = compose(
                        batch_of(pending), letterhead=letterhead, restorable=restorable, now=now
                    )
                    answer = begin(channel.name, partial(channel.send, mail))
                    under_way.append((channel.name, pending, answer))
        for name, pending, answer in under_way:
            if _settled(sending, name, pending, answer, within=within):
                told |= {one.kept.id for one in pending}
    return len(told)


def _settled(
    sending: Sending,
    name: str,
    pending: Sequence[Pending],
    answer: Answer,
    *,
    within: timedelta,
) -> bool:
    """Write what became of a message; return whether it was taken."""
    try:
        refused = answer.answer(within)
    except PgbenError as exc:
        sending.not_sent(name, pending, exc.sentence)
        log.error("alarm_not_sent", channel=name, why=exc.sentence, alarms=len(pending))  # noqa: TRY400 - a sentence, no trace
        return False
    note = f"not taken for {', '.join(refused)}" if refused else None
    sending.sent(name, pending, note=note)
    if note:
        log.warning("alarm_recipient_refused", channel=name, why=note)
    log.info("alarm_sent", channel=name, alarms=len(pending))
    return True

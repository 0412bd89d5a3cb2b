"""Sending alarms: whatever waits in the outbox goes out as one mail.

A mail is marked as sent after the server took it, so that one may come twice and none is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

import structlog

from pgben_tasks.domain.alarm import KeptAlarm, may_go
from pgben_tasks.domain.overdue import Restorable
from pgben_tasks.errors import PgbenError
from pgben_tasks.operations.alarms.mail import Letterhead, compose
from pgben_tasks.ports import Mailer

log = structlog.get_logger(__name__)


class Delivery(Protocol):
    """Alarms that no other process sends meanwhile."""

    @property
    def alarms(self) -> list[KeptAlarm]:
        """Every alarm that was not sent."""

    @property
    def now(self) -> datetime:
        """The present moment."""

    @property
    def last_refusal_sent(self) -> datetime | None:
        """When a mail with a refusal was last sent."""

    def sent(self, *, note: str | None) -> None:
        """Write that a server accepted the mail."""

    def not_sent(self, error: str) -> None:
        """Write why the mail was not sent."""


class Outbox(Protocol):
    """Where alarms wait for their mail."""

    def delivery(self) -> AbstractContextManager[Delivery]:
        """Yield all alarms that were not sent, locked for this process."""


def send_alarms(
    outbox: Outbox,
    mailer: Mailer,
    *,
    letterhead: Letterhead,
    restorable: Callable[[str], Restorable | None],
) -> int:
    """Send the waiting alarms as one mail; return how many were sent."""
    with outbox.delivery() as delivery:
        waiting = delivery.alarms
        if not may_go(waiting, now=delivery.now, last_refusal_sent=delivery.last_refusal_sent):
            return 0
        mail = compose(waiting, letterhead=letterhead, restorable=restorable, now=delivery.now)
        try:
            refused = mailer.send(mail)
        except PgbenError as exc:
            delivery.not_sent(exc.sentence)
            log.error("alarm_not_sent", why=exc.sentence, alarms=len(waiting))  # noqa: TRY400 - a sentence, no trace
            return 0
        note = f"not taken for {', '.join(refused)}" if refused else None
        delivery.sent(note=note)
    if note:
        log.warning("alarm_recipient_refused", why=note)
    log.info("alarm_sent", alarms=len(waiting), subject=mail.subject)
    return len(waiting)

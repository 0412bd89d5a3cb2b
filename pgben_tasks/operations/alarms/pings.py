"""Pings: what the ledger says of attempts goes to a server outside, which notices silence.

The tick sends them, not the job: none can fail or delay a job, a success is pinged after the ledger
says so, and what a restart left open the next tick sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from pgben_tasks.domain.pings import FRESH, TICK, AttemptRun, Ping, ping_url, pings
from pgben_tasks.errors import PgbenError

#: How long all pings of a tick may take: they are sent at the same time.
PING_WITHIN: Final = timedelta(seconds=5)


class Pinging(Protocol):
    """The series that no other process pings meanwhile."""

    @property
    def upto(self) -> Mapping[str, datetime]:
        """Up to which moment each series was pinged."""

    def sent(self, series: str, upto: datetime) -> None:
        """Write that a series was pinged up to a moment."""


class PingLog(Protocol):
    """Where it is kept what was pinged."""

    def pinging(self) -> AbstractContextManager[Pinging | None]:
        """Yield the series, locked for this process; None while another has them."""


class Attempts(Protocol):
    """What the ledger says of attempts."""

    def attempts(self, *, since: datetime) -> list[AttemptRun]:
        """Return the attempts that began or ended since then."""

    def standing(self) -> Mapping[tuple[str, str], str]:
        """Return how the newest attempt that ended went, by kind and target."""


class Answer(Protocol):
    """A ping under way."""

    def answer(self, limit: timedelta) -> None:
        """Return when it was taken, or raise why not; wait ``limit`` from its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinged:
    """How many pings were tried, and taken but for that of the tick; what was said against one."""

    asked: int
    sent: int
    error: str | None


def send_pings(
    log: PingLog,
    attempts: Attempts,
    *,
    template: str,
    watched: AbstractSet[tuple[str, str]],
    send: Callable[[str, str], None],
    begin: Callable[[str, Callable[[], None]], Answer],
    ticked: bool,
    now: datetime,
) -> Pinged:
    """Ping what happened since the last time, and with ``ticked`` that the tick ran."""
    with log.pinging() as pinging:
        if pinging is None:
            return Pinged(asked=0, sent=0, error=None)
        due = list(
            pings(
                template,
                attempts.attempts(since=now - FRESH),
                upto=pinging.upto,
                standing=attempts.standing(),
                watched=watched,
                now=now,
            )
        )
        if ticked:
            due.append(_of_tick(template, now))
        under_way = [
            (one, begin("the server of PGBEN_HEARTBEAT_URL", partial(send, one.url, one.text)))
            for one in due
        ]
        sent, error = 0, None
        for one, answer in under_way:
            try:
                answer.answer(PING_WITHIN)
            except PgbenError as exc:
                error = exc.sentence
            else:
                sent += one.series != TICK
                pinging.sent(one.series, one.at)
        return Pinged(asked=len(due), sent=sent, error=error)


def _of_tick(template: str, now: datetime) -> Ping:
    url = ping_url(template, kind=TICK, target="", sign="success")
    return Ping(series=TICK, url=url, sign="success", text=TICK, at=now)

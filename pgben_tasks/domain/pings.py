"""Pings that tell a server outside when work begins and how it ends. Pure.

The protocol is that of healthchecks.io: a URL means success, the same with ``/start`` or ``/fail``
behind its path the rest. A ping means "now", so that one which comes too late is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from pgben_tasks.domain.job import EVERYTHING

Sign = Literal["start", "success", "fail"]
_WORST_FIRST: Final[tuple[Sign, ...]] = ("fail", "success", "start")

#: The kind of the pings that every tick of beat sends.
TICK: Final = "tick"
#: Attempts that ended, or began, longer ago than this are not pinged any more.
FRESH: Final = timedelta(hours=1)

#: The gaps of a URL's template.
KIND_GAP: Final = "{kind}"
TARGET_GAP: Final = "{target}"
_NO_SLUG: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRun:
    """One attempt of a job, or the end of a window's job that no worker could begin."""

    kind: str
    target: str
    job: UUID
    #: That of the attempt: ``running``, ``lost``, or an end.
    state: str
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    step: str | None

    @property
    def sign(self) -> Sign | None:
        """What is pinged of it; None for one whose worker was lost, which begins again."""
        if self.ended_at is None:
            return "start"
        if self.state == "lost":
            return None
        return "success" if self.state == "succeeded" else "fail"

    @property
    def at(self) -> datetime | None:
        """When that happened."""
        return self.ended_at or self.started_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """One request: the series that it belongs to, what it says, and up to which moment."""

    series: str
    url: str
    sign: Sign
    text: str
    at: datetime


def ping_url(template: str, *, kind: str, target: str, sign: Sign) -> str:
    """Return the URL of a ping: its gaps filled with plain words, its sign behind the path."""
    filled = template.replace(KIND_GAP, _slug(kind)).replace(TARGET_GAP, _slug(target))
    parts = urlsplit(filled)
    path = parts.path if sign == "success" else f"{parts.path.rstrip('/')}/{sign}"
    return urlunsplit(parts._replace(path=path))


def series_of(template: str, *, kind: str, target: str) -> str:
    """Return which attempts share a URL: those of a kind, or of a kind and a target."""
    return f"{kind} {target}" if TARGET_GAP in template else kind


def pings(
    template: str,
    attempts: Iterable[AttemptRun],
    *,
    upto: Mapping[str, datetime],
    standing: Mapping[tuple[str, str], str],
    watched: AbstractSet[tuple[str, str]],
    now: datetime,
) -> Iterator[Ping]:
    """Yield at most one ping of each series, of what happened since ``upto``.

    A failure is worse than a success, which says more than a beginning. A success is not told while
    another target of the same URL, one of those that are ``watched`` (kind, target), stands failed.
    """
    for series, runs in _by_series(template, attempts, upto, now).items():
        newest = max(at for at, _, _ in runs)
        # The newest of the worst sort.
        _, sign, chosen = min(runs, key=lambda one: _WORST_FIRST.index(one[1]))
        if sign == "success" and any(
            state != "succeeded"
            for (kind, target), state in standing.items()
            if (kind, target) in watched
            and series_of(template, kind=kind, target=target) == series
            and target != chosen.target
        ):
            continue
        url = ping_url(template, kind=chosen.kind, target=chosen.target, sign=sign)
        yield Ping(series=series, url=url, sign=sign, text=_text(chosen), at=newest)


def _by_series(
    template: str,
    attempts: Iterable[AttemptRun],
    upto: Mapping[str, datetime],
    now: datetime,
) -> dict[str, list[tuple[datetime, Sign, AttemptRun]]]:
    """Return what is new of each series, the newest first."""
    found: dict[str, list[tuple[datetime, Sign, AttemptRun]]] = {}
    for run in attempts:
        series = series_of(template, kind=run.kind, target=run.target)
        at, sign = run.at, run.sign
        if at is None or sign is None:
            continue
        if at > max(upto.get(series, now - FRESH), now - FRESH):
            found.setdefault(series, []).append((at, sign, run))
    return {
        series: sorted(runs, key=lambda one: one[0], reverse=True) for series, runs in found.items()
    }


def _text(run: AttemptRun) -> str:
    """Return the body of a ping: nothing that anybody typed, nothing secret."""
    words = [f"{run.kind} of {'everything' if run.target == EVERYTHING else run.target}"]
    if run.sign == "fail":
        words.append(f"{run.state}: {run.error or 'unknown'}")
        if run.step:
            words.append(f"in {run.step}")
    return f"{', '.join(words)}; job {run.job}"


def _slug(text: str) -> str:
    """Return a text as lower-case letters, digits and hyphens, as such servers name checks."""
    if text == EVERYTHING:
        return "everything"
    return _NO_SLUG.sub("-", text.lower()).strip("-")

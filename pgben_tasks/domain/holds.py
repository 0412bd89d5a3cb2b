"""Holds: what retention keeps until a moment, and the lines of statements that say so. Pure.

A signed statement `hold` says it in its reasons, one fact a line, so that statements need no new
field: older versions read them, and keep such a backup for ever. A statement without a line `until`
holds until a statement `release`; so do those of before, which have no such lines at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from pgben_tasks.domain.target import require_utc
from pgben_tasks.errors import RequestRefused

if TYPE_CHECKING:
    from pgben_tasks.domain.documents import Verification

#: The longest hold: who wants more makes another before it ends.
LONGEST: Final = timedelta(days=3653)
_SECOND: Final = timedelta(seconds=1)

_BY: Final = "held by "
_RELEASED_BY: Final = "released by "
_UNTIL: Final = "until "
_LABEL: Final = "label "
_REASON: Final = "reason "
_MOMENT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What keeps a backup: to which moment (None: until it is released), for what, by whom.

    ``who`` is None where the statement does not say so.
    """

    until: datetime | None = None
    label: str | None = None
    who: str | None = None

    def holds_at(self, now: datetime) -> bool:
        """Return whether it still holds at a moment; at its very end it does no longer."""
        return self.until is None or now < self.until

    def lasts(self, until: datetime | None) -> bool:
        """Return whether it ends no earlier than a moment; None is without end."""
        return self.until is None or (until is not None and self.until >= until)

    @property
    def phrase(self) -> str:
        """Return it as a reason: ``held by ana until 2026-12-15T00:00:00Z for release-42``.

        Without a comma, which stands between two reasons.
        """
        by = f" by {self.who.replace(',', '')}" if self.who else ""
        end = "it is released" if self.until is None else moment_of(self.until)
        label = f" for {self.label}" if self.label else ""
        return f"held{by} until {end}{label}"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; ``until`` is null without an end."""
        until = None if self.until is None else moment_of(self.until)
        return {"until": until, "label": self.label, "by": self.who}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return what ``to_json`` wrote."""
        until = document["until"]
        return cls(
            until=None if until is None else datetime.fromisoformat(until),
            label=document["label"],
            who=document["by"],
        )


def in_force(hold: Hold | None, now: datetime) -> Hold | None:
    """Return a hold while it holds, else None."""
    return hold if hold is not None and hold.holds_at(now) else None


def longest(holds: Iterable[Hold | None]) -> Hold | None:
    """Return the hold that ends last; None among none."""
    return max(filter(None, holds), key=_end, default=None)


def shortest(holds: Iterable[Hold | None]) -> Hold | None:
    """Return the hold that ends first; None among none."""
    return min(filter(None, holds), key=_end, default=None)


def current_hold(statements: Iterable[Verification]) -> Hold | None:
    """Return what the last decision says; ``statements`` are in the order in which they count."""
    found: Hold | None = None
    for one in statements:
        if one.kind == "hold":
            found = hold_in(one.reasons)
        elif one.kind == "release":
            found = None
    return found


def joined(present: Hold | None, wanted: Hold) -> Hold:
    """Return what is to be signed beside a hold that still holds: the later of both ends.

    Nobody shortens what somebody else relies on: that takes a release.
    """
    if present is None:
        return wanted
    until = present.until if present.lasts(wanted.until) else wanted.until
    return replace(wanted, until=until, label=wanted.label or present.label)


def says_as_much(present: Hold | None, wanted: Hold) -> bool:
    """Return whether a hold that still holds makes another statement needless."""
    if present is None or not present.lasts(wanted.until):
        return False
    return wanted.label in {None, present.label}


def check_end(until: datetime, now: datetime) -> datetime:
    """Return the end of a hold in whole seconds, UTC; raise ``RequestRefused`` for one that is odd.

    ``until`` and ``now`` are aware.
    """
    end = whole_second(until)
    if end <= require_utc(now):
        raise RequestRefused(
            f"the hold would end at {moment_of(end)}, which is past",
            "give a moment to come in `until`; nothing was held",
        )
    # An end that was given as a length of time lay there when it was asked for.
    if end - require_utc(now) > LONGEST + _SECOND:
        raise RequestRefused(
            f"the hold would end at {moment_of(end)}, more than {LONGEST.days} days from now",
            "give an earlier `until`; a hold can be made longer before it ends",
        )
    return end


def whole_second(at: datetime) -> datetime:
    """Return a moment in whole seconds, UTC: the next one where it lies between two."""
    whole = require_utc(at).replace(microsecond=0)
    return whole if whole == at else whole + _SECOND


def reasons_of_hold(hold: Hold, reason: str | None) -> tuple[str, ...]:
    """Return the reasons of a statement `hold`, which ``hold_in`` reads back."""
    lines = [f"{_BY}{hold.who or ''}"]
    if hold.until is not None:
        lines.append(f"{_UNTIL}{moment_of(hold.until)}")
    if hold.label is not None:
        lines.append(f"{_LABEL}{hold.label}")
    return (*lines, *_reason(reason))


def reasons_of_release(who: str, reason: str | None) -> tuple[str, ...]:
    """Return the reasons of a statement `release`."""
    return (f"{_RELEASED_BY}{who}", *_reason(reason))


def hold_in(reasons: Sequence[str]) -> Hold:
    """Return the hold that the reasons of a statement describe.

    Total: what is not written as ``reasons_of_hold`` writes it says nothing, so that a hold whose
    end cannot be read has none.
    """
    ends = [line.removeprefix(_UNTIL) for line in reasons if line.startswith(_UNTIL)]
    return Hold(
        until=_moment(ends[0]) if len(ends) == 1 else None,
        label=_first(reasons, _LABEL),
        who=_first(reasons, _BY),
    )


def moment_of(at: datetime) -> str:
    """Write a moment as reasons have it: UTC, in whole seconds."""
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _end(hold: Hold) -> datetime:
    return hold.until or datetime.max.replace(tzinfo=UTC)


def _moment(text: str) -> datetime | None:
    if not _MOMENT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _first(reasons: Iterable[str], beginning: str) -> str | None:
    found = (line.removeprefix(beginning) for line in reasons if line.startswith(beginning))
    return next(found, None) or None


def _reason(reason: str | None) -> tuple[str, ...]:
    return () if reason is None else (f"{_REASON}{reason}",)

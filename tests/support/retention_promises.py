"""What the repository format promises of retention, written down from the document alone.

Nothing here calls the code that decides: a backup is a record of what happened to it, a promise is
a sentence with its assertion, and ``expected`` is the whole rule computed the slow way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

FORTALEZA: Final = ZoneInfo("America/Fortaleza")
FIVE_MINUTES: Final = timedelta(minutes=5)


@dataclass(kw_only=True)
class Past:
    """One backup, and what happened to it. ``sequence`` says which is newer, never a date."""

    sequence: int
    started: datetime
    verified: bool = False
    damaged: bool = False
    suspect: bool = False
    acknowledged: bool = False
    held: bool = False
    drilled: bool = False

    @property
    def doubted(self) -> bool:
        """Suspect, and nobody has acknowledged it."""
        return self.suspect and not self.acknowledged

    @property
    def good(self) -> bool:
        """Verified, not damaged since, and no open suspicion: what "verified" counts."""
        return self.verified and not self.damaged and not self.doubted


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The settings of retention."""

    days: int = 30
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    brake: Decimal = Decimal("0.2")
    interval: timedelta = timedelta(days=1)
    zone: tzinfo = FORTALEZA


@dataclass(frozen=True, kw_only=True)
class Look:
    """One prune: what there was, what the clocks showed, and whose chain asked, if any."""

    before: Sequence[Past]
    now: datetime
    rules: Rules
    other_clocks: Sequence[datetime] = ()
    own: int | None = None
    gone: frozenset[int] = frozenset()

    @cached_property
    def good(self) -> list[Past]:
        """The verified backups, newest first."""
        return sorted((one for one in self.before if one.good), key=lambda one: -one.sequence)

    @cached_property
    def removed(self) -> list[Past]:
        """What was removed."""
        return [one for one in self.before if one.sequence in self.gone]


def _past_its_age(one: Past, look: Look) -> bool:
    return (look.now - one.started) > timedelta(days=look.rules.days)


def _newest_of(
    good: Iterable[tuple[int, datetime]], wanted: int, period: Callable[[datetime], object]
) -> set[int]:
    """Return the newest of each period, for the periods whose newest ones are the newest."""
    newest: dict[object, int] = {}
    for sequence, at in good:
        name = period(at)
        newest[name] = max(newest.get(name, 0), sequence)
    return set(sorted(newest.values(), reverse=True)[:wanted])


def periodic(look: Look) -> set[int]:
    """Return what keep-daily, keep-weekly and keep-monthly keep."""
    rules = look.rules
    local = [(one.sequence, one.started.astimezone(rules.zone)) for one in look.good]
    return (
        _newest_of(local, rules.daily, lambda at: at.date())
        | _newest_of(local, rules.weekly, lambda at: at.isocalendar()[:2])
        | _newest_of(local, rules.monthly, lambda at: (at.year, at.month))
    )


def clocks_differ(look: Look) -> bool:
    """Say that catalog, worker and store differ by over 5 minutes."""
    shown = [look.now, *look.other_clocks]
    return max(shown) - min(shown) > FIVE_MINUTES


def clock_went_back(look: Look) -> bool:
    """Say that now lies before a manifest."""
    return any(one.started > look.now for one in look.before)


def silence(look: Look) -> bool:
    """Say that now lies over 3 intervals after the newest manifest before this night's."""
    others = [one for one in look.before if one.sequence != look.own]
    if not others:
        return False
    newest = max(others, key=lambda one: one.sequence)
    return look.now > newest.started + 3 * look.rules.interval


def the_three_newest_verified_stay(look: Look) -> None:
    """Keep always at least the 3 newest verified."""
    assert not look.gone & {one.sequence for one in look.good[:3]}


def the_newest_drilled_stays(look: Look) -> None:
    """Keep always the newest drilled."""
    drilled = [one.sequence for one in look.good if one.drilled]
    assert not look.gone & set(drilled[:1])


def nothing_young_leaves(look: Look) -> None:
    """Count age in days: nothing younger than the limit goes, of whatever state."""
    assert all(_past_its_age(one, look) for one in look.removed)


def what_is_not_verified_leaves_only_behind_a_newer_verified_one(look: Look) -> None:
    """Let incomplete and failed ones leave after that age only when a newer verified exists."""
    for one in look.removed:
        assert one.good or any(other.sequence > one.sequence for other in look.good)


def the_newest_of_each_period_stays(look: Look) -> None:
    """Keep, where asked, daily, weekly and monthly ones."""
    assert not look.gone & periodic(look)


def what_is_held_stays(look: Look) -> None:
    """Never prune what is held."""
    assert not any(one.held for one in look.removed)


def an_open_suspicion_stops_everything(look: Look) -> None:
    """Keep a suspect backup and prune nothing of its target until acknowledged."""
    assert not look.gone or not any(one.doubted for one in look.before)


def a_clock_in_doubt_stops_everything(look: Look) -> None:
    """Refuse when clocks differ, or now lies before the newest manifest or long after it."""
    assert not look.gone or not (clocks_differ(look) or clock_went_back(look) or silence(look))


def the_brake_holds(look: Look) -> None:
    """Refuse to remove more than max(2, 20 %) of a target's verified backups."""
    leaving = sum(one.good for one in look.removed)
    assert leaving <= max(Decimal(2), look.rules.brake * len(look.good))


def without_any_verified_one_nothing_leaves(look: Look) -> None:
    """Refuse to run for a target without any verified one."""
    assert look.good or not look.gone


PROMISES: Final[tuple[Callable[[Look], None], ...]] = (
    the_three_newest_verified_stay,
    the_newest_drilled_stays,
    nothing_young_leaves,
    what_is_not_verified_leaves_only_behind_a_newer_verified_one,
    the_newest_of_each_period_stays,
    what_is_held_stays,
    an_open_suspicion_stops_everything,
    a_clock_in_doubt_stops_everything,
    the_brake_holds,
    without_any_verified_one_nothing_leaves,
)


def expected(look: Look) -> set[int]:
    """Return what leaves: everything that no promise keeps, or nothing at all."""
    good = look.good
    if not good or clocks_differ(look) or clock_went_back(look) or silence(look):
        return set()
    if any(one.doubted for one in look.before):
        return set()
    staying = {one.sequence for one in good[:3]} | periodic(look)
    staying |= {one.sequence for one in look.before if one.held or not _past_its_age(one, look)}
    staying |= set([one.sequence for one in good if one.drilled][:1])
    newest_good = good[0].sequence
    staying |= {one.sequence for one in look.before if not one.good and one.sequence > newest_good}
    leaving = {one.sequence for one in look.before} - staying
    losing = len(leaving & {one.sequence for one in good})
    return set() if losing > max(Decimal(2), look.rules.brake * len(good)) else leaving

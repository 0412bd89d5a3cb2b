"""How full the places are that pgben writes to, how they grow, and what is still to come.

Pure values and decisions: what was measured comes in, and forecasts and alarms come out. Sizes are
bytes, moments UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from math import ceil
from statistics import median
from typing import Final, Literal

from pgben_tasks.domain.alarm import Alarm, facts
from pgben_tasks.domain.target import require_utc
from pgben_tasks.domain.windows import Schedule
from pgben_tasks.language import size

Place = Literal["spool", "repository", "restore"]

#: Earlier nights that say what the next one needs: a week has a Sunday and a day after it.
NIGHTS: Final = 7
#: What the next night may need beyond the largest of those. A place that grows by a tenth within a
#: day is rarer than one that is planned too tightly, and the alarm comes while somebody is awake.
MARGIN: Final = 0.1
#: Growth of fewer days is chance, and of older ones history.
LEAST_DAYS: Final = 7
MOST_DAYS: Final = 30
#: A place that nobody measured for so long is not spoken of: its node may be gone for good.
FORGOTTEN_AFTER: Final = timedelta(days=1)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How full a place is; ``capacity`` is None where nobody knows.

    ``passing`` are those of the ``used`` bytes that jobs which have not ended hold, and give back.
    ``limited`` says that a limit of the settings is nearer than the end of the volume: both numbers
    are then about that limit.
    """

    used: int
    capacity: int | None
    passing: int = 0
    limited: bool = False

    @property
    def settled(self) -> int:
        """What stays used when no job runs."""
        return max(self.used - self.passing, 0)

    @property
    def free(self) -> int | None:
        """What can be written now."""
        return None if self.capacity is None else max(self.capacity - self.used, 0)


def tighter(volume: Usage, *, held: int, passing: int, limit: int | None) -> Usage:
    """Return how full the spool is: its volume, or its limit where that leaves less room.

    ``held`` are all bytes in the spool, ``passing`` those of jobs that have not ended.
    """
    own = Usage(used=held, capacity=limit, passing=passing, limited=True)
    beside = Usage(used=volume.used, capacity=volume.capacity, passing=min(passing, volume.used))
    if own.free is None or (beside.free is not None and beside.free <= own.free):
        return beside
    return own


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was last measured of a place on one day; ``node`` is whose spool it is."""

    place: Place
    where: str
    measured_at: datetime
    usage: Usage
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What an earlier backup wrote: at most so much in the spool, so much to the repository.

    ``database`` is how large a database was. None where that was not measured.
    """

    spool: int | None
    repository: int | None
    database: int | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """What a run will write: ``likely`` no more, and ``surely`` no less; by earlier nights."""

    likely: int
    surely: int


def need(written: Iterable[int | None]) -> Need | None:
    """Return what a run needs whose predecessors wrote so much; None without any.

    Likely is the largest of them and ``MARGIN``. Sure is only the smallest: a run is never refused
    for one large night.
    """
    known = [one for one in written if one is not None]
    if not known:
        return None
    return Need(likely=ceil(max(known) * (1 + MARGIN)), surely=min(known))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """A place that has not enough room for a run."""

    place: Place
    where: str
    needed: int
    free: int
    capacity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """What is going to be written, as far as earlier nights tell; ``known`` says that all do."""

    spool: int | None
    repository: int | None
    known: bool


def coming(
    targets: Mapping[str, tuple[Schedule | None, Sequence[Night]]], *, now: datetime
) -> Coming:
    """Return what the windows until this time tomorrow will write.

    ``targets`` have their schedules and their earlier nights. The repository keeps what all of
    them write. A spool gives back what a run held, so it is the largest run that counts: how many
    run at a time depends on the worker, and one that does not fit alone fits never.
    """
    spools: list[int] = []
    stored: list[int] = []
    known = True
    for schedule, nights in targets.values():
        count = 0 if schedule is None else _windows(schedule, now)
        if not count:
            continue
        peak, added = (
            need(one.spool for one in nights),
            need(one.repository for one in nights),
        )
        known = known and peak is not None and added is not None
        spools += [peak.likely] if peak else []
        stored += [added.likely * count] if added else []
    return Coming(
        spool=max(spools, default=0 if known else None),
        repository=sum(stored) if stored or known else None,
        known=known,
    )


def _windows(schedule: Schedule, now: datetime) -> int:
    count, at = 0, schedule.next(now)
    while at <= now + _DAY:
        count, at = count + 1, schedule.next(at)
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How full a place is without what jobs give back, how it grows, and whether tonight fits.

    ``capacity`` is None where nobody knows. ``tonight`` is what the windows until this time
    tomorrow will write; for a restore, what one of the largest database beside needs. ``fits`` is
    None where that cannot be said.
    """

    place: Place
    where: str
    used: int | None
    capacity: int | None
    growth_per_day: int | None
    days_left: float | None
    tonight: int | None
    fits: bool | None
    critical: bool

    @property
    def free(self) -> int | None:
        """What is left for tonight; None where nobody knows."""
        if self.used is None or self.capacity is None:
            return None
        return max(self.capacity - self.used, 0)

    @property
    def share(self) -> float | None:
        """How much of the place is used, between 0 and 1; None where nobody knows."""
        if self.used is None or self.capacity is None:
            return None
        return min(self.used / self.capacity, 1.0) if self.capacity else 1.0


def forecast(
    place: Place,
    where: str,
    usage: Usage | None,
    *,
    history: Sequence[Sample] = (),
    tonight: int | None = None,
    known: bool = True,
    critical_share: float,
) -> Forecast:
    """Return what is foretold of a place; ``usage`` is None where it is not known.

    ``tonight`` is at least what is to be written, and all of it where that is ``known``. Samples
    that were measured against another kind of bound than ``usage`` tell nothing.
    """
    used = None if usage is None else usage.settled
    capacity = None if usage is None else usage.capacity
    alike = [one for one in history if usage and one.usage.limited == usage.limited]
    growth = growth_per_day([(one.measured_at, one.usage.settled) for one in alike])
    free = None if used is None or capacity is None else max(capacity - used, 0)
    fits = None
    if free is not None and tonight is not None and (known or tonight > free):
        fits = tonight <= free
    full = used is not None and capacity is not None and used >= capacity * critical_share
    return Forecast(
        place=place,
        where=where,
        used=used,
        capacity=capacity,
        growth_per_day=growth,
        days_left=days_left(free, growth),
        tonight=tonight,
        fits=fits,
        critical=full or fits is False,
    )


def growth_per_day(samples: Sequence[tuple[datetime, int]]) -> int | None:
    """Return by how many bytes a place grows in a day; negative where it shrinks.

    The median of the slopes between every two samples of the last ``MOST_DAYS`` (Theil and Sen): a
    quarter of them may be outliers, such as the days of a large import that was removed again.
    None where they are of fewer than ``LEAST_DAYS``.
    """
    if not samples:
        return None
    newest = max(require_utc(at) for at, _ in samples)
    recent = sorted(one for one in samples if newest - one[0] <= MOST_DAYS * _DAY)
    if len(recent) < LEAST_DAYS or recent[-1][0] - recent[0][0] < (LEAST_DAYS - 1) * _DAY:
        return None
    slopes = [
        (later - earlier) / ((then - at) / _DAY)
        for (at, earlier), (then, later) in combinations(recent, 2)
        if then > at
    ]
    return round(median(slopes)) if slopes else None


def days_left(free: int | None, growth: int | None) -> float | None:
    """Return in how many days a place is full at this rate; None where it does not fill."""
    if free is None or growth is None or growth <= 0:
        return None
    return round(free / growth, 1)


def space_alarms(forecasts: Iterable[Forecast], *, now: datetime) -> list[Alarm]:
    """Return the alarm of every place that is critical.

    Its key is the same for as long as the place is critical: when it is no longer found, it is
    over.
    """
    return [
        Alarm(
            key=f"space:{one.place}:{one.where}",
            kind="space",
            target="",
            happened_at=now,
            facts=facts(
                what=cause(one),
                place=one.where,
                share=None if one.share is None else f"{one.share:.0%}",
                capacity=size(one.capacity),
                free=size(one.free),
                needed=None if one.tonight is None else size(one.tonight),
                days=one.days_left,
            ),
        )
        for one in forecasts
        if one.critical
    ]


def cause(one: Forecast) -> str:
    """Return why a critical place is critical: it is ``full``, or what comes is too much.

    That is ``short`` for backups of tonight, and ``no_room`` for a restore beside.
    """
    if one.fits is False:
        return "no_room" if one.place == "restore" else "short"
    return "full"

"""Whether an installation can restore what it protects, as its repository alone says. Pure.

What was read comes in, and a judgement comes out: a level, its reasons, and figures. It is what
`pgben check` answers a monitoring system with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final, Literal, Self

from pgben_tasks.domain.documents import Finding, FindingKind
from pgben_tasks.domain.points import KnownPoint
from pgben_tasks.domain.retention import CLOCK_TOLERANCE
from pgben_tasks.domain.states import State
from pgben_tasks.errors import ConfigurationError

#: How much older than its warning the age of a backup must be to be critical, unless told: nights
#: do not all take equally long.
_CRITICAL_AT: Final = 1.25
#: A weekly verification reads for some hours, and not in the same order each time.
_VERIFY_GRACE: Final = timedelta(days=1)

Unit = Literal["s", "B", ""]

_KINDS: Final[Mapping[FindingKind, str]] = {
    "missing": "missing files or documents",
    "truncated": "truncated files",
    "damaged": "damaged files",
    "swapped": "files in the place of others",
    "forged": "forged documents",
    "invalid": "invalid documents",
    "extra": "documents too many",
    "unreadable": "unreadable files",
}


class Level(IntEnum):
    """How bad it is: the exit codes of plugins for Nagios."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    #: Nothing could be judged.
    UNKNOWN = 3

    @property
    def label(self) -> str:
        """The level as JSON has it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """From which age on backups warn and are critical; how long bytes may stay unread."""

    warn_age: timedelta
    crit_age: timedelta
    verify_every: timedelta
    #: Whether rows without their objects are critical (PGBEN_REFERENCES_STRICT).
    strict: bool = False

    @classmethod
    def of(
        cls,
        rpo: timedelta,
        verify_every: timedelta,
        *,
        warn_age: timedelta | None = None,
        crit_age: timedelta | None = None,
        strict: bool = False,
    ) -> Self:
        """Return the bounds; ages that are not given follow ``rpo``, or the one that is given.

        Raises ``ConfigurationError`` when it would be critical before it warns.
        """
        warn = warn_age or (rpo if crit_age is None else min(rpo, crit_age))
        crit = crit_age or warn * _CRITICAL_AT
        if crit < warn:
            raise ConfigurationError(
                "a backup would be critical before it warns",
                "let it warn at the same age, or at an earlier one",
            )
        return cls(warn_age=warn, crit_age=crit, verify_every=verify_every, strict=strict)

    @property
    def unread_warns(self) -> timedelta:
        """How long stored bytes may stay unread."""
        return self.verify_every + _VERIFY_GRACE

    @property
    def unread_is_critical(self) -> timedelta:
        """How long they stay unread when a second verification was missed."""
        return 2 * self.verify_every + _VERIFY_GRACE


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBackup:
    """One backup as its manifest and the statements about it describe it.

    ``state`` is as lists show it, ``suspect`` a suspicion that nobody acknowledged, ``counts``
    whether ``latest`` may be this one, ``last_read`` when all of its bytes were read last.
    """

    backup: str
    state: str
    suspect: bool
    counts: bool
    taken: datetime
    stored_bytes: int
    last_read: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSigns:
    """What a repository holds of one target: its backups, newest first, and what is wrong there.

    One that is ``protected`` no longer is only looked at for damage: no new backups of it come.
    """

    target: str
    backups: tuple[SignedBackup, ...]
    findings: tuple[Finding, ...]
    protected: bool = True

    @property
    def newest_good(self) -> SignedBackup | None:
        """The backup that a restore would take."""
        return next((one for one in self.backups if one.counts), None)

    @property
    def unread_since(self) -> datetime | None:
        """Since when bytes of a good backup were not read; None without one."""
        read = [one.last_read for one in self.backups if one.counts and one.last_read]
        return min(read, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSigns:
    """The recovery points that were read, newest first, and those that cannot be believed.

    ``wanted`` says whether there should be any, ``checked`` whether rows and objects should have
    been compared.
    """

    points: tuple[KnownPoint, ...] = ()
    findings: tuple[Finding, ...] = ()
    wanted: bool = False
    checked: bool = False

    @property
    def newest_good(self) -> KnownPoint | None:
        """The newest one that is verified."""
        return next((one for one in self.points if one.good), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """All that was read; ``trail`` is what is wrong with the newest part of the audit trail."""

    targets: tuple[TargetSigns, ...]
    points: PointSigns
    trail: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One reason why all is not well; ``details`` are single lines. ``target`` may be empty."""

    level: Level
    target: str
    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure for graphs, with its thresholds: seconds, bytes or a number."""

    label: str
    value: float
    unit: Unit = ""
    warn: float | None = None
    crit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The worst level, every reason, the worst first, what is well in a line, and the figures."""

    level: Level
    summary: str
    problems: tuple[Problem, ...]
    figures: tuple[Figure, ...]


def judge(signs: Signs, bounds: Bounds, *, now: datetime) -> Judgement:
    """Return the judgement; raise ``ConfigurationError`` where there is nothing to judge."""
    if not signs.targets:
        raise ConfigurationError(
            "nothing is protected, so there is nothing to judge",
            "name databases in PGBEN_DB_NAME, and set PGBEN_MINIO_ACCESS_KEY for buckets",
        )
    found = [
        *(problem for one in signs.targets for problem in _of_target(one, bounds, now)),
        *_of_points(signs.points, bounds, now),
        *_of_findings("", "the audit trail", signs.trail),
    ]
    problems = tuple(sorted(found, key=lambda one: one.level, reverse=True))
    return Judgement(
        level=problems[0].level if problems else Level.OK,
        summary=_summary(signs, problems, now),
        problems=problems,
        figures=tuple(_figures(signs, bounds, now)),
    )


def _of_target(one: TargetSigns, bounds: Bounds, now: datetime) -> Iterator[Problem]:
    if one.protected:
        yield from _of_newest(one, bounds, now)
        yield from _of_reading(one, bounds, now)
    damaged = [each.backup for each in one.backups if each.state == State.DAMAGED.label]
    if damaged:
        yield Problem(
            level=Level.CRITICAL,
            target=one.target,
            text=f"damaged backups of '{one.target}': {len(damaged)}",
            details=tuple(f"a verification found damage in '{each}'" for each in damaged),
        )
    yield from _of_findings(one.target, f"'{one.target}'", one.findings)


def _of_newest(one: TargetSigns, bounds: Bounds, now: datetime) -> Iterator[Problem]:
    good, newest = one.newest_good, one.backups[0] if one.backups else None
    if newest is None:
        yield Problem(
            level=Level.CRITICAL, target=one.target, text=f"there is no backup of '{one.target}'"
        )
        return
    if good is None:
        yield Problem(
            level=Level.CRITICAL,
            target=one.target,
            text=f"there is no verified backup of '{one.target}' among {len(one.backups)}",
        )
    else:
        yield from _of_age(one.target, good, bounds, now)
    if newest is not good and newest.suspect:
        what = "suspect: it shrank or changed implausibly, and nobody acknowledged that"
    elif newest is not good and newest.state in {
        State.INCOMPLETE.label,
        State.NOT_RESTORABLE.label,
    }:
        what = newest.state
    else:
        # An unverified one may be on its way; should it never be verified, the age tells.
        return
    yield Problem(
        level=Level.WARNING,
        target=one.target,
        text=f"the newest backup of '{one.target}' is {what}",
        details=(f"it is '{newest.backup}'",),
    )


def _of_age(target: str, good: SignedBackup, bounds: Bounds, now: datetime) -> Iterator[Problem]:
    age = now - good.taken
    if age < -CLOCK_TOLERANCE:
        yield Problem(
            level=Level.CRITICAL,
            target=target,
            text=f"the newest verified backup of '{target}' is of a moment to come: a clock is "
            "wrong, and its age says nothing",
        )
    level = _beyond(age, bounds.warn_age, bounds.crit_age)
    if level is not Level.OK:
        limit = bounds.crit_age if level is Level.CRITICAL else bounds.warn_age
        yield Problem(
            level=level,
            target=target,
            text=f"the newest verified backup of '{target}' is {length(age)} old, more than "
            f"{length(limit)}",
            details=(f"it is '{good.backup}'",),
        )


def _of_reading(one: TargetSigns, bounds: Bounds, now: datetime) -> Iterator[Problem]:
    since = one.unread_since
    if since is None:
        return
    level = _beyond(now - since, bounds.unread_warns, bounds.unread_is_critical)
    if level is not Level.OK:
        yield Problem(
            level=level,
            target=one.target,
            text=f"stored bytes of '{one.target}' were not read again for {length(now - since)}",
            details=("see why no full verification ends: `pgben jobs`",),
        )


def _of_points(points: PointSigns, bounds: Bounds, now: datetime) -> Iterator[Problem]:
    yield from _of_findings("", "the recovery points", points.findings)
    if not points.wanted:
        return
    good, newest = points.newest_good, points.points[0] if points.points else None
    if good is None:
        yield _of_point("there is no verified recovery point")
        return
    if now - good.moment > bounds.warn_age:
        yield _of_point(
            f"the newest verified recovery point is {length(now - good.moment)} old, more than "
            f"{length(bounds.warn_age)}"
        )
    if newest is not None and newest is not good:
        yield _of_point(f"the newest recovery point is {newest.state}")
    if good.faults:
        yield _of_point(
            "rows of the newest verified recovery point whose objects are not as they say: "
            f"{good.faults}",
            Level.CRITICAL if bounds.strict else Level.WARNING,
        )
    elif points.checked and good.check is None:
        yield _of_point("rows and objects of the newest verified recovery point were not compared")


def _of_point(text: str, level: Level = Level.WARNING) -> Problem:
    return Problem(level=level, target="", text=text)


def _of_findings(target: str, where: str, findings: Sequence[Finding]) -> Iterator[Problem]:
    kinds = Counter(one.kind for one in findings)
    for kind, number in kinds.items():
        yield Problem(
            level=Level.WARNING if kind == "extra" else Level.CRITICAL,
            target=target,
            text=f"{_KINDS[kind]} of {where}: {number}",
            details=tuple(f"{one.path}: {one.detail}" for one in findings if one.kind == kind),
        )


def _beyond(value: timedelta, warn: timedelta, crit: timedelta) -> Level:
    if value > crit:
        return Level.CRITICAL
    return Level.WARNING if value > warn else Level.OK


def _summary(signs: Signs, problems: Sequence[Problem], now: datetime) -> str:
    """Return the first line for people."""
    if problems:
        more = len(problems) - 1
        return problems[0].text + (f" (and {more} more)" if more else "")
    good = [one.newest_good for one in signs.targets if one.protected]
    ages = [now - one.taken for one in good if one is not None]
    if not ages:
        return f"no damage in {len(signs.targets)} targets"
    words = f"every target can be restored ({len(ages)}), to {length(max(ages))} ago or later"
    point = signs.points.newest_good
    return f"{words}, recovery point {length(now - point.moment)} old" if point else words


def _figures(signs: Signs, bounds: Bounds, now: datetime) -> Iterator[Figure]:
    yield from (figure for one in signs.targets for figure in _of_one(one, bounds, now))
    point = signs.points.newest_good
    if point is not None:
        yield _age("point_age", now - point.moment, bounds.warn_age, None)
        yield Figure(label="point_faults", value=point.faults, warn=0)
    findings = [*signs.trail, *signs.points.findings]
    findings += [each for one in signs.targets for each in one.findings]
    yield Figure(label="findings", value=len(findings), crit=0)


def _of_one(one: TargetSigns, bounds: Bounds, now: datetime) -> Iterator[Figure]:
    good = one.newest_good
    yield Figure(label=f"{one.target}_backups", value=len(one.backups))
    if good is None:
        return
    if one.protected:
        yield _age(f"{one.target}_age", now - good.taken, bounds.warn_age, bounds.crit_age)
    yield Figure(label=f"{one.target}_size", value=good.stored_bytes, unit="B")
    if one.protected and one.unread_since is not None:
        yield _age(
            f"{one.target}_unread",
            now - one.unread_since,
            bounds.unread_warns,
            bounds.unread_is_critical,
        )


def _age(label: str, age: timedelta, warn: timedelta, crit: timedelta | None) -> Figure:
    return Figure(
        label=label,
        value=max(int(age.total_seconds()), 0),
        unit="s",
        warn=int(warn.total_seconds()),
        crit=int(crit.total_seconds()) if crit is not None else None,
    )


def length(value: timedelta) -> str:
    """Write a duration for people: ``3 d 4 h``, ``5 h 12 min``, ``40 s``."""
    seconds = int(value.total_seconds())
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def performance(figures: Iterable[Figure]) -> str:
    """Write figures as Nagios reads them: ``label=value[unit];warn;crit;min;max``."""
    return " ".join(
        f"{one.label}={one.value:.15g}{one.unit};{_bound(one.warn)};{_bound(one.crit)};0;"
        for one in figures
    )


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.15g}"

"""Which scheduled window a moment belongs to.

Pure: five-field cron lines, a time zone, and moments that are given. Windows are enumerated as
local wall-clock times and only then placed on the time line, so that a local time which does not
exist runs at the next minute that does, and one which exists twice runs once, the first time.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from pgben_tasks.domain.target import require_utc
from pgben_tasks.errors import ConfigurationError

_HINT: Final = "write minute, hour, day of month, month, day of week, for example '0 2 * * *'"
_NAMES: Final = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
_ONE_MINUTE: Final = timedelta(minutes=1)

#: Where a line is parsed without being searched.
_EPOCH: Final = datetime(2000, 1, 1)  # noqa: DTZ001  # A wall-clock time has no zone.

#: Numbers, names, lists, ranges and steps; not cronsim's L, W and #, which Celery does not know.
_FIELD: Final = re.compile(r"(?:\*|\d+|[A-Z]{3})(?:-(?:\d+|[A-Z]{3}))?(?:/\d+)?")


def parse_zone(name: str) -> ZoneInfo:
    """Return a time zone by its name in the tz database; raise ``ConfigurationError`` else."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        near = difflib.get_close_matches(name, sorted(available_timezones()), n=1)
        raise ConfigurationError(
            f"the time zone '{name[:80]}' is not known",
            f"did you mean '{near[0]}'?" if near else "write it like 'America/Fortaleza'",
        ) from exc


@dataclass(frozen=True, slots=True)
class Schedule:
    """A five-field cron line in a time zone. All moments given back are UTC."""

    cron: str
    zone: ZoneInfo

    @classmethod
    def parse(cls, cron: str, zone: str | ZoneInfo) -> Self:
        """Read a cron line; raise ``ConfigurationError`` when it is none."""
        _simulate(cron, _EPOCH)
        return cls(" ".join(cron.split()), parse_zone(zone) if isinstance(zone, str) else zone)

    def previous(self, now: datetime) -> datetime:
        """Return the latest window at or before ``now``."""
        local = now.astimezone(self.zone)
        wall = local.replace(tzinfo=None, second=0, microsecond=0, fold=0) + _ONE_MINUTE
        if local.fold:
            # The clock was put back: wall-clock times up to one shift ahead have already passed.
            wall += _offset(local.replace(fold=0)) - _offset(local)
        walls = _simulate(self.cron, wall, backwards=True)
        return next(moment for one in walls if (moment := _place(one, self.zone)) <= now)

    def next(self, now: datetime) -> datetime:
        """Return the earliest window after ``now``."""
        wall = now.astimezone(self.zone).replace(tzinfo=None, fold=0)
        walls = _simulate(self.cron, wall)
        return next(moment for one in walls if (moment := _place(one, self.zone)) > now)

    def due(self, now: datetime, catch_up: timedelta) -> datetime | None:
        """Return the window that should have begun by ``now``; None when it is too long ago."""
        window = self.previous(require_utc(now))
        return window if now - window <= catch_up else None

    def interval(self, now: datetime) -> timedelta:
        """Return the time between the windows around ``now``."""
        return self.next(now) - self.previous(now)


def crontab_fields(cron: str) -> dict[str, str]:
    """Return the keyword arguments of Celery's ``crontab`` for a cron line.

    Steps, ranges and names are written out as numbers, and Sunday is 0, because Celery refuses 7
    and reads some forms otherwise than cron does. Raises ``ConfigurationError`` for a bad line.
    """
    simulated = _simulate(cron, _EPOCH)
    values: tuple[Iterable[object], ...] = (
        simulated.minutes,
        simulated.hours,
        simulated.days,
        simulated.months,
        simulated.weekdays,
    )
    fields = dict(zip(_NAMES, zip(cron.split(), values, strict=True), strict=True))
    return {
        name: text if text == "*" else _numbers(found, 7 if name == "day_of_week" else 100)
        for name, (text, found) in fields.items()
    }


def _numbers(values: Iterable[object], modulus: int) -> str:
    return ",".join(
        map(str, sorted({value % modulus for value in values if isinstance(value, int)}))
    )


def _simulate(cron: str, start: datetime, *, backwards: bool = False) -> CronSim:
    """Return the wall-clock times of a cron line from ``start`` (without a zone), once checked."""
    fields = cron.upper().split()
    sentence = f"'{cron[:80]}' is not a cron line"
    if len(fields) != len(_NAMES):
        raise ConfigurationError(f"{sentence}: it has {len(fields)} fields, not 5", _HINT)
    for name, text in zip(_NAMES, fields, strict=True):
        if not all(_FIELD.fullmatch(part) for part in text.split(",")):
            raise ConfigurationError(f"{sentence}: '{text}' is no {name.replace('_', ' ')}", _HINT)
    if not fields[2].startswith("*") and not fields[4].startswith("*"):
        # Cron runs when either matches, Celery when both do: a line must mean one thing.
        raise ConfigurationError(
            f"{sentence} that pgben takes: it limits both day of month and day of week",
            "leave one of the two '*'",
        )
    try:
        return CronSim(cron, start, reverse=backwards)
    except CronSimError as exc:
        what = str(exc).lower().replace("-", " ")
        raise ConfigurationError(f"{sentence}: {what}", _HINT) from exc


def _place(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment at which clocks in ``zone`` show ``wall``, or the next minute."""
    while True:
        moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
            return moment
        wall += _ONE_MINUTE


def _offset(local: datetime) -> timedelta:
    return local.utcoffset() or timedelta()

"""Raising and clearing alarms: what failed, is late or holds is in the outbox until it is over.

Alarms are derived from what is written anyway, by every tick, instead of being raised where a job
ends: no way to end a job can forget its alarm, none is lost when a process dies at that moment, and
no job can fail for want of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Final, Protocol
from uuid import UUID

import structlog

from pgben_tasks.domain import overdue
from pgben_tasks.domain.alarm import Alarm, KeptAlarm, alarm_of_job, in_place_alarm
from pgben_tasks.domain.episodes import GoodEnd, Settled, Undecided, settle
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.overdue import Bounds, Restorable, Timed

log = structlog.get_logger(__name__)

#: Of more alarms at once, which anybody can provoke, the log has the number.
MOST_LOGGED: Final = 50


class Watch(Protocol):
    """The facts of the catalog that alarms are derived from."""

    def since(self) -> datetime:
        """Return when this catalog began to keep alarms."""

    def bad_ends(self, *, since: datetime) -> list[UUID]:
        """Return the jobs that ended badly, or not quite well, and have no alarm for that end."""

    def in_place(self) -> list[UUID]:
        """Return the jobs that replace something, and were asked for or ended without an alarm."""

    def good_ends(self, *, since: datetime) -> list[GoodEnd]:
        """Return when work last ended well after that, by kind and target."""

    def open_windows(self) -> list[UUID]:
        """Return the scheduled jobs that have not ended."""

    def known(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """Return which of these keys have a job, and whether it has ended."""

    def under_way(self, *, within: timedelta) -> set[str]:
        """Return the targets with a backup that runs, or will."""

    def restorable(self, target: str) -> Restorable | None:
        """Return the newest verified backup of a target that is not suspect."""

    def last_beat(self) -> datetime | None:
        """Return when the last tick ran that beat had sent."""


class Outbox(Protocol):
    """Where alarms are kept."""

    def add_all(self, alarms: Iterable[Alarm], *, now: datetime) -> list[Alarm]:
        """Write alarms; return those that begin an episode."""

    def open(self) -> list[KeptAlarm]:
        """Return the alarms that are not over."""

    def settle(self, settled: Settled, *, now: datetime) -> None:
        """Write which open alarms are there again, were not found, and are over."""


def raise_alarms(
    watch: Watch,
    outbox: Outbox,
    *,
    job: Callable[[UUID], Job],
    timetable: Sequence[Timed],
    bounds: Bounds,
    conditions: Iterable[Alarm | Undecided],
    now: datetime,
) -> int:
    """Write every alarm that is due into the outbox, and clear what is over; return how many began.

    ``conditions`` are those that hold beside what the ledger says, and which could not be judged.
    """
    alarms: list[Alarm] = []
    undecided: set[Undecided] = set()
    found = _found(watch, job=job, timetable=timetable, bounds=bounds, now=now)
    for one in chain(found, conditions):
        if isinstance(one, Undecided):
            undecided.add(one)
        else:
            alarms.append(one)
    new = outbox.add_all(alarms, now=now)
    for alarm in new[:MOST_LOGGED]:
        log.warning("alarm_raised", kind=alarm.kind, alarm=alarm.key, about=alarm.target)
    if len(new) > MOST_LOGGED:
        log.warning("alarms_raised", count=len(new))
    _settle(watch, outbox, found={one.key for one in alarms}, undecided=undecided, now=now)
    return len(new)


def _settle(
    watch: Watch, outbox: Outbox, *, found: set[str], undecided: set[Undecided], now: datetime
) -> None:
    open_alarms = outbox.open()
    if not open_alarms:
        return
    since = min(one.alarm.happened_at for one in open_alarms)
    settled = settle(
        open_alarms,
        found=found,
        undecided=undecided,
        good_ends=watch.good_ends(since=since),
        now=now,
    )
    outbox.settle(settled, now=now)
    for one in open_alarms:
        if one.id in (*settled.over, *settled.replaced):
            log.info("alarm_over", kind=one.alarm.kind, alarm=one.alarm.key)


def _found(
    watch: Watch,
    *,
    job: Callable[[UUID], Job],
    timetable: Sequence[Timed],
    bounds: Bounds,
    now: datetime,
) -> Iterator[Alarm | Undecided]:
    since = watch.since()
    ends = (alarm_of_job(job(one)) for one in watch.bad_ends(since=since))
    in_place = (in_place_alarm(job(one)) for one in watch.in_place())
    late = (overdue.late(job(one), now=now, bounds=bounds) for one in watch.open_windows())
    yield from filter(None, chain(ends, in_place, late))
    yield from _windows(watch, timetable, bounds=bounds, now=now, since=since)
    yield from _stale(watch, timetable, bounds=bounds, now=now, since=since)
    if alarm := overdue.silent(watch.last_beat(), now=now, since=since):
        yield alarm


def _stale(
    watch: Watch, timetable: Sequence[Timed], *, bounds: Bounds, now: datetime, since: datetime
) -> Iterator[Alarm | Undecided]:
    # Asked before the backups themselves: a job that ends between the two is then still under way.
    under_way = watch.under_way(within=bounds.end_within)
    for line in timetable:
        if line.kind != "backup":
            continue
        if line.target in under_way:
            yield Undecided("stale", line.target)
            continue
        newest = watch.restorable(line.target)
        if alarm := overdue.stale(line, newest, now=now, since=since, bounds=bounds):
            yield alarm


def _windows(
    watch: Watch, timetable: Sequence[Timed], *, bounds: Bounds, now: datetime, since: datetime
) -> Iterator[Alarm | Undecided]:
    """Yield the windows that passed without a job, and the lines whose latest is not done yet."""
    keys = {line: overdue.key_of_window(line, now) for line in timetable}
    known = watch.known(list(keys.values())) if keys else {}
    for line, key in keys.items():
        if key not in known:
            if alarm := overdue.missed(line, now=now, since=since, bounds=bounds):
                yield alarm
                continue
        elif known[key]:
            continue
        # Until a window's work has ended, nobody can say that all is well again.
        yield Undecided("overdue", line.target, line.kind)

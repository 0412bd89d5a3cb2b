"""Raising alarms: jobs that failed, are late or are missing go into the outbox as alarms.

Alarms are derived from what is written anyway, by every tick, instead of being raised where a job
ends: no way to end a job can forget its alarm, none is lost when a process dies at that moment, and
no job can fail for want of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Protocol
from uuid import UUID

import structlog

from pgben_tasks.domain import overdue
from pgben_tasks.domain.alarm import Alarm, alarm_of_job
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.overdue import Bounds, Restorable, Timed

log = structlog.get_logger(__name__)


class Watch(Protocol):
    """The facts of the catalog that alarms are derived from."""

    def since(self) -> datetime:
        """Return when this catalog began to keep alarms."""

    def bad_ends(self, *, since: datetime) -> list[UUID]:
        """Return the jobs that ended badly, or not quite well, and have no alarm for that end."""

    def open_windows(self) -> list[UUID]:
        """Return the scheduled jobs that have not ended."""

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return which of these keys have a job."""

    def under_way(self, *, within: timedelta) -> set[str]:
        """Return the targets with a backup that runs, or will."""

    def restorable(self, target: str) -> Restorable | None:
        """Return the newest verified backup of a target that is not suspect."""

    def last_beat(self) -> datetime | None:
        """Return when the last tick ran that beat had sent."""


class Outbox(Protocol):
    """Where alarms wait for their mail."""

    def add(self, alarm: Alarm) -> bool:
        """Write an alarm; return whether it is new."""


def raise_alarms(
    watch: Watch,
    outbox: Outbox,
    *,
    job: Callable[[UUID], Job],
    timetable: Sequence[Timed],
    bounds: Bounds,
    expiring: Iterable[Alarm],
    now: datetime,
) -> int:
    """Write every alarm that is due into the outbox; return how many are new.

    ``expiring`` are those about restored copies whose time is nearly over.
    """
    new = 0
    found = _found(watch, job=job, timetable=timetable, bounds=bounds, now=now)
    for alarm in chain(found, expiring):
        if outbox.add(alarm):
            new += 1
            log.warning("alarm_raised", kind=alarm.kind, alarm=alarm.key, about=alarm.target)
    return new


def _found(
    watch: Watch,
    *,
    job: Callable[[UUID], Job],
    timetable: Sequence[Timed],
    bounds: Bounds,
    now: datetime,
) -> Iterator[Alarm]:
    since = watch.since()
    for one in watch.bad_ends(since=since):
        if alarm := alarm_of_job(job(one)):
            yield alarm
    for one in watch.open_windows():
        if alarm := overdue.late(job(one), now=now, bounds=bounds):
            yield alarm
    yield from _missed(watch, timetable, bounds=bounds, now=now, since=since)
    # Asked before the backups themselves: a job that ends between the two is then still under way.
    under_way = watch.under_way(within=bounds.end_within)
    for line in timetable:
        if line.kind == "backup" and line.target not in under_way:
            newest = watch.restorable(line.target)
            if alarm := overdue.stale(line, newest, now=now, since=since, bounds=bounds):
                yield alarm
    if alarm := overdue.silent(watch.last_beat(), now=now, since=since):
        yield alarm


def _missed(
    watch: Watch, timetable: Sequence[Timed], *, bounds: Bounds, now: datetime, since: datetime
) -> Iterator[Alarm]:
    found = {}
    for line in timetable:
        if alarm := overdue.missed(line, now=now, since=since, bounds=bounds):
            found[overdue.key_of_window(line, now)] = alarm
    known = watch.known(list(found)) if found else set()
    yield from (alarm for key, alarm in found.items() if key not in known)

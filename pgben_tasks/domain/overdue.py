"""What should have happened and did not: windows, verified backups, ticks of the scheduler. Pure.

Nothing is called overdue for the time before ``since``, when this installation began to watch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from pgben_tasks.domain.alarm import Alarm, facts
from pgben_tasks.domain.job import BEAT_SILENCE, Job, JobKind, window_key
from pgben_tasks.domain.retention import CLOCK_TOLERANCE
from pgben_tasks.domain.windows import Schedule


class Timed(NamedTuple):
    """One line of the timetable."""

    kind: JobKind
    target: str
    schedule: Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorable:
    """The newest backup of a target that ``latest`` would take."""

    backup: str
    state: str
    #: Its data is as of this moment.
    snapshot_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long is too long (PGBEN_STEP_WAIT, PGBEN_CATCH_UP, PGBEN_RPO)."""

    begin_within: timedelta
    end_within: timedelta
    objective: timedelta


def late(job: Job, *, now: datetime, bounds: Bounds) -> Alarm | None:
    """Return an alarm for the open job of a window that has not begun, or not ended, for too long.

    Time counts from when the job was written, not from its window: one that was made up for after
    an outage has only just begun to be anybody's fault.
    """
    if job.window is None or job.ended:
        return None
    waited = now - max(job.window, job.created_at)
    begun = job.started_at is not None
    if waited < (bounds.end_within if begun else bounds.begin_within):
        return None
    return Alarm(
        key=_overdue_key(job.kind, job.target),
        kind="overdue",
        target=job.target,
        job=job.id,
        happened_at=now,
        facts=facts(
            work=job.kind,
            window=job.window.isoformat(),
            what="not_ended" if begun else "not_begun",
        ),
    )


def missed(line: Timed, *, now: datetime, since: datetime, bounds: Bounds) -> Alarm | None:
    """Return an alarm for the latest window of a line when it is too long ago to be made up for.

    The caller leaves the alarm aside when a job of this window is known (``key_of_window``).
    """
    window = line.schedule.previous(now)
    if window < since or now - window <= bounds.end_within:
        return None
    return Alarm(
        key=_overdue_key(line.kind, line.target),
        kind="overdue",
        target=line.target,
        happened_at=window,
        facts=facts(work=line.kind, window=window.isoformat(), what="missed"),
    )


def _overdue_key(kind: str, target: str) -> str:
    """Return the key of a line's alarm: however many nights are missing, it is one trouble."""
    return f"overdue:{kind}:{target}"


def key_of_window(line: Timed, now: datetime) -> str:
    """Return the key that the job of a line's latest window has."""
    return window_key(line.kind, line.target, line.schedule.previous(now))


def stale(
    line: Timed, newest: Restorable | None, *, now: datetime, since: datetime, bounds: Bounds
) -> Alarm | None:
    """Return an alarm when what could be restored is too old; not while a backup is under way.

    A schedule that runs less often than the objective asks for is a choice of the settings, and
    nights get an hour longer when clocks are put back: the longer of the two is the bound. A
    backup of the future, of a clock that was wrong, counts as none.
    """
    bound = max(bounds.objective, line.schedule.interval(now))
    dated = newest is not None and newest.snapshot_at - now <= CLOCK_TOLERANCE
    if now - (max(newest.snapshot_at, since) if newest and dated else since) <= bound:
        return None
    return Alarm(
        key=f"stale:{line.target}",
        kind="stale",
        target=line.target,
        happened_at=now,
        facts=facts(work=line.kind, hours=int(bound.total_seconds() // 3600)),
    )


def silent(last_sign: datetime | None, *, now: datetime, since: datetime) -> Alarm | None:
    """Return an alarm when the scheduler last sent a tick too long ago."""
    last = last_sign or since
    if now - last < BEAT_SILENCE:
        return None
    return Alarm(
        key="silent:beat",
        kind="silent",
        target="",
        happened_at=last,
        facts=facts(last_sign=last_sign and last_sign.isoformat()),
    )

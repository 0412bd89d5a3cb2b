"""The calendar of backups: what became of every night's windows. Pure.

A night is the local day on which windows are due. Jobs that were asked for by people stand for no
window and are not counted. Whether a window passed without a job is judged by the present
timetable, for days without any job of the target only: how it was before is not known any more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Final, Literal
from uuid import UUID

from pgben_tasks.domain.windows import Schedule

#: ``good``: every window's backup succeeded; ``doubtful``: one of them is suspect; ``open``: one
#: runs, waits or will be tried again; ``no backup``: a window passed without a job; ``failed``: one
#: failed, was refused or cancelled, for good; ``none``: no window is known of that night.
NightState = Literal["good", "doubtful", "open", "no backup", "failed", "none"]

#: The state of a night is that of its worst window: the least alarming first.
_SEVERITY: Final[tuple[NightState, ...]] = (
    *("none", "good", "open", "doubtful", "no backup", "failed"),
)
#: How long after its moment a window may be without a job: the tick writes it within minutes.
GRACE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowJob:
    """The job of one scheduled window, as far as a calendar shows it."""

    job: UUID
    kind: str
    target: str
    window: datetime
    state: str
    suspect: bool
    #: Whether a failed one is tried again by itself.
    again: bool

    @property
    def subject(self) -> str:
        """The target of a backup, else the kind of job: a recovery point, a verification."""
        return self.target if self.kind == "backup" else self.kind

    @property
    def night(self) -> NightState:
        """What it makes of its night."""
        if self.state == "succeeded":
            return "doubtful" if self.suspect else "good"
        if self.state in {"queued", "running", "waiting"} or self.again:
            return "open"
        return "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One local day, with the state of everything that was due (``WindowJob.subject``)."""

    day: date
    state: NightState
    subjects: Mapping[str, NightState]

    @property
    def troubled(self) -> tuple[str, ...]:
        """What is not good."""
        return tuple(name for name, state in self.subjects.items() if state != "good")


def calendar(
    jobs: Iterable[WindowJob],
    schedules: Mapping[str, Schedule],
    *,
    now: datetime,
    zone: tzinfo,
    days: int,
) -> tuple[Night, ...]:
    """Return the last ``days`` nights up to today, oldest first.

    ``schedules`` has the timetable of every protected target. What was due before the first job
    of a target is not missed: it was not protected yet.
    """
    found: dict[date, dict[str, NightState]] = defaultdict(dict)
    first: dict[str, date] = {}
    for one in jobs:
        day = one.window.astimezone(zone).date()
        known = found[day].get(one.subject, "none")
        found[day][one.subject] = worst((known, one.night))
        first[one.subject] = min(day, first.get(one.subject, day))
    today = now.astimezone(zone).date()
    nights = []
    for back in reversed(range(days)):
        day = today - timedelta(days=back)
        subjects = found.get(day, {})
        for target, schedule in schedules.items():
            if target not in subjects and target in first and day > first[target]:
                state = _without_job(schedule, day, now=now, zone=zone)
                if state != "none":
                    subjects[target] = state
        nights.append(Night(day=day, state=worst(subjects.values()), subjects=subjects))
    return tuple(nights)


def _without_job(schedule: Schedule, day: date, *, now: datetime, zone: tzinfo) -> NightState:
    """Return the state of a day without any job of a target that has this timetable."""
    begins = datetime.combine(day, time(), zone)
    window = schedule.next(begins - timedelta(microseconds=1))
    if window > now or window.astimezone(zone).date() != day:
        return "none"
    return "open" if now - window < GRACE else "no backup"


def worst(states: Iterable[NightState]) -> NightState:
    """Return the most alarming of several states; ``none`` of none."""
    return max(states, key=_SEVERITY.index, default="none")

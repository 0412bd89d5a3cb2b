"""The calendar of backups: what became of every night's windows. Pure.

A night is the local day on which windows are due. Jobs that were asked for by people stand for no
window and are not counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
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
    def night(self) -> NightState:
        """What it makes of its night."""
        if self.state == "succeeded":
            return "doubtful" if self.suspect else "good"
        if self.state in {"queued", "running", "waiting"} or self.again:
            return "open"
        return "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One local day: its state, and the targets that give it no green."""

    day: date
    state: NightState
    #: Of every target that was due that night.
    targets: Mapping[str, NightState]

    @property
    def troubled(self) -> tuple[str, ...]:
        """The targets whose backup is not good."""
        return tuple(name for name, state in self.targets.items() if state != "good")


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
    found: dict[str, dict[datetime, WindowJob]] = defaultdict(dict)
    for one in jobs:
        if one.kind == "backup":
            found[one.target][one.window] = one
    today = now.astimezone(zone).date()
    nights: dict[date, dict[str, NightState]] = {
        today - timedelta(days=back): {} for back in reversed(range(days))
    }
    for target, by_window in found.items():
        windows = dict.fromkeys(sorted(by_window))
        if target in schedules:
            windows |= dict.fromkeys(_due(schedules[target], since=min(by_window), now=now))
        for window in windows:
            states = nights.get(window.astimezone(zone).date())
            if states is not None:
                job = by_window.get(window)
                states[target] = worst(
                    (states.get(target, "none"), "no backup" if job is None else job.night)
                )
    return tuple(
        Night(day=day, state=worst(states.values()), targets=states)
        for day, states in nights.items()
    )


def worst(states: Iterable[NightState]) -> NightState:
    """Return the most alarming of several states; ``none`` of none."""
    return max(states, key=_SEVERITY.index, default="none")


def _due(schedule: Schedule, *, since: datetime, now: datetime) -> Iterable[datetime]:
    """Yield the windows after ``since`` up to ``now``."""
    window = schedule.next(since)
    while window <= now:
        yield window
        window = schedule.next(window)

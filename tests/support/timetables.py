"""Clocks, and cron lines, for tests that must not depend on when they run.

With the default schedule the first tick catches a night's backup up for half of each day, and a
week's verification for half of each Monday: an installation of a test has these lines instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pgben_tasks.ports import Clock

#: How long after another a tick comes in production; in tests it is seconds (frequent_tick.py).
TICK_OF_PRODUCTION: Final = timedelta(minutes=1)


@dataclass
class Later:
    """A clock that is ahead of another."""

    clock: Clock
    by: timedelta

    def now(self) -> datetime:
        """Return the time."""
        return self.clock.now() + self.by


def daily(at: datetime) -> str:
    """Write the cron line of a time of day, in the zone of ``at``."""
    return f"{at.minute} {at.hour} * * *"


def soon() -> datetime:
    """Return the minute that begins in 45 to 105 seconds: time enough to start everything."""
    return (datetime.now(UTC) + timedelta(seconds=105)).replace(second=0, microsecond=0)


def noon() -> str:
    """Name the time zone in which it is about noon now: midnight is far away there."""
    # West of Greenwich is plus in these names.
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"


def never() -> str:
    """Write a cron line that is half a year away."""
    at = datetime.now(UTC) + timedelta(days=180)
    return f"0 0 {min(at.day, 28)} {at.month} *"


NOTHING_SCHEDULED: Final = dict.fromkeys(
    ("PGBEN_SCHEDULE_POSTGRES", "PGBEN_SCHEDULE_BUCKETS", "PGBEN_SCHEDULE_VERIFY"), never()
)

"""When the report of a week is due: once its verification has ended, or was waited for. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pgben_tasks.domain.job import Job
from pgben_tasks.domain.windows import Schedule

#: How long the report waits for a verification that has not ended, or was never begun. The further
#: attempts of a failed one come within 4 h 15 min; whoever reads of one from 08:00 that did not end
#: still has an afternoon (docs/decisions/0031-the-report.md).
WAIT: Final = timedelta(hours=6)


def window_to_report(schedule: Schedule, *, now: datetime, since: datetime) -> datetime | None:
    """Return the window of the verification that a report may be due about; None without one.

    That is the latest one, however long ago: a report that is late is better than none, and ends
    when the next window begins. ``since`` is when the installation began to make reports; what was
    due before that is none of its weeks.
    """
    window = schedule.previous(now)
    return window if window > since else None


def is_due(window: datetime, verification: Job | None, *, now: datetime) -> bool:
    """Return whether the report about ``window`` is to be made now.

    ``verification`` is the job of the window; None where there is none yet.
    """
    return has_ended_for_good(verification) or now - window >= WAIT


def has_ended_for_good(job: Job | None) -> bool:
    """Return whether a job has ended and is not tried again by itself."""
    return job is not None and job.ended and not (job.state == "failed" and job.retry_at)

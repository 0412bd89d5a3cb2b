"""A beat for tests, ``celery -A tests.support.frequent_tick beat``: a tick every few seconds.

Everything else comes when the timetable of production says.
"""

from __future__ import annotations

from datetime import timedelta

from beat_schedule import app, signals

app.conf.beat_schedule["tick"]["schedule"] = timedelta(seconds=3)

__all__ = ["app", "signals"]

"""When things happen: the three cron lines of the settings, and the tick. Nothing else.

PGBEN_SCHEDULE_POSTGRES (02:00), PGBEN_SCHEDULE_BUCKETS (03:00), PGBEN_SCHEDULE_VERIFY (Monday
08:00), PGBEN_TIMEZONE (America/Fortaleza). An entry names no window: the entry task derives it, so
that beat, the tick and a second beat reach the same job.
"""

from __future__ import annotations

from typing import Any

from celery.schedules import crontab

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.domain.windows import crontab_fields
from pgben_tasks.settings import Settings
from workers import signals


def timetable(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return beat's entries for these settings."""
    databases = crontab(**crontab_fields(settings.schedule_postgres))
    buckets = crontab(**crontab_fields(settings.schedule_buckets))
    weekly = crontab(**crontab_fields(settings.schedule_verify))
    entries: dict[str, dict[str, Any]] = {
        f"backup {target}": {
            "task": names.BACKUP_BUCKET if target.kind == "bucket" else names.BACKUP_POSTGRES,
            "schedule": buckets if target.kind == "bucket" else databases,
            "args": ({"target": str(target), "scheduled": True, "requested_by": "schedule"},),
        }
        for target in settings.targets()
    }
    if settings.forms_points:
        entries["recovery point"] = {
            "task": names.BACKUP_ALL,
            "schedule": databases,
            "args": ({"scheduled": True, "requested_by": "schedule"},),
        }
    entries["verify everything in full"] = {
        "task": names.VERIFY_RUN,
        "schedule": weekly,
        "args": ({"level": "full", "scheduled": True, "requested_by": "schedule"},),
    }
    entries["tick"] = {"task": names.TICK, "schedule": crontab(minute="*")}
    return entries


_settings = Settings.load()
app.conf.timezone = _settings.timezone
app.conf.beat_schedule = timetable(_settings)

__all__ = ["app", "signals", "timetable"]

"""What an installation is measured by, asked of its catalog and its broker with a login that reads.

The repository is not opened and no worker is asked, so a process without any key can do it.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from pgben_tasks import names
from pgben_tasks.adapters.catalog.metrics import Measurements
from pgben_tasks.adapters.redis import inspect_broker
from pgben_tasks.domain.metrics import (
    Measures,
    Objectives,
    QueueMeasures,
    TargetMeasures,
)
from pgben_tasks.health.space import forecasts
from pgben_tasks.runtime import Workplace
from pgben_tasks.settings import Settings

#: The roles whose nodes have queues of their own.
_ROLES_WITH_SPOOLS = (names.QUEUE_BACKUP, names.QUEUE_RESTORE)


def objectives(settings: Settings) -> Objectives:
    """Return what the settings promise."""
    return Objectives(
        rpo=settings.rpo, rto=settings.rto, verify_every=timedelta(days=settings.verify_days)
    )


def measure(work: Workplace) -> Measures:
    """Return what the catalog says; raises ``DatabaseUnavailable``, ``ConfigurationError``."""
    asked = Measurements(work.database)
    with work.database.kept():
        work.database.check()
        now = work.database.now()
        indexed, last = asked.indexed(), asked.last_backups()
        records = {name: work.records.target_record(name) for name in work.target_names()}
        open_jobs, ended_jobs = asked.jobs()
        living = work.workers.living()
        return Measures(
            now=now,
            targets=tuple(
                TargetMeasures(
                    target=name,
                    state=indexed.state(name),
                    backups=indexed.counts(name),
                    newest_good=indexed.newest_good(name),
                    last_backup=last.get(name),
                    last_full_verification=record.last_full_verification,
                    last_restore=record.last_restore,
                    failures=record.failures,
                )
                for name, record in records.items()
            ),
            point=asked.point(indexed),
            restored_everything_in=work.records.last_restore_of_everything(),
            open_jobs=open_jobs,
            ended_jobs=ended_jobs,
            workers=Counter(name.partition(".")[0] for name in living),
            last_tick=work.records.last_tick(),
            last_beat=work.records.last_beat(),
            open_alarms=asked.open_alarms(),
            unsent_alarms=asked.unsent_alarms(),
            space=forecasts(work, now=now),
            node_queues=tuple(
                name for name in living if name.partition(".")[0] in _ROLES_WITH_SPOOLS
            ),
        )


def measure_queues(settings: Settings, node_queues: tuple[str, ...]) -> QueueMeasures:
    """Return what waits in the queues; raises ``TransientError``, ``ConfigurationError``."""
    queues = (*names.QUEUES, *node_queues)
    found = inspect_broker(settings.redis_url.get_secret_value(), queues)
    return QueueMeasures(waiting=found.queues, set_aside=len(found.set_aside))

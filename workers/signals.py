"""What happens when workers start, fork and stop. Connected by importing this module."""

from __future__ import annotations

from typing import Any

import structlog
from celery.signals import (
    beat_init,
    celeryd_after_setup,
    setup_logging,
    worker_process_init,
    worker_ready,
    worker_shutdown,
)

from pgben_tasks import log as logs, names, runtime
from pgben_tasks.errors import PgbenError
from pgben_tasks.operations import spool
from workers.presence import Presence

log = structlog.get_logger(__name__)

_present: list[Presence] = []


@setup_logging.connect
def configure_logging(loglevel: int | None = None, **_: Any) -> None:
    """Log through structlog, for our own loggers and Celery's."""
    logs.configure(level=loglevel)


@celeryd_after_setup.connect
def take_place(sender: str, instance: Any, **_: Any) -> None:
    """Consume the queues of this node, and take its names; refuse to start when they are taken."""
    try:
        work = runtime.workplace()
        work.database.check()
        if work.settings.ignored:
            # Kubernetes injects these for Services named pgben-*; they are no settings.
            log.info("settings_ignored", names=list(work.settings.ignored))
        if work.settings.retired:
            log.warning("settings_retired", names=list(work.settings.retired))
        if work.settings.doubtful:
            log.warning("settings_doubtful", what=[str(one) for one in work.settings.doubtful])
        queues = instance.app.amqp.queues
        roles = [role for role in names.QUEUES if role in queues.consume_from]
        for role in (names.QUEUE_BACKUP, names.QUEUE_RESTORE):
            if role in roles:
                queues.select_add(names.node_queue(role, work.node))
        ticking = instance.app if names.QUEUE_MAINTENANCE in roles else None
        # A URL of PGBEN_ALERT_URLS that cannot be used is better noticed now than at night.
        if ticking is not None and not work.channels:
            # Alarms are kept, and sent should a channel be set one day.
            log.warning(
                "alarms_have_no_channel",
                wanted=["PGBEN_SMTP_HOST and PGBEN_ADMIN_EMAIL", "PGBEN_ALERT_URLS"],
            )
        present = [names.node_queue(role, work.node) for role in roles]
        _present.append(Presence(work, present, app=ticking))
        spool.sweep(work.settings.spool_dir, keep=work.open_jobs)
    except PgbenError as exc:
        # Celery swallows exceptions of signal handlers; leaving the process it does not.
        raise SystemExit(f"pgben: {exc}") from exc
    except Exception as exc:
        # Nor may a worker run without its place because of anything unforeseen.
        raise SystemExit(f"pgben: the worker could not start: {exc!r}") from exc
    log.info("worker_took_place", worker=sender, node=work.node, roles=roles)


@worker_ready.connect
def say_ready(sender: Any, **_: Any) -> None:
    """Write one line that people and scripts may wait for."""
    log.info("worker_ready", worker=str(sender))


@worker_process_init.connect
def forget_parent(**_: Any) -> None:
    """Build connections and children anew after a fork."""
    runtime.forget()


@worker_shutdown.connect
def leave(**_: Any) -> None:
    """Release this worker's names."""
    while _present:
        _present.pop().leave()


@beat_init.connect
def say_beating(**_: Any) -> None:
    """Write one line when the scheduler begins."""
    log.info("beat_began")

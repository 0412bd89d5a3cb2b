"""The one Celery application. Light to import: no psycopg, no minio, no tasks.

Tasks are registered by ``pgben_tasks.tasks`` (loaded by ``workers``); the schedule is added by
``beat_schedule``. Every setting that differs from Celery's default says why.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from celery import Celery
from kombu import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

from pgben_tasks import names
from pgben_tasks.settings import redis_url
from pgben_tasks.settings.broker import check_redis_url

#: The longest a step may run before its process is ended.
HARD_LIMIT: Final = timedelta(hours=8)
SOFT_LIMIT: Final = HARD_LIMIT - timedelta(minutes=5)
#: Longer than the hard limit and every publish retry: a shorter one ran a task three times at once.
VISIBILITY_TIMEOUT: Final = timedelta(hours=10)
#: An outage of the broker must not end a worker (pgben_tasks/broker.py says why it did).
_TRANSPORT: Final = "pgben_tasks.broker:Transport"
#: Results say what to do, and progress never hides an end (pgben_tasks/results.py).
_RESULTS: Final = "pgben_tasks.results:Results"
#: How long a worker that was told to stop lets its running step go on.
SOFT_SHUTDOWN: Final = timedelta(seconds=60)


def configuration(broker: str) -> dict[str, Any]:
    """Return the settings of the application for a broker URL ``redis://…/0``.

    Results go to database 1 of the same server.
    """
    transport = {
        "visibility_timeout": int(VISIBILITY_TIMEOUT.total_seconds()),
        # Without these, an expired message came back up to 100 s late.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # A dead connection is noticed instead of waited for.
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
    return {
        "broker_url": broker,
        "result_backend": _results_url(broker),
        "broker_transport_options": transport,
        "result_backend_transport_options": {"visibility_timeout": transport["visibility_timeout"]},
        "broker_connection_retry_on_startup": True,
        # An early acknowledgement loses the task together with its worker.
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        # A killed child's task is tried again at once (twice at most); rejecting loops without end.
        "task_retry_on_worker_lost": True,
        "task_reject_on_worker_lost": False,
        # With Celery's default a broker outage of 90 s at a step's end lost the whole chain.
        "task_publish_retry_policy": {
            "max_retries": 60,
            "interval_start": 0,
            "interval_step": 1,
            "interval_max": 10,
        },
        # A soft shutdown gives the message back at once; a warm one waits without limit.
        "worker_soft_shutdown_timeout": SOFT_SHUTDOWN.total_seconds(),
        # On Redis, cancelling strands the message until the visibility timeout.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "task_time_limit": int(HARD_LIMIT.total_seconds()),
        "task_soft_time_limit": int(SOFT_LIMIT.total_seconds()),
        # Keyword arguments stay out of the result backend.
        "result_extended": False,
        "result_backend_always_retry": True,
        "result_expires": timedelta(days=7),
        # Flower shows what is running only with these.
        "task_track_started": True,
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        # Pickle would let a writer of the broker run code in the workers.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        # A node's queue is made when first named; each queue has the exchange of its own name.
        "task_default_queue": names.QUEUE_MAINTENANCE,
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in names.QUEUES],
        "task_routes": {
            names.BACKUP_POSTGRES: {"queue": names.QUEUE_BACKUP},
            names.BACKUP_BUCKET: {"queue": names.QUEUE_BACKUP},
            names.BACKUP_BUCKET_HELP: {"queue": names.QUEUE_BACKUP},
            names.BACKUP_ALL: {"queue": names.QUEUE_BACKUP},
            "pgben.backup.all.*": {"queue": names.QUEUE_BACKUP},
            names.RESTORE_POSTGRES: {"queue": names.QUEUE_RESTORE},
            names.RESTORE_BUCKET: {"queue": names.QUEUE_RESTORE},
            names.RESTORE_ALL: {"queue": names.QUEUE_RESTORE},
            "pgben.restore.all.*": {"queue": names.QUEUE_RESTORE},
            names.UNDO_RUN: {"queue": names.QUEUE_RESTORE},
            names.UNDO_ALL: {"queue": names.QUEUE_RESTORE},
            # The keys and servers of a restore are at hand there.
            names.CATALOG_PLAN: {"queue": names.QUEUE_RESTORE},
            names.CATALOG_BACKUPS: {"queue": names.QUEUE_MAINTENANCE},
            names.CATALOG_JOBS: {"queue": names.QUEUE_MAINTENANCE},
            names.CATALOG_STATUS: {"queue": names.QUEUE_MAINTENANCE},
            names.CANCEL_RUN: {"queue": names.QUEUE_MAINTENANCE},
            "pgben.undo.run.*": {"queue": names.QUEUE_RESTORE},
            names.VERIFY_RUN: {"queue": names.QUEUE_VERIFY},
            "pgben.verify.run.*": {"queue": names.QUEUE_VERIFY},
            names.PRUNE_RUN: {"queue": names.QUEUE_MAINTENANCE},
            "pgben.prune.run.*": {"queue": names.QUEUE_MAINTENANCE},
            names.ACKNOWLEDGE_RUN: {"queue": names.QUEUE_MAINTENANCE},
            "pgben.acknowledge.run.*": {"queue": names.QUEUE_MAINTENANCE},
            names.HOLD_RUN: {"queue": names.QUEUE_MAINTENANCE},
            "pgben.hold.run.*": {"queue": names.QUEUE_MAINTENANCE},
            names.SWEEP_RUN: {"queue": names.QUEUE_MAINTENANCE},
            "pgben.sweep.run.*": {"queue": names.QUEUE_MAINTENANCE},
            names.REPORT_RUN: {"queue": names.QUEUE_MAINTENANCE},
            "pgben.report.run.*": {"queue": names.QUEUE_MAINTENANCE},
            names.TICK: {"queue": names.QUEUE_MAINTENANCE},
        },
        # The timetable is written in local time; Celery's own clock stays in UTC.
        "enable_utc": True,
        "timezone": "UTC",
        # pgben configures logging itself (pgben_tasks.log).
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


def _results_url(broker: str) -> str:
    """Return the URL of database 1 of the same server."""
    parts = urlsplit(broker)
    query = parts.query
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in query:
        # Celery wants it to be written, and the broker's transport takes it for granted.
        query = f"{query}&ssl_cert_reqs=required".lstrip("&")
    return parts._replace(path="/1", query=query).geturl()


def create_app(broker: str) -> Celery:
    """Make an application on the broker at this URL.

    Raises ``ConfigurationError`` when it is not the URL of a Redis database.
    """
    broker = check_redis_url(broker)
    # By name, so that nothing is loaded before the first connection.
    TRANSPORT_ALIASES.update(redis=_TRANSPORT, rediss=_TRANSPORT)
    made = Celery("pgben", set_as_current=False)
    made.loader.override_backends = {"redis": _RESULTS, "rediss": _RESULTS}
    made.conf.update(configuration(broker))
    return made


app = create_app(redis_url())
app.set_current()

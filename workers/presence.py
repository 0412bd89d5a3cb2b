"""A worker's presence in the catalog: its name is locked, and its heartbeat is sent.

The name ``<role>.<node>`` is also the queue of the node's spool, so two live workers of one name
would share files; the second is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from pgben_tasks import names, runtime
from pgben_tasks.adapters.catalog.locks import HeldLocks, worker_lock
from pgben_tasks.adapters.postgres.clients import published_clients
from pgben_tasks.domain.job import BEAT_SILENCE, HEARTBEAT_EVERY
from pgben_tasks.domain.outlook import Fault
from pgben_tasks.domain.space import Sample
from pgben_tasks.errors import ConfigurationError, PgbenError, TargetBusy
from pgben_tasks.health.looks import Look
from pgben_tasks.health.space import measure_here

log = structlog.get_logger(__name__)

#: Seconds after which a tick that still waits is dropped: the next one follows.
_TICK_EXPIRES: Final = 120
#: A predecessor that was cut off from the catalog keeps its lock until the server notices.
_WAIT_FOR_NAME: Final = 60.0
#: Seconds between two looks at the PostgreSQL clients and the disks of this machine.
_PUBLISH_EVERY: Final = 300
#: Shorter than what heartbeats may be late.
_MEASURED_WITHIN: Final = timedelta(seconds=5)


class Presence:
    """Holds the locks of this worker's names and beats for them, until ``leave``."""

    def __init__(
        self,
        work: runtime.Workplace,
        workers: Sequence[str],
        *,
        app: Celery | None,
        beat_silence: timedelta = BEAT_SILENCE,
    ) -> None:
        """Take the names; raises ``ConfigurationError`` when another live worker has one.

        ``app`` is what sends the tick when no tick ran for ``beat_silence``, None for workers that
        do not.
        """
        self._work = work
        self._names = tuple(workers)
        self._app = app
        self._beat_silence = beat_silence
        self._begun = time.monotonic()
        self._held = self._take()
        self._measuring: Look[list[Sample]] | None = None
        work.workers.register(self._names)
        self._publish()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="presence", daemon=True)
        self._thread.start()

    def _take(self) -> HeldLocks:
        deadline = time.monotonic() + _WAIT_FOR_NAME
        wait = threading.Event()
        while True:
            try:
                return HeldLocks(self._work.database, [worker_lock(name) for name in self._names])
            except TargetBusy as exc:
                if time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"a worker named '{self._work.node}' with one of the roles "
                        f"{', '.join(self._names)} is already running",
                        "give this worker a PGBEN_NODE and a PGBEN_SPOOL_DIR of its own",
                    ) from exc
                log.info("worker_name_awaited", names=list(self._names))
                wait.wait(1)

    def _beat(self) -> None:
        while True:
            try:
                self._held.keep()
                self._work.workers.send_heartbeat(self._names)
                self._stand_in_for_beat()
                if time.monotonic() >= self._publish_at:
                    self._publish()
            except PgbenError as exc:
                log.warning("worker_heartbeat_missed", why=exc.sentence)
            if self._stop.wait(HEARTBEAT_EVERY.total_seconds()):
                return

    def _publish(self) -> None:
        """Publish the clients of this machine and how full its disks are, as they are by now."""
        self._work.workers.publish(self._names, published_clients())
        self._measure()
        self._publish_at = time.monotonic() + _PUBLISH_EVERY

    def _measure(self) -> None:
        """Publish how full the places are that this node sees, unless one of them hangs.

        A folder of a network that is away keeps whoever looks at it, and must not keep heartbeats.
        """
        work = self._work
        if self._measuring is None or not self._measuring.silent:
            running, now = work.open_jobs(), work.database.now()
            measure = partial(measure_here, work.settings, node=work.node, running=running, now=now)
            self._measuring = Look(str(work.settings.spool_dir), lambda: list(measure()))
        found = self._measuring.outcome(_MEASURED_WITHIN)
        if isinstance(found, Fault):
            log.warning("space_not_measured", why=found.sentence)
            return
        work.space.add(found)

    def _stand_in_for_beat(self) -> None:
        """Send the tick when beat has long been silent; two that do so change nothing but time."""
        if self._app is None or time.monotonic() - self._begun < self._beat_silence.total_seconds():
            return
        if self._work.recovery.tick_is_overdue(self._beat_silence):
            log.warning("beat_is_silent")
            try:
                self._app.send_task(
                    names.TICK,
                    # The tick then knows that beat has not sent it, and raises the alarm.
                    kwargs={"stand_in": True},
                    queue=names.QUEUE_MAINTENANCE,
                    expires=_TICK_EXPIRES,
                )
            except OperationalError as exc:
                log.warning("tick_not_sent", why=type(exc).__name__)

    def leave(self) -> None:
        """Stop the heartbeat and release the names."""
        self._stop.set()
        self._thread.join(timeout=15)
        self._held.release()

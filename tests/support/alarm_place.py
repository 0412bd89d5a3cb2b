"""A place whose alarms are watched: real catalog, real tick, real mail server; no worker."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pgben_tasks import runtime
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.workers import BEAT
from pgben_tasks.app import app
from pgben_tasks.domain.alarm import KeptAlarm
from pgben_tasks.domain.job import JobKind, window_key
from pgben_tasks.runtime import process
from pgben_tasks.settings import Settings
from pgben_tasks.tasks import reconciler
from tests.support.installation import FILL_PEDIDO, Installation
from tests.support.mailbox import MailServer

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Ahead(CatalogDatabase):
    """The catalog, whose clock is ahead of its server's."""

    ahead: list[timedelta] = field(default_factory=list, compare=False)

    def now(self) -> datetime:
        return super().now() + self.ahead[0]


@dataclass(frozen=True)
class Place:
    """An installation whose alarms go to ``server``; nothing is scheduled unless a test says so."""

    work: runtime.Workplace
    server: MailServer
    target: str
    #: How far the present moment of alarms is from that of the catalog's server.
    ahead: list[timedelta] = field(default_factory=lambda: [timedelta(0)])

    @property
    def now(self) -> datetime:
        """The present moment of alarms."""
        return self.work.database.now()

    def after(self, elapsed: timedelta) -> None:
        """Let time pass, for alarms and for signs of beat, which went on meanwhile."""
        self.ahead[0] += elapsed
        self.sql("UPDATE worker SET heartbeat_at = %s WHERE name = %s", self.now, BEAT)

    def tick(self, *, stand_in: bool = False) -> tuple[int, int]:
        """Run a tick; give how many alarms it raised and sent."""
        if self.ahead[0] and not stand_in:
            # The sign of beat would be of the server's clock.
            self.after(timedelta(0))
            stand_in = True
        done = reconciler.tick(self.work, app, stand_in=stand_in)
        return done["alarms_raised"], done["alarms_sent"]

    def alarms(self) -> list[KeptAlarm]:
        """Return the outbox, oldest first."""
        return self.work.outbox.newest(100)[::-1]

    def wait(self, elapsed: timedelta) -> None:
        """Let time pass while beat sends nothing."""
        self.ahead[0] += elapsed

    def open(self) -> list[str]:
        """Return the kinds of alarms that are open."""
        return [one.alarm.kind for one in self.work.outbox.open()]

    def sql(self, statement: str, *values: object) -> None:
        """Change the catalog behind everybody's back, as time would."""
        with self.work.database.transaction() as cursor:
            cursor.execute(statement.encode(), values)

    def with_settings(self, **changed: Any) -> Place:
        """Return the same place under other settings."""
        settings = self.work.settings.model_copy(update=changed)
        work = runtime.Workplace(settings)
        database = work.database
        vars(work)["database"] = Ahead(database.server, database.name, self.ahead)
        made = Place(work, self.server, self.target, self.ahead)
        process._workplace = made.work
        return made

    def job(self, kind: JobKind = "backup", *, window: datetime | None = None) -> Any:
        """Write a job nobody has begun."""
        key = window_key(kind, self.target, window) if window else secrets.token_hex(8)
        request = {"target": self.target}
        return self.work.ledger.request(
            kind, target=self.target, key=key, request=request, requested_by="ana", window=window
        )[0]

    def fail(self, job: Any, *, retry_at: datetime | None = None) -> None:
        """End a queued job badly."""
        error = {"type": "ConfigurationError", "sentence": "no such thing", "hint": "mend it"}
        self.work.ledger.fail_unclaimed(job.id, state="failed", error=error, retry_at=retry_at)


@contextmanager
def alarm_place(installation: Installation) -> Iterator[Place]:
    """Yield a place whose alarms go to a mail server of its own."""
    app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    with MailServer() as server:
        loaded = Settings.load(server.settings(PGBEN_LANGUAGE="en", PGBEN_TIMEZONE="UTC"))
        mail = {
            name: getattr(loaded, name)
            for name in type(loaded).model_fields
            if name.startswith(("smtp_", "admin_", "contacts", "language", "timezone"))
        }
        work = installation.shop.work
        made = Place(work, server, str(installation.target)).with_settings(**mail)
        made.sql("TRUNCATE alarm, channel, ping, worker CASCADE")
        since = made.work.records.since()
        # Beat counts as silent from here on, not from whenever this catalog was made.
        made.sql("UPDATE migration SET applied_at = clock_timestamp() WHERE version = 4")
        yield made
        made.sql("UPDATE migration SET applied_at = %s WHERE version = 4", since)
        # The codec of a toolbox that a test built has children.
        for one in {id(w): w for w in (made.work, runtime.workplace())}.values():
            if "tools" in vars(one):
                one.tools.codec.close()  # type: ignore[attr-defined]
    runtime.forget()
    installation.run_sql(f"TRUNCATE pedido; {FILL_PEDIDO}")


def call(task: Any, request: object) -> Any:
    """Run a task, and the chain it becomes, in this process."""
    return task.apply(args=(request,), throw=True).get()

"""What one process works with, built once and only when asked for.

A process that forked calls ``forget`` first, so that no connection and no child is shared with its
parent.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from pgben_tasks.adapters.catalog.audit import AuditTrail
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.history import CatalogHistory
from pgben_tasks.adapters.catalog.index import BackupIndex
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.live_changes import (
    CatalogOwnWrites,
    CatalogRestored,
    CatalogSwaps,
)
from pgben_tasks.adapters.catalog.outbox import AlarmOutbox, PingLog
from pgben_tasks.adapters.catalog.records import Records
from pgben_tasks.adapters.catalog.recovery import Recovery
from pgben_tasks.adapters.catalog.reports import Reports
from pgben_tasks.adapters.catalog.space import SpaceSamples
from pgben_tasks.adapters.catalog.workers import Workers
from pgben_tasks.adapters.mail import SmtpMailer
from pgben_tasks.adapters.postgres.kept_databases import PostgresKeptDatabases
from pgben_tasks.adapters.postgres.swap import PostgresSwap
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.domain.job import ENDED, EVERYTHING, Job, JobKind, JobState, next_attempt
from pgben_tasks.domain.overdue import Bounds, Timed
from pgben_tasks.domain.target import Target
from pgben_tasks.domain.windows import Schedule
from pgben_tasks.errors import PgbenError
from pgben_tasks.operations.alarms.mail import Letterhead
from pgben_tasks.operations.toolbox import (
    CatalogPorts,
    Toolbox,
)
from pgben_tasks.ports import Channel
from pgben_tasks.runtime.later import later
from pgben_tasks.runtime.places import (
    catalog_database,
    chat_channels,
    kept_servers,
    mailer,
    node_name,
    open_repository,
    swap_servers,
)
from pgben_tasks.runtime.tools import toolbox
from pgben_tasks.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Workplace:
    """What one process works with; parts are built when first asked for.

    A worker's parent process uses the catalog and the node's name only: the S3 client's threads,
    once started, would not survive the fork of its children, and these would wait for ever.
    """

    settings: Settings
    #: How long the catalog's server may be silent; None for as long as it is.
    patience: timedelta | None = None

    @cached_property
    def database(self) -> CatalogDatabase:
        """The catalog's database."""
        return catalog_database(self.settings, patience=self.patience)

    @cached_property
    def ledger(self) -> Ledger:
        """The job ledger."""
        return Ledger(self.database)

    @cached_property
    def recovery(self) -> Recovery:
        """The reconciler's view of the ledger."""
        return Recovery(self.database)

    @cached_property
    def workers(self) -> Workers:
        """The workers of this site."""
        return Workers(self.database)

    @cached_property
    def space(self) -> SpaceSamples:
        """How full the places were that are written to."""
        return SpaceSamples(self.database)

    @cached_property
    def swaps(self) -> CatalogSwaps:
        """The record of swaps."""
        return CatalogSwaps(self.database)

    @cached_property
    def restored(self) -> CatalogRestored:
        """The record of copies that restores made beside the original."""
        return CatalogRestored(self.database)

    @cached_property
    def keeping(self) -> dict[Target, PostgresKeptDatabases]:
        """The servers where restores leave databases, by protected database."""
        return kept_servers(self.settings)

    @cached_property
    def swapping(self) -> dict[Target, PostgresSwap]:
        """The servers whose databases can trade places, by protected database."""
        return swap_servers(self.settings)

    @cached_property
    def repository(self) -> StoreRepository:
        """The repository; raises when it is missing or no trusted keys are set."""
        return open_repository(self.settings)

    @cached_property
    def index(self) -> BackupIndex:
        """The catalog's index of the repository."""
        return BackupIndex(self.database, self.repository.id)

    @cached_property
    def trail(self) -> AuditTrail:
        """The audit trail."""
        return AuditTrail(self.database, self.repository.id, self.repository.audit)

    @cached_property
    def records(self) -> Records:
        """What alarms are decided from."""
        return Records(self.database)

    @cached_property
    def reports(self) -> Reports:
        """The reports that were made, and what one is made from."""
        return Reports(self.database)

    @cached_property
    def outbox(self) -> AlarmOutbox:
        """The alarms that were raised."""
        return AlarmOutbox(self.database)

    @cached_property
    def ping_log(self) -> PingLog:
        """Up to where attempts of jobs were pinged."""
        return PingLog(self.database)

    @cached_property
    def mailer(self) -> SmtpMailer | None:
        """The mailer; None where the settings name no server or no recipient."""
        return mailer(self.settings)

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """Everything that alarms are told by, mail first.

        Raises ``ConfigurationError`` for a URL of PGBEN_ALERT_URLS that cannot be used.
        """
        mail = (self.mailer,) if self.mailer is not None else ()
        return (*mail, *chat_channels(self.settings))

    @cached_property
    def letterhead(self) -> Letterhead:
        """What all mails of this installation share."""
        settings = self.settings
        return Letterhead(
            language=settings.language,
            zone=self.zone,
            # Not ``node``, which looks into the spool: a person without one may try the mails.
            node=settings.node or socket.gethostname(),
            contacts=settings.contacts,
        )

    @property
    def bounds(self) -> Bounds:
        """From when on work counts as overdue."""
        settings = self.settings
        return Bounds(
            begin_within=settings.step_wait,
            end_within=settings.catch_up,
            objective=settings.rpo,
        )

    @cached_property
    def history(self) -> CatalogHistory:
        """How jobs ended, for people."""
        return CatalogHistory(self.database)

    @cached_property
    def tools(self) -> Toolbox:
        """What operations are handed."""
        return self._toolbox(self.repository, self.index, self.trail)

    @cached_property
    def tools_for_reports(self) -> Toolbox:
        """The same, where a repository that is away is missed only by what uses it."""
        return self._toolbox(
            later(lambda: self.repository), later(lambda: self.index), later(lambda: self.trail)
        )

    def _toolbox(
        self, repository: StoreRepository, index: BackupIndex, trail: AuditTrail
    ) -> Toolbox:
        return toolbox(
            self.settings,
            repository=repository,
            catalog=CatalogPorts(
                clock=self.database,
                index=index,
                captures=self.ledger,
                jobs=self.ledger,
                swaps=self.swaps,
                restored=self.restored,
                own_writes=CatalogOwnWrites(self.database),
                workers=self.workers,
                trail=trail,
            ),
            spool=self.settings.spool_dir,
            node=self.node,
        )

    @cached_property
    def node(self) -> str:
        """This node's name."""
        return node_name(self.settings)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the schedules."""
        return ZoneInfo(self.settings.timezone)

    @property
    def step_wait(self) -> timedelta:
        """How long a step may wait for a worker."""
        return self.settings.step_wait

    def target_names(self) -> list[str]:
        """Return every protected target."""
        return [str(target) for target in self.settings.targets()]

    def schedule(self, kind: str, target: str) -> Schedule | None:
        """Return the timetable of a kind of job; None where it has none."""
        if kind in {"verify", "report"} and target == EVERYTHING:
            # A report is about the verification of its window.
            return self.settings.schedule("verify")
        if kind == "point":
            # Its first members are the databases of the same window.
            return self.settings.schedule("postgres") if self.settings.forms_points else None
        return self.settings.schedule(Target.parse(target).kind) if kind == "backup" else None

    def next_attempt(self, job: Job, state: JobState) -> datetime | None:
        """Return when a scheduled job that failed is tried again; None when it is given up."""
        if job.window is None or state != "failed":
            return None
        schedule = self.schedule(job.kind, job.target)
        if schedule is None:
            return None
        # A job that no worker could even claim has had no attempt yet.
        attempt = max(job.attempt, 1)
        now = self.database.now()
        return next_attempt(attempt=attempt, now=now, successor=schedule.next(job.window))

    def timetable(self) -> Iterator[tuple[JobKind, str]]:
        """Yield every scheduled (kind of job, target)."""
        for target in self.target_names():
            yield "backup", target
        if self.settings.forms_points:
            yield "point", EVERYTHING
        yield "verify", EVERYTHING

    def timed(self) -> list[Timed]:
        """Return the timetable with the schedule of each line."""
        lines = ((kind, target, self.schedule(kind, target)) for kind, target in self.timetable())
        return [Timed(kind, target, schedule) for kind, target, schedule in lines if schedule]

    def open_jobs(self) -> list[UUID]:
        """Return the jobs that have not ended, whose files are therefore kept."""
        return [job.id for job in self.ledger.jobs(limit=10_000, open_only=True)]

    def audit(self, job: Job, *, result: str, detail: str = "", who: str | None = None) -> None:
        """Write what became of a job to the audit trail; a failure to do so is logged.

        Of one that ended, the tick writes the entry then. ``who`` is whoever did it, when that is
        not who asked for the job.
        """
        try:
            append = self.trail.append_end if result in ENDED else self.trail.append
            append(
                who=who or job.requested_by,
                action=job.kind,
                target=job.target,
                backup=job.backup or "",
                job=str(job.id),
                result=result,
                detail=detail,
            )
        except PgbenError as exc:
            log.error("audit_not_written", why=exc.sentence)  # noqa: TRY400 - a sentence, no trace


_workplace: Workplace | None = None


def workplace(settings: Settings | None = None) -> Workplace:
    """Return the process's workplace, building it from the environment on first use."""
    global _workplace  # noqa: PLW0603 - one per process is the point
    if _workplace is None or settings is not None:
        _workplace = Workplace(settings if settings is not None else Settings.load())
    return _workplace


def forget() -> None:
    """Drop the workplace; the next use builds a new one."""
    global _workplace  # noqa: PLW0603 - one per process is the point
    _workplace = None

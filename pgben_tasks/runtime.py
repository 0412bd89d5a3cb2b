"""The composition root: settings become adapters and a toolbox, once per process.

Nothing else builds adapters. A process that forked calls ``forget`` first, so that no connection
and no child is shared with its parent.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from pgben_tasks.adapters.catalog.audit import AuditTrail
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.index import BackupIndex
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.outbox import AlarmOutbox
from pgben_tasks.adapters.catalog.recovery import Recovery
from pgben_tasks.adapters.catalog.swaps import CatalogSwaps
from pgben_tasks.adapters.catalog.watch import Watch
from pgben_tasks.adapters.crypto import Signer, Trust
from pgben_tasks.adapters.directory_store import DirectoryObjectStore
from pgben_tasks.adapters.history import History
from pgben_tasks.adapters.mail import SmtpMailer, SmtpServer
from pgben_tasks.adapters.packs import AgePackCodec
from pgben_tasks.adapters.postgres import PostgresServer
from pgben_tasks.adapters.postgres_destination import PostgresDestination
from pgben_tasks.adapters.postgres_source import PostgresSource
from pgben_tasks.adapters.postgres_swap import PostgresSwap
from pgben_tasks.adapters.repository import StoreRepository
from pgben_tasks.adapters.s3_store import S3Location, S3ObjectStore
from pgben_tasks.adapters.system_clock import SystemClock
from pgben_tasks.domain.job import Job, JobKind, JobState, next_attempt
from pgben_tasks.domain.overdue import Bounds, Timed
from pgben_tasks.domain.retention import Policy
from pgben_tasks.domain.target import Target
from pgben_tasks.domain.windows import Schedule
from pgben_tasks.errors import ConfigurationError, PgbenError
from pgben_tasks.operations import restore_postgres
from pgben_tasks.operations.alarm_mail import Letterhead
from pgben_tasks.operations.spool import disk_errors, job_folder, remove, write_durably
from pgben_tasks.operations.toolbox import (
    DUMP_PACK_SIZE,
    Books,
    Limits,
    Toolbox,
)
from pgben_tasks.ports import ObjectStore, Repository
from pgben_tasks.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Workplace:
    """What one process works with; parts are built when first asked for.

    A worker's parent process uses the catalog and the node's name only: the S3 client's threads,
    once started, would not survive the fork of its children, and these would wait for ever.
    """

    settings: Settings

    @cached_property
    def database(self) -> CatalogDatabase:
        """The catalog's database."""
        return catalog_database(self.settings)

    @cached_property
    def ledger(self) -> Ledger:
        """The job ledger."""
        return Ledger(self.database)

    @cached_property
    def recovery(self) -> Recovery:
        """The reconciler's view of the ledger."""
        return Recovery(self.database)

    @cached_property
    def swaps(self) -> CatalogSwaps:
        """The record of swaps."""
        return CatalogSwaps(self.database)

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
    def watch(self) -> Watch:
        """What alarms are decided from."""
        return Watch(self.database)

    @cached_property
    def outbox(self) -> AlarmOutbox:
        """The alarms that were raised."""
        return AlarmOutbox(self.database)

    @cached_property
    def mailer(self) -> SmtpMailer | None:
        """Who sends mails; None where the settings name no server or nobody to send them to."""
        return mailer(self.settings)

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
        """How long is too long."""
        settings = self.settings
        return Bounds(
            begin_within=settings.step_wait,
            end_within=settings.catch_up,
            objective=settings.rpo,
        )

    @property
    def history(self) -> History:
        """The files that people know from the old scripts."""
        return history_files(self.settings)

    @cached_property
    def tools(self) -> Toolbox:
        """What operations are handed."""
        return toolbox(
            self.settings,
            repository=self.repository,
            books=Books(
                clock=self.database, index=self.index, captures=self.ledger, swaps=self.swaps
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
        """Every protected target."""
        return [str(target) for target in postgres_servers(self.settings)]

    def schedule(self, kind: str, target: str) -> Schedule | None:
        """Give the timetable of a kind of job; None where it has none."""
        lines = {"backup": self.settings.schedule_postgres, "verify": self.settings.schedule_verify}
        if kind not in lines or (kind == "verify" and target != "*"):
            return None
        return Schedule.parse(lines[kind], self.settings.timezone)

    def next_attempt(self, job: Job, state: JobState) -> datetime | None:
        """Say when a scheduled job that failed is tried again; None when it is given up."""
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
        """Every scheduled (kind of job, target)."""
        for target in self.target_names():
            yield "backup", target
        yield "verify", "*"

    def timed(self) -> list[Timed]:
        """Give the timetable with the schedule of each line."""
        lines = ((kind, target, self.schedule(kind, target)) for kind, target in self.timetable())
        return [Timed(kind, target, schedule) for kind, target, schedule in lines if schedule]

    def open_jobs(self) -> list[UUID]:
        """Jobs that have not ended, and whose files are therefore kept."""
        return [job.id for job in self.ledger.jobs(limit=10_000, open_only=True)]

    def audit(self, job: Job, *, result: str, detail: str = "", who: str | None = None) -> None:
        """Write what became of a job to the audit trail; a failure to do so is logged.

        ``who`` is whoever did it, when that is not who asked for the job.
        """
        try:
            self.trail.append(
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
    """Give the process's workplace, building it from the environment on first use."""
    global _workplace  # noqa: PLW0603 - one per process is the point
    if _workplace is None or settings is not None:
        _workplace = Workplace(settings if settings is not None else Settings.load())
    return _workplace


def forget() -> None:
    """Drop the workplace; the next use builds a new one."""
    global _workplace  # noqa: PLW0603 - one per process is the point
    _workplace = None


def abandon(job: Job, tools: Toolbox) -> bool:
    """Remove what a failed job left behind: its folder in the spool and its unfinished copy.

    Says whether there was such a copy.
    """
    remove(job_folder(tools.spool, job.id))
    return job.kind == "restore" and restore_postgres.remove_unfinished(job, tools)


def toolbox(
    settings: Settings,
    *,
    repository: Repository,
    books: Books,
    spool: Path,
    node: str,
    elsewhere: Iterable[Target] = (),
) -> Toolbox:
    """Put together what operations are handed.

    ``elsewhere`` are targets that this installation does not protect, to be restored to the server
    of PGBEN_DB_* all the same.
    """
    servers = postgres_servers(settings)
    places = dict.fromkeys(elsewhere, first_server(settings)) | servers
    return Toolbox(
        repository=repository,
        codec=AgePackCodec(
            settings.age_recipients if settings.encryption else (),
            identity_file=settings.age_identity_file,
        ),
        clock=books.clock,
        own_clock=SystemClock(),
        index=books.index,
        captures=books.captures,
        sources={target: PostgresSource(server, target.name) for target, server in servers.items()},
        destinations={target: PostgresDestination(server) for target, server in places.items()},
        swapping=swap_servers(settings),
        swaps=books.swaps,
        schedules={"postgres": Schedule.parse(settings.schedule_postgres, settings.timezone)},
        limits=_limits(settings),
        spool=spool,
        node=node,
        catch_up=settings.catch_up,
        zone=settings.zone,
        suffix=lambda: secrets.token_hex(3),
        history=history_files(settings),
    )


def history_files(settings: Settings) -> History:
    """Say where the files are that people know from the old scripts."""
    return History(settings.backup_dir, settings.zone)


def catalog_database(settings: Settings) -> CatalogDatabase:
    """Say where the catalog lives."""
    return CatalogDatabase.at(settings.catalog_url.get_secret_value())


def first_server(settings: Settings) -> PostgresServer:
    """Say how the server of PGBEN_DB_* is reached."""
    password = settings.db_pass.get_secret_value() if settings.db_pass else None
    return PostgresServer(
        host=settings.db_host, port=settings.db_port, user=settings.db_user, password=password
    )


def postgres_servers(settings: Settings) -> dict[Target, PostgresServer]:
    """Say how each protected database is reached."""
    first = first_server(settings)
    found = {Target("postgres", name): first for name in settings.db_name}
    for further in settings.servers_file.servers.values() if settings.servers_file else ():
        server = PostgresServer(
            host=further.host,
            port=further.port,
            user=further.user,
            password=further.password.get_secret_value() if further.password else None,
            settings="the file of PGBEN_SERVERS_FILE",
        )
        found |= {Target("postgres", name): server for name in further.databases}
    return found


def swap_servers(settings: Settings) -> dict[Target, PostgresSwap]:
    """Say where databases can trade places; nothing is asked yet."""
    catalog = catalog_database(settings)
    return {
        target: PostgresSwap(
            server,
            # The catalog is rebuilt, never replaced under the feet of its own jobs.
            reserved=frozenset({catalog.name} if str(server) == str(catalog.server) else ()),
        )
        for target, server in postgres_servers(settings).items()
    }


def mailer(settings: Settings) -> SmtpMailer | None:
    """Say how mails are sent; None where no server or no recipient is set."""
    if settings.smtp_host is None or not settings.admin_email:
        return None
    user, password = settings.smtp_user, settings.smtp_pass
    # Most servers let an account write as itself, and people to themselves.
    sender = settings.smtp_from or (user if user and "@" in user else settings.admin_email[0])
    server = SmtpServer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=settings.smtp_security,
        user=user,
        password=password.get_secret_value() if password else None,
        ca_file=settings.smtp_ca_file,
    )
    return SmtpMailer(server, sender=sender, recipients=settings.admin_email)


def open_store(settings: Settings) -> ObjectStore:
    """Open the object store of the repository; looks at nothing yet."""
    parts = urlsplit(settings.repository)
    if parts.scheme == "file":
        return DirectoryObjectStore(Path(parts.path))
    return S3ObjectStore(s3_location(settings))


def s3_location(settings: Settings) -> S3Location:
    """Say where an ``s3://`` repository is and with which keys."""
    parts = urlsplit(settings.repository)
    access, secret = settings.repository_access_key, settings.repository_secret_key
    if settings.repository_endpoint is None or access is None or secret is None:
        raise ConfigurationError(
            "an s3:// repository needs an endpoint, an access key and a secret key",
            "set PGBEN_REPOSITORY_ENDPOINT, PGBEN_REPOSITORY_ACCESS_KEY and "
            "PGBEN_REPOSITORY_SECRET_KEY",
        )
    return S3Location(
        endpoint=settings.repository_endpoint,
        bucket=parts.netloc,
        prefix=parts.path.strip("/"),
        access_key=access.get_secret_value(),
        secret_key=secret.get_secret_value(),
        ca_file=settings.repository_ca_file,
    )


def open_repository(settings: Settings) -> StoreRepository:
    """Open the repository to store backups in; without recipients nothing could be sealed."""
    trusted = trust(settings)
    if settings.encryption and not settings.age_recipients:
        raise ConfigurationError(
            "encryption is on and no recipients are set",
            "set PGBEN_AGE_RECIPIENTS to the public keys that `pgben init` printed, or "
            "PGBEN_ENCRYPTION=off",
        )
    return StoreRepository.open(open_store(settings), signer=signer(settings), trust=trusted)


def trust(settings: Settings) -> Trust:
    """Read the trusted keys; without them nothing can be believed."""
    if settings.trusted_keys_file is None:
        raise ConfigurationError(
            "no trusted keys are set, so no backup can be believed",
            "run `pgben init` and set PGBEN_TRUSTED_KEYS_FILE",
        )
    return Trust.load(settings.trusted_keys_file)


def signer(settings: Settings) -> Signer | None:
    """Read the signing key, where there is one."""
    return Signer.load(settings.signing_key_file) if settings.signing_key_file else None


def node_name(settings: Settings) -> str:
    """Give this node's name: kept in the spool from its first start on, a mismatch is refused."""
    note = settings.spool_dir / "node"
    wanted = settings.node
    with disk_errors(settings.spool_dir):
        settings.spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = note.read_text(encoding="utf-8").strip() if note.exists() else None
    if kept is None:
        kept = wanted or socket.gethostname()
        write_durably(note, f"{kept}\n".encode())
    if wanted is not None and wanted != kept:
        raise ConfigurationError(
            f"PGBEN_NODE is '{wanted}', and the spool '{settings.spool_dir}' belongs to '{kept}'",
            "two nodes must not share a spool; give each its own PGBEN_SPOOL_DIR",
        )
    return kept


def _limits(settings: Settings) -> Limits:
    policy = Policy(
        max_age=timedelta(days=settings.retention_days),
        keep_daily=settings.keep_daily,
        keep_weekly=settings.keep_weekly,
        keep_monthly=settings.keep_monthly,
        zone=ZoneInfo(settings.timezone),
        brake=settings.prune_brake,
    )
    return Limits(
        dump_jobs=settings.dump_jobs,
        pack_size=settings.pack_size or DUMP_PACK_SIZE,
        suspect_shrink=float(settings.suspect_shrink),
        spool_limit=settings.spool_limit,
        keep_replaced=settings.keep_replaced,
        retention=policy,
    )

"""An installation that lives through simulated days: real servers, its timetable, a clock to move.

The catalog's PostgreSQL runs with a preloaded clock (``clock_ahead.c``), whose offset is a file;
ticks and the jobs of the ledger run in this process, as ``pgben`` does them without workers. Mails
arrive at a server in this process, too.
"""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final, Self
from zoneinfo import ZoneInfo

from celery import Celery
from psycopg import sql

from pgben_tasks import names
from pgben_tasks.adapters.keys.signatures import Signer, Trust
from pgben_tasks.adapters.postgres.clients import published_clients
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.app import configuration
from pgben_tasks.direct.jobs import LedgerJobs
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.restorability import Client
from pgben_tasks.embedded.child import Command
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.health.report import reporting
from pgben_tasks.health.space import measure_here
from pgben_tasks.operations import spool
from pgben_tasks.operations.toolbox import Toolbox
from pgben_tasks.tasks.reconciler import tick
from tests.support import other_days
from tests.support.installation import SCHEMA, WatchedStore
from tests.support.mailbox import Letter, MailServer
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop

#: When an installation has lived for two nights: a Sunday, 23:00 in Fortaleza. The next day has a
#: verification.
FIRST: Final = datetime(2026, 12, 7, 2, 0, tzinfo=UTC)
FORTALEZA: Final = ZoneInfo("America/Fortaleza")
DAY: Final = timedelta(days=1)
WORKERS: Final = tuple(f"{role}.workshop" for role in names.QUEUES)
#: The timetable of production.
NIGHTLY: Final = {
    "PGBEN_SCHEDULE_POSTGRES": "0 2 * * *",
    "PGBEN_SCHEDULE_BUCKETS": "0 3 * * *",
    "PGBEN_SCHEDULE_VERIFY": "0 8 * * 1",
}
#: Local times at which a simulated day is looked at: just after each window, and between.
NIGHT: Final = ((2, 1), (3, 1))
MOMENTS: Final = (*NIGHT, (8, 1), (16, 0), (23, 0))
WEEK: Final = 7
_ROUNDS: Final = 6
_PRISTINE: Final = "_pristine"
_LOGIN: Final = ("pgben", "secret-of-mail")
_BYTES: Final = 8


class Clock:
    """The clock of the catalog's server, which is moved by hand; it goes on from there."""

    def __init__(self, file: Path) -> None:
        """Keep the offset in ``file``."""
        file.write_bytes(bytes(_BYTES))
        file.chmod(0o644)
        with file.open("r+b") as opened:
            self._kept = mmap.mmap(opened.fileno(), _BYTES)

    def now(self) -> datetime:
        """Return what the server's clock shows."""
        return datetime.now(UTC) + timedelta(seconds=self._ahead)

    @property
    def _ahead(self) -> int:
        return int.from_bytes(self._kept[:], "little", signed=True)

    def set(self, moment: datetime) -> None:
        """Let it be ``moment``."""
        ahead = round((moment - datetime.now(UTC)).total_seconds())
        self._kept[:] = ahead.to_bytes(_BYTES, "little", signed=True)


class AheadPostgres(EmbeddedPostgres):
    """A server whose clock is moved."""

    preloaded: ClassVar[dict[str, str]] = {}

    def _command(self) -> Command:
        command = super()._command()
        return replace(command, environment={**command.environment, **self.preloaded})


@dataclass
class Simulation:
    """A small installation, its servers, and what reaches people."""

    clock: Clock
    shop: Workshop
    store: WatchedStore
    documents: EmbeddedS3
    mails: MailServer
    chat: Receiver
    app: Celery
    tools: Toolbox
    clients: tuple[Client, ...] = field(default_factory=lambda: tuple(published_clients()))
    #: Whether beat sends the tick, and whether the workers live.
    beat: bool = True
    works: bool = True
    _own_tools: Toolbox = field(init=False, repr=False)
    _identity: bytes = field(init=False, repr=False)

    @classmethod
    @contextmanager
    def begin(cls, folder: Path, **settings: str) -> Iterator[Self]:
        """Begin at ``FIRST``, with two verified backups; ``settings`` are added last."""
        with ExitStack() as stack:
            library = stack.enter_context(other_days.clock())
            clock = Clock(library.with_name("ahead"))
            clock.set(FIRST - 2 * DAY - timedelta(hours=1))
            AheadPostgres.preloaded = {
                "LD_PRELOAD": str(library),
                "CLOCK_AHEAD_FILE": str(library.with_name("ahead")),
            }
            server = stack.enter_context(AheadPostgres.start())
            redis = stack.enter_context(EmbeddedRedis.start())
            documents = stack.enter_context(EmbeddedS3.start(kind="rclone"))
            documents.make_bucket("pgben-documents")
            with server.connect() as connection:
                connection.execute("CREATE DATABASE pgben")
            with server.connect("pgben") as connection:
                connection.execute(SCHEMA)
            mails = stack.enter_context(MailServer(login=_LOGIN))
            chat = stack.enter_context(Receiver())
            shop = Workshop.open(
                folder,
                server,
                "pgben",
                settings={
                    **NIGHTLY,
                    **mails.settings(PGBEN_LANGUAGE="en"),
                    "PGBEN_ALERT_URLS": f"json://127.0.0.1:{chat.port}/pgben",
                    "PGBEN_REDIS_URL": redis.url,
                    "PGBEN_MINIO_HOST": documents.endpoint,
                    "PGBEN_MINIO_ACCESS_KEY": documents.access_key,
                    "PGBEN_MINIO_SECRET_KEY": documents.secret_key,
                    "PGBEN_BUCKETS": "pgben-documents",
                    "PGBEN_POINT_SETTLE": "1s",
                    "PGBEN_RETENTION_DAYS": "14",
                    **settings,
                },
            )
            app = Celery("simulation")
            app.conf.update(configuration(redis.url))
            stack.callback(app.close)
            store = WatchedStore(shop.repository)
            made = cls(clock, shop, store, documents, mails, chat, app, shop.tools)
            stack.callback(shop.close)
            stack.callback(made._unmount)
            made._share_one_clock()
            for _ in range(2):
                made.pass_a_day()
            made.letters()
            made._keep(_PRISTINE)
            yield made

    # The way back to the beginning

    def reset(self) -> None:
        """Put everything back to how it was at ``FIRST``."""
        self._unmount()
        self.use(self._own_tools)
        self.identity.write_bytes(self._identity)
        self.mails.stop()
        self.mails.login = _LOGIN
        self.mails.start()
        if not self.documents.running:
            self.documents.restart()
        self._bring_back(_PRISTINE)
        shutil.rmtree(self.shop.repository)
        shutil.copytree(self._kept_repository, self.shop.repository)
        spool.sweep(self.tools.spool, keep=list)
        # Later than anything that was measured before.
        self.clock.set(FIRST + timedelta(minutes=1))
        self.beat, self.works = True, True
        self.letters()
        self.messages()

    def keep_catalog(self, copy: str) -> None:
        """Make a copy of the catalog's database, as a nightly dump of it would."""
        self._copy(self._catalog, copy)

    def bring_catalog_back(self, copy: str) -> None:
        """Replace the catalog by such a copy."""
        self._copy(copy, self._catalog)

    def _keep(self, suffix: str) -> None:
        shutil.copytree(self.shop.repository, self._kept_repository)
        for name in (self._catalog, self.shop.target.name):
            self._copy(name, name + suffix)

    def _bring_back(self, suffix: str) -> None:
        for name in (self._catalog, self.shop.target.name):
            self._copy(name + suffix, name)

    def _copy(self, source: str, copy: str) -> None:
        server = self.shop.server
        with server.connect() as connection:
            for text in (
                "DROP DATABASE IF EXISTS {copy} WITH (FORCE)",
                "CREATE DATABASE {copy} TEMPLATE {source} STRATEGY file_copy",
            ):
                statement = sql.SQL(text)
                connection.execute(
                    statement.format(copy=sql.Identifier(copy), source=sql.Identifier(source))
                )

    @property
    def _catalog(self) -> str:
        return self.shop.work.database.name

    @property
    def _kept_repository(self) -> Path:
        return self.shop.folder.with_name(self.shop.folder.name + _PRISTINE)

    def _share_one_clock(self) -> None:
        """Let the worker's clock and the store's be the catalog's, as on a site with NTP."""
        settings = self.shop.work.settings
        assert settings.signing_key_file is not None
        assert settings.trusted_keys_file is not None
        self.store.clock = self.clock
        self.store.after = self._date
        self._own_tools = replace(
            self.shop.tools,
            own_clock=self.clock,
            reporting=reporting(self.shop.work),
            repository=StoreRepository.open(
                self.store,
                signer=Signer.load(settings.signing_key_file),
                trust=Trust.load(settings.trusted_keys_file),
            ),
        )
        self.use(self._own_tools)
        self._identity = self.identity.read_bytes()

    def use(self, tools: Toolbox) -> None:
        """Let ticks and jobs use these tools, until ``reset``."""
        self.tools = tools
        # What a process has built once is what its ticks use.
        vars(self.shop.work)["tools"] = tools

    def _date(self, key: str) -> None:
        moment = self.clock.now().timestamp()
        os.utime(self.shop.repository / key, (moment, moment))

    # Time

    def at(self, hour: int, minute: int = 0) -> datetime:
        """Return the next moment with this local time."""
        local = self.clock.now().astimezone(FORTALEZA)
        then = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
        return then if then > local else then + DAY

    def live(self, *moments: tuple[int, int]) -> None:
        """Let it become each of these local times, and do then what is due."""
        for moment in moments:
            self.clock.set(self.at(*moment))
            self.work()

    def pass_a_day(self) -> None:
        """Let a whole day pass, from its night on."""
        self.live(*MOMENTS)

    def live_until_the_evening(self) -> None:
        """Do what is due now, and what is until 23:00 of the day after ``FIRST``."""
        self.work()
        for moment in MOMENTS:
            if self.at(*moment) <= FIRST + DAY + timedelta(minutes=1):
                self.live(moment)

    def work(self) -> None:
        """Run the tick and all jobs, until nothing is left to do at this moment."""
        with self.shop.work.database.kept():
            self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        work = self.shop.work
        if self.works:
            work.workers.send_heartbeat(WORKERS)
            work.workers.publish(WORKERS, self.clients)
            running = work.open_jobs()
            now = work.database.now()
            work.space.add(measure_here(work.settings, node=work.node, running=running, now=now))
        jobs = LedgerJobs(work.ledger, self.tools, on_end=self._ended)
        # What a job leads to, an alarm or another job, the next tick finds.
        for _ in range(_ROUNDS):
            if self.beat:
                tick(work, self.app)
            elif self.works and work.recovery.tick_is_overdue():
                tick(work, self.app, stand_in=True)
            if not self.works or not work.ledger.jobs(limit=1, open_only=True):
                return
            jobs.round()

    def _ended(self, job: Job) -> None:
        detail = (job.error or {}).get("sentence", "")
        self.shop.work.audit(job, result=job.state, detail=detail)

    # What failures are planted in

    @property
    def newest_backup(self) -> str:
        """The id of the newest backup of the database."""
        return self.shop.work.index.backups(self.shop.target)[0].id

    @property
    def identity(self) -> Path:
        """The file that opens contents."""
        file = self.shop.work.settings.age_identity_file
        assert file is not None
        return file

    def mount_spool(self, *, mebibytes: int) -> Path:
        """Put the spool on a volume of this size, until ``reset``; return its folder."""
        folder = self.shop.work.settings.spool_dir
        kept = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        size = f"size={mebibytes}m,mode=700"
        # Raises where only root may, or nobody.
        mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
        subprocess.run(mount, check=True, capture_output=True)
        for name, data in kept.items():
            (folder / name).write_bytes(data)
        return folder

    def _unmount(self) -> None:
        folder = self.shop.work.settings.spool_dir
        if folder.is_mount():
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

    # What is seen

    @staticmethod
    def text_of(letter: Letter) -> str:
        """Return the plain text of a mail that may have a page beside it."""
        part = letter.message.get_body(("plain",))
        assert part is not None
        return str(part.get_content())

    def letters(self) -> list[Letter]:
        """Return the mails that arrived since this was asked last."""
        arrived = list(self.mails.letters)
        self.mails.letters.clear()
        return arrived

    def messages(self) -> list[str]:
        """Return the titles and texts that the chat received since this was asked last."""
        arrived = [f"{one.json['title']}\n{one.json['message']}" for one in self.chat.requests]
        self.chat.requests.clear()
        return arrived

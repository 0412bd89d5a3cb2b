"""What checks look at: the parts of one installation, each asked once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Final, TypeVar
from urllib.parse import urlsplit

from pgben_tasks import names
from pgben_tasks.adapters import redis as broker_facts
from pgben_tasks.adapters.buckets import BucketFacts, S3Bucket
from pgben_tasks.adapters.catalog.records import Records
from pgben_tasks.adapters.keys.signatures import Trust
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.adapters.redis import BrokerFacts
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.domain.restorability import UNKNOWN_SITE, RestoreSite
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import PgbenError
from pgben_tasks.health.doctor.report import MEND_FIRST, Result, Unseen, unseen
from pgben_tasks.health.looks import Look
from pgben_tasks.health.presence import BUCKET_PATIENCE
from pgben_tasks.language import translatable as _
from pgben_tasks.ports import Preflight
from pgben_tasks.runtime import PATIENCE, Workplace, postgres_servers
from pgben_tasks.runtime.places import bucket_at
from pgben_tasks.settings import Settings

T = TypeVar("T")

#: How long a part that takes a connection may say nothing; all are asked at the same time.
_PATIENCE: Final = timedelta(seconds=4)
#: The clients that fit a database's server depend on what the catalog says of restore workers.
_DATABASE_PATIENCE: Final = timedelta(seconds=6)


@dataclass(frozen=True)
class Installation:
    """One installation under examination.

    Each part is asked once, because one that is away is waited for. ``catalog``, ``repository`` and
    ``trust`` raise ``Unseen`` when they are away: only their own check says why.
    """

    work: Workplace

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.work.settings

    def ask(self) -> None:
        """Ask every part now: whoever waits for one then waits for all."""
        _ = (
            self._catalog_look,
            self._repository_look,
            self._broker_look,
            self._database_looks,
            self._bucket_looks,
        )

    @cached_property
    def _catalog_look(self) -> Look[None]:
        database = self.work.database
        return Look(f"{database.server}/{database.name}", database.check)

    @cached_property
    def _repository_look(self) -> Look[StoreRepository]:
        return Look(self.settings.repository, lambda: self.work.repository)

    @cached_property
    def _broker_look(self) -> Look[BrokerFacts]:
        url = self.settings.redis_url.get_secret_value()
        return Look("Redis", lambda: broker_facts.inspect_broker(url, names.QUEUES))

    @cached_property
    def _database_looks(self) -> dict[Target, Look[Preflight]]:
        return {
            target: Look(f"{server}/{target.name}", self._source(server, target).preflight)
            for target, server in self.addresses.items()
        }

    @cached_property
    def _bucket_looks(self) -> dict[Target, Look[BucketFacts]]:
        return {
            target: Look(bucket.describe(), bucket.inspect)
            for target, bucket in self.buckets.items()
        }

    def _source(self, server: PostgresServer, target: Target) -> PostgresSource:
        return PostgresSource(server, target.name, restore_site=lambda: self.restore_site)

    @cached_property
    def catalog_fault(self) -> PgbenError | None:
        """Why the catalog cannot be used; None when it can."""
        return _fault(lambda: self._catalog_look.answer(_PATIENCE))

    @property
    def catalog(self) -> Records:
        """The records of the catalog."""
        if self.catalog_fault is not None:
            raise Unseen(_("the catalog cannot be asked"))
        return Records(self.work.database)

    @cached_property
    def broker(self) -> BrokerFacts | PgbenError:
        """The facts that Redis reports, or why it does not answer."""
        return _answer_of(self._broker_look, _PATIENCE)

    @cached_property
    def repository_fault(self) -> PgbenError | None:
        """Why the repository cannot be opened; None when it can."""
        return _fault(lambda: self._repository_look.answer(_PATIENCE))

    @property
    def repository(self) -> StoreRepository:
        """The repository."""
        if self.repository_fault is not None:
            raise Unseen(_("the repository cannot be read"))
        return self.work.repository

    @cached_property
    def trust(self) -> Trust:
        """The trusted keys."""
        path = self.settings.trusted_keys_file
        try:
            if path is not None:
                return Trust.load(path)
        except PgbenError:
            pass
        raise Unseen(_("the trusted keys cannot be read"))

    @cached_property
    def addresses(self) -> dict[Target, PostgresServer]:
        """The server of every protected database; a silent one is not waited for long."""
        servers = postgres_servers(self.settings)
        return {
            target: replace(server, connect_timeout=PATIENCE) for target, server in servers.items()
        }

    @cached_property
    def examined(self) -> dict[Target, Preflight | PgbenError]:
        """The preflight of a dump of every protected database, or why it failed."""
        return _answers_of(self._database_looks, _DATABASE_PATIENCE)

    @cached_property
    def restore_site(self) -> RestoreSite:
        """The clients of the workers that restore; unknown without the catalog."""
        return UNKNOWN_SITE if self.catalog_fault else self.work.workers.restore_site()

    @property
    def servers(self) -> dict[Target, Preflight]:
        """The preflights of the databases that answer and may be dumped."""
        return {target: one for target, one in self.examined.items() if isinstance(one, Preflight)}

    def unexamined(self) -> Iterator[Result]:
        """Yield the result of the databases that are not among ``servers``, if there are any."""
        missing = self.examined.keys() - self.servers.keys()
        if missing:
            reason = _("the database does not answer as it should")
            yield unseen(reason, MEND_FIRST, sorted(missing))

    @cached_property
    def buckets(self) -> dict[Target, S3Bucket]:
        """The protected buckets; none without the secret key of their server."""
        settings = self.settings
        targets = settings.bucket_targets() if settings.minio_secret_key else ()
        return {
            target: bucket_at(settings, target.name, patience=BUCKET_PATIENCE) for target in targets
        }

    @cached_property
    def asked_buckets(self) -> dict[Target, BucketFacts | PgbenError]:
        """What each of them said, or why it did not; all are asked at the same time."""
        return _answers_of(self._bucket_looks, _PATIENCE)

    @property
    def bucket_host(self) -> str | None:
        """The host of the protected buckets; None where there are none."""
        settings = self.settings
        return urlsplit(settings.minio_url).hostname if settings.bucket_targets() else None

    @property
    def bucket_facts(self) -> dict[Target, BucketFacts]:
        """What the buckets said that answer and are there."""
        return {
            target: one
            for target, one in self.asked_buckets.items()
            if isinstance(one, BucketFacts) and one.there
        }

    def unexamined_buckets(self) -> Iterator[Result]:
        """Yield the result of the buckets that are not among ``bucket_facts``, if there are any."""
        missing = self.asked_buckets.keys() - self.bucket_facts.keys()
        if missing:
            reason = _("the bucket does not answer as it should")
            yield unseen(reason, MEND_FIRST, sorted(missing))
        unasked = set(self.settings.bucket_targets()) - self.buckets.keys()
        if unasked:
            # Workers that only decide about snapshots need none.
            yield unseen(
                _("no secret key of the buckets' server is set here"),
                _("run doctor where buckets are backed up, with PGBEN_MINIO_SECRET_KEY"),
                sorted(unasked),
            )


def _answer_of(look: Look[T], limit: timedelta) -> T | PgbenError:
    try:
        return look.answer(limit)
    except PgbenError as exc:
        return exc


def _answers_of(looks: Mapping[Target, Look[T]], limit: timedelta) -> dict[Target, T | PgbenError]:
    answers: dict[Target, T | PgbenError] = {}
    for target, look in looks.items():
        answer = _answer_of(look, limit)
        answers[target] = answer
    return answers


def _fault(ask: Callable[[], object]) -> PgbenError | None:
    try:
        ask()
    except PgbenError as exc:
        return exc
    return None

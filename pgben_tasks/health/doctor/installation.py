"""What checks look at: the parts of one installation, each asked once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from pgben_tasks import names
from pgben_tasks.adapters import redis as broker_facts
from pgben_tasks.adapters.catalog.records import Records
from pgben_tasks.adapters.keys.signatures import Trust
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.adapters.redis import BrokerFacts
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.domain.restorability import UNKNOWN_SITE, RestoreSite
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import DatabaseUnavailable, PgbenError
from pgben_tasks.health.doctor.report import Unseen
from pgben_tasks.ports import Preflight
from pgben_tasks.runtime import PATIENCE, Workplace, postgres_servers
from pgben_tasks.settings import Settings


@dataclass(frozen=True)
class Installation:
    """One installation under examination.

    Each part is asked once, because one that is away is waited for. ``catalog``, ``repository`` and
    ``servers`` raise ``Unseen`` when they are away: only their own check says why.
    """

    work: Workplace

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.work.settings

    @cached_property
    def catalog_fault(self) -> PgbenError | None:
        """Why the catalog cannot be used; None when it can."""
        return _fault(self.work.database.check)

    @property
    def catalog(self) -> Records:
        """The records of the catalog."""
        if self.catalog_fault is not None:
            raise Unseen("catalog")
        return Records(self.work.database)

    @cached_property
    def broker(self) -> BrokerFacts | PgbenError:
        """The facts that Redis reports, or why it does not answer."""
        url = self.settings.redis_url.get_secret_value()
        try:
            return broker_facts.inspect_broker(url, names.QUEUES)
        except PgbenError as exc:
            return exc

    @cached_property
    def repository_fault(self) -> PgbenError | None:
        """Why the repository cannot be opened; None when it can."""
        return _fault(lambda: self.work.repository)

    @property
    def repository(self) -> StoreRepository:
        """The repository."""
        if self.repository_fault is not None:
            raise Unseen("repository")
        return self.work.repository

    @cached_property
    def trust(self) -> Trust:
        """The trusted keys."""
        path = self.settings.trusted_keys_file
        if path is None:
            raise Unseen("trusted_keys")
        try:
            return Trust.load(path)
        except PgbenError:
            raise Unseen("trusted_keys") from None

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
        found: dict[Target, Preflight | PgbenError] = {}
        away: dict[tuple[str, int], DatabaseUnavailable] = {}
        for target, server in self.addresses.items():
            address = server.host, server.port
            if address in away:
                found[target] = away[address]
                continue
            try:
                source = PostgresSource(server, target.name, restore_site=lambda: self.restore_site)
                found[target] = source.preflight()
            except PgbenError as exc:
                found[target] = exc
                if isinstance(exc, DatabaseUnavailable):
                    away[address] = exc
        return found

    @cached_property
    def restore_site(self) -> RestoreSite:
        """The clients of the workers that restore; unknown without the catalog."""
        return UNKNOWN_SITE if self.catalog_fault else self.work.workers.restore_site()

    @property
    def servers(self) -> dict[Target, Preflight]:
        """The preflights of the databases that answer and may be dumped."""
        found = {target: one for target, one in self.examined.items() if isinstance(one, Preflight)}
        if not found:
            raise Unseen("postgres")
        return found


def _fault(ask: Callable[[], object]) -> PgbenError | None:
    try:
        ask()
    except PgbenError as exc:
        return exc
    return None

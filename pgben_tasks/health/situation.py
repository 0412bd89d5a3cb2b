"""What is known of an installation: of its ability to restore, and of what works and lives.

Beside ``runtime`` in the layers. Nothing is changed, and a part that does not answer, or hangs,
hides no other: without the catalog the repository itself is read, with its signatures checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any, Final, TypeVar

from pgben_tasks import names
from pgben_tasks.adapters.catalog.records import Records
from pgben_tasks.adapters.redis import ping_broker
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.outlook import (
    Fault,
    Keys,
    PointOutlook,
    Reconciler,
    Surroundings,
    TargetOutlook,
)
from pgben_tasks.domain.restorability import RestoreSite
from pgben_tasks.domain.space import Forecast, Sample
from pgben_tasks.domain.target import Target
from pgben_tasks.domain.verdicts import Verdict, judge_restorable, judge_running
from pgben_tasks.health.facts import (
    Disk,
    disks,
    full_history,
    missing_roles,
    noted_node,
    of_role,
    outlook,
    reconciler,
)
from pgben_tasks.health.looks import Look
from pgben_tasks.health.points import UNTIL_GOOD, indexed_points, stored_points
from pgben_tasks.health.presence import check_identity, looks_at_protected, presence
from pgben_tasks.health.space import forecasts, known_space, measure_here
from pgben_tasks.runtime import Workplace, postgres_servers
from pgben_tasks.settings import Settings

T = TypeVar("T")

#: The catalog is waited for less long: without it, the repository itself is still to be read.
_CATALOG_SHARE: Final = 0.6
#: A command that asks has five more seconds, to start and to show what it was told.
_PATIENCE: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that is known at one moment. ``jobs`` and ``workers`` are None without a catalog."""

    now: datetime
    targets: tuple[TargetOutlook, ...]
    #: None where no recovery points are formed, or nothing is known of them.
    point: PointOutlook | None
    surroundings: Surroundings
    disks: tuple[Disk, ...]
    jobs: tuple[Job, ...] | None
    workers: tuple[str, ...] | None
    last_tick: datetime | None
    #: Whether a question still waits for its answer, whose threads an interpreter would join.
    hangs: bool

    @property
    def restorable(self) -> Verdict:
        """Whether everything can be restored."""
        return judge_restorable(self.targets, self.surroundings, now=self.now, point=self.point)

    @property
    def running(self) -> Verdict:
        """Whether the installation works, and whether what it protects is there."""
        return judge_running(self.targets, self.surroundings)

    @property
    def verdict(self) -> Verdict:
        """Both in one: the more alarming colour, and the reasons of both."""
        return Verdict.from_reasons((*self.restorable.reasons, *self.running.reasons))


@dataclass(frozen=True, slots=True, kw_only=True)
class _CatalogFacts:
    """What the catalog says beside backups."""

    now: datetime
    jobs: tuple[Job, ...]
    workers: tuple[str, ...]
    restore_site: RestoreSite
    reconciler: Reconciler
    last_tick: datetime | None
    space: tuple[Forecast, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """What can be restored, as the index or the repository itself says."""

    targets: tuple[TargetOutlook, ...]
    point: PointOutlook | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _MachineFacts:
    """What this machine says: its volumes, and the node whose spool it has."""

    disks: tuple[Disk, ...] = ()
    node: str | None = None
    space: tuple[Sample, ...] = ()


def gather(work: Workplace, *, patience: timedelta = _PATIENCE) -> Situation:
    """Return the situation of all parts, asked at the same time, within ``patience``."""
    begun = monotonic()
    settings, places = work.settings, postgres_servers(work.settings)
    catalog_look = Look(str(work.database.server), partial(_catalog_facts, work))
    repository_look = Look(settings.repository, lambda: work.repository)
    broker_look = Look("Redis", lambda: ping_broker(settings.redis_url.get_secret_value()))
    machine_look = Look(str(settings.spool_dir), partial(_machine_facts, settings))
    identity_look = Look("age", partial(check_identity, settings))
    protected = looks_at_protected(settings)
    looks: list[Look[Any]] = [catalog_look, repository_look, broker_look, machine_look]
    looks += [identity_look, *filter(None, protected.values())]

    catalog, catalog_away = _known(catalog_look.outcome(patience * _CATALOG_SHARE))
    now = catalog.now if catalog else datetime.now(UTC)
    repository, repository_away = _known(repository_look.outcome(patience))
    stored: _Stored | None = None
    backups_away = None
    if repository is not None:
        asked = str(work.database.server) if catalog else settings.repository
        stored_look = Look(asked, partial(_stored, work, now, from_catalog=catalog is not None))
        looks.append(stored_look)
        left = patience - timedelta(seconds=monotonic() - begun)
        stored, backups_away = _known(stored_look.outcome(left))
    machine, machine_away = _known(machine_look.outcome(patience))
    volumes = machine.disks if machine else ()
    return Situation(
        now=now,
        targets=stored.targets if stored else (),
        point=stored.point if stored else None,
        surroundings=Surroundings(
            repository_away=repository_away,
            backups_away=backups_away,
            catalog_away=catalog_away,
            broker_away=_known(broker_look.outcome(patience))[1],
            disks_away=machine_away,
            protects=bool(protected),
            protected=tuple(presence(target, look, patience) for target, look in protected.items()),
            keys=Keys(
                set_here=settings.age_identity_file is not None,
                fault=_known(identity_look.outcome(patience))[1],
                restorers=of_role(names.QUEUE_RESTORE, catalog.workers) if catalog else None,
                node=machine.node if machine else None,
            )
            if settings.encryption
            else None,
            missing_roles=missing_roles(catalog.workers) if catalog else None,
            reconciler=catalog.reconciler if catalog else None,
            full_disks=full_history(settings, volumes),
            space=known_space(
                settings,
                catalog.space if catalog else None,
                machine.space if machine else (),
            ),
            restore_site=catalog.restore_site if catalog and places else None,
        ),
        disks=volumes,
        jobs=catalog.jobs if catalog else None,
        workers=catalog.workers if catalog else None,
        last_tick=catalog.last_tick if catalog else None,
        hangs=any(look.silent for look in looks),
    )


def _known(outcome: T | Fault) -> tuple[T | None, Fault | None]:
    """Return an answer and why there is none: one of them is None."""
    return (None, outcome) if isinstance(outcome, Fault) else (outcome, None)


def _catalog_facts(work: Workplace) -> _CatalogFacts:
    with work.database.kept():
        work.database.check()
        records = Records(work.database)
        return _CatalogFacts(
            now=work.database.now(),
            jobs=tuple(work.ledger.jobs(limit=1000, open_only=True)),
            workers=tuple(work.workers.living()),
            restore_site=work.workers.restore_site(),
            reconciler=reconciler(work, records),
            last_tick=records.last_tick(),
            space=forecasts(work, now=work.database.now()),
        )


def _machine_facts(settings: Settings) -> _MachineFacts:
    node = noted_node(settings)
    measured = measure_here(settings, node=node, running=(), now=datetime.now(UTC))
    return _MachineFacts(disks=disks(settings), node=node, space=tuple(measured))


def _stored(work: Workplace, now: datetime, *, from_catalog: bool) -> _Stored:
    with work.database.kept():
        records = Records(work.database) if from_catalog else None
        targets = tuple(
            outlook(work, records, now, Target.parse(name)) for name in work.target_names()
        )
        points = (
            indexed_points(work)
            if from_catalog
            else stored_points(work.repository, until=UNTIL_GOOD)
        )
    settings = work.settings
    point = None
    if settings.forms_points or points:
        point = PointOutlook.of(
            points,
            settings.rpo,
            checked=settings.references is not None,
            strict=settings.references_strict,
        )
    return _Stored(targets=targets, point=point)

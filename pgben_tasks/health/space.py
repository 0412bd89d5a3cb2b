"""Space, forecast before it is written: what is measured here, and what the catalog foretells.

Every worker publishes how full its spool is, and the folder of a repository; the tick measures what
no node has. ``forecasts`` reads the catalog alone, so it takes no longer where a disk hangs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from pgben_tasks import names
from pgben_tasks.adapters.postgres.obstacles import is_here, server_volume
from pgben_tasks.adapters.postgres.server import PostgresServer, connect
from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.domain.alarm import Alarm
from pgben_tasks.domain.episodes import Undecided
from pgben_tasks.domain.space import (
    FORGOTTEN_AFTER,
    MOST_DAYS,
    Coming,
    Forecast,
    Night,
    Sample,
    Usage,
    coming,
    forecast,
    space_alarms,
)
from pgben_tasks.domain.target import Target
from pgben_tasks.operations import spool
from pgben_tasks.operations.postgres.restore import PACKS_IN_FLIGHT
from pgben_tasks.runtime import PATIENCE, Workplace, postgres_servers
from pgben_tasks.settings import Settings

Nights = Mapping[Target, Sequence[Night]]

#: How often what no node has is measured: where it is bounded, all that is stored is listed.
MEASURE_EVERY: Final = timedelta(hours=1)
#: … and where nobody knows the bound, for the trend alone.
LIST_EVERY: Final = timedelta(days=1)
_FOLDER: Final = "file"
#: More than all of a place: of a restore beside only its room counts.
_NEVER: Final = 2.0


def forecasts(work: Workplace, *, now: datetime) -> tuple[Forecast, ...]:
    """Return what is foretold of every place, from the catalog."""
    samples = work.space.samples(since=now - timedelta(days=MOST_DAYS))
    living = work.workers.living(within=FORGOTTEN_AFTER)
    nights = {target: work.ledger.nights(target) for target in work.settings.targets()}
    return tuple(
        _foretold(
            work.settings,
            samples,
            living,
            _coming(work, nights, now),
            _largest(work, nights),
            now=now,
        )
    )


def space_conditions(work: Workplace, *, now: datetime) -> Iterator[Alarm | Undecided]:
    """Yield what is short of room, and the places that nobody measures any more.

    Whether one of those is still full is not known; one that has been away for ``MOST_DAYS`` days
    is gone.
    """
    yield from space_alarms(forecasts(work, now=now), now=now)
    seen: dict[str, datetime] = {}
    for one in work.space.samples(since=now - timedelta(days=MOST_DAYS)):
        seen[one.where] = max(seen.get(one.where, one.measured_at), one.measured_at)
    for where, last in seen.items():
        if now - last > FORGOTTEN_AFTER:
            yield Undecided("space", place=where)


def known_space(
    settings: Settings, foretold: Sequence[Forecast] | None, measured: Sequence[Sample]
) -> tuple[Forecast, ...]:
    """Return what is ``foretold``, and how full the places are that only this machine has measured.

    That is all of them where there is no catalog to ask, which is None, or no worker yet.
    """
    share = float(settings.disk_critical)
    known = {(one.place, one.where) for one in foretold or () if one.used is not None}
    here = [
        forecast(one.place, one.where, one.usage, critical_share=share)
        for one in measured
        if (one.place, one.where) not in known
    ]
    seen = {(one.place, one.where) for one in here}
    return (*here, *(one for one in foretold or () if (one.place, one.where) not in seen))


def measure_here(
    settings: Settings, *, node: str | None, running: Iterable[UUID], now: datetime
) -> Iterator[Sample]:
    """Yield how full the spool of ``node`` is, and the folder of a repository, if it is here.

    What the jobs that are ``running`` hold in the spool will be given back.
    """
    if node is not None:
        yield Sample(
            place="spool",
            where=_spool_of(settings, node),
            node=node,
            measured_at=now,
            usage=spool.usage(settings.spool_dir, limit=settings.spool_limit, running=running),
        )
    parts = urlsplit(settings.repository)
    if parts.scheme == _FOLDER and Path(parts.path).is_dir():
        yield Sample(
            place="repository",
            where=settings.repository,
            measured_at=now,
            usage=DirectoryObjectStore(Path(parts.path)).volume(),
        )


def measure_stored(work: Workplace, *, now: datetime) -> int:
    """Write what an ``s3://`` repository holds, when that is due; return whether it was."""
    settings = work.settings
    where = settings.repository
    if urlsplit(where).scheme == _FOLDER:
        return 0
    known = work.space.newest("repository", where)
    every = LIST_EVERY if settings.repository_quota is None else MEASURE_EVERY
    quota = settings.repository_quota
    if known and now - known.measured_at < every and known.usage.capacity == quota:
        return 0
    usage = Usage(used=work.repository.stored_bytes(), capacity=quota)
    work.space.add([Sample(place="repository", where=where, measured_at=now, usage=usage)])
    return 1


def measure_server(work: Workplace, server: PostgresServer, *, now: datetime) -> int:
    """Write how full the disk of a server is, where it is this machine's; return whether it was."""
    known = work.space.newest("restore", str(server))
    if not is_here(server) or (known and now - known.measured_at < MEASURE_EVERY):
        return 0
    patient = replace(server, patience=PATIENCE)
    with connect(patient, "postgres", application_name="pgben space") as connection:
        usage = server_volume(connection, server)
    if usage is None:
        return 0
    work.space.add([Sample(place="restore", where=str(server), measured_at=now, usage=usage)])
    return 1


def _foretold(
    settings: Settings,
    samples: Sequence[Sample],
    living: Sequence[str],
    tonight: Coming,
    largest: tuple[int | None, int | None],
    *,
    now: datetime,
) -> Iterator[Forecast]:
    share = float(settings.disk_critical)
    places = {
        (one.place, one.where): one for one in sorted(samples, key=lambda one: one.measured_at)
    }
    history = {key: [one for one in samples if (one.place, one.where) == key] for key in places}
    current = {key: one for key, one in places.items() if now - one.measured_at <= FORGOTTEN_AFTER}
    in_spool, on_server = largest
    spools = sorted(
        (one for one in current.values() if one.place == "spool"), key=lambda one: one.where
    )
    for one in spools:
        writes = _serves(names.QUEUE_BACKUP, one, living)
        yield forecast(
            "spool",
            one.where,
            one.usage,
            history=history["spool", one.where],
            tonight=tonight.spool if writes else 0,
            known=tonight.known or not writes,
            critical_share=share,
        )
    stored = current.get(("repository", settings.repository))
    yield forecast(
        "repository",
        settings.repository,
        None if stored is None else _by_quota(stored.usage, settings),
        history=history.get(("repository", settings.repository), ()),
        tonight=tonight.repository,
        known=tonight.known,
        critical_share=share,
    )
    if not settings.postgres_targets():
        return
    for one in spools:
        if _serves(names.QUEUE_RESTORE, one, living):
            yield _beside(one.where, one.usage, in_spool)
    for server in sorted({str(one) for one in postgres_servers(settings).values()}):
        seen = current.get(("restore", server))
        yield _beside(server, seen.usage if seen else None, on_server)


def _beside(where: str, usage: Usage | None, needed: int | None) -> Forecast:
    """Return whether a restore of the largest database beside has room; how full it is, is not."""
    return forecast("restore", where, usage, tonight=needed, critical_share=_NEVER)


def _by_quota(usage: Usage, settings: Settings) -> Usage:
    """Return the usage of the repository by the quota that is set now."""
    if urlsplit(settings.repository).scheme == _FOLDER:
        return usage
    return Usage(used=usage.used, capacity=settings.repository_quota)


def _serves(role: str, one: Sample, living: Sequence[str]) -> bool:
    return names.node_queue(role, one.node or "") in living


def _spool_of(settings: Settings, node: str) -> str:
    return f"{node}:{settings.spool_dir}"


def _coming(work: Workplace, nights: Nights, now: datetime) -> Coming:
    schedules = {target: work.schedule("backup", str(target)) for target in nights}
    return coming(
        {str(target): (schedules[target], known) for target, known in nights.items()}, now=now
    )


def _largest(work: Workplace, nights: Nights) -> tuple[int | None, int | None]:
    """Return what a restore of the largest database needs: in the spool, and on its server."""
    targets = list(work.settings.postgres_targets())
    packs = PACKS_IN_FLIGHT * work.settings.dump_pack_size
    fetched = [work.records.restore_bytes(str(one), in_flight=packs) for one in targets]
    sizes = [night.database for one in targets for night in nights[one][:1]]
    return _most(fetched), _most(sizes)


def _most(values: Iterable[int | None]) -> int | None:
    return max((one for one in values if one is not None), default=None)

"""What operations are handed, put together from settings; and what failed ones left, removed."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from pgben_tasks.adapters.catalog.locks import job_lock, target_lock
from pgben_tasks.adapters.clock import SystemClock
from pgben_tasks.adapters.packs.codec import AgeObjectCodec, AgePackCodec
from pgben_tasks.adapters.packs.object_writer import SpoolPacks
from pgben_tasks.adapters.packs.pool import PACK_CHILDREN, PackPool
from pgben_tasks.adapters.postgres.destination import PostgresDestination
from pgben_tasks.adapters.postgres.server import Lock
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.domain.job import EVERYTHING, Job
from pgben_tasks.domain.retention import Policy
from pgben_tasks.domain.target import Target
from pgben_tasks.operations.buckets.uploads import give_up_uploads
from pgben_tasks.operations.chains import step_of
from pgben_tasks.operations.points import restore as restore_point
from pgben_tasks.operations.postgres import restore as restore_postgres
from pgben_tasks.operations.spool import job_folder, remove
from pgben_tasks.operations.toolbox import (
    CatalogPorts,
    Limits,
    Toolbox,
)
from pgben_tasks.ports import Repository
from pgben_tasks.runtime.places import (
    bucket_at,
    first_server,
    postgres_servers,
    protected_buckets,
    swap_hooks,
    swap_servers,
)
from pgben_tasks.settings import Settings

#: A copy that fills more packs of objects than this is shared between workers.
_SHARD_PACKS: Final = 8


def abandon(job: Job, tools: Toolbox) -> bool:
    """Remove what a failed job left behind: uploads, its folder in the spool, its unfinished copy.

    The parts of a restore of everything are cancelled. Says whether there was such a copy.
    """
    if job.kind in {"restore_all", "undo_all"}:
        restore_point.give_up(job, tools)
    folder = job_folder(tools.spool, job.id)
    give_up_uploads(folder, tools.other_bucket)
    remove(folder)
    return job.chain in {"restore", "swap"} and restore_postgres.remove_unfinished(job, tools)


def step_locks(job: Job, step: str, protected: Iterable[str]) -> list[Lock]:
    """Return the locks that a step holds while it runs: of its job, and of its targets.

    A job about everything is about all ``protected`` targets.
    """
    targets = [job.target] if job.target != EVERYTHING else protected
    return [
        job_lock(job.id),
        *(
            target_lock(kind, target, shared=shared)
            for target in targets
            for kind, shared in step_of(job.chain, step).locks
        ),
    ]


def toolbox(
    settings: Settings,
    *,
    repository: Repository,
    catalog: CatalogPorts,
    spool: Path,
    node: str,
    elsewhere: Iterable[Target] = (),
) -> Toolbox:
    """Put together what operations are handed.

    ``elsewhere`` are targets that this installation does not protect, to be restored to the server
    of PGBEN_DB_* all the same.
    """
    servers = postgres_servers(settings)
    pool = PackPool(PACK_CHILDREN)
    recipients = settings.age_recipients if settings.encryption else ()
    objects = AgeObjectCodec(
        pool,
        recipients,
        identity=settings.age_identity_file,
        inventory_identity=settings.inventory_identity_file,
    )
    databases = [target for target in elsewhere if target.kind == "postgres"]
    places = dict.fromkeys(databases, first_server(settings)) | servers
    return Toolbox(
        repository=repository,
        codec=AgePackCodec(recipients, identity_file=settings.age_identity_file, pool=pool),
        objects=objects,
        object_packs=SpoolPacks(objects, pack_size=settings.object_pack_size),
        clock=catalog.clock,
        own_clock=SystemClock(),
        index=catalog.index,
        captures=catalog.captures,
        jobs=catalog.jobs,
        sources={
            target: PostgresSource(server, target.name, restore_site=catalog.workers.restore_site)
            for target, server in servers.items()
        },
        destinations={target: PostgresDestination(server) for target, server in places.items()},
        protected=frozenset(settings.targets()),
        buckets=protected_buckets(settings),
        other_bucket=partial(bucket_at, settings),
        references=settings.references.references if settings.references else (),
        swapping=swap_servers(settings),
        swaps=catalog.swaps,
        hooks=swap_hooks(settings),
        restored=catalog.restored,
        own_writes=catalog.own_writes,
        workers=catalog.workers,
        trail=catalog.trail,
        schedules={kind: settings.schedule(kind) for kind in ("postgres", "bucket")},
        limits=_limits(settings),
        spool=spool,
        node=node,
        catch_up=settings.catch_up,
        zone=settings.zone,
        suffix=lambda: secrets.token_hex(3),
    )


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
        pack_size=settings.dump_pack_size,
        suspect_shrink=float(settings.suspect_shrink),
        suspect_changed=settings.suspect_changed,
        vacate_share=settings.vacate_share,
        copy_concurrency=settings.copy_concurrency,
        tag_budget=settings.tag_budget,
        point_settle=settings.point_settle,
        shard_bytes=_SHARD_PACKS * settings.object_pack_size,
        spool_limit=settings.spool_limit,
        repository_quota=settings.repository_quota,
        keep_replaced=settings.keep_replaced,
        retention=policy,
    )

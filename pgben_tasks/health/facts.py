"""What single parts of an installation say, for `pgben status` and `pgben doctor`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pgben_tasks import names
from pgben_tasks.adapters.catalog.index import IndexedBackup
from pgben_tasks.adapters.catalog.records import Records
from pgben_tasks.domain.job import BEAT_SILENCE
from pgben_tasks.domain.outlook import ListedBackup, Reconciler, TargetOutlook
from pgben_tasks.domain.restorability import UNKNOWN_SITE
from pgben_tasks.domain.target import Target
from pgben_tasks.health.restorability import indexed_backups, surveyed_now
from pgben_tasks.operations.repository.survey import survey
from pgben_tasks.runtime import Workplace
from pgben_tasks.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One volume that pgben writes to; ``used`` is a share, ``free`` bytes."""

    path: Path
    used: float
    free: int


def noted_node(settings: Settings) -> str | None:
    """Return the node that the spool of this machine belongs to; None before its first worker."""
    note = settings.spool_dir / "node"
    return note.read_text(encoding="utf-8").strip() if note.exists() else None


def disks(settings: Settings) -> tuple[Disk, ...]:
    """Return the volumes of spool, history and a repository in a folder, each volume once.

    A folder that is not there yet is measured where it would be made; those of the history are on
    the machine of the maintenance worker only.
    """
    parts = urlsplit(settings.repository)
    stored = [Path(parts.path)] if parts.scheme == "file" else []
    history = (settings.backup_dir, settings.minio_backup_dir)
    wanted = [settings.spool_dir, *stored, *(path for path in history if path.exists())]
    found: dict[int, Disk] = {}
    for path in wanted:
        there = next(one for one in (path, *path.absolute().parents) if one.exists())
        usage = shutil.disk_usage(there)
        found.setdefault(
            there.stat().st_dev, Disk(path=path, used=usage.used / usage.total, free=usage.free)
        )
    return tuple(found.values())


def full_history(settings: Settings, volumes: Sequence[Disk]) -> tuple[str, ...]:
    """Return the folders of the history whose volume, which nothing else is on, is too full.

    Spool and repository have forecasts.
    """
    critical = float(settings.disk_critical)
    history = {settings.backup_dir, settings.minio_backup_dir}
    return tuple(str(one.path) for one in volumes if one.path in history and one.used >= critical)


def reconciler(work: Workplace, records: Records) -> Reconciler:
    """Return whether the reconciler is woken: by beat, or by a worker that stands in for it."""
    if records.last_tick() is None:
        return "never ran"
    if work.recovery.tick_is_overdue():
        return "silent"
    beaten = records.last_beat()
    woken = beaten is not None and work.database.now() - beaten <= BEAT_SILENCE
    return "runs" if woken else "runs without beat"


def missing_roles(living: Sequence[str]) -> tuple[str, ...]:
    """Return the roles for which none of these workers (``<role>.<node>``) is alive."""
    return tuple(role for role in names.QUEUES if not of_role(role, living))


def of_role(role: str, living: Sequence[str]) -> tuple[str, ...]:
    """Return those of these workers that have a role."""
    return tuple(name for name in living if name.partition(".")[0] == role)


def outlook(
    work: Workplace, records: Records | None, now: datetime, target: Target
) -> TargetOutlook:
    """Return what is known of one target; ``records`` is None without a catalog."""
    settings, name = work.settings, str(target)
    schedule = work.schedule("backup", name)
    record = records.target_record(name) if records else None
    return TargetOutlook(
        target=name,
        backups=kept(work, target, from_catalog=records is not None),
        rpo=settings.rpo,
        verify_every=timedelta(days=settings.verify_days),
        next_window=schedule.next(now) if schedule else None,
        failures=record.failures if record else None,
        last_failure=record.last_failure if record else None,
        last_full_verification=record.last_full_verification if record else None,
        last_restore=record.last_restore if record else None,
        last_restore_at=record.last_restore_at if record else None,
        rto=settings.rto,
    )


def kept(work: Workplace, target: Target, *, from_catalog: bool) -> tuple[ListedBackup, ...]:
    """List the backups of a target, newest first: from the index, or the repository itself."""
    if from_catalog:
        return tuple(_indexed(one) for one in indexed_backups(work, target))
    found = survey(work.repository, target)
    readable = [
        ListedBackup(
            backup=one.manifest.backup,
            state=state,
            needs=needs,
            taken=one.known.snapshot_time,
            suspect=one.known.standing.suspect if one.known.standing.open_suspicion else None,
            hold=one.known.standing.hold,
            stored_bytes=one.known.bytes,
        )
        for one, (state, needs) in zip(
            found.backups, surveyed_now(found, UNKNOWN_SITE), strict=True
        )
    ]
    unreadable = [
        ListedBackup(backup=str(backup), state="unreadable") for backup, _ in found.unreadable
    ]
    return (*readable, *unreadable)


def _indexed(one: IndexedBackup) -> ListedBackup:
    return ListedBackup(
        backup=one.id,
        state=one.state,
        needs=one.needs,
        taken=one.snapshot_at,
        suspect=None if one.acknowledged else one.suspect,
        hold=one.hold,
        stored_bytes=one.stored_bytes,
    )

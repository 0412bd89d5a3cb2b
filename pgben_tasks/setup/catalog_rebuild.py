"""What `pgben catalog rebuild` does: a catalog made anew from a repository alone.

Beside ``direct`` in the layers: it joins what is read from the repository with what is written to
the catalog, and keeps every other job out meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from pgben_tasks import runtime
from pgben_tasks.adapters.catalog.audit import AuditTrail, TakenUp
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.index import BackupIndex
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.locks import holding, target_lock
from pgben_tasks.adapters.postgres.server import Lock
from pgben_tasks.direct.place import DirectPlace
from pgben_tasks.domain.documents import Finding
from pgben_tasks.domain.reindex import TargetIndex
from pgben_tasks.domain.target import Target
from pgben_tasks.domain.trail import Trail
from pgben_tasks.errors import TargetBusy
from pgben_tasks.language import counted
from pgben_tasks.operations.repository.points import Points, read_points
from pgben_tasks.operations.repository.rebuild import read_index, read_trail
from pgben_tasks.ports import Progress, Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRebuilt:
    """How one target's index changed; ``sequence`` is the highest number in use."""

    index: TargetIndex
    added: int
    changed: int
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild found and wrote, or would write."""

    made: tuple[str, ...]
    targets: tuple[TargetRebuilt, ...]
    points: Points
    trail: Trail
    taken: TakenUp

    @property
    def breaks(self) -> tuple[Finding, ...]:
        """Everything that is wrong with the audit trail."""
        return (*self.trail.findings, *self.taken.findings)


def rebuild(place: DirectPlace, progress: Progress, *, who: str, dry_run: bool) -> Rebuilt:
    """Bring the catalog's index and trail back from the repository; safe to run again.

    Raises ``TargetBusy`` while a step runs that reads or changes the repository.
    """
    # A server that is silent is told at once; then everything may take as long as it takes.
    runtime.catalog_database(place.settings, patience=runtime.PATIENCE).exists()
    database = runtime.catalog_database(place.settings)
    repository = place.repository
    repository.check_place()
    catalog = BackupIndex(database, repository.id)
    protected = place.settings.targets()
    if dry_run:
        missing = _missing(database)
        known = set() if not database.exists() else catalog.known()
        read = _read(repository, protected, known, progress)
        if missing:
            return _untouched(missing, read, known)
        return _rebuilt((), read, catalog, dry_run=True)
    made = _make(database)
    known = catalog.known()
    names = {*protected, *repository.targets(), *(Target.parse(one) for one, _ in known)}
    with _exclusive(database, sorted(names)):
        # A job may have ended between the first reading and the locks.
        known = catalog.known()
        read = _read(repository, protected, known, progress)
        done = _rebuilt(made, read, catalog, dry_run=False)
    backups = sum(len(one.index.entries) for one in done.targets)
    breaks = (f"{one.kind} {one.path}: {one.detail}" for one in done.breaks)
    AuditTrail(database, repository.id, repository.audit).append(
        who=who,
        action="catalog rebuild",
        target="*",
        result="broken trail" if done.breaks else "succeeded",
        detail="; ".join([counted(backups, "backup"), *breaks]),
    )
    return done


def _missing(database: CatalogDatabase) -> tuple[str, ...]:
    """Return what a rebuild would make first."""
    if not database.exists():
        return (f"catalog database '{database.name}' at {database.server}", "tables of the catalog")
    return () if database.is_current() else ("tables of the catalog",)


def _make(database: CatalogDatabase) -> tuple[str, ...]:
    missing = _missing(database)
    database.create()
    database.migrate()
    return missing


class _Read(NamedTuple):
    """All that a repository says that a catalog should know."""

    targets: Sequence[TargetIndex]
    points: Points
    trail: Trail


def _read(
    repository: Repository,
    protected: Iterable[Target],
    known: Collection[tuple[str, str]],
    progress: Progress,
) -> _Read:
    return _Read(
        targets=read_index(repository, protected, known, progress),
        points=read_points(repository),
        trail=read_trail(repository, progress),
    )


def _rebuilt(made: tuple[str, ...], read: _Read, catalog: BackupIndex, *, dry_run: bool) -> Rebuilt:
    written = catalog.rewrite(read.targets, read.points.documents, read.trail, dry_run=dry_run)
    return Rebuilt(
        made=made,
        targets=tuple(
            TargetRebuilt(
                index=one,
                added=written.added.get(str(one.target), 0),
                changed=written.changed.get(str(one.target), 0),
                sequence=written.sequences[str(one.target)],
            )
            for one in read.targets
        ),
        points=read.points,
        trail=read.trail,
        taken=written.trail,
    )


def _untouched(missing: tuple[str, ...], read: _Read, known: set[tuple[str, str]]) -> Rebuilt:
    """Return what would come into a catalog whose tables are still to be made."""
    return Rebuilt(
        made=missing,
        targets=tuple(
            TargetRebuilt(
                index=one,
                added=sum((str(one.target), str(row.backup)) not in known for row in one.entries),
                changed=0,
                sequence=one.last_sequence,
            )
            for one in read.targets
        ),
        points=read.points,
        trail=read.trail,
        taken=TakenUp(taken=len(read.trail.entries), put_behind=0, findings=()),
    )


@contextmanager
def _exclusive(database: CatalogDatabase, targets: Sequence[Target]) -> Iterator[None]:
    """Hold the locks of every step that reads or changes the repository; such steps wait."""
    locks: list[Lock] = []
    for target in map(str, targets):
        locks.append(target_lock("write", target, shared=False))
        locks.append(target_lock("read", target, shared=False))
    try:
        with holding(database, locks):
            yield
    except TargetBusy as exc:
        running = [job for job in Ledger(database).jobs(open_only=True) if job.state == "running"]
        names = ", ".join(f"{job.kind} of '{job.target}' ({str(job.id)[:8]})" for job in running)
        raise TargetBusy(
            f"the repository is at work: {names or exc.sentence}",
            "let it end (`pgben jobs --follow`) and rebuild then; what is only queued waits by "
            "itself. Nothing was changed",
        ) from exc

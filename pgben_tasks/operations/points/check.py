"""Compare the rows of a recovery point's databases with the objects of its buckets.

Everything is read as streams in the order of keys; what was found lies in files. The worker needs
the identity that opens inventories, and no other.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final, TypeVar

import structlog

from pgben_tasks.domain.documents import CrossCheck, Manifest, RecoveryPoint, StoredLines
from pgben_tasks.domain.layout import faults_path, inventory_of
from pgben_tasks.domain.references import (
    FAULTS,
    Fault,
    ObjectLine,
    ReferenceLine,
    compare,
    encode,
    in_order,
    read_faults,
    read_objects,
    read_references,
    recoverable,
)
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import DigestMismatch, IntegrityError, ObjectMissing
from pgben_tasks.operations import spool
from pgben_tasks.operations.repository.survey import survey
from pgben_tasks.operations.snapshot_files import Lines
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

#: How many older snapshots are asked for objects that are missing.
_OLDER: Final = 10
#: Lines read between two looks at whether somebody stops it.
_AT_ONCE: Final = 10_000


def cross_check(
    run: Run, tools: Toolbox, point: BackupId, members: Sequence[Manifest]
) -> CrossCheck | None:
    """Compare rows and objects, and store the list of faults; None where no references were read.

    Raises ``ConfigurationError`` without an identity for inventories, ``IntegrityError`` when
    what a manifest describes is not there.
    """
    databases = [one for one in members if one.references is not None]
    if not databases:
        return None
    folder = run.folder / "check"
    spool.remove(folder)
    folder.mkdir(mode=0o700, parents=True)
    buckets = {one.target_name.name: one for one in members if one.bucket is not None}
    check = _Check(run=run, tools=tools, folder=folder, buckets=buckets)
    counts = check.counts
    run.progress.begin("cross-check", total=check.lines(databases), unit="lines")
    found = folder / "faults"
    _write(check.compared(databases), found, counts)
    found = check.looked_for(found)
    stored = _store(tools, point, found, counts)
    spool.remove(folder)
    return CrossCheck(
        references=counts["references"],
        objects=counts["objects"],
        recoverable=counts["recoverable"],
        faults=stored,
        **{kind: counts[kind] for kind in FAULTS},
    )


def open_faults(tools: Toolbox, point: RecoveryPoint, folder: Path) -> Iterator[Fault]:
    """Yield the faults that a point's cross-check found, opened in the private ``folder``.

    Raises ``DecryptionFailed``, ``ConfigurationError`` (no identity), ``IntegrityError``.
    """
    described = point.check and point.check.faults
    sealed, plain = folder / "sealed", folder / "faults"
    stored = tools.repository.fetch_faults(point, sealed)
    if stored is None or not described:
        return iter(())
    if tools.objects.open_inventory(stored, sealed, plain) != described.lines:
        raise DigestMismatch(
            f"'{stored.path}' is not what recovery point '{point.id}' describes",
            "its numbers stand in the point; the next one makes a new list",
        )
    return _faults(plain)


def not_comparable(tools: Toolbox, members: Sequence[Manifest]) -> str | None:
    """Return why rows and objects cannot be compared whole; None when they can.

    What was read with the dumps must be what this worker has rules for: a comparison of less
    would look clean.
    """
    for one in members:
        if one.postgres is None:
            continue
        wanted = {rule.name for rule in tools.references if rule.database == one.target_name.name}
        read = set(one.references.names) if one.references else set()
        if wanted and not read:
            return f"the references of '{one.target}' could not be read"
        if wanted != read:
            return (
                f"the references of '{one.target}' that were read are not those of "
                "PGBEN_REFERENCES on this worker"
            )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One comparison: its folder, the buckets of the point, and what was counted so far."""

    run: Run
    tools: Toolbox
    folder: Path
    buckets: Mapping[str, Manifest]
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def _named(self) -> set[str]:
        """The buckets that references are about."""
        return {one.bucket for one in self.tools.references}

    def lines(self, databases: Sequence[Manifest]) -> int:
        """Return how many lines will be read."""
        rows = sum(one.references.count for one in databases if one.references)
        return rows + sum(
            self.buckets[name].objects or 0 for name in self._named & set(self.buckets)
        )

    def compared(self, databases: Sequence[Manifest]) -> Iterator[Fault]:
        """Yield the faults of each bucket that references name, in the order of their keys."""
        rules = {one.name: one for one in self.tools.references}
        every = heapq.merge(*map(self._references, databases), key=in_order)
        buckets = _with_rest(groupby(every, key=attrgetter("bucket")), self._named)
        for bucket, rows in buckets:
            objects = self._objects(self.buckets[bucket]) if bucket in self.buckets else ()
            yield from compare(
                bucket, self._counted(rows, "references"), self._counted(objects, "objects"), rules
            )

    def looked_for(self, faults: Path) -> Path:
        """Look for missing objects in older snapshots, newest first; return the file that tells."""
        for bucket, manifest in sorted(self.buckets.items()):
            left = _missing(faults, bucket)
            for older in _older(self.tools, manifest) if left else ():
                following = self.folder / f"faults-{older.backup}"
                try:
                    marked = _marked(faults, bucket, self._objects(older), older.backup)
                    _write(marked, following, Counter())
                except (IntegrityError, ObjectMissing) as exc:
                    log.warning("inventory_unusable", backup=older.backup, why=exc.sentence)
                    continue
                faults.unlink()
                faults, before, left = following, left, _missing(following, bucket)
                self.counts["recoverable"] += before - left
                if not left:
                    break
        return faults

    def _references(self, manifest: Manifest) -> Iterator[ReferenceLine]:
        return read_references(self._lines(manifest), where=inventory_of(manifest).path)

    def _objects(self, manifest: Manifest) -> Iterator[ObjectLine]:
        return read_objects(self._lines(manifest), where=inventory_of(manifest).path)

    def _lines(self, manifest: Manifest) -> Iterator[bytes]:
        """Fetch and open the lines beside a manifest, and yield them; the files go at the end."""
        stored = inventory_of(manifest)
        of = f"{manifest.target.replace('/', '-')}-{manifest.backup}"
        sealed, plain = self.folder / f"{of}.sealed", self.folder / f"{of}.jsonl"
        self.tools.repository.fetch_inventory(manifest, sealed)
        digest = self.tools.objects.open_inventory(stored, sealed, plain)
        sealed.unlink()
        try:
            described = manifest.bucket or manifest.references
            if described is None or digest != described.lines:
                raise DigestMismatch(
                    f"'{stored.path}' is not what its manifest describes",
                    f"`pgben verify {manifest.target}` says more",
                )
            with plain.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if number % _AT_ONCE == 0:
                        self.run.progress.advance(_AT_ONCE)
                        self.run.progress.check()
                    yield line
        finally:
            plain.unlink()

    def _counted(self, things: Iterable[_T], what: str) -> Iterator[_T]:
        for one in things:
            self.counts[what] += 1
            yield one


def _with_rest(
    groups: Iterable[tuple[str, Iterator[ReferenceLine]]], names: AbstractSet[str]
) -> Iterator[tuple[str, Iterator[ReferenceLine]]]:
    """Yield the groups, then those names that had none: no row names an object of theirs."""
    seen: set[str] = set()
    for name, rows in groups:
        seen.add(name)
        yield name, rows
    for name in sorted(names - seen):
        yield name, iter(())


def _marked(
    faults: Path, bucket: str, objects: Iterable[ObjectLine], backup: str
) -> Iterator[Fault]:
    """Yield all faults again; the missing ones of one bucket with a backup that has the object."""
    of_bucket = (one for one in _faults(faults) if one.bucket == bucket and one.kind == "missing")
    marked = recoverable(of_bucket, objects, backup)
    for one in _faults(faults):
        yield next(marked) if one.bucket == bucket and one.kind == "missing" else one


def _missing(faults: Path, bucket: str) -> int:
    return sum(
        one.bucket == bucket and one.kind == "missing" and one.backup is None
        for one in _faults(faults)
    )


def _older(tools: Toolbox, manifest: Manifest) -> list[Manifest]:
    """Return older good snapshots of the same bucket, newest first."""
    found = survey(tools.repository, manifest.target_name)
    older = [
        one.manifest
        for one in found.backups
        if one.known.standing.counts and one.manifest.sequence < manifest.sequence
    ]
    return older[:_OLDER]


def _faults(path: Path) -> Iterator[Fault]:
    with path.open("rb") as file:
        yield from read_faults(file, where=path.name)


def _write(faults: Iterable[Fault], path: Path, counts: Counter[str]) -> None:
    with spool.disk_errors(path.parent), path.open("wb") as file:
        path.chmod(0o600)
        lines = Lines(file)
        for one in faults:
            counts[one.kind] += 1
            lines.add_raw(encode(one))


def _store(
    tools: Toolbox, point: BackupId, faults: Path, counts: Counter[str]
) -> StoredLines | None:
    total = sum(counts[kind] for kind in FAULTS)
    if not total:
        return None
    name = faults_path(point, sealed=tools.objects.sealed).rpartition("/")[2]
    sealed = tools.objects.seal_inventory(faults, faults.with_name(name))
    tools.repository.store_faults(point, faults.with_name(name))
    return StoredLines(size=sealed.size, sha256=sealed.sha256, lines=sealed.plain, count=total)

"""Compare the rows of a recovery point's databases with the objects of its buckets.

Everything is read as streams in the order of keys; what was found lies in files. The worker needs
the identity that opens inventories, and no other.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, groupby
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
    newly_faulty,
    read_faults,
    read_objects,
    read_references,
    recoverable,
)
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import (
    BackupNotFound,
    ConfigurationError,
    DigestMismatch,
    IntegrityError,
    ObjectMissing,
)
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets.current import CurrentObjects, unnamed
from pgben_tasks.operations.postgres.references import lines_in, write_sorted
from pgben_tasks.operations.repository.survey import survey
from pgben_tasks.operations.snapshot_files import Lines, sorted_listing
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Bucket

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
    check = _begun(run, tools, members)
    run.progress.begin("cross-check", total=check.lines(databases), unit="lines")
    found = check.folder / "faults"
    rows = [check.references_of(one) for one in databases]
    _write(check.compared(rows, check.objects_of), found, check.counts)
    found = check.looked_for(found)
    stored = _store(tools, point, found, check.counts)
    spool.remove(check.folder)
    return check.outcome(stored)


def check_copies(
    run: Run,
    tools: Toolbox,
    members: Sequence[Manifest],
    places: Mapping[str, str],
    point: BackupId,
) -> tuple[CrossCheck, int | None] | None:
    """Compare the rows of restored databases with the objects as their buckets will be.

    ``places`` says, by target, in which database and in which bucket each of ``members`` lies now.
    An object that is there and in the snapshot counts as the snapshot has it: its restore has
    compared it, or will write it. Beside what was found, return how many of the faulty rows are
    not in the list of the ``point``; None for that where the list cannot be read. None where no
    references were read with the backups.

    Raises as ``cross_check`` does, and what the servers raise.
    """
    databases = [one for one in members if one.references is not None]
    if not databases:
        return None
    check = _begun(run, tools, members)
    run.progress.begin("cross-check", total=check.lines(databases), unit="lines")
    files = [check.write_references(one, places[one.target]) for one in databases]

    def objects(bucket: str) -> Iterator[ObjectLine]:
        place = tools.other_bucket(places[f"bucket/{bucket}"])
        named = (one.key for one in _merged(map(lines_in, files)) if one.bucket == bucket)
        return check.objects_in(place, check.objects_of(bucket), named)

    folder = check.folder
    found = folder / "faults"
    _write(check.compared(map(lines_in, files), objects), found, check.counts)
    new: int | None = None
    try:
        known = open_faults(tools, tools.repository.point(point), spool.fresh(folder / "known"))
        new = newly_faulty(_faults(found), known)
    except (BackupNotFound, ConfigurationError, IntegrityError) as exc:
        log.warning("known_faults_unreadable", point=str(point), why=exc.sentence)
    spool.remove(folder)
    return check.outcome(None), new


def _begun(run: Run, tools: Toolbox, members: Sequence[Manifest]) -> _Check:
    folder = run.folder / "check"
    spool.remove(folder)
    folder.mkdir(mode=0o700, parents=True)
    buckets = {one.target_name.name: one for one in members if one.bucket is not None}
    return _Check(run=run, tools=tools, folder=folder, buckets=buckets)


def _merged(lines: Iterable[Iterator[ReferenceLine]]) -> Iterator[ReferenceLine]:
    return heapq.merge(*lines, key=in_order)


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

    def outcome(self, faults: StoredLines | None) -> CrossCheck:
        """Return what was counted; ``faults`` describes the stored list."""
        counts = self.counts
        return CrossCheck(
            references=counts["references"],
            objects=counts["objects"],
            recoverable=counts["recoverable"],
            faults=faults,
            **{kind: counts[kind] for kind in FAULTS},
        )

    def compared(
        self,
        references: Iterable[Iterator[ReferenceLine]],
        objects_of: Callable[[str], Iterable[ObjectLine]],
    ) -> Iterator[Fault]:
        """Yield the faults of each bucket that references name, in the order of their keys."""
        rules = {one.name: one for one in self.tools.references}
        every = _merged(references)
        buckets = _with_rest(groupby(every, key=attrgetter("bucket")), self._named)
        for bucket, rows in buckets:
            objects = objects_of(bucket) if bucket in self.buckets else ()
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
                    marked = _marked(faults, bucket, self._lines_of(older), older.backup)
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

    def references_of(self, manifest: Manifest) -> Iterator[ReferenceLine]:
        """Yield the references that were stored with a backup."""
        return read_references(self._lines(manifest), where=inventory_of(manifest).path)

    def objects_of(self, bucket: str) -> Iterator[ObjectLine]:
        """Yield the objects of a bucket of the point."""
        return self._lines_of(self.buckets[bucket])

    def write_references(self, manifest: Manifest, database: str) -> Path:
        """Write the references as the rows of a restored ``database`` have them; return the file.

        Raises ``ConfigurationError`` unless they are as many as were stored with the backup: the
        rows of every table were counted, so a rule says something else at another time.
        """
        file = self.folder / f"{manifest.target_name.name}.references"
        scratch = self.folder / "scratch"
        scratch.mkdir(mode=0o700)
        destination = self.tools.destinations[manifest.target_name]
        wanted = [one for one in self.tools.references if one.database == manifest.target_name.name]
        rows = chain.from_iterable(destination.references(database, one) for one in wanted)
        count = write_sorted(rows, file, scratch)
        spool.remove(scratch)
        stored = manifest.references.count if manifest.references else 0
        if count != stored:
            raise ConfigurationError(
                f"the copy '{database}' has {count} rows that name objects, its backup {stored}",
                "a rule of PGBEN_REFERENCES that depends on the time cannot be compared later",
            )
        return file

    def objects_in(
        self, place: Bucket, snapshot: Iterator[ObjectLine], named: Iterator[str]
    ) -> Iterator[ObjectLine]:
        """Yield the objects of the bucket ``place`` as they are, or will be, in that order.

        Of an object that the ``snapshot`` cannot give, only one that a row has ``named`` is read.
        """
        there = CurrentObjects(place)
        known, row = next(snapshot, None), next(named, None)
        with sorted_listing(place.list(), self.folder) as listing:
            for listed in listing:
                self.run.progress.check()
                while known is not None and known.key < listed.key:
                    known = next(snapshot, None)
                while row is not None and row < listed.key:
                    row = next(named, None)
                if known is not None and known.key == listed.key and known.error is None:
                    yield known
                elif row == listed.key:
                    # Removed since it was listed, it is missing.
                    with suppress(ObjectMissing), unnamed(listed.key):
                        content, _ = there.inspect(listed.key)
                        yield ObjectLine(
                            listed.key, content.size, content.sha256, dict(content.metadata)
                        )
                else:
                    yield ObjectLine(listed.key, listed.size)
        # Its files are removed when it has been read to its end.
        deque(snapshot, maxlen=0)

    def _lines_of(self, manifest: Manifest) -> Iterator[ObjectLine]:
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

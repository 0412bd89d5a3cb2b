"""Check the packs of one backup: whether they are there, whole, and open. Records nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final, Literal

from pgben_tasks.domain.buckets.capture import BucketCapture
from pgben_tasks.domain.buckets.inventory import Line
from pgben_tasks.domain.documents import Finding, Manifest, Pack, StoredFile
from pgben_tasks.domain.layout import inventory_of
from pgben_tasks.domain.states import State, state_of
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import (
    DecryptionFailed,
    DigestMismatch,
    IntegrityError,
    ObjectMissing,
)
from pgben_tasks.operations import spool
from pgben_tasks.operations.snapshot_files import by_pack, place_of, read_lines
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import StoredObject

Level = Literal["readback", "quick", "full"]

_READERS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What looking at the packs of one backup gave. ``read`` is in bytes."""

    packs: int
    read: int
    opened: bool
    findings: tuple[Finding, ...]


class PackContents:
    """What lies in the packs that a verification opened, beside the lines that say so.

    A line of an inventory says that bytes with its digest are in a pack: to open the pack shows
    what is really there. Memory stays flat: what a pack holds lies in a file, and of a snapshot
    only the lines are looked up that differ from those of the snapshot looked at before.
    """

    def __init__(self, folder: Path) -> None:
        """Begin with nothing in ``folder``, which is made anew."""
        self._folder = spool.fresh(folder)
        self._compared = folder / "compared.jsonl"
        self._held: set[str] = set()

    def close(self) -> None:
        """Remove the folder."""
        spool.remove(self._folder)

    def add(self, pack: Pack, objects: Mapping[str, int]) -> None:
        """Take digest and size of every object of a pack."""
        with spool.disk_errors(self._folder):
            self._file(place_of(pack)).write_text(json.dumps(dict(objects)), encoding="ascii")
        self._held.add(place_of(pack))

    def absent(self, inventory: Path) -> Iterator[tuple[str, int]]:
        """Yield each pack that lacks objects which ``inventory`` says are in it, and how many.

        Lines whose pack was not opened are not judged. The file is taken over.
        """
        if not self._held:
            return
        scratch = spool.fresh(self._folder / "scratch")
        self._compared.touch(mode=0o600)
        with closing(read_lines(inventory)) as lines, closing(read_lines(self._compared)) as before:
            fresh = (line for line in _others(lines, before) if line.pack in self._held)
            for place, group in groupby(by_pack(fresh, scratch), key=lambda line: line.pack or ""):
                held = json.loads(self._file(place).read_text(encoding="ascii"))
                lacking = sum(held.get(line.sha256) != line.size for line in group)
                if lacking:
                    yield place, lacking
        spool.remove(scratch)
        inventory.replace(self._compared)

    def _file(self, place: str) -> Path:
        return self._folder / f"{place.replace('/', '_')}.json"


def _others(lines: Iterable[Line], before: Iterator[Line]) -> Iterator[Line]:
    """Yield the lines whose bytes are not said to lie where they lay ``before``.

    Both are in the order of keys.
    """
    line = next(before, None)
    for one in lines:
        while line is not None and line.key < one.key:
            line = next(before, None)
        if line is None or _bytes_of(line) != _bytes_of(one):
            yield one


def _bytes_of(line: Line) -> tuple[str, str | None, str | None, int]:
    return line.key, line.pack, line.sha256, line.size


@dataclass(frozen=True, slots=True)
class Reading:
    """What one verification has read already: snapshots share packs, and each is read once.

    ``contents`` is what lies in the packs of objects that were opened.
    ``places`` says which pack each signed digest belongs to, ``unread`` what a read-back reads.
    ``found`` and ``opened`` are keyed by
    path and signed digest, because only together they say what was looked for.
    """

    places: Mapping[str, str]
    contents: PackContents
    unread: tuple[StoredFile, ...] = ()
    found: dict[tuple[str, str], Finding | None] = field(default_factory=dict)
    opened: set[tuple[str, str]] = field(default_factory=set)


def stored_files(manifest: Manifest) -> tuple[StoredFile, ...]:
    """Return every file that a backup needs, beside its manifest."""
    inventory = (inventory_of(manifest),) if manifest.has_lines else ()
    return (*manifest.packs, *inventory)


def new_files(manifest: Manifest) -> tuple[StoredFile, ...]:
    """Return those that its own capture wrote."""
    inherited = set(manifest.packs) - set(manifest.own_packs)
    return tuple(file for file in stored_files(manifest) if file not in inherited)


def unread(tools: Toolbox, manifest: Manifest) -> tuple[StoredFile, ...]:
    """Return what nobody ever read back: what its own capture wrote, and what it may inherit.

    A capture that ended before it was read back leaves packs that the next one takes over; each
    newer backup without a fault, read whole, vouches for all its packs.
    """
    new = new_files(manifest)
    inherited = set(manifest.packs) - set(manifest.own_packs)
    others = tools.repository.backups(manifest.target_name) if inherited else ()
    for backup in sorted(map(str, others), reverse=True):
        if not inherited:
            break
        if backup != manifest.backup:
            inherited -= _vouched_for(tools, manifest.target_name, BackupId.parse(backup))
    return (*new, *sorted(inherited, key=lambda pack: pack.path))


def _vouched_for(tools: Toolbox, target: Target, backup: BackupId) -> frozenset[Pack]:
    try:
        manifest = tools.repository.manifest(target, backup)
        standing = state_of(manifest, tools.repository.verifications(target, backup))
    except (IntegrityError, ObjectMissing):
        return frozenset()
    read = standing.last_read is not None and standing.state is not State.DAMAGED
    return frozenset(manifest.packs if read else ())


def examine_packs(
    run: Run,
    tools: Toolbox,
    manifest: Manifest,
    stored: Mapping[str, StoredObject],
    level: Level,
    reading: Reading,
) -> Examined:
    """Look at the files of one backup: all are there; a full look reads all.

    A read-back reads what ``reading`` names as unread.
    """
    files = stored_files(manifest)
    seen = {file.path: presence(file, stored) for file in files}
    read = 0
    opened = False
    if level != "quick":
        wanted = files if level == "full" else reading.unread
        there = [file for file in wanted if file.path in stored]
        new = [file for file in there if _key(file) not in reading.found]
        with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as pool:
            looks = pool.map(lambda file: _read(run, tools, file, reading.places), new)
            for file, (found, size) in zip(new, looks, strict=True):
                read += size
                reading.found[_key(file)] = found
        for file in there:
            found = reading.found[_key(file)]
            if found is not None and (seen[found.path] is None or found.kind == "swapped"):
                seen[found.path] = found
    bad = [finding for finding in seen.values() if finding is not None]
    if level != "quick" and not bad:
        opened, unopened = _open(run, tools, manifest, level, reading)
        bad += unopened
    return Examined(packs=len(files), read=read, opened=opened, findings=tuple(bad))


def _key(file: StoredFile) -> tuple[str, str]:
    return file.path, file.sha256


def presence(pack: StoredFile, stored: Mapping[str, StoredObject]) -> Finding | None:
    """Return what is wrong with a stored file by its name and size alone; None when nothing is."""
    found = stored.get(pack.path)
    if found is None:
        return Finding(kind="missing", path=pack.path, detail="the pack is not in the repository")
    if found.size < pack.size:
        return Finding(
            kind="truncated",
            path=pack.path,
            detail=f"the pack has {found.size} bytes, the manifest says {pack.size}",
        )
    if found.size > pack.size:
        return Finding(
            kind="damaged",
            path=pack.path,
            detail=f"the pack has {found.size} bytes, the manifest says {pack.size}",
        )
    return None


def _read(
    run: Run, tools: Toolbox, pack: StoredFile, places: Mapping[str, str]
) -> tuple[Finding | None, int]:
    """Read a pack whole; ``places`` says which pack each signed digest belongs to."""
    digest = hashlib.sha256()
    size = 0
    try:
        for chunk in tools.repository.read_pack(pack):
            digest.update(chunk)
            size += len(chunk)
            run.progress.advance(len(chunk))
            run.progress.check()
    except ObjectMissing:
        detail = "the pack vanished while it was read"
        return Finding(kind="missing", path=pack.path, detail=detail), size
    found = digest.hexdigest()
    if found != pack.sha256 and found in places:
        detail = f"it holds the bytes of '{places[found]}'"
        return Finding(kind="swapped", path=pack.path, detail=detail), size
    if found != pack.sha256:
        detail = f"the digest of the stored bytes is {found[:12]}…, signed is {pack.sha256[:12]}…"
        return Finding(kind="damaged", path=pack.path, detail=detail), size
    return None, size


def _open(
    run: Run, tools: Toolbox, manifest: Manifest, level: Level, reading: Reading
) -> tuple[bool, list[Finding]]:
    """Open packs where an identity is at hand: one after a backup, every one in a full look."""
    # A backup sealed to other keys is no fault of its bytes: it is only not opened here.
    if not tools.codec.can_open(manifest.recipients):
        return False, []
    packs = manifest.packs if level == "full" else _one_new(manifest)
    folder = run.folder / "opened"
    spool.fresh(folder)
    found: list[Finding] = []
    try:
        for pack in packs:
            if _key(pack) not in reading.opened:
                found += _open_one(run, tools, pack, folder, reading.contents)
                reading.opened.add(_key(pack))
        if manifest.bucket is not None:
            found += _open_inventory(tools, manifest, manifest.bucket, folder, reading.contents)
    finally:
        spool.remove(folder)
    return True, found


def _one_new(manifest: Manifest) -> tuple[Pack, ...]:
    """Choose a pack to open after a backup: of a dump the one with its table of contents."""
    if manifest.bucket is not None:
        return manifest.own_packs[:1]
    return tuple(
        pack for pack in manifest.packs if any(one.name == "toc.dat" for one in pack.members)
    )


def _open_inventory(
    tools: Toolbox,
    manifest: Manifest,
    capture: BucketCapture,
    folder: Path,
    contents: PackContents,
) -> Iterator[Finding]:
    """Open the inventory: its lines are what the manifest says, and their bytes where they say."""
    stored = inventory_of(manifest)
    sealed, plain = folder / "inventory", folder / "lines"
    try:
        tools.repository.fetch_inventory(manifest, sealed)
        lines = tools.objects.open_inventory(stored, sealed, plain)
        named = {place_of(pack) for pack in manifest.packs}
        unnamed = {line.pack for line in read_lines(plain) if line.pack is not None} - named
    except DecryptionFailed as exc:
        yield Finding(kind="unreadable", path=stored.path, detail=exc.sentence)
    except IntegrityError as exc:
        yield Finding(kind="damaged", path=stored.path, detail=exc.sentence)
    else:
        if lines != capture.lines:
            detail = "its lines are not those that the manifest describes"
            yield Finding(kind="damaged", path=stored.path, detail=detail)
        if unnamed:
            detail = f"it names the pack '{min(unnamed)}', which the manifest does not name"
            yield Finding(kind="invalid", path=stored.path, detail=detail)
        for place, number in contents.absent(plain):
            detail = f"it names objects in '{place}' that are not there: {number}"
            yield Finding(kind="invalid", path=stored.path, detail=detail)


def _open_one(
    run: Run, tools: Toolbox, pack: Pack, folder: Path, contents: PackContents
) -> Iterator[Finding]:
    sealed = folder / "pack"
    run.progress.check()
    try:
        tools.repository.fetch_pack(pack, sealed, advance=_ignore)
        if pack.members:
            tools.codec.open(pack, sealed, None, advance=_ignore)
        else:
            # The objects of a bucket prove themselves: each is named like its digest.
            contents.add(pack, tools.objects.open_objects(pack, sealed, advance=_ignore))
    except DecryptionFailed as exc:
        yield Finding(kind="unreadable", path=pack.path, detail=exc.sentence)
    except (DigestMismatch, IntegrityError) as exc:
        yield Finding(kind="damaged", path=pack.path, detail=exc.sentence)
    finally:
        sealed.unlink(missing_ok=True)


def _ignore(_: int) -> None:
    """Count nothing: these bytes were counted when they were read."""

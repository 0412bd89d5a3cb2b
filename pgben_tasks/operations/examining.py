"""Look at the packs of one backup: whether they are there, whole, and open. Records nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pgben_tasks.domain.documents import Finding, Manifest, Pack
from pgben_tasks.errors import (
    DecryptionFailed,
    DigestMismatch,
    IntegrityError,
    ObjectMissing,
)
from pgben_tasks.operations import spool
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


def examine_packs(
    run: Run,
    tools: Toolbox,
    manifest: Manifest,
    stored: Mapping[str, StoredObject],
    level: Level,
    places: Mapping[str, str],
) -> Examined:
    """Look at the packs of one backup; ``places`` says which pack each signed digest belongs to."""
    seen = {pack.path: _presence(pack, stored) for pack in manifest.packs}
    read = 0
    opened = False
    if level != "quick":
        there = [pack for pack in manifest.packs if pack.path in stored]
        with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as pool:
            for found, size in pool.map(lambda pack: _read(run, tools, pack, places), there):
                read += size
                if found is not None and (seen[found.path] is None or found.kind == "swapped"):
                    seen[found.path] = found
    bad = [finding for finding in seen.values() if finding is not None]
    if level != "quick" and not bad:
        opened, unopened = _open(run, tools, manifest, level)
        bad += unopened
    return Examined(packs=len(manifest.packs), read=read, opened=opened, findings=tuple(bad))


def _presence(pack: Pack, stored: Mapping[str, StoredObject]) -> Finding | None:
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
    run: Run, tools: Toolbox, pack: Pack, places: Mapping[str, str]
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


def _open(run: Run, tools: Toolbox, manifest: Manifest, level: Level) -> tuple[bool, list[Finding]]:
    """Open packs where an identity is at hand: one after a backup, every one in a full look."""
    # A backup sealed to other keys is no fault of its bytes: it is only not opened here.
    if not tools.codec.can_open(manifest.recipients):
        return False, []
    toc = next(
        pack for pack in manifest.packs if any(one.name == "toc.dat" for one in pack.members)
    )
    packs = manifest.packs if level == "full" else (toc,)
    folder = run.folder / "opened"
    spool.fresh(folder)
    try:
        return True, [found for pack in packs for found in _open_one(run, tools, pack, folder)]
    finally:
        spool.remove(folder)


def _open_one(run: Run, tools: Toolbox, pack: Pack, folder: Path) -> Iterator[Finding]:
    sealed = folder / "pack"
    run.progress.check()
    try:
        tools.repository.fetch_pack(pack, sealed, advance=_ignore)
        tools.codec.open(pack, sealed, None, advance=_ignore)
    except DecryptionFailed as exc:
        yield Finding(kind="unreadable", path=pack.path, detail=exc.sentence)
    except (DigestMismatch, IntegrityError) as exc:
        yield Finding(kind="damaged", path=pack.path, detail=exc.sentence)
    finally:
        sealed.unlink(missing_ok=True)


def _ignore(_: int) -> None:
    """Count nothing: these bytes were counted when they were read."""

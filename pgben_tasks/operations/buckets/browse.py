"""Look into a snapshot: its objects, and one object's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pgben_tasks.domain.buckets.inventory import Entry, Line
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.layout import inventory_of
from pgben_tasks.errors import DigestMismatch, ManifestInvalid, ObjectMissing
from pgben_tasks.operations.snapshot_files import place_of, read_lines
from pgben_tasks.operations.toolbox import Toolbox
from pgben_tasks.ports import Progress


def lines_of(tools: Toolbox, manifest: Manifest, folder: Path) -> Iterator[Line]:
    """Return the lines of a snapshot's inventory; what is opened lies in ``folder``, which is ours.

    Raises what ``open_inventory`` raises.
    """
    return read_lines(open_inventory(tools, manifest, folder))


def open_inventory(tools: Toolbox, manifest: Manifest, folder: Path) -> Path:
    """Fetch a snapshot's inventory, open it and compare it with the manifest; return its file.

    Raises ``DigestMismatch``, ``DecryptionFailed``, ``ConfigurationError`` (no identity).
    """
    stored = inventory_of(manifest)
    sealed, plain = folder / f"{manifest.backup}.sealed", folder / f"{manifest.backup}.jsonl"
    try:
        tools.repository.fetch_inventory(manifest, sealed)
        digest = tools.objects.open_inventory(stored, sealed, plain)
    finally:
        # Those of many nights are opened one after another.
        sealed.unlink(missing_ok=True)
    if manifest.bucket is None or digest != manifest.bucket.lines:
        raise DigestMismatch(
            f"'{stored.path}' is not the inventory that its manifest describes",
            "take another snapshot; `pgben verify` says more",
        )
    return plain


def find(tools: Toolbox, manifest: Manifest, key: str, folder: Path) -> Entry:
    """Find one object; raises ``ObjectMissing`` when the snapshot lacks it or its bytes."""
    line = line_of(open_inventory(tools, manifest, folder), key)
    if line is None or line.pack is None:
        raise ObjectMissing(
            f"snapshot '{manifest.backup}' does not hold that object",
            "keys are taken letter by letter; `pgben objects ls` shows them",
        )
    return line.entry()


def line_of(inventory: Path, key: str) -> Line | None:
    """Return the line of one key; None where the snapshot lacks it."""
    with closing(read_lines(inventory)) as lines:
        for line in lines:
            if line.key >= key:
                return line if line.key == key else None
    return None


def take(
    tools: Toolbox, manifest: Manifest, entry: Entry, folder: Path, progress: Progress
) -> Path:
    """Write one object's bytes from its pack, checked; return the file in ``folder``."""
    pack = next((one for one in manifest.packs if place_of(one) == entry.pack), None)
    if pack is None or entry.sha256 is None:
        raise ManifestInvalid(f"the inventory names the pack '{entry.pack}', the manifest not")
    sealed = folder / "pack.sealed"
    progress.begin("fetch", total=pack.size)
    tools.repository.fetch_pack(pack, sealed, advance=progress.advance)
    # All of the pack is opened and counted, and nobody wrote down how much lies in it.
    progress.begin("open")
    file = folder / entry.sha256
    tools.objects.open_objects(pack, sealed, [entry.sha256], file, advance=progress.advance)
    return file

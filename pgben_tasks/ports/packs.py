"""Objects of a bucket in packs: sealing, writing from several threads, taking them out again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pgben_tasks.domain.documents import Pack, StoredFile
from pgben_tasks.domain.target import BackupId, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A file that was sealed: size and SHA-256 of the stored bytes, SHA-256 of the plain ones."""

    size: int
    sha256: str
    plain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An object whose bytes have a place: ``<backup id>/<n>.tar…`` below ``packs/<target>/``."""

    sha256: str
    size: int
    place: str


class ObjectCodec(Protocol):
    """Seals and opens inventories and packs of objects, outside the interpreter's lock."""

    @property
    def sealed(self) -> bool:
        """Whether what is made here is encrypted."""

    def can_open_inventories(self) -> bool:
        """Whether an identity for inventories is at hand."""

    def end_spare_children(self) -> None:
        """End the processes that only several packs at a time need, for their memory."""

    def seal_inventory(self, lines: Path, destination: Path) -> Sealed:
        """Compress and seal the plain lines of an inventory."""

    def open_inventory(self, stored: StoredFile, file: Path, destination: Path) -> str:
        """Check the stored bytes in ``file`` and open them; returns the digest of the plain lines.

        Raises ``DigestMismatch``, ``DecryptionFailed``, ``ConfigurationError`` (no identity).
        """

    def seal_pack(self, path: str, tar: Path, destination: Path) -> Pack:
        """Seal a finished tar of objects as the pack ``path``, which says how.

        Every member is named like the digest of its bytes; one that is not raises
        ``DigestMismatch``. The destination is whole and flushed to disk, or not there.
        """

    def open_objects(
        self,
        pack: Pack,
        file: Path,
        wanted: Sequence[str] = (),
        destination: Path | None = None,
        *,
        advance: Callable[[int], None],
    ) -> dict[str, int]:
        """Check a pack whole; write the ``wanted`` objects one after another to ``destination``.

        Returns digest and size of every object, in the order of the pack, which is also that of
        the file. Raises as ``open_inventory`` does.
        """


class DigestIndex(Protocol):
    """Where the bytes with a digest lie. Safe to use from several threads."""

    def fill(self, known: Iterable[tuple[str, str]]) -> None:
        """Add many (digest, place) pairs."""

    def fill_from(self, read: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """Add the pairs that ``read`` returns, now and again when a digest may be among them."""

    def place(self, digest: str) -> str | None:
        """Return where the bytes with this digest lie."""

    def take(self, digest: str, place: str) -> str | None:
        """Return where the bytes lie; None when they were unknown and are now at ``place``."""

    def close(self) -> None:
        """Remove it."""


class ObjectPackWriter(Protocol):
    """Packs objects as they come. Safe to use from several threads."""

    def add(self, chunks: Iterator[bytes], *, size: int) -> Kept:
        """Add one object of exactly ``size`` bytes; bytes that are known are not stored again.

        Waits while full packs are on their way to the store. Raises ``IntegrityError`` for
        another size and whatever ``chunks`` raise, which concerns this object alone; and what went
        wrong with a pack, as ``check`` does.
        """

    def check(self) -> None:
        """Raise what went wrong with a pack: then no place that was given out holds.

        Whoever gets an error from ``add`` asks here whose it is.
        """


class ObjectPacks(Protocol):
    """Makes the index and the writer of a copy of objects."""

    def index(self, file: Path) -> DigestIndex:
        """Begin an index of digests in ``file``."""

    def writer(
        self,
        folder: Path,
        *,
        known: DigestIndex,
        target: Target,
        backup: BackupId,
        first: int,
        store: Callable[[Pack, Path], None],
        require_room: Callable[[int], None],
    ) -> AbstractContextManager[ObjectPackWriter]:
        """Write packs numbered from ``first`` in the empty folder ``folder``.

        ``store`` gets each one that is sealed, in threads of the writer, two at a time; the file
        is removed when it returns. ``require_room`` raises ``SpoolFull`` unless so many bytes fit
        into the spool; it is asked before each object that does not share a pack.

        Leaving the block well seals and stores the rest, and raises what went wrong; leaving it
        with an error stores nothing more. Either way no file of the writer stays behind.
        """

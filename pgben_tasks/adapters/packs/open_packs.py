"""The packs of one capture before they are sealed: plain tars that grow in the spool, numbered."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgben_tasks.domain.packing import TAR_BLOCK, pack_path
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.files.durable import FILE_MODE

#: Small members are gathered to writes of this many bytes.
_BUFFER: Final = 256 * 1024


class GrowingTar:
    """One tar file, not flushed to disk: what dies with the process is made anew.

    Errors stay ``OSError``. After one of them the file may end within a member.
    """

    def __init__(self, path: Path) -> None:
        """Begin a new file, mode 0600."""
        self.path = path
        self.size = 0
        #: Members that were added whole.
        self.members = 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
        self._file = os.fdopen(descriptor, "wb", buffering=_BUFFER)

    def append(self, header: bytes, chunks: Iterable[bytes]) -> None:
        """Add a member whole."""
        for data in (header, *chunks):
            self.write(data)
        self._pad()
        self.members += 1

    def begin_member(self) -> None:
        """Leave room for a header that is written by ``end_member``."""
        self.write(bytes(TAR_BLOCK))

    def write(self, data: bytes) -> None:
        """Add to the content of the member that was begun."""
        self._file.write(data)
        self.size += len(data)

    def end_member(self, header: bytes) -> None:
        """Write the header of the only member of this tar."""
        self._pad()
        self._file.seek(0)
        self._file.write(header)
        self._file.seek(0, os.SEEK_END)

    def end(self) -> None:
        """Write the end of the tar, and everything that was gathered."""
        with self._file:
            self._file.write(bytes(2 * TAR_BLOCK))

    def remove(self) -> None:
        """Remove the file, whatever state it is in."""
        with suppress(OSError):
            # Closing writes what was gathered, for which there may be no room.
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _pad(self) -> None:
        self.write(bytes(-self.size % TAR_BLOCK))


@dataclass(frozen=True, slots=True)
class OpenPack:
    """A tar that has its path in the repository already."""

    tar: GrowingTar
    path: str

    @property
    def place(self) -> str:
        """What inventories call it: ``<backup id>/<n>.tar…``."""
        return "/".join(self.path.split("/")[-2:])

    @property
    def sealed_file(self) -> Path:
        """Where its sealed form lies until it is stored."""
        return self.tar.path.with_name(self.path.rpartition("/")[2])


class PackSeries:
    """Makes tars in ``folder`` and numbers their paths; only one thread may call it at a time.

    A large object has a number only when it is whole, so that none is spent on what is not kept.
    """

    def __init__(
        self, folder: Path, *, target: Target, backup: BackupId, first: int, sealed: bool
    ) -> None:
        """Begin with the number ``first``; ``sealed`` says whether the packs will be encrypted."""
        self.folder = folder
        self._target = target
        self._backup = backup
        self._sealed = sealed
        self._numbers = itertools.count(first)
        self._tars = itertools.count(1)

    def new_tar(self) -> GrowingTar:
        """Begin a tar."""
        return GrowingTar(self.folder / f"{next(self._tars)}.tar.part")

    def numbered(self, tar: GrowingTar, *, compressed: bool) -> OpenPack:
        """Return ``tar`` with the next number."""
        path = pack_path(
            self._target,
            self._backup,
            next(self._numbers),
            compressed=compressed,
            sealed=self._sealed,
        )
        return OpenPack(tar, path)

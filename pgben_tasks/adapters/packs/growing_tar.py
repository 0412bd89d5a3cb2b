"""A tar that grows in the spool, member by member. Plain bytes; sealing them happens elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from pgben_tasks.domain.packing import TAR_BLOCK
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
        """Leave the place of a header that is not known before its content has passed."""
        self.write(bytes(TAR_BLOCK))

    def write(self, data: bytes) -> None:
        """Add to the content of the member that was begun."""
        self._file.write(data)
        self.size += len(data)

    def end_member(self, header: bytes) -> None:
        """Give the only member of this tar the header that it was begun without."""
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

"""Files that are whole or absent: temporary name, flush to disk, take the final name, flush that.

Shared by everything that writes files of the repository, the spool or keys. Errors stay
``OSError`` here; each caller knows what they mean to its operator.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
#: What a temporary name keeps of the real one; file systems take 255 bytes in all.
_LONGEST_NAME: Final = 200
#: A disk, a quota or a volume has no room left.
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: The file system cannot make hard links.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class Writer(Protocol):
    """What ``durable_file`` hands out: bytes go in, nothing else."""

    def write(self, data: bytes, /) -> int:
        """Append ``data``."""


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a new name outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path, *, below: Path) -> None:
    """Make ``folder`` and its parents below the existing folder ``below``, each flushed, 0700."""
    if folder == below or folder.is_dir():
        return
    make_folders(folder.parent, below=below)
    with suppress(FileExistsError):
        folder.mkdir(mode=FOLDER_MODE)
        flush_folder(folder.parent)


@contextmanager
def durable_file(
    destination: Path,
    *,
    replace: bool = True,
    temporary: Path | None = None,
    mode: int | None = None,
) -> Iterator[Writer]:
    """Write ``destination`` whole or not at all, mode 0600 unless another is given.

    The bytes go to the file ``temporary`` (default: one beside the destination), which takes the
    final name only when the block ended well. Without ``replace`` a file that exists already stays
    as it is and ``FileExistsError`` is raised.
    """
    temporary = temporary or destination.with_name(temporary_name(destination.name))
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE
        )
        with os.fdopen(descriptor, "wb", buffering=1024 * 1024) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(destination)
        else:
            _take_free_name(temporary, destination)
        flush_folder(destination.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def temporary_name(name: str) -> str:
    """Make up a name for the unfinished file of ``name``: ``.<name>.<12 hex digits>.tmp``.

    It begins with a dot, which no finished one does.
    """
    return f".{name[:_LONGEST_NAME]}.{secrets.token_hex(6)}.tmp"


def remove_unfinished(destination: Path) -> None:
    """Remove ``destination`` and what a writer that was killed could not: its unfinished file."""
    with suppress(OSError):
        for path in destination.parent.iterdir():
            unfinished_one = path.name.startswith(f".{destination.name}.")
            if path == destination or (unfinished_one and path.name.endswith(".tmp")):
                path.unlink()


def _take_free_name(temporary: Path, destination: Path) -> None:
    try:
        os.link(temporary, destination, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        # Some network file systems have no hard links; the window between the look and the
        # rename is then the price, as it is on S3 servers that ignore If-None-Match.
        if destination.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), destination) from exc
        temporary.replace(destination)

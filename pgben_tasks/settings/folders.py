"""Folders in settings: which of them pgben may write to. Only the text is looked at, not a disk."""

from __future__ import annotations

import os.path
from pathlib import Path, PurePosixPath
from typing import Annotated, Final

from pydantic import AfterValidator

#: File systems of the kernel: nothing that is written there is kept, and a disk may be overwritten.
_KERNEL: Final = ("/dev", "/proc", "/sys")
#: Below these is what the system itself consists of.
_SYSTEM: Final = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr")
#: Folders below those that are there for others (FHS 3.0).
_FREE_BELOW: Final = ("/dev/shm", "/usr/local")  # noqa: S108 - refused here, not written to
#: Folders that programs share. A spool has the mode 0700, which locks the others out of it, and in
#: its folder `jobs` a worker removes whatever belongs to no job.
_SHARED: Final = frozenset(
    {
        *("/", "/dev/shm", "/home", "/opt", "/root", "/run", "/tmp", "/usr/local"),  # noqa: S108
        *("/var", "/var/cache", "/var/lib", "/var/log", "/var/run", "/var/spool"),
        "/var/tmp",  # noqa: S108
    }
)


def is_kept(path: str) -> bool:
    """Return whether files in a folder stay: not so below ``/dev``, ``/proc`` and ``/sys``."""
    folder = _normal(path)
    return _is_below(folder, _FREE_BELOW) or not _is_below(folder, _KERNEL)


def is_root(path: str) -> bool:
    """Return whether a path, whatever ``..`` it has, is that of the whole file system."""
    return _normal(path) == PurePosixPath("/")


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        message = "must be an absolute path: workers and commands start in different folders"
        raise ValueError(message)
    if not is_kept(str(value)):
        message = "must be on a disk: nothing is kept below /dev, /proc and /sys"
        raise ValueError(message)
    return value


def _own(value: Path) -> Path:
    folder = _normal(str(value))
    if str(folder) in _SHARED:
        message = "must be a folder of its own, like '/var/lib/pgben/spool': others need this one"
        raise ValueError(message)
    if _is_below(folder, _SYSTEM) and not _is_below(folder, _FREE_BELOW):
        message = "must not be among the system's own files: use '/var/lib/pgben/spool', or another"
        raise ValueError(message)
    return value


def _normal(path: str) -> PurePosixPath:
    """Resolve ``..`` in the text; a leading ``//`` is that of POSIX, which Linux takes for one."""
    return PurePosixPath("/" + os.path.normpath(path).lstrip("/"))


def _is_below(folder: PurePosixPath, places: tuple[str, ...]) -> bool:
    return any(folder.is_relative_to(place) for place in places)


Folder = Annotated[Path, AfterValidator(_absolute)]
SpoolFolder = Annotated[Path, AfterValidator(_absolute), AfterValidator(_own)]

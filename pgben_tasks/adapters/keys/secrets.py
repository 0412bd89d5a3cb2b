"""Reading files that hold secrets: their mode is checked, their content never shown."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG, S_IWOTH
from typing import Final

from pgben_tasks.errors import ConfigurationError

#: No key file of any kind comes near this size, in bytes.
_MAX_BYTES: Final = 1024 * 1024
_OTHERS: Final = 0o007


def read_secret(path: Path, *, what: str) -> str:
    """Read a small secret text file; one that others may read or write is refused.

    Raises ``ConfigurationError``; ``what`` names the file's purpose in it.
    """
    return _read(path, what, forbidden=_OTHERS)


def read_trusted(path: Path, *, what: str) -> str:
    """Read a small text file that decides what is trusted; one that others may write is refused."""
    return _read(path, what, forbidden=S_IWOTH)


def _read(path: Path, what: str, *, forbidden: int) -> str:
    try:
        # Not blocking, so that a named pipe is refused below instead of waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not S_ISREG(found.st_mode):
                raise ConfigurationError(
                    f"the {what} '{path}' is not a file", "name the file itself in the settings"
                )
            data = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise ConfigurationError(
            f"the {what} '{path}' cannot be read: {os.strerror(exc.errno or 0)}",
            "correct its path in the settings, or its owner and mode",
        ) from exc
    if found.st_mode & forbidden:
        raise ConfigurationError(
            f"the {what} '{path}' is open to every user (mode {found.st_mode & 0o777:04o})",
            f"run `chmod 600 {path}`, and make a new one if others could have used it",
        )
    if len(data) > _MAX_BYTES:
        raise ConfigurationError(
            f"the {what} '{path}' is longer than {_MAX_BYTES} bytes", "name the right file"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # Without its cause, which carries the bytes.
        raise ConfigurationError(
            f"the {what} '{path}' is not text in UTF-8", "name the right file"
        ) from None

"""What a disk can do to a writer, as errors for the operator of the spool."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pgben_tasks.errors import ConfigurationError, SpoolFull
from pgben_tasks.files.durable import NO_ROOM

NO_ROOM_HINT: Final = "free space below PGBEN_SPOOL_DIR or point it at a larger volume"


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Raise ``SpoolFull`` or ``ConfigurationError`` for an ``OSError`` that says so."""
    try:
        yield
    except OSError as exc:
        if exc.errno in NO_ROOM:
            raise SpoolFull(f"the spool '{folder}' is full", NO_ROOM_HINT) from exc
        if exc.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise ConfigurationError(
                f"the spool '{folder}' cannot be written: {exc.strerror}",
                "PGBEN_SPOOL_DIR must belong to the worker's user, mode 0700",
            ) from exc
        if exc.errno in {errno.EEXIST, errno.ENOTDIR}:
            raise ConfigurationError(
                f"the spool '{folder}' is not a folder",
                "PGBEN_SPOOL_DIR must name a folder; what has its name is something else",
            ) from exc
        raise

"""What sealing and opening a pack share: types, sizes, names, and a writer that hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

CHUNK: Final = 1024 * 1024

Advance = Callable[[int], None]
#: name, size in bytes, SHA-256 in hex
MemberFacts = tuple[str, int, str]
#: The same where the digest may not be known before the bytes are read
PlannedFacts = tuple[str, int, str | None]


def unfinished(destination: Path, name: str) -> Path:
    """Return the name of a member's file until the whole pack has been checked."""
    return destination / f".{hashlib.sha256(name.encode()).hexdigest()}.tmp"


class HashingWriter:
    """A writer that counts and hashes what passes, and remembers why it failed."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        """Pass everything on to ``write``."""
        self._write = write
        self._digest = hashlib.sha256()
        self.size = 0
        self.failure: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Pass ``data`` on."""
        try:
            self._write(data)
        except BaseException as exc:
            self.failure = exc
            raise
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: whoever owns the file flushes it."""

    def hexdigest(self) -> str:
        """Return the SHA-256 of all that passed."""
        return self._digest.hexdigest()

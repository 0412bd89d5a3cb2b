"""Where the bytes with a digest lie, for deduplication: in a file, so that memory stays flat."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pgben_tasks.errors import PermanentError, SpoolFull

_TABLE: Final = "CREATE TABLE known (digest BLOB PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID"
_LOOK_UP: Final = "SELECT place FROM known WHERE digest = ?"
#: What is lost with the process is built anew by the next one. The cache has 8 MiB.
_PRAGMAS: Final = (
    "journal_mode=OFF",
    "synchronous=OFF",
    "locking_mode=EXCLUSIVE",
    "cache_size=-8192",
)


class SqliteDigestIndex:
    """A ``ports.DigestIndex`` in one SQLite file, which is there as long as this is open."""

    def __init__(self, file: Path) -> None:
        """Begin anew in ``file``, mode 0600."""
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        self._file = file
        self._lock = threading.Lock()
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        with self._alone():
            for pragma in _PRAGMAS:
                self._database.execute(f"PRAGMA {pragma}")
            self._database.execute(_TABLE)
            # One transaction to the end: nobody else reads the file, and each of its own would
            # write pages and locks for every object.
            self._database.execute("BEGIN")

    def fill(self, known: Iterable[tuple[str, str]]) -> None:
        """Take many (digest, place) pairs; the first place of a digest counts."""
        rows = ((bytes.fromhex(digest), place) for digest, place in known)
        with self._alone():
            self._database.executemany("INSERT OR IGNORE INTO known VALUES (?, ?)", rows)

    def place(self, digest: str) -> str | None:
        """Say where the bytes with this digest lie."""
        with self._alone():
            return self._find(bytes.fromhex(digest))

    def take(self, digest: str, place: str) -> str | None:
        """Say where the bytes lie; None when they were unknown and are at ``place`` from now on."""
        key = bytes.fromhex(digest)
        with self._alone():
            found = self._find(key)
            if found is None:
                self._database.execute("INSERT INTO known VALUES (?, ?)", (key, place))
            return found

    def close(self) -> None:
        """Remove the file."""
        self._database.close()
        self._file.unlink(missing_ok=True)

    def _find(self, key: bytes) -> str | None:
        row = self._database.execute(_LOOK_UP, (key,)).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one thread at a time use the database; its errors become sentences."""
        try:
            with self._lock:
                yield
        except sqlite3.Error as exc:
            # What Python's own module refuses has no code of SQLite.
            if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise SpoolFull(
                    f"'{self._file.parent}' has no room left", "free or add space there, then retry"
                ) from exc
            raise PermanentError(
                f"'{self._file}' cannot be used: {exc}", "look at the spool's disk"
            ) from exc

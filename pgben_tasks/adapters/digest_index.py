"""Where the bytes with a digest lie, for deduplication: in a file, so that memory stays flat."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

_TABLE = "CREATE TABLE known (digest BLOB PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID"


class SqliteDigestIndex:
    """A ``ports.DigestIndex`` in one SQLite file."""

    def __init__(self, file: Path) -> None:
        """Begin anew in ``file``."""
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        # What is lost with the process is built anew by the next one.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-8192"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(_TABLE)

    def fill(self, known: Iterable[tuple[str, str]]) -> None:
        """Take many (digest, place) pairs; the first place of a digest counts."""
        rows = ((bytes.fromhex(digest), place) for digest, place in known)
        with self._lock:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR IGNORE INTO known VALUES (?, ?)", rows)
            self._database.execute("COMMIT")

    def place(self, digest: str) -> str | None:
        """Say where the bytes with this digest lie."""
        with self._lock:
            row = self._database.execute(
                "SELECT place FROM known WHERE digest = ?", (bytes.fromhex(digest),)
            ).fetchone()
        return None if row is None else str(row[0])

    def take(self, digest: str, place: str) -> str | None:
        """Say where the bytes lie; None when they were unknown and are at ``place`` from now on."""
        with self._lock:
            key = bytes.fromhex(digest)
            row = self._database.execute(
                "SELECT place FROM known WHERE digest = ?", (key,)
            ).fetchone()
            if row is not None:
                return str(row[0])
            self._database.execute("INSERT INTO known VALUES (?, ?)", (key, place))
            return None

    def close(self) -> None:
        """Close the file; its folder is removed with the job's."""
        self._database.close()

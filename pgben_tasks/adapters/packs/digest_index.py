"""Where the bytes with a digest lie, for deduplication: in a file, so that memory stays flat.

What was known before a copy is written to that file when something of it is first asked for, on
most nights never: eight bytes of each digest in memory tell that a new one is not among it. Beside
a million known digests 20,000 new ones so cost 2.7 s of processor time instead of 8.1
(docs/performance.md).
"""

from __future__ import annotations

import sqlite3
import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from pgben_tasks.errors import PermanentError, SpoolFull

_TABLE: Final = "CREATE TABLE known (digest BLOB PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID"
_INSERT: Final = "INSERT OR IGNORE INTO known VALUES (?, ?)"
_SELECT: Final = "SELECT place FROM known WHERE digest = ?"
#: What is lost with the process is built anew by the next one. The cache has 8 MiB.
_PRAGMAS: Final = (
    "journal_mode=OFF",
    "synchronous=OFF",
    "locking_mode=EXCLUSIVE",
    "cache_size=-8192",
)
#: How many new digests are in memory before they are written.
_WRITTEN_TOGETHER: Final = 10_000
#: How many digests are sorted at a time, which takes 4 MB for a moment.
_SORTED_TOGETHER: Final = 100_000


def _first_bytes(digest: str) -> int:
    return int(digest[:16], 16)


class _FirstBytes:
    """The first eight bytes of many digests, eight bytes of memory for each."""

    def __init__(self) -> None:
        self._sorted: list[array[int]] = []

    def add(self, digests: Iterable[str]) -> None:
        numbers = map(_first_bytes, digests)
        while some := sorted(islice(numbers, _SORTED_TOGETHER)):
            self._sorted.append(array("Q", some))

    def may_hold(self, digest: str) -> bool:
        """Return False only where ``digest`` was not added."""
        number = _first_bytes(digest)
        for some in self._sorted:
            at = bisect_left(some, number)
            if at < len(some) and some[at] == number:
                return True
        return False


class SqliteDigestIndex:
    """A ``ports.DigestIndex`` in one SQLite file, which is there as long as this is open."""

    def __init__(self, file: Path) -> None:
        """Begin anew in ``file``, mode 0600."""
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        self._file = file
        self._lock = threading.Lock()
        self._first_bytes_of_known = _FirstBytes()
        #: Whether the file holds digests whose first bytes are not in memory.
        self._filled = False
        self._fresh: dict[bytes, str] = {}
        self._unread: list[Callable[[], Iterable[tuple[str, str]]]] = []
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        with self._alone():
            for pragma in _PRAGMAS:
                self._database.execute(f"PRAGMA {pragma}")
            self._database.execute(_TABLE)
            # One transaction to the end: nobody else reads the file, and each of its own would
            # write pages and locks for every object.
            self._database.execute("BEGIN")

    def fill(self, known: Iterable[tuple[str, str]]) -> None:
        """Add many (digest, place) pairs; the first place of a digest counts."""
        with self._alone():
            self._write()
            before = self._database.total_changes
            self._load(known)
            self._filled = self._filled or self._database.total_changes > before

    def fill_from(self, read: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """Add the pairs that ``read`` returns, now and again when a digest may be among them."""
        with self._alone():
            self._first_bytes_of_known.add(digest for digest, _place in read())
            self._unread.append(read)

    def place(self, digest: str) -> str | None:
        """Return where the bytes with this digest lie."""
        with self._alone():
            return self._find(digest)

    def take(self, digest: str, place: str) -> str | None:
        """Return where the bytes lie; None when they were unknown and are now at ``place``."""
        with self._alone():
            found = self._find(digest)
            if found is None:
                self._fresh[bytes.fromhex(digest)] = place
                if len(self._fresh) >= _WRITTEN_TOGETHER:
                    self._write()
            return found

    def close(self) -> None:
        """Remove the file."""
        self._database.close()
        self._file.unlink(missing_ok=True)

    def _load(self, known: Iterable[tuple[str, str]]) -> None:
        self._database.executemany(_INSERT, ((bytes.fromhex(one), place) for one, place in known))

    def _write(self) -> None:
        self._first_bytes_of_known.add(map(bytes.hex, self._fresh))
        self._database.executemany(_INSERT, self._fresh.items())
        self._fresh.clear()

    def _find(self, digest: str) -> str | None:
        key = bytes.fromhex(digest)
        if (place := self._fresh.get(key)) is not None:
            return place
        if self._first_bytes_of_known.may_hold(digest):
            while self._unread:
                self._load(self._unread.pop()())
        elif not self._filled:
            # Asking the file costs far more, above all with many threads that fetch objects.
            return None
        row = self._database.execute(_SELECT, (key,)).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the database for one thread; its errors are raised as ours."""
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

"""Where the bytes with a digest lie, for deduplication: in a file, so that memory stays flat.

Nearly every digest that is asked for is new, and to ask a database each time would let all
threads of a copy wait for each other: a filter of a few MiB in memory knows most of them to be new,
and what is added is written together. What was known before the copy is written when something of
it is first asked for: on most nights never.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pgben_tasks.errors import PermanentError, SpoolFull

_TABLE: Final = "CREATE TABLE known (digest BLOB PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID"
_INSERT: Final = "INSERT OR IGNORE INTO known VALUES (?, ?)"
_LOOK_UP: Final = "SELECT place FROM known WHERE digest = ?"
#: What is lost with the process is built anew by the next one. The cache has 8 MiB.
_PRAGMAS: Final = (
    "journal_mode=OFF",
    "synchronous=OFF",
    "locking_mode=EXCLUSIVE",
    "cache_size=-8192",
)
#: So many new digests are in memory before they are written.
_TOGETHER: Final = 10_000


_BIT: Final = tuple(1 << bit for bit in range(8))


class _Filter:
    """Says of a digest that it was never added, or that it may have been (a Bloom filter).

    A digest is random already, so four of its bytes are as good as a hash. With 32 million bits
    and two of them for each, one in 280 of the unknown is called possible beside a million.
    """

    _BITS: Final = 1 << 25

    def __init__(self) -> None:
        self._bits = bytearray(self._BITS // 8)

    def add(self, key: bytes) -> None:
        for bit in self._of(key):
            self._bits[bit >> 3] |= _BIT[bit & 7]

    def add_hex(self, digests: Iterable[str]) -> None:
        """Add many; every night does so with all it knows."""
        bits, last = self._bits, self._BITS - 1
        for digest in digests:
            number = int(digest[:16], 16)
            first, second = number & last, number >> 32 & last
            bits[first >> 3] |= _BIT[first & 7]
            bits[second >> 3] |= _BIT[second & 7]

    def may_hold(self, key: bytes) -> bool:
        return all(self._bits[bit >> 3] >> (bit & 7) & 1 for bit in self._of(key))

    def _of(self, key: bytes) -> tuple[int, int]:
        number = int.from_bytes(key[:8], "big")
        return number & self._BITS - 1, number >> 32 & self._BITS - 1


class SqliteDigestIndex:
    """A ``ports.DigestIndex`` in one SQLite file, which is there as long as this is open."""

    def __init__(self, file: Path) -> None:
        """Begin anew in ``file``, mode 0600."""
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        self._file = file
        self._lock = threading.Lock()
        self._filter = _Filter()
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
        """Take many (digest, place) pairs; the first place of a digest counts."""
        with self._alone():
            self._write()
            self._database.executemany(_INSERT, self._filtered(known))

    def fill_from(self, read: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """Take what ``read`` gives, now and again when a digest may be among it."""
        with self._alone():
            self._filter.add_hex(digest for digest, _place in read())
            self._unread.append(read)

    def place(self, digest: str) -> str | None:
        """Return where the bytes with this digest lie."""
        with self._alone():
            return self._find(bytes.fromhex(digest))

    def take(self, digest: str, place: str) -> str | None:
        """Return where the bytes lie; None when they were unknown and are now at ``place``."""
        key = bytes.fromhex(digest)
        with self._alone():
            found = self._find(key)
            if found is None:
                self._filter.add(key)
                self._fresh[key] = place
                if len(self._fresh) >= _TOGETHER:
                    self._write()
            return found

    def close(self) -> None:
        """Remove the file."""
        self._database.close()
        self._file.unlink(missing_ok=True)

    def _filtered(self, known: Iterable[tuple[str, str]]) -> Iterator[tuple[bytes, str]]:
        for digest, place in known:
            key = bytes.fromhex(digest)
            self._filter.add(key)
            yield key, place

    def _write(self) -> None:
        self._database.executemany(_INSERT, self._fresh.items())
        self._fresh.clear()

    def _find(self, key: bytes) -> str | None:
        if not self._filter.may_hold(key):
            return None
        if (place := self._fresh.get(key)) is not None:
            return place
        while self._unread:
            known = self._unread.pop()()
            self._database.executemany(_INSERT, ((bytes.fromhex(one), at) for one, at in known))
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

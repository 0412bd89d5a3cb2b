"""An object store in memory, for tests: it keeps the same promises as the real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final

from pgben_tasks.domain.keys import check_key, check_prefix
from pgben_tasks.errors import IntegrityError, ObjectExists, ObjectMissing
from pgben_tasks.ports import StoredObject, Unfinished

_CHUNK: Final = 1024 * 1024


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryObjectStore:
    """Keep objects in a dictionary; ``clock`` says when each was stored."""

    def __init__(self, *, clock: Callable[[], datetime] = _utc_now) -> None:
        """Begin empty."""
        self._clock = clock
        self._lock = Lock()
        self._objects: dict[str, tuple[bytes, datetime]] = {}

    def describe(self) -> str:
        """Name the store for people."""
        return "memory:"

    def put(self, key: str, data: bytes) -> None:
        """Store ``data`` under a new key."""
        check_key(key)
        with self._lock:
            if key in self._objects:
                raise ObjectExists(f"'{key}' exists already", "objects are never replaced")
            self._objects[key] = (bytes(data), self._clock())

    def put_file(
        self, key: str, path: Path, *, advance: Callable[[int], None] | None = None
    ) -> None:
        """Store a file's bytes, replacing what an earlier try left."""
        check_key(key)
        data = path.read_bytes()
        with self._lock:
            self._objects[key] = (data, self._clock())
        if advance is not None:
            advance(len(data))

    def get(self, key: str, *, limit: int) -> bytes:
        """Fetch a small object whole."""
        data, _ = self._find(key)
        if len(data) > limit:
            raise IntegrityError(
                f"'{key}' is {len(data)} bytes long, at most {limit} were expected",
                "the stored object was changed; verify the target",
            )
        return data

    def stream(self, key: str) -> Iterator[bytes]:
        """Fetch an object in chunks."""
        data, _ = self._find(key)
        return (data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK))

    def head(self, key: str) -> StoredObject:
        """Return what is known of one object without its bytes."""
        data, modified = self._find(key)
        return StoredObject(key, len(data), modified)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Return every object whose key begins with ``prefix``, sorted by key."""
        check_prefix(prefix)
        with self._lock:
            found = sorted(item for item in self._objects.items() if item[0].startswith(prefix))
        return iter([StoredObject(key, len(data), at) for key, (data, at) in found])

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def now(self) -> datetime:
        """Return the clock that tells when objects were stored."""
        return self._clock()

    def volume(self) -> None:
        """Return None: memory has no volume."""

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """Return nothing: whoever kills a writer in this process kills the store with it."""
        check_prefix(prefix)
        return iter(())

    def abort(self, upload: Unfinished) -> None:
        """Do nothing: there is none."""

    def _find(self, key: str) -> tuple[bytes, datetime]:
        check_key(key)
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            raise ObjectMissing(f"'{key}' is not in the store", "verify the target")
        return found

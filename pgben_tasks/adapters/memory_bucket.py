"""A bucket in memory: the reference of the contract, and what operations are tried with."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pgben_tasks.domain.bucket import BucketSettings
from pgben_tasks.errors import ConfigurationError, IntegrityError, ObjectMissing
from pgben_tasks.ports import FetchedObject, ListedObject, ObjectFacts

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Stored:
    data: bytes
    facts: ObjectFacts
    tags: dict[str, str]


class MemoryBucket:
    """A ``Bucket`` of this process."""

    def __init__(self, name: str) -> None:
        """Begin empty, and existing."""
        self._name = name
        self._there = True
        self._lock = threading.Lock()
        self._objects: dict[str, _Stored] = {}
        self._settings = BucketSettings(versioning="off")

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._name

    def describe(self) -> str:
        """Name the bucket for people."""
        return f"the bucket '{self._name}' in memory"

    def exists(self) -> bool:
        """Whether the bucket is there."""
        return self._there

    def create(self) -> None:
        """Make the bucket."""
        self._there = True

    def list(self, prefix: str = "") -> Iterator[ListedObject]:
        """Give every object in the order of keys."""
        with self._lock:
            found = sorted(self._objects.items(), key=lambda pair: pair[0].encode())
        for key, one in found:
            if key.startswith(prefix):
                yield ListedObject(key, one.facts.etag, one.facts.size, one.facts.modified)

    def head(self, key: str) -> ObjectFacts:
        """Look at one object."""
        return self._get(key).facts

    @contextmanager
    def fetch(self, key: str) -> Iterator[FetchedObject]:
        """Fetch one object."""
        one = self._get(key)
        chunks = (one.data[at : at + _CHUNK] for at in range(0, len(one.data), _CHUNK))
        yield FetchedObject(facts=one.facts, chunks=chunks)

    def tags(self, key: str) -> dict[str, str]:
        """Give the tags of an object."""
        return dict(self._get(key).tags)

    def put(
        self,
        key: str,
        chunks: Iterator[bytes],
        *,
        size: int,
        headers: Mapping[str, str],
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """Store an object with all it carries."""
        data = b"".join(chunks)
        if len(data) != size:
            raise IntegrityError(f"'{key}' has {len(data)} bytes instead of {size}")
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        facts = ObjectFacts(
            etag=etag,
            size=size,
            modified=datetime.now(UTC).replace(microsecond=0),
            headers=dict(headers),
            metadata=dict(metadata),
            tag_count=len(tags),
        )
        with self._lock:
            self._objects[key] = _Stored(data, facts, dict(tags))
        return etag

    def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object."""
        one = self._get(key)
        with self._lock:
            facts = replace(one.facts, tag_count=len(tags))
            self._objects[key] = _Stored(one.data, facts, dict(tags))

    def copy(self, key: str, to: str) -> None:
        """Copy an object inside the bucket."""
        one = self._get(key)
        with self._lock:
            self._objects[to] = one

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._lock:
            self._objects.pop(key, None)

    def settings(self) -> BucketSettings:
        """Give the settings that were applied."""
        return self._settings

    def apply(self, settings: BucketSettings) -> tuple[str, ...]:
        """Take all settings."""
        self._settings = settings
        return ()

    def _get(self, key: str) -> _Stored:
        if not self._there:
            raise ConfigurationError(f"{self.describe()} does not exist")
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            raise ObjectMissing(f"'{key}' is not in {self.describe()}")
        return found

"""A protected bucket in memory, for tests: it keeps the same promises as one on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import md5
from threading import Lock
from typing import Final

from pgben_tasks.adapters.buckets.headers import headers_of, require_key
from pgben_tasks.adapters.buckets.uploads import blocks
from pgben_tasks.domain.buckets.capture import BucketSettings
from pgben_tasks.errors import ConfigurationError, ObjectMissing
from pgben_tasks.ports.buckets import FetchedObject, ListedObject, ObjectFacts, Uploads

_CHUNK: Final = 1024 * 1024
_PLAIN_TYPE: Final = "binary/octet-stream"


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    facts: ObjectFacts
    tags: Mapping[str, str] = field(default_factory=dict)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryBucket:
    """Keep objects in a dictionary; ``clock`` says when each was stored."""

    def __init__(
        self, name: str = "memory", *, made: bool = True, clock: Callable[[], datetime] = _utc_now
    ) -> None:
        """Begin empty; ``made`` is False for a bucket that has yet to be created."""
        self._name = name
        self._made = made
        self._clock = clock
        self._lock = Lock()
        self._objects: dict[str, _Object] = {}
        self._settings = BucketSettings(versioning="off")
        #: How long before the clock's time objects are stored.
        self.ago = timedelta(0)

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._name

    def describe(self) -> str:
        """Name the bucket for people."""
        return f"memory:{self._name}"

    def exists(self) -> bool:
        """Whether the bucket is there."""
        return self._made

    def create(self) -> None:
        """Make the bucket."""
        self._made = True

    def list(self, prefix: str = "") -> Iterator[ListedObject]:
        """Return every object, in the order of the keys' bytes."""
        self._require_made()
        with self._lock:
            found = sorted(
                (item for item in self._objects.items() if item[0].startswith(prefix)),
                key=lambda item: item[0].encode(),
            )
        return iter(
            [
                ListedObject(key, one.facts.etag, one.facts.size, one.facts.modified)
                for key, one in found
            ]
        )

    def head(self, key: str) -> ObjectFacts:
        """Return what is known of one object without its bytes."""
        one = self._find(key)
        return replace(one.facts, tag_count=len(one.tags))

    @contextmanager
    def fetch(self, key: str) -> Iterator[FetchedObject]:
        """Fetch one object."""
        one = self._find(key)
        chunks = (one.data[at : at + _CHUNK] for at in range(0, len(one.data), _CHUNK))
        yield FetchedObject(facts=replace(one.facts, tag_count=len(one.tags)), chunks=chunks)

    def tags(self, key: str) -> dict[str, str]:
        """Return the tags of an object."""
        return dict(self._find(key).tags)

    def keeps_tags(self, key: str) -> bool:
        """Memory knows tags."""
        self._find(key)
        return True

    def put(
        self,
        key: str,
        chunks: Iterator[bytes],
        *,
        size: int,
        headers: Mapping[str, str],
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
        before_commit: Callable[[], None] | None = None,
        uploads: Uploads | None = None,  # noqa: ARG002 - nothing is uploaded in parts here
    ) -> str:
        """Store an object of exactly ``size`` bytes with all it carries; return its etag."""
        self._require_made()
        headers_of(require_key(key), headers, metadata)
        (data,) = blocks(key, chunks, size=size, block=max(size, 1))
        facts = ObjectFacts(
            etag=md5(data, usedforsecurity=False).hexdigest(),
            size=size,
            modified=self._now(),
            headers={"content-type": _PLAIN_TYPE, **headers},
            metadata=dict(metadata),
        )
        if before_commit is not None:
            before_commit()
        with self._lock:
            self._objects[key] = _Object(data, facts, dict(tags))
        return facts.etag

    def give_up(self, key: str, upload: str) -> None:
        """Have nothing to give up: nothing is uploaded in parts."""

    def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object; none removes them."""
        one = self._find(key)
        with self._lock:
            self._objects[key] = replace(one, tags=dict(tags))

    def give_metadata(self, key: str, metadata: Mapping[str, str]) -> None:
        """Store an object again, with other metadata, in the second in which it was stored."""
        one = self._find(key)
        with self._lock:
            self._objects[key] = replace(one, facts=replace(one.facts, metadata=dict(metadata)))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        self._require_made()
        with self._lock:
            self._objects.pop(require_key(key), None)

    def settings(self) -> BucketSettings:
        """Return the bucket's own settings."""
        self._require_made()
        return self._settings

    def apply(self, settings: BucketSettings) -> tuple[str, ...]:
        """Take every setting that is set; the others stay as they are."""
        self._require_made()
        given = settings.model_dump(exclude_none=True, exclude={"unknown"})
        if settings.versioning == "off":
            del given["versioning"]
        self._settings = self._settings.model_copy(update=given)
        return ()

    def _now(self) -> datetime:
        return (self._clock() - self.ago).replace(microsecond=0)

    def _find(self, key: str) -> _Object:
        self._require_made()
        with self._lock:
            found = self._objects.get(require_key(key))
        if found is None:
            raise ObjectMissing(f"'{key}' is not in '{self.describe()}'")
        return found

    def _require_made(self) -> None:
        if not self._made:
            raise ConfigurationError(
                f"the bucket of '{self.describe()}' does not exist", "make it first"
            )

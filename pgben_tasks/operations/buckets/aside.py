"""Keep what a restore in place is about to overwrite or delete, in a bucket of its own.

The same keys, with all that the objects carry, fetched from there again and compared. A version
that lies there is never overwritten: where a key comes a second time with other content, a further
bucket takes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from threading import Lock
from typing import Final

import structlog

from pgben_tasks.domain.buckets.capture import further_aside
from pgben_tasks.domain.buckets.restore_plan import Content
from pgben_tasks.errors import (
    ConfigurationError,
    IntegrityError,
    ObjectMissing,
    PermanentError,
    StoreUnavailable,
    TargetBusy,
)
from pgben_tasks.operations.buckets.current import CurrentObjects, mark_of, unnamed
from pgben_tasks.ports import Bucket, FetchedObject, Uploads

log = structlog.get_logger(__name__)

#: How often an object is tried again that changes while it is copied or overwritten.
MOST_TRIES: Final = 4


class Aside:
    """The place beside a live bucket; its buckets are made when something comes to lie there."""

    def __init__(
        self,
        live: Bucket,
        name: str,
        *,
        open_bucket: Callable[[str], Bucket],
        hold: Callable[[], None],
        noting: Callable[[str], Uploads],
    ) -> None:
        """Copy objects of ``live`` to the bucket ``name``; ``hold`` is called before it is made.

        ``noting`` returns what notes the uploads to a bucket.
        """
        self._live = CurrentObjects(live)
        self._name = name
        self._open = open_bucket
        self._hold = hold
        self._noting = noting
        self._lock = Lock()
        self._ready: dict[int, CurrentObjects] = {}

    def keep(self, key: str) -> str | None:
        """Copy an object aside as it is now, unless it lies there; return its version mark.

        None when there is no such object (any more). Raises ``IntegrityError`` when the copy is
        not what was copied, ``StoreUnavailable`` when it cannot be made now.
        """
        with unnamed(key):
            for number in count(1):
                aside = self._place(number)
                try:
                    there, _ = aside.inspect(key)
                except ObjectMissing:
                    return self._copied(aside, key)
                try:
                    now, mark = self._live.inspect(key)
                except ObjectMissing:
                    return None
                if not now.differs(there):
                    return mark
        message = "counting ends with a free place"
        raise AssertionError(message)

    def secure(self, key: str, kept: str | None) -> str | None:
        """Copy an object aside until it lies there as it is now; return its version mark.

        ``kept`` is the mark of a version that is known to lie there. None when there is no such
        object. Raises ``TargetBusy`` when it changes again and again while it is copied.
        """
        with unnamed(key):
            for _ in range(MOST_TRIES):
                now = self._live.mark(key)
                if now is None or now == kept:
                    return now
                kept = self.keep(key)
        raise self.changes_too_fast()

    def changes_too_fast(self) -> TargetBusy:
        """Return the error for an object that somebody stores again and again."""
        return TargetBusy(
            f"an object in {self._live.bucket.describe()} changes as fast as it is copied aside",
            "it was not overwritten; stop whoever writes to the bucket, then try again",
        )

    def contents(self) -> tuple[list[str], int]:
        """Return the names of the buckets that were made, and how many objects lie there."""
        names: list[str] = []
        objects = 0
        for number in count(1):
            bucket = self._open(further_aside(self._name, number))
            if not bucket.exists():
                break
            names.append(bucket.name)
            objects += sum(1 for _ in bucket.list())
        return names, objects

    def _place(self, number: int) -> CurrentObjects:
        with self._lock:
            if number not in self._ready:
                bucket = self._open(further_aside(self._name, number))
                if not bucket.exists():
                    self._make(bucket)
                self._ready[number] = CurrentObjects(bucket)
            return self._ready[number]

    def _make(self, bucket: Bucket) -> None:
        self._hold()
        try:
            bucket.create()
        except (ConfigurationError, PermanentError) as exc:
            raise ConfigurationError(
                f"the bucket '{bucket.name}' for what would be overwritten cannot be made: "
                f"{exc.sentence}",
                "nothing is overwritten before it is copied; let PGBEN_MINIO_ACCESS_KEY make "
                "buckets, or restore into another bucket with `into`",
            ) from exc
        log.info("aside_bucket_made", bucket=bucket.name)

    def _copied(self, aside: CurrentObjects, key: str) -> str | None:
        digest = hashlib.sha256()

        def hashed(chunks: Iterator[bytes]) -> Iterator[bytes]:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk

        with self._taken(key) as taken:
            if taken is None:
                return None
            got, tags = taken
            facts = got.facts
            with _not_missing(aside.bucket):
                aside.bucket.put(
                    key,
                    hashed(got.chunks),
                    size=facts.size,
                    headers=facts.headers,
                    metadata=facts.metadata,
                    tags=tags or {},
                    uploads=self._noting(aside.bucket.name),
                )
        original = Content(
            sha256=digest.hexdigest(),
            size=facts.size,
            headers=facts.headers,
            metadata=facts.metadata,
            tags=tags,
        )
        with _not_missing(aside.bucket):
            copy, _ = aside.inspect(key)
        differs = original.differs(copy)
        if differs:
            raise IntegrityError(
                f"the copy of an object in {aside.bucket.describe()} differs: {', '.join(differs)}",
                "it was not overwritten; look at that server",
            )
        return mark_of(facts, tags)

    @contextmanager
    def _taken(self, key: str) -> Iterator[tuple[FetchedObject, dict[str, str] | None] | None]:
        """Fetch a live object and its tags; None where there is none (any more)."""
        with ExitStack() as stack:
            taken = None
            # Nothing but these two questions tells that there is no live object.
            with suppress(ObjectMissing):
                got = stack.enter_context(self._live.bucket.fetch(key))
                taken = got, self._live.tags(key, got.facts)
            yield taken


@contextmanager
def _not_missing(aside: Bucket) -> Iterator[None]:
    """Yield what a bucket aside has lost of an object on its way there as trouble of that bucket.

    An upload that is gone, or an answer "not found" of a proxy, says nothing of the live object.
    """
    try:
        yield
    except ObjectMissing as exc:
        raise StoreUnavailable(
            f"{aside.describe()} does not keep an object that is copied there",
            "nothing was overwritten without its copy; look at that server",
        ) from exc

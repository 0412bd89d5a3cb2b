"""Fetching one object of a snapshot: what it carries, or why it cannot be had.

An object ends in one of four ways: its bytes are in a pack; it is gone, by two answers of different
kinds; it cannot be read, which its entry says; or it is as it was and stays where it is. Trouble of
the bucket as a whole, or of the repository, is never put down to an object.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Final

import structlog

from pgben_tasks.domain.buckets.diff import listed_moment
from pgben_tasks.domain.buckets.inventory import Entry, parse_line
from pgben_tasks.errors import (
    ConfigurationError,
    IntegrityError,
    ObjectMissing,
    PermanentError,
    PgbenError,
    StoreUnavailable,
    TransientError,
)
from pgben_tasks.operations.buckets.current import unnamed
from pgben_tasks.operations.snapshot_files import ToFetch
from pgben_tasks.operations.toolbox import Run
from pgben_tasks.ports import Bucket, ObjectPackWriter

log = structlog.get_logger(__name__)

#: Waits before an object is tried again, in seconds.
_DELAYS: Final = (0.5, 2.0, 5.0)
#: Until the second is over in which an object was stored, by a server's clock; and how often.
_SECOND: Final = 1.1
_SETTLINGS: Final = 3
#: Among so many keys that begin like a missing one it is looked for: a server may not sort them.
_LOOK_FOR: Final = 1000


class Fetcher:
    """Gives the entry of each object that is wanted. Safe to use from several threads."""

    def __init__(
        self,
        run: Run,
        bucket: Bucket,
        writer: ObjectPackWriter,
        *,
        now: datetime,
        stop: threading.Event,
    ) -> None:
        """Fetch from ``bucket`` into ``writer`` until ``stop`` is set."""
        self._run = run
        self._bucket = bucket
        self._writer = writer
        self._now = now
        self._stop = stop
        self._keeps_tags = bool(run.job.result["keeps_tags"])

    def entry(self, item: ToFetch) -> Entry | None:
        """Fetch one object; None when it is gone. What cannot be read is said in its entry."""
        trouble: PgbenError
        for delay in (*_DELAYS, None):
            try:
                with unnamed(item.key):
                    return self._tagged(item) if item.tags_only else self._settled(item)
            except ObjectMissing:
                if not self._is_listed(item.key):
                    return _before(item)
                # Something between here and the server answers for it, or only for the tags.
                trouble = StoreUnavailable(
                    f"{self._bucket.describe()} lists an object and says that it is not there"
                )
            except TransientError as exc:
                trouble = exc
            except (PermanentError, IntegrityError, ConfigurationError) as exc:
                trouble, delay = exc, None  # noqa: PLW2901 - to try again helps nothing
            # A repository that is away must not make objects unreadable.
            self._writer.check()
            if delay is None:
                break
            if self._stop.wait(delay):
                raise trouble
        return self._unreadable(item, trouble)

    def _is_listed(self, key: str) -> bool:
        """Ask a second time whether an object is there, in the way in which we heard of it."""
        try:
            with unnamed(key):
                first = islice(self._bucket.list(key), _LOOK_FOR)
                return any(one.key == key for one in first)
        except TransientError:
            return True

    def _settled(self, item: ToFetch) -> Entry:
        """Fetch an object, and again if it was stored this very second.

        Dates have whole seconds: stored over once more in that second with the same bytes, say to
        give it its metadata, it would look the same in every listing to come.
        """
        for _ in range(_SETTLINGS):
            entry, just_stored = self._fetched(item)
            if not just_stored:
                break
            if self._stop.wait(_SECOND):
                raise TransientError("copying was given up")
        return entry

    def _fetched(self, item: ToFetch) -> tuple[Entry, bool]:
        with self._bucket.fetch(item.key) as got:
            facts = got.facts
            kept = self._writer.add(self._counted(got.chunks), size=facts.size)
        if kept.size != facts.size:
            raise TransientError(f"an object of {facts.size} bytes gave {kept.size}")
        ask = facts.tag_count != 0 and self._keeps_tags
        tags = self._bucket.tags(item.key) if ask else {}
        entry = Entry(
            key=item.key,
            etag=facts.etag,
            size=facts.size,
            modified=listed_moment(item.modified, facts.modified),
            version=facts.version,
            headers=dict(facts.headers),
            metadata=dict(facts.metadata),
            tags=tags,
            tags_at=self._now,
            sha256=kept.sha256,
            pack=kept.place,
        )
        return entry, facts.just_stored

    def _tagged(self, item: ToFetch) -> Entry:
        old = parse_line((item.line or "").encode(), where="the spool")
        if not self._keeps_tags:
            # What another server knew before is not forgotten for that.
            return old
        update = {"tags": self._bucket.tags(item.key), "tags_at": self._now}
        return old.model_copy(update=update)

    def _unreadable(self, item: ToFetch, error: PgbenError) -> Entry:
        """Say that one object cannot be read, unless the whole bucket cannot."""
        if isinstance(error, TransientError | ConfigurationError) and not self._answers():
            raise error
        log.warning("object_unreadable", why=type(error).__name__)
        before = _before(item)
        if before is not None:
            return before
        return Entry(
            key=item.key,
            etag="",
            size=item.size,
            modified=self._now,
            # The sentence names the key, which the line does already.
            error=type(error).__name__,
        )

    def _answers(self) -> bool:
        try:
            return self._bucket.exists()
        except (TransientError, ConfigurationError):
            return False

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._stop.is_set():
                raise TransientError("copying was given up")
            self._run.progress.advance(len(chunk))
            yield chunk


def _before(item: ToFetch) -> Entry | None:
    """Return the entry of an object that is as it was: its bytes are kept, with its tags then."""
    return None if item.line is None else parse_line(item.line.encode(), where="the spool")

"""Objects of a bucket as they are now, on servers that keep tags and on those that do not.

Here, and nowhere else in restores and comparisons, tags are asked for: a server that knows none
may answer such questions with the object itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from pgben_tasks.domain.buckets.inventory import Entry
from pgben_tasks.domain.buckets.restore_plan import Content, content_of, version_mark
from pgben_tasks.errors import ObjectMissing, PgbenError
from pgben_tasks.ports import Bucket, ObjectFacts


class CurrentObjects:
    """The objects of one bucket, for one step; safe to use from several threads.

    Whether the server keeps tags is tried once, on the first object that is asked about: not for
    longer than a step, for there may be another server behind the address tomorrow.
    """

    def __init__(self, bucket: Bucket) -> None:
        """Read from ``bucket``; nothing is asked yet."""
        self.bucket = bucket
        self._keeps_tags: bool | None = None

    @property
    def lack_tags(self) -> bool:
        """Whether it turned out that the server keeps no tags."""
        return self._keeps_tags is False

    def keep_tags(self, key: str) -> bool:
        """Return whether the server keeps tags; ``key`` is an object that is there."""
        if self._keeps_tags is None:
            self._keeps_tags = self.bucket.keeps_tags(key)
        return self._keeps_tags

    def tags(self, key: str, facts: ObjectFacts | None = None) -> dict[str, str] | None:
        """Return the tags of an object, None where the server keeps none.

        ``facts`` are those of the object, where they are known: they may say that it has no tags.
        """
        if facts is not None and facts.tag_count == 0:
            return {}
        return self.bucket.tags(key) if self.keep_tags(key) else None

    def inspect(self, key: str) -> tuple[Content, str]:
        """Fetch an object; return its content with all it carries, and its version mark."""
        digest = hashlib.sha256()
        with self.bucket.fetch(key) as got:
            for chunk in got.chunks:
                digest.update(chunk)
            facts = got.facts
        content = Content(
            sha256=digest.hexdigest(),
            size=facts.size,
            headers=facts.headers,
            metadata=facts.metadata,
            tags=self.tags(key, facts),
        )
        return content, mark_of(facts, content.tags)

    def mark(self, key: str) -> str | None:
        """Return the mark of the version that is there, None where there is none."""
        try:
            facts = self.bucket.head(key)
            tags = self.tags(key, facts)
        except ObjectMissing:
            return None
        return mark_of(facts, tags)

    def differ(
        self,
        key: str,
        entry: Entry,
        *,
        tags: bool = True,
        listing_started: datetime | None = None,
    ) -> tuple[str, ...]:
        """Fetch an object and name what is not as ``entry`` has it; raises ``ObjectMissing``.

        Tags are compared where the server keeps any, and only with ``tags``. Further ones are none
        of a difference where those of ``entry`` were read before ``listing_started``.
        """
        now, _ = self.inspect(key)
        wanted = content_of(entry, listing_started)
        # Some servers say that there are no tags, and know none.
        kept = now.tags == entry.tags or self.keep_tags(key)
        if not kept or not tags:
            wanted = replace(wanted, tags=None)
        return wanted.differs(now)


def mark_of(facts: ObjectFacts, tags: Mapping[str, str] | None) -> str:
    """Return the mark of a version with these facts and tags."""
    return version_mark(facts.etag, facts.modified, metadata=facts.metadata, tags=tags or {})


@contextmanager
def unnamed(key: str) -> Iterator[None]:
    """Take the key out of what goes wrong with an object inside the block."""
    try:
        yield
    except PgbenError as exc:
        sentence = exc.sentence.replace(f"'{key}'", "an object").replace(repr(key), "an object")
        # The cause would show the key in a log.
        raise type(exc)(sentence, exc.hint) from None

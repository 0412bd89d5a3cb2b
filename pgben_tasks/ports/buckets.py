"""A protected bucket: the objects that people stored, with everything they carry.

Unlike a repository's ``ObjectStore`` its keys are foreign: any text of up to 1,024 bytes of UTF-8.
Nothing of a key may reach a path of a file system or a command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from pgben_tasks.domain.buckets.capture import BucketSettings


class ListedObject(Struct, frozen=True, gc=False):
    """What a listing says of one object; ``etag`` without quotes, ``size`` in bytes.

    ``tags`` is None where the server's listings do not say them.
    """

    key: str
    etag: str
    size: int
    modified: datetime
    tags: dict[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFacts:
    """What an object carries beside its bytes and its tags.

    ``headers`` are the standard ones that it was stored with (content-type, cache-control,
    content-disposition, content-encoding, content-language, expires), ``metadata`` the user's, by
    the name behind ``x-amz-meta-``. Names are lower case. A value is the header's bytes, one
    character for each (latin-1), so that nothing is lost in decoding. ``modified`` has whole
    seconds. ``tag_count`` is None where the server does not say. ``just_stored`` says that the
    server answered within the very second in which the object was stored: another one stored over
    it in that second would have the same date.
    """

    etag: str
    size: int
    modified: datetime
    version: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    tag_count: int | None = None
    just_stored: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedObject:
    """An object on its way: its facts, and its raw bytes in chunks (never decompressed)."""

    facts: ObjectFacts
    chunks: Iterator[bytes]


class Uploads(Protocol):
    """Notes uploads in parts, so that those of a killed process can be ended.

    A server keeps the parts of an upload that never ended, unseen, for ever. Called from several
    threads.
    """

    def begun(self, key: str, upload: str) -> None:
        """Note an upload, durably: no part of it is stored before this returns."""

    def ended(self, key: str, upload: str) -> None:
        """Forget an upload of which nothing is left but perhaps its object."""


class Bucket(Protocol):
    """One bucket of an S3 server.

    Errors: ``ObjectMissing`` (of a key), ``ConfigurationError`` (credentials, no such bucket),
    ``StoreUnavailable`` (transient), ``PermanentError``. Safe to use from several threads.
    """

    @property
    def name(self) -> str:
        """The bucket's name."""

    def describe(self) -> str:
        """Name bucket and server for people, without secrets."""

    def exists(self) -> bool:
        """Whether the bucket is there."""

    def create(self) -> None:
        """Make the bucket."""

    def list(self, prefix: str = "") -> Iterator[ListedObject]:
        """Return every object, in the order of the server, page by page.

        A listing that breaks off raises; it never just ends.
        """

    def head(self, key: str) -> ObjectFacts:
        """Return what is known of one object without its bytes."""

    def fetch(self, key: str) -> AbstractContextManager[FetchedObject]:
        """Fetch one object; its bytes must be read, or left, inside the block."""

    def tags(self, key: str) -> dict[str, str]:
        """Return the tags of an object."""

    def keeps_tags(self, key: str) -> bool:
        """Try on an object that is there whether the server knows tags at all.

        False only where that is certain: tags that are there must never go unnoticed.
        """

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
        uploads: Uploads | None = None,
    ) -> str:
        """Store an object of exactly ``size`` bytes with all it carries; return its etag.

        Fewer or more bytes raise ``IntegrityError`` and nothing is stored. A server that knows no
        tags loses them. ``before_commit`` is called when all bytes are read, right before each
        request by which the object may come to be there: whatever it raises is raised, and nothing
        is stored by that request. ``uploads`` notes an upload in parts. ``ObjectMissing`` means
        that a server which has the bucket answered "not found".
        """

    def give_up(self, key: str, upload: str) -> None:
        """Remove the parts of an upload that was begun; one that is not there is no error."""

    def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object; none removes them.

        Raises ``ObjectRefused`` where the server keeps tags that are removed.
        """

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def settings(self) -> BucketSettings:
        """Read the bucket's own settings, and which of them the server does not know."""

    def apply(self, settings: BucketSettings) -> tuple[str, ...]:
        """Return the bucket these settings; names those that the server did not take."""

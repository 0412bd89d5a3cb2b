"""A protected bucket on a server that speaks S3.

One signed client for objects and settings: obstore changes keys that begin or end with a slash and
tells neither tags nor all headers, and minio-py refuses some keys and metadata. minio-py finds and
makes the bucket, and sets its versioning (docs/decisions/0014-clients-of-buckets.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pgben_tasks.adapters.buckets.body import Body, facts_in, headers_in
from pgben_tasks.adapters.buckets.headers import (
    headers_of,
    require_key,
    tags_header,
)
from pgben_tasks.adapters.buckets.listing import READING_ERRORS, Page
from pgben_tasks.adapters.buckets.settings import apply_settings, read_settings
from pgben_tasks.adapters.buckets.tagging import (
    TAGS_HEADER,
    ask_to_store,
    knows_tags,
    read_tags,
    write_tags,
)
from pgben_tasks.adapters.buckets.uploads import (
    Sizes,
    blocks,
    in_parts,
    part_size,
    uploaded,
)
from pgben_tasks.adapters.s3.client import S3Request, S3Sender, date_of, error_code, succeeded
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.domain.buckets.capture import BucketSettings
from pgben_tasks.errors import ObjectMissing, PgbenError
from pgben_tasks.ports.buckets import FetchedObject, ListedObject, ObjectFacts, Uploads

if TYPE_CHECKING:
    import urllib3

    from pgben_tasks.adapters.s3.administration import BucketAdministration

_NOT_FOUND: Final = 404
#: Servers take about 8 KiB of headers; longer tags follow by a request of their own.
_LONGEST_TAGS: Final = 2048
#: Servers whose listings say metadata and tags when they are asked for them.
_LISTS_TAGS: Final = frozenset({"MinIO"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketFacts:
    """What one answer says of a bucket: whether it is there, and the key of its first object.

    ``ahead`` is how far its server's clock is ahead of this machine's, to the second; None where
    the answer has no date.
    """

    there: bool
    first: str | None = None
    ahead: timedelta | None = None


class S3Bucket:
    """One bucket of an S3 server; safe to use from several threads."""

    def __init__(
        self, location: S3Location, *, page: int = 1000, sizes: Sizes | None = None
    ) -> None:
        """Prepare; the server is not asked yet. A listing's answers have ``page`` objects each."""
        self._where = location
        self._page = page
        self._sizes = sizes or Sizes()
        self._sender = S3Sender(location, store=self.describe(), patience=location.patience)

    @cached_property
    def _administration(self) -> BucketAdministration:
        # minio-py takes 0.1 s to import, and few commands ask it anything.
        from pgben_tasks.adapters.s3.administration import BucketAdministration  # noqa: PLC0415

        return BucketAdministration(self._where, store=self.describe())

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._where.bucket

    def describe(self) -> str:
        """Name bucket and server for people, without secrets."""
        return f"s3://{self._where.bucket} ({urlsplit(self._where.endpoint).netloc})"

    def exists(self) -> bool:
        """Return whether the bucket is there."""
        return self._administration.exists()

    def neighbours(self) -> tuple[str, ...]:
        """Return the name of every bucket of the server, this one among them if it is there."""
        return self._administration.all_buckets()

    def inspect(self) -> BucketFacts:
        """Return what a listing of one object says; raises where the server does not answer it."""
        query = {"list-type": "2", "encoding-type": "url", "max-keys": "1"}
        request = S3Request(method="GET", query=query)
        before = datetime.now(UTC)
        answer = self._sender.ask(request)
        after = datetime.now(UTC)
        there = succeeded(answer)
        if not there and error_code(answer) != "NoSuchBucket" and answer.status != _NOT_FOUND:
            raise self._sender.error(request, answer)
        date = date_of(answer)
        listed = () if not there else self._objects_of(self._page_in(answer, ""), "")
        return BucketFacts(
            there=there,
            first=next((one.key for one in listed), None),
            # The answer was made somewhere between the question and its arrival.
            ahead=None if date is None else date - (before + (after - before) / 2),
        )

    def create(self) -> None:
        """Make the bucket; one that is there and ours is no error."""
        self._administration.make()

    def list(self, prefix: str = "") -> Iterator[ListedObject]:
        """Yield every object, in the order of the server, page by page, with tags where it can."""
        query = {
            "list-type": "2",
            "encoding-type": "url",
            "max-keys": str(self._page),
            "prefix": prefix,
        }
        seen = ""
        # The server makes the next page while the one before is worked on.
        with ThreadPoolExecutor(1, thread_name_prefix="list") as ahead:
            coming = ahead.submit(self._page_of, prefix, query)
            if coming.result().server in _LISTS_TAGS:
                query["metadata"] = "true"
                coming = ahead.submit(self._page_of, prefix, query)
            while True:
                page = coming.result()
                if page.truncated and page.token in {"", seen}:
                    raise self._sender.unexpected_answer(prefix)
                if page.truncated:
                    seen = page.token
                    further = {**query, "continuation-token": seen}
                    coming = ahead.submit(self._page_of, prefix, further)
                yield from self._objects_of(page, prefix)
                if not page.truncated:
                    return

    def _page_of(self, prefix: str, query: Mapping[str, str]) -> Page:
        """Fetch a page; where it is not to be had with metadata, without them."""
        if "metadata" in query:
            # Names of metadata become elements, whatever is in them, and tags may be refused.
            with suppress(PgbenError):
                return self._read_page(prefix, query)
        plain = {name: value for name, value in query.items() if name != "metadata"}
        return self._read_page(prefix, plain)

    def _read_page(self, prefix: str, query: Mapping[str, str]) -> Page:
        return self._page_in(self._sender.send(S3Request(method="GET", query=query)), prefix)

    def _page_in(self, answer: urllib3.BaseHTTPResponse, prefix: str) -> Page:
        try:
            return Page(answer.data, server=answer.headers.get("server", ""))
        except READING_ERRORS as exc:
            raise self._sender.unexpected_answer(prefix) from exc

    def _objects_of(self, page: Page, prefix: str) -> Iterator[ListedObject]:
        try:
            yield from page.objects()
        except READING_ERRORS as exc:
            raise self._sender.unexpected_answer(prefix) from exc

    def head(self, key: str) -> ObjectFacts:
        """Return what one object carries."""
        try:
            answer = self._sender.send(S3Request(method="HEAD", key=require_key(key)))
        except ObjectMissing as exc:
            # An answer to HEAD has no body: this is how "no such bucket" shows itself.
            if not self.exists():
                raise self._sender.error_for(["NoSuchBucket"], key) from exc
            raise
        return facts_in(self._sender, key, headers_in(answer))

    @contextmanager
    def fetch(self, key: str) -> Iterator[FetchedObject]:
        """Fetch one object; its bytes must be read, or left, inside the block."""
        whole = self._sender.get_whole(require_key(key))
        if whole is not None:
            chunks = iter([whole.body] if whole.body else ())
            yield FetchedObject(facts=facts_in(self._sender, key, whole.headers), chunks=chunks)
            return
        body = Body(
            self._sender, key, self._sender.send(S3Request(method="GET", key=key, stream=True))
        )
        try:
            yield FetchedObject(facts=body.facts, chunks=body.chunks())
        finally:
            body.close()

    def tags(self, key: str) -> dict[str, str]:
        """Return the tags of an object."""
        return read_tags(self._sender, require_key(key))

    def keeps_tags(self, key: str) -> bool:
        """Return whether the server knows tags at all, tried on an object that is there."""
        looked_at = self._sender.send(S3Request(method="HEAD", key=require_key(key)))
        return knows_tags(self._sender, key, looked_at)

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
        """Store an object of exactly ``size`` bytes with all it carries; return its etag."""
        sent = headers_of(require_key(key), headers, metadata)
        with self._bucket_there(key):
            inline = tags_header(tags)
            late = len(inline) > _LONGEST_TAGS
            if tags and not late:
                sent[TAGS_HEADER] = inline
            # Some servers forget the tags that an upload in parts began with.
            doubtful = bool(tags) and (late or size > self._sizes.single)
            if size <= self._sizes.single:
                (data,) = blocks(key, chunks, size=size, block=max(size, 1))
                request = S3Request(
                    method="PUT", key=key, headers=sent, body=data, before=before_commit
                )
                etag = self._stored_whole(request)
            else:
                block = part_size(size, self._sizes.part)
                parts = (
                    uploaded(self._sender, key, data)
                    for data in blocks(key, chunks, size=size, block=block)
                )
                etag = in_parts(
                    self._sender, key, sent, parts, before_end=before_commit, uploads=uploads
                )
            # A server that knows no tags would take them for the object's bytes.
            if doubtful and self.keeps_tags(key) and self.tags(key) != tags:
                self.put_tags(key, tags)
            return etag

    def _stored_whole(self, request: S3Request) -> str:
        whole = self._sender.put_whole(request)
        if whole is not None:
            return whole.headers.get("etag", "").strip('"')
        answer = ask_to_store(self._sender, request)
        if not succeeded(answer):
            raise self._sender.error(request, answer)
        return answer.headers.get("etag", "").strip('"')

    def give_up(self, key: str, upload: str) -> None:
        """Remove the parts of an upload that was begun; one that is not there is no error."""
        self._sender.abandon_upload(require_key(key), upload)

    def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object; none removes them."""
        write_tags(self._sender, require_key(key), tags)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            self._sender.send(S3Request(method="DELETE", key=require_key(key)))
        except ObjectMissing:
            return

    def settings(self) -> BucketSettings:
        """Read the bucket's own settings, and which of them the server does not know."""
        return read_settings(self._sender)

    def apply(self, settings: BucketSettings) -> tuple[str, ...]:
        """Write these settings; return the names of those that the server did not take."""
        return apply_settings(self._sender, self._administration, settings)

    @contextmanager
    def _bucket_there(self, key: str) -> Iterator[None]:
        """Let ``ObjectMissing`` out of the block only where the bucket itself is there.

        A bare 404, without a code of S3 that says what was not found, may mean either.
        """
        try:
            yield
        except ObjectMissing as exc:
            if self._sender.ask(S3Request(method="HEAD")).status == _NOT_FOUND:
                raise self._sender.error_for(["NoSuchBucket"], key) from exc
            raise

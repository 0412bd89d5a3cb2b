"""An object store on S3: bytes by obstore, its clock and unfinished uploads by signed requests.

minio-py can list unfinished uploads, but only by a private call which sends an empty delimiter,
whereupon rclone names none, and which loses the marker of the second page.

Vendor texts never reach an operator's sentence: they hold addresses and request details.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

from pgben_tasks.adapters.s3.client import S3Request, S3Sender, date_of
from pgben_tasks.adapters.s3.errors import as_public_error, codes_of
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.adapters.s3.xml import text_of
from pgben_tasks.domain.keys import check_key, check_prefix
from pgben_tasks.errors import (
    ConfigurationError,
    IntegrityError,
    ObjectExists,
    ObjectMissing,
    StoreUnavailable,
)
from pgben_tasks.ports import StoredObject, Unfinished

if TYPE_CHECKING:
    from obstore.store import S3Credential

_MEBIBYTE: Final = 1024 * 1024
_CHUNK: Final = _MEBIBYTE
#: S3 allows 10,000 parts of an upload; obstore's own 5 MiB would end at 48 GiB.
_SMALLEST_PART: Final = 8 * _MEBIBYTE
_MOST_PARTS: Final = 9_000
_PARTS_IN_FLIGHT: Final = 4
_CONNECT_LIMIT: Final = timedelta(seconds=5)
_SMALL_LIMIT: Final = timedelta(minutes=2)
#: obstore's limit is for the whole request, and a pack may be as large as the largest table.
_BULK_LIMIT: Final = timedelta(hours=24)
_SILENCE_LIMIT: Final = timedelta(minutes=5)
#: Small questions are asked by people who wait for the answer.
_SMALL_PATIENCE: Final = timedelta(seconds=2)
_NOT_IMPLEMENTED: Final = frozenset({"NotImplemented", "501"})


class S3ObjectStore:
    """Keep objects in a bucket, below a prefix."""

    def __init__(self, location: S3Location, *, page: int = 1000) -> None:
        """Prepare the clients; the server is not asked yet. It lists ``page`` uploads at a time."""
        self._where = location
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._small = _client(location, limit=_SMALL_LIMIT)
        self._bulk = _client(location, limit=_BULK_LIMIT)
        self._page = page
        self._sender = S3Sender(
            location,
            store=f"s3://{location.bucket}",
            patience=min(location.patience, _SMALL_PATIENCE),
        )
        self._put_mode: Literal["create", "overwrite"] = "create"

    def describe(self) -> str:
        """Name the store for people, without secrets."""
        host = urlsplit(self._where.endpoint).netloc
        return f"s3://{self._where.bucket}/{self._prefix}".rstrip("/") + f" ({host})"

    def put(self, key: str, data: bytes) -> None:
        """Store ``data`` under a new key.

        Looked for first, because many servers ignore If-None-Match; the header closes the gap on
        those that honour it.
        """
        path = self._path(key)
        try:
            with self._translated(key):
                obstore.head(self._small, path)
        except ObjectMissing:
            self._put_new(key, path, data)
        else:
            raise ObjectExists(f"'{key}' exists already", "objects are never replaced")

    def put_file(
        self, key: str, path: Path, *, advance: Callable[[int], None] | None = None
    ) -> None:
        """Upload a file in parts, replacing what an earlier try left."""
        try:
            self._put_file(key, path, advance)
        except ObjectMissing as exc:
            # Nothing can be missing that is only being stored. obstore asks again for the end of an
            # upload whose answer was lost, and is told that there is no such upload any more.
            raise StoreUnavailable(
                f"'{self.describe()}' lost the upload of '{key}', or the answer to its end",
                "it is stored once more by another try",
            ) from exc

    def _put_file(self, key: str, path: Path, advance: Callable[[int], None] | None) -> None:
        size = path.stat().st_size
        part = max(_SMALLEST_PART, -(-size // _MOST_PARTS))
        if size <= part:
            with self._translated(key):
                obstore.put(self._bulk, self._path(key), path.read_bytes(), use_multipart=False)
            if advance is not None:
                advance(size)
            return
        with self._translated(key):
            obstore.put(
                self._bulk,
                self._path(key),
                _file_chunks(path, advance),
                use_multipart=True,
                chunk_size=part,
                max_concurrency=_PARTS_IN_FLIGHT,
            )

    def get(self, key: str, *, limit: int) -> bytes:
        """Fetch a small object whole."""
        with self._translated(key):
            answer = obstore.get(self._small, self._path(key))
            size = answer.meta["size"]
            if size > limit:
                raise IntegrityError(
                    f"'{key}' is {size} bytes long, at most {limit} were expected",
                    "the stored object was changed; verify the target",
                )
            return bytes(answer.bytes())

    def stream(self, key: str) -> Iterator[bytes]:
        """Fetch an object in chunks; a connection that breaks is resumed where it was."""
        with self._translated(key):
            chunks = obstore.get(self._bulk, self._path(key)).stream(_CHUNK)
        return self._chunks(key, chunks)

    def head(self, key: str) -> StoredObject:
        """Return what is known of one object without its bytes."""
        try:
            with self._translated(key):
                return self._stored(obstore.head(self._small, self._path(key)))
        except ObjectMissing:
            # An answer to HEAD has no body: this is how "no such bucket" shows itself.
            self._require_bucket()
            raise

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Return every object whose key begins with ``prefix``, sorted by key.

        obstore lists whole folders; what stands beside the prefix in its folder is left out here.
        """
        folder, _, _ = check_prefix(prefix).rpartition("/")
        with self._translated(prefix or self._where.bucket):
            found = [
                self._stored(meta)
                for batch in obstore.list(self._small, self._prefix + folder, chunk_size=1000)
                for meta in batch
            ]
        return iter(sorted((o for o in found if o.key.startswith(prefix)), key=lambda o: o.key))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            with self._translated(key):
                obstore.delete(self._small, self._path(key))
        except ObjectMissing:
            self._require_bucket()

    def now(self) -> datetime:
        """Return the server's clock, to the second: every answer is dated."""
        # A listing of nothing needs no right that the other requests do not need.
        query = {"list-type": "2", "max-keys": "1", "prefix": "none/", "delimiter": "/"}
        now = date_of(self._sender.send(S3Request(method="GET", query=query)))
        if now is None:
            raise ConfigurationError(
                f"'{self._sender.store}' does not tell its time",
                "look at what stands between here and the server: its answers have no Date header",
            )
        return now

    def volume(self) -> None:
        """Return None: a server does not say how much room it has."""

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """Return the multipart uploads that killed writers left, sorted by key."""
        found = self._uploads(self._prefix + check_prefix(prefix))
        return iter(sorted(found, key=lambda one: (one.key, one.upload)))

    def abort(self, upload: Unfinished) -> None:
        """Remove a multipart upload; its parts are freed. One that is not there is no error."""
        self._sender.abandon_upload(self._path(upload.key), upload.upload)

    def _uploads(self, prefix: str) -> Iterator[Unfinished]:
        """Yield the unfinished uploads under keys of the bucket that begin with ``prefix``."""
        marker: dict[str, str] = {}
        while True:
            query = {"uploads": "", "prefix": prefix, "max-uploads": str(self._page), **marker}
            try:
                page = self._sender.xml(
                    S3Request(method="GET", query=query), "ListMultipartUploadsResult"
                )
            except ObjectMissing:
                # So says rclone, NoSuchUpload, of a bucket that never had one.
                return
            for found in page.iterfind("Upload"):
                yield Unfinished(
                    text_of(found, "Key").removeprefix(self._prefix),
                    text_of(found, "UploadId"),
                    datetime.fromisoformat(text_of(found, "Initiated")).astimezone(UTC),
                )
            following = {
                "key-marker": text_of(page, "NextKeyMarker"),
                "upload-id-marker": text_of(page, "NextUploadIdMarker"),
            }
            if text_of(page, "IsTruncated") != "true" or following == marker:
                return
            marker = following

    def _put_new(self, key: str, path: str, data: bytes) -> None:
        with self._translated(key):
            try:
                obstore.put(self._small, path, data, mode=self._put_mode, use_multipart=False)
            except obstore.exceptions.BaseError as exc:
                if self._put_mode == "overwrite" or _NOT_IMPLEMENTED.isdisjoint(codes_of(exc)):
                    raise
                # The server knows no If-None-Match at all: the look before has to do.
                self._put_mode = "overwrite"
                obstore.put(self._small, path, data, mode=self._put_mode, use_multipart=False)

    def _path(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _stored(self, meta: obstore.ObjectMeta) -> StoredObject:
        key = meta["path"].removeprefix(self._prefix)
        return StoredObject(key, meta["size"], meta["last_modified"])

    def _chunks(self, key: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        with self._translated(key):
            yield from chunks

    def _require_bucket(self) -> None:
        with self._translated(self._where.bucket):
            next(iter(obstore.list(self._small, f"{self._prefix}none", chunk_size=1)), None)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (obstore.exceptions.BaseError, FileNotFoundError, ValueError) as exc:
            raise as_public_error(
                exc, what, store=self.describe(), hints=self._where.hints
            ) from exc


def _client(location: S3Location, *, limit: timedelta) -> S3Store:
    def credentials() -> S3Credential:
        return {
            "access_key_id": location.access_key,
            "secret_access_key": location.secret_key,
            "token": None,
            "expires_at": None,
        }

    options: obstore.store.ClientConfig = {
        "allow_http": not location.secure,
        "connect_timeout": _CONNECT_LIMIT,
        "timeout": limit,
        "read_timeout": _SILENCE_LIMIT,
    }
    if location.ca_file is not None:
        try:
            options["root_certificate"] = location.ca_file.read_bytes()
        except OSError as exc:
            raise ConfigurationError(
                f"the repository's CA file '{location.ca_file}' cannot be read",
                "correct PGBEN_REPOSITORY_CA_FILE, or the file's owner and mode",
            ) from exc
    try:
        return S3Store(
            location.bucket,
            # Set although they are the defaults: obstore would else take AWS_… variables of the
            # environment, which belong to someone else.
            config={
                "endpoint": location.endpoint,
                "aws_endpoint_url_s3": location.endpoint,
                "region": location.region,
                "virtual_hosted_style_request": False,
                "skip_signature": False,
                "unsigned_payload": False,
                # One key at a time by plain DELETE, which every server knows.
                "disable_bulk_delete": True,
            },
            client_options=options,
            retry_config={"max_retries": 10, "retry_timeout": location.patience},
            credential_provider=credentials,
        )
    except (obstore.exceptions.BaseError, ValueError) as exc:
        raise ConfigurationError(
            f"no S3 client can be made for 's3://{location.bucket}'",
            "check PGBEN_REPOSITORY_ENDPOINT, and that the CA file holds certificates",
        ) from exc


def _file_chunks(path: Path, advance: Callable[[int], None] | None) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
            if advance is not None:
                advance(len(chunk))

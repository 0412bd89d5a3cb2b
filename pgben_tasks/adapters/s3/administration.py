"""Finding and making buckets, and switching their versioning on, by minio-py.

A bucket's other settings are read and written as the server's own bytes
(docs/decisions/0014-clients-of-buckets.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final, Literal
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from minio.versioningconfig import VersioningConfig

from pgben_tasks.adapters.s3.errors import codes_of, error_for, is_unaskable
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.errors import PgbenError

_CONNECT_SECONDS: Final = 5.0
_SILENCE_SECONDS: Final = 30.0
#: Connections that are kept: objects are looked for by as many threads as copy.
_KEPT_CONNECTIONS: Final = 16
_REPEATED: Final = (429, 500, 502, 503, 504)
_FIRST_PAUSE: Final = 0.1
_TAKEN: Final = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists", "409"})
_FAILURES: Final = (MinioException, urllib3.exceptions.HTTPError, OSError, ParseError, ValueError)


class BucketAdministration:
    """What is asked of one bucket as a whole; safe to use from several threads.

    Raises ``ConfigurationError`` (credentials, name), ``StoreUnavailable`` and ``PermanentError``.
    """

    def __init__(self, location: S3Location, *, store: str) -> None:
        """Prepare; the server is not asked yet. ``store`` names the bucket in sentences."""
        self._where = location
        self._store = store
        self._client = Minio(
            urlsplit(location.endpoint).netloc,
            access_key=location.access_key,
            secret_key=location.secret_key,
            secure=location.secure,
            region=location.region,
            http_client=_connections(location),
        )
        if location.addressing == "virtual":
            self._client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    def exists(self) -> bool:
        """Return whether the bucket is there."""
        try:
            return self._client.bucket_exists(self._where.bucket)
        except _FAILURES as exc:
            raise self._error(exc) from exc

    def all_buckets(self) -> tuple[str, ...]:
        """Return the name of every bucket that the server shows to these credentials."""
        try:
            return tuple(sorted(bucket.name for bucket in self._client.list_buckets()))
        except _FAILURES as exc:
            raise self._error(exc) from exc

    def make(self) -> bool:
        """Make the bucket; return whether it was made. One that is there and ours is no error."""
        try:
            self._client.make_bucket(self._where.bucket)
        except _FAILURES as exc:
            # One that this key may look at is ours, whatever the server calls it.
            if _TAKEN.isdisjoint(_codes(exc)) or not self.exists():
                raise self._error(exc) from exc
            return False
        return True

    def set_versioning(self, status: Literal["Enabled", "Suspended"]) -> bool:
        """Set whether versions of objects are kept; return whether the server took it."""
        try:
            self._client.set_bucket_versioning(self._where.bucket, VersioningConfig(status))
        except _FAILURES as exc:
            codes = set(_codes(exc))
            if "409" in codes or is_unaskable(codes):
                return False
            raise self._error(exc) from exc
        return True

    def _error(self, exc: Exception) -> PgbenError:
        codes = _codes(exc)
        if type(exc) is ValueError:
            # minio-py's own, before any request.
            codes = iter(["InvalidBucketName"])
        elif isinstance(exc, UnicodeError):
            codes = iter([])
        return error_for(codes, self._where.bucket, store=self._store, hints=self._where.hints)


def ensure_bucket(location: S3Location) -> bool:
    """Make a repository's bucket when it is absent; return whether it was made."""
    bucket = BucketAdministration(location, store=f"s3://{location.bucket}")
    return not bucket.exists() and bucket.make()


def _codes(exc: Exception) -> Iterable[str]:
    """Return the code and the status that an exception names."""
    if isinstance(exc, S3Error):
        return (exc.code or "", str(exc.response.status))
    return codes_of(exc)


def _connections(location: S3Location) -> urllib3.PoolManager:
    """Return connections whose pauses between repeated requests fit into the patience."""
    pauses = int(location.patience / timedelta(seconds=_FIRST_PAUSE))
    return urllib3.PoolManager(
        maxsize=_KEPT_CONNECTIONS,
        timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_SILENCE_SECONDS),
        retries=urllib3.Retry(
            # Each pause is twice the one before.
            total=(pauses + 1).bit_length() - 1,
            backoff_factor=_FIRST_PAUSE,
            status_forcelist=_REPEATED,
            redirect=False,
            respect_retry_after_header=False,
        ),
        ssl_context=location.trusted_authorities() if location.secure else None,
    )

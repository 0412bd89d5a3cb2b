"""Where a bucket is on S3, and the credentials for it: a repository's, or a protected one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pgben_tasks.domain.layout import check_key
from pgben_tasks.errors import ConfigurationError

Addressing = Literal["path", "virtual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Location:
    """Where a repository is on S3, and the credentials for it.

    ``endpoint`` is ``http[s]://host[:port]``; ``prefix`` has no outer slashes and may be empty.
    ``patience`` is how long a request is repeated while the server does not answer.
    """

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    prefix: str = ""
    region: str = "us-east-1"
    ca_file: Path | None = None
    patience: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        """Refuse endpoints that are none, or that carry a password."""
        parts = urlsplit(self.endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            # Not repeated: it may hold a password.
            raise ConfigurationError(
                "the repository's S3 endpoint is not 'http://host:port' or 'https://host:port'",
                "correct PGBEN_REPOSITORY_ENDPOINT; keys belong in their own settings",
            )
        if self.prefix:
            check_key(self.prefix)

    @property
    def secure(self) -> bool:
        """Whether the server is spoken to over TLS."""
        return urlsplit(self.endpoint).scheme == "https"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketLocation:
    """Where a protected bucket is on S3, and the credentials for it.

    ``endpoint`` is ``http[s]://host[:port]``. ``addressing`` says whether requests name the bucket
    in their path or in their host. ``patience`` is how long a request is repeated while the server
    does not answer.
    """

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    ca_file: Path | None = None
    addressing: Addressing = "path"
    patience: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        """Refuse endpoints that are none, or that carry a password, and names that are none."""
        parts = urlsplit(self.endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            # Not repeated: it may hold a password.
            raise ConfigurationError(
                "the S3 endpoint of the buckets is not 'http://host:port' or 'https://host:port'",
                "correct PGBEN_MINIO_HOST; keys belong in their own settings",
            )
        if not self.bucket or not self.bucket.isascii() or "/" in self.bucket:
            raise ConfigurationError(
                f"'{self.bucket}' is not the name of a bucket", "correct PGBEN_BUCKETS"
            )

"""Where a bucket is on S3, and the credentials for it: a repository's, or a protected one."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pgben_tasks.adapters.s3.errors import Hints
from pgben_tasks.domain.keys import check_key
from pgben_tasks.errors import ConfigurationError

Addressing = Literal["path", "virtual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Location:
    """Where a bucket is on S3, and the credentials for it.

    ``endpoint`` is ``http[s]://host[:port]``; ``hints`` name the settings that all this comes from.
    ``prefix`` is a repository's inside its bucket, has no outer slashes and may be empty.
    ``addressing`` says whether requests name the bucket in their path or in their host.
    ``patience`` is how long a request is repeated while the server does not answer.
    """

    hints: Hints
    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    prefix: str = ""
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
                "the S3 endpoint is not 'http://host:port' or 'https://host:port'",
                f"correct {self.hints.endpoint}; keys belong in their own settings",
            )
        if not self.bucket or not self.bucket.isascii() or "/" in self.bucket:
            raise ConfigurationError(
                f"'{self.bucket}' is not the name of a bucket", f"correct {self.hints.name}"
            )
        if self.prefix:
            check_key(self.prefix)

    @property
    def secure(self) -> bool:
        """Whether the server is spoken to over TLS."""
        return urlsplit(self.endpoint).scheme == "https"

    def trusted_authorities(self) -> ssl.SSLContext:
        """Return the context of TLS connections; raises ``ConfigurationError`` for its file."""
        try:
            return ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        except OSError as exc:
            raise ConfigurationError(
                f"the CA file '{self.ca_file}' of 's3://{self.bucket}' cannot be read",
                f"correct {self.hints.ca_file}, or the file's content, owner and mode",
            ) from exc

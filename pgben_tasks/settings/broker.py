"""The one setting that a client service needs. Nothing heavy is imported here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.settings.sources import PREFIX, read_secret

DEFAULT_REDIS_URL: Final = "redis://localhost:6379/0"


def redis_url(environ: Mapping[str, str] | None = None) -> str:
    """Read PGBEN_REDIS_URL or the file of PGBEN_REDIS_URL_FILE.

    Raises ``ConfigurationError`` when it is not the URL of a Redis database.
    """
    found = read_secret(os.environ if environ is None else environ, f"{PREFIX}REDIS_URL")
    return check_redis_url(DEFAULT_REDIS_URL if found is None else found[0])


def check_redis_url(text: str) -> str:
    """Return the URL with its database number (0 when left out); it is never repeated in errors."""
    try:
        parts = urlsplit(text)
        port_ok = parts.port != 0
    except ValueError:
        parts, port_ok = urlsplit(""), False
    database = parts.path.strip("/") or "0"
    if (
        parts.scheme not in {"redis", "rediss"}
        or not parts.hostname
        or not port_ok
        or not (database.isascii() and database.isdigit())
    ):
        raise ConfigurationError(
            "PGBEN_REDIS_URL is not the URL of a Redis database",
            "write it like 'redis://:password@host:6379/0'",
        )
    return parts._replace(path=f"/{database}").geturl()

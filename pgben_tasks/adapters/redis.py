"""Facts about a Redis server: version, persistence, length of its queues."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pgben_tasks.errors import ConfigurationError, TransientError

_TIMEOUT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFacts:
    """What a server reported; ``queues`` are the messages that wait in each."""

    version: str
    append_only: bool
    last_write_ok: bool
    eviction: str
    queues: dict[str, int]


def inspect_broker(url: str, queues: Iterable[str]) -> BrokerFacts:
    """Return the facts of the server at ``url`` and of ``queues``; nothing is changed.

    Raises ``TransientError`` when it does not answer, ``ConfigurationError`` when it refuses.
    """
    client = redis.Redis.from_url(
        url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        with closing(client):
            info: dict[str, Any] = client.info()
            waiting = {name: int(client.llen(name)) for name in queues}
    except redis.AuthenticationError as exc:
        raise ConfigurationError(
            "the Redis server does not accept the password that is set",
            "correct the password in PGBEN_REDIS_URL, or in the file of PGBEN_REDIS_URL_FILE",
        ) from exc
    except (redis.ConnectionError, redis.TimeoutError) as exc:
        raise TransientError(
            "the Redis server does not answer",
            "check that it runs, and host and port in PGBEN_REDIS_URL",
        ) from exc
    except redis.ResponseError as exc:
        raise ConfigurationError(
            "the Redis server does not say how it is set up",
            "let the user of PGBEN_REDIS_URL run INFO and LLEN",
        ) from exc
    return BrokerFacts(
        version=str(info.get("redis_version", "0")),
        append_only=bool(info.get("aof_enabled")),
        last_write_ok=info.get("aof_last_write_status", "ok") == "ok",
        eviction=str(info.get("maxmemory_policy", "unknown")),
        queues=waiting,
    )

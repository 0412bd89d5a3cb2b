"""Facts about a Redis server: version, persistence, its queues, what was set aside of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from pgben_tasks.domain.alarm import one_line
from pgben_tasks.errors import ConfigurationError, TransientError
from pgben_tasks.names import SET_ASIDE, SET_ASIDE_DROPPED

_TIMEOUT_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFacts:
    """What a server reported; ``queues`` are the messages that wait in each."""

    version: str
    append_only: bool
    last_write_ok: bool
    eviction: str
    queues: dict[str, int]
    set_aside: tuple[SetAside, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A message that was none, as the worker that read it set it aside (``broker``)."""

    id: str
    at: datetime
    queue: str
    why: str
    sha256: str
    size: int
    #: The entry as it lies in the list.
    raw: bytes


def inspect_broker(url: str, queues: Iterable[str]) -> BrokerFacts:
    """Return the facts of the server at ``url`` and of ``queues``; nothing is changed.

    Raises ``TransientError`` when it does not answer, ``ConfigurationError`` when it refuses.
    """
    with _translated(), closing(_client(url)) as client:
        info: dict[str, Any] = client.info()
        waiting = {name: int(client.llen(name)) for name in queues}
        set_aside = _set_aside(client)
    return BrokerFacts(
        version=str(info.get("redis_version", "0")),
        append_only=bool(info.get("aof_enabled")),
        last_write_ok=info.get("aof_last_write_status", "ok") == "ok",
        eviction=str(info.get("maxmemory_policy", "unknown")),
        queues=waiting,
        set_aside=set_aside,
    )


def broker_uptime(url: str) -> timedelta:
    """Return how long the server at ``url`` has run; raises what ``inspect_broker`` raises."""
    with _translated(), closing(_client(url)) as client:
        info: dict[str, Any] = client.info("server")
    return timedelta(seconds=int(info.get("uptime_in_seconds", 0)))


def ping_broker(url: str) -> None:
    """Return when the server at ``url`` answers; raises what ``inspect_broker`` raises."""
    with _translated(), closing(_client(url)) as client:
        client.ping()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except redis.AuthenticationError as exc:
        raise _password_refused() from exc
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


def _password_refused() -> ConfigurationError:
    return ConfigurationError(
        "the Redis server does not accept the password that is set",
        "correct the password in PGBEN_REDIS_URL, or in the file of PGBEN_REDIS_URL_FILE",
    )


def record_set_aside(url: str, record: Callable[[Sequence[SetAside], int], None]) -> int:
    """Hand the messages that were set aside to ``record``, oldest first; return how many.

    The second argument is how many more the list had no room for. They leave the list once they are
    recorded; what is recorded twice, after a crash, has one id.
    """
    with closing(_client(url)) as client:
        try:
            found = _set_aside(client)[::-1]
            dropped = _dropped(client)
            if found or dropped:
                record(found, dropped)
                with client.pipeline(transaction=False) as removal:
                    for one in found:
                        removal.lrem(SET_ASIDE, -1, one.raw)  # type: ignore[arg-type]  # bytes are as well
                    removal.decrby(SET_ASIDE_DROPPED, dropped)
                    removal.execute()
        except redis.AuthenticationError as exc:
            raise _password_refused() from exc
        except NoPermissionError as exc:
            raise ConfigurationError(
                f"the Redis server does not give the list '{SET_ASIDE}' to the user that is set",
                "let the user of PGBEN_REDIS_URL read and write the keys of all queues",
            ) from exc
        except redis.RedisError as exc:
            raise TransientError(
                f"the Redis server does not give the list '{SET_ASIDE}' of messages",
                "check that it runs, host and port in PGBEN_REDIS_URL, and that this is a list",
            ) from exc
    return len(found)


def _dropped(client: redis.Redis) -> int:
    """Return how many messages the list had no room for; a counter that is none is removed."""
    try:
        count = int(client.get(SET_ASIDE_DROPPED) or 0)
    except (redis.ResponseError, ValueError):
        count = -1
    if count < 0:
        # Whoever can write to queues can write to it, too; the tick must go on.
        client.delete(SET_ASIDE_DROPPED)
    return max(count, 0)


def _set_aside(client: redis.Redis) -> tuple[SetAside, ...]:
    """Return the list, the newest first."""
    entries: list[bytes] = client.lrange(SET_ASIDE, 0, -1)  # type: ignore[assignment]  # not asynchronous
    return tuple(_read_entry(raw) for raw in entries)


def _read_entry(raw: bytes) -> SetAside:
    try:
        entry = json.loads(raw)
        return SetAside(
            id=str(UUID(entry["id"])),
            at=datetime.fromisoformat(entry["at"]).astimezone(UTC),
            queue=one_line(entry["queue"]),
            why=one_line(entry["why"]),
            sha256=one_line(entry["sha256"]),
            size=int(entry["size"]),
            raw=raw,
        )
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        # Whoever can write to queues can write to the list, too; the tick must go on.
        digest = hashlib.sha256(raw).hexdigest()
        return SetAside(
            id=digest[:32],
            at=datetime.now(UTC),
            queue="?",
            why="an entry of the list that no worker wrote",
            sha256=digest,
            size=len(raw),
            raw=raw,
        )


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )

"""The broker's transport, corrected: neither an outage of Redis nor a message ends a worker.

kombu 5.7 acknowledges a message on a channel whose connection was closed by the outage, and then
fails with an AttributeError that Celery takes for unrecoverable. As the ConnectionError that it
is, Celery connects again and goes on.

A message that is none (``domain.message``) never reaches Celery: what was read from a task queue,
or was sent to every worker, is looked at before anything takes it. It is set aside in a list of
Redis, because this process has no catalog; the tick records it. ``app`` names this transport for
``redis://`` URLs; it is loaded with the first connection.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import structlog
from kombu.transport import redis
from redis import RedisError

from pgben_tasks import names
from pgben_tasks.domain.message import fault_of_command, fault_of_message

log = structlog.get_logger(__name__)

#: Where Celery sends commands to every worker.
_COMMANDS: Final = "celery.pidbox"
#: How many it holds: whoever can write to a queue could fill the server's memory.
MOST_SET_ASIDE: Final = 1000
#: How much of a message is kept to look at.
_KEPT_BYTES: Final = 4096


class Channel(redis.Channel):
    """A channel that says so when its connection is gone, and delivers messages only."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
        if self.connection.client is None:
            message = "the connection to the broker was closed"
            raise ConnectionError(message)
        found: dict[str, Any] = super()._connparams(asynchronous)
        return found

    def _brpop_read(self, **options: Any) -> Any:
        """Read one message from a queue; one that is none counts as nothing read."""
        with _checked(self.client, self._is_set_aside):
            return super()._brpop_read(**options)

    def _receive_one(self, c: Any) -> Any:
        """Read one message that every worker gets; one that is none counts as nothing read."""
        with _checked(c, self._is_broadcast_set_aside):
            return super()._receive_one(c)

    def _is_set_aside(self, key: bytes, raw: bytes) -> bool:
        queue = key.decode(errors="replace").rsplit(self.sep, 1)[0]
        # Other queues carry replies to questions about workers.
        if queue.partition(".")[0] not in names.QUEUES:
            return False
        why = fault_of_message(raw)
        if why is not None:
            self.set_aside(uuid4(), queue, raw, why)
        return why is not None

    def _is_broadcast_set_aside(self, kind: bytes, *rest: Any) -> bool:
        if not kind.endswith(b"message"):
            return False
        channel, raw = rest[-2:]
        # As in '/0.celery.pidbox': the database's number, and the exchange.
        exchange = channel.decode(errors="replace").partition(".")[2].partition("/")[0]
        if exchange != _COMMANDS:
            return False
        why = fault_of_command(raw)
        if why is not None:
            # Every worker sets it aside; of one id, the tick records it once.
            self.set_aside(id_of_bytes(raw), exchange, raw, why)
        return why is not None

    def set_aside(self, number: UUID, queue: str, raw: bytes, why: str) -> None:
        """Put a message aside for the tick, which records those of one ``number`` once.

        Where Redis does not take it, the log alone has its digest and its beginning.
        """
        digest = hashlib.sha256(raw).hexdigest()
        beginning = b64encode(raw[:_KEPT_BYTES]).decode()
        log.error("message_set_aside", queue=queue, why=why, sha256=digest)
        entry = {
            "id": str(number),
            "at": datetime.now(UTC).isoformat(),
            "queue": queue,
            "why": why,
            "sha256": digest,
            "size": len(raw),
            "beginning": beginning,
        }
        try:
            with self.conn_or_acquire() as server, server.pipeline(transaction=True) as at_once:
                at_once.lpush(names.SET_ASIDE, json.dumps(entry))
                at_once.ltrim(names.SET_ASIDE, 0, MOST_SET_ASIDE - 1)
                length, _ = at_once.execute()
                if length > MOST_SET_ASIDE:
                    server.incr(names.SET_ASIDE_DROPPED)
        except RedisError as exc:
            log.error(  # noqa: TRY400 - no trace
                "message_not_kept", sha256=digest, beginning=beginning, error=type(exc).__name__
            )


def id_of_bytes(raw: bytes) -> UUID:
    """Return an id that is the same for the same bytes."""
    return UUID(bytes=hashlib.sha256(raw).digest()[:16])


@contextmanager
def _checked(client: Any, is_set_aside: Callable[..., bool]) -> Iterator[None]:
    """Return nothing, while the block runs, for what a client reads and ``is_set_aside``."""
    read = client.parse_response

    def checked(*arguments: Any, **more: Any) -> Any:
        answer = read(*arguments, **more)
        # Answers to a ping are no lists.
        if isinstance(answer, list | tuple) and answer and is_set_aside(*answer):
            return None
        return answer

    client.parse_response = checked
    try:
        yield
    finally:
        del client.parse_response


class Transport(redis.Transport):
    """The Redis transport with that channel."""

    Channel = Channel

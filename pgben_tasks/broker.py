"""The broker's transport with one correction: an outage of Redis must not end a worker.

kombu 5.7 acknowledges a message on a channel whose connection was closed by the outage, and then
fails with an AttributeError that Celery takes for unrecoverable. As the ConnectionError that it
is, Celery connects again and goes on. ``app`` names this transport for ``redis://`` URLs; it is
loaded with the first connection.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis


class Channel(redis.Channel):
    """A channel that says so when its connection is gone."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
        if self.connection.client is None:
            message = "the connection to the broker was closed"
            raise ConnectionError(message)
        found: dict[str, Any] = super()._connparams(asynchronous)
        return found


class Transport(redis.Transport):
    """The Redis transport with that channel."""

    Channel = Channel

"""A real Redis server for the demo, the tests and the benchmarks; never for production."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pgben_tasks.embedded import binaries
from pgben_tasks.embedded.child import Command, Supervisor
from pgben_tasks.embedded.server import EmbeddedServer, plain_environment

_TIMEOUT_SECONDS: Final = 5.0


@dataclass(kw_only=True)
class EmbeddedRedis(EmbeddedServer):
    """A Redis server of its own, set as production's must be: password, AOF, no eviction."""

    password: str = field(repr=False)
    _program: Path = field(repr=False)

    @classmethod
    def start(cls, folder: Path | None = None, *, supervisor: Supervisor | None = None) -> Self:
        """Start a Redis with its files below ``folder`` (default: temporary files).

        Raises ``ConfigurationError`` when there is no ``redis-server`` of 6.2 or newer.
        """
        return cls._start_below(
            folder,
            supervisor,
            "redis",
            password=secrets.token_urlsafe(18),
            _program=binaries.redis_server(),
        )

    @property
    def url(self) -> str:
        """The URL of database 0; it holds the password."""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    def _command(self) -> Command:
        configuration = self.folder / "redis.conf"
        quoted = str(self.folder).replace("\\", r"\\").replace('"', r"\"")
        # In a file, because every user can read the arguments of a process.
        configuration.touch(mode=0o600)
        configuration.write_text(
            "\n".join(
                (
                    f"bind {self.host}",
                    f"port {self.port}",
                    f"requirepass {self.password}",
                    f'dir "{quoted}"',
                    "appendonly yes",
                    "appendfsync everysec",
                    "maxmemory-policy noeviction",
                    'save ""',
                    "daemonize no",
                    "",
                )
            ),
            encoding="utf-8",
        )
        return Command(
            argv=(str(self._program), str(configuration)),
            environment=plain_environment(self.folder),
        )

    def _answers(self) -> bool:
        client = redis.Redis(
            host=self.host,
            port=self.port,
            password=self.password,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            # BusyLoadingError, while the AOF is read, is a ConnectionError too.
            return False
        finally:
            client.close()

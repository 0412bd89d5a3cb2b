"""The exporter for Prometheus: ``python -m workers metrics`` answers scrapes until it is ended.

A scrape never hangs: catalog and broker are asked by one thread at a time, within a bound, and
what they said is good for some seconds.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from time import monotonic
from typing import Final, Generic, NoReturn, TypeVar

import structlog

from pgben_tasks import __version__, log as logs
from pgben_tasks.adapters.metrics import MetricsServer, Readings
from pgben_tasks.domain.outlook import Fault
from pgben_tasks.errors import ConfigurationError, PgbenError
from pgben_tasks.health.looks import Look
from pgben_tasks.health.metrics import measure, measure_queues, objectives
from pgben_tasks.runtime import Workplace
from pgben_tasks.settings import Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

PORT: Final = 9188
_ADDRESS: Final = "127.0.0.1"
_LAST_PORT: Final = 65_535
#: A scrape has ten seconds where nobody says otherwise; both together take less.
_CATALOG_PATIENCE: Final = timedelta(seconds=5)
_BROKER_PATIENCE: Final = timedelta(seconds=3)
#: How long an answer is good: several may ask, and the catalog answers once.
_FRESH: Final = timedelta(seconds=15)


class Remembered(Generic[T]):
    """A question whose answer is good for some time, asked by one thread at a time.

    One that got no answer in time is not asked again while it is under way.
    """

    def __init__(
        self,
        what: str,
        ask: Callable[[], T],
        *,
        patience: timedelta,
        fresh: timedelta = _FRESH,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """Ask nothing yet; ``what`` names who is asked."""
        self._what = what
        self._ask = ask
        self._patience = patience
        self._fresh = fresh.total_seconds()
        self._now = now
        self._lock = threading.Lock()
        self._look: Look[T] | None = None
        self._known: T | None = None
        self._until = self._now()

    def answer(self) -> T | None:
        """Return what is known; None when there is no answer."""
        with self._lock:
            if self._now() < self._until:
                return self._known
            # An answer that came after the patience had ended is of a moment that is past.
            waits = self._look is not None and self._look.silent
            look = self._look if self._look and waits else Look(self._what, self._ask)
            outcome = look.outcome(self._patience)
            self._look = look if look.silent else None
            if isinstance(outcome, Fault):
                log.warning("not_answered", what=self._what, why=outcome.sentence)
            self._known = None if isinstance(outcome, Fault) else outcome
            self._until = self._now() + self._fresh
            return self._known


class Source:
    """What scrapes are answered with, from one catalog and one broker."""

    def __init__(self, settings: Settings) -> None:
        """Use the catalog and the broker of these settings; nothing is asked yet."""
        self._settings = settings
        self._work = Workplace(settings, patience=_CATALOG_PATIENCE)
        self._nodes: tuple[str, ...] = ()
        self._measures = Remembered(
            str(self._work.database.server),
            lambda: measure(self._work),
            patience=_CATALOG_PATIENCE,
        )
        self._queues = Remembered(
            "Redis",
            lambda: measure_queues(settings, self._nodes),
            patience=_BROKER_PATIENCE,
        )

    def read(self) -> Readings:
        """Return what is known now."""
        measures = self._measures.answer()
        if measures is not None:
            self._nodes = measures.node_queues
        return Readings(
            version=__version__,
            objectives=objectives(self._settings),
            measures=measures,
            queues=self._queues.answer(),
        )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the flags; wrong ones end the process, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python -m workers metrics",
        description="Answer a Prometheus at /metrics; /healthz says that the process lives.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--port", type=int, default=PORT, help=f"default {PORT}; 0 takes a free one"
    )
    parser.add_argument(
        "--address", default=_ADDRESS, help="default 127.0.0.1; in a container 0.0.0.0"
    )
    parser.add_argument("-l", "--loglevel", default="INFO")
    flags = parser.parse_args(arguments)
    if not 0 <= flags.port <= _LAST_PORT:
        raise ConfigurationError(f"'{flags.port}' is no port", f"ports are 0 to {_LAST_PORT}")
    if flags.loglevel.upper() not in logging.getLevelNamesMapping():
        raise ConfigurationError(
            f"'{flags.loglevel}' is no level of a log", "write `--loglevel=INFO`, WARNING or DEBUG"
        )
    return flags


def listen(read: Callable[[], Readings], flags: argparse.Namespace) -> MetricsServer:
    """Return the server; raise ``ConfigurationError`` where its port is taken, say."""
    try:
        return MetricsServer(read, address=flags.address, port=flags.port)
    except OSError as exc:
        raise ConfigurationError(
            f"'{flags.address}:{flags.port}' cannot be listened on: {exc.strerror or exc}",
            "give another `--port` or `--address`, or end what uses it",
        ) from exc


def serve(arguments: Sequence[str]) -> NoReturn:
    """Answer scrapes until SIGTERM or Ctrl-C.

    Raises ``ConfigurationError`` when it cannot be started so.
    """
    flags = parse(arguments)
    logs.configure(level=flags.loglevel.upper())
    source = Source(Settings.of_installation())
    server = listen(source.read, flags)
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: sys.exit(0))
    log.info("metrics_listen", address=flags.address, port=server.port)
    server.serve()
    sys.exit(0)


def main() -> NoReturn:
    """Serve; say in a sentence why that cannot be."""
    try:
        serve(sys.argv[1:])
    except PgbenError as exc:
        sys.stderr.write(f"error: {exc}\n")
        sys.exit(exc.exit_code)


if __name__ == "__main__":
    main()

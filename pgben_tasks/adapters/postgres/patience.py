"""Connections for somebody who waits at a terminal: a server that is silent counts as away.

A frozen server acknowledges what it is sent and answers nothing, which neither libpq nor TCP ever
calls a failure; and whoever presses Ctrl-C must not wait for it either.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors, waiting
from psycopg.abc import PQGen

_Value = TypeVar("_Value")

#: How often, in seconds, a waiting statement looks at the clock, and at Ctrl-C.
_INTERVAL: Final = 0.1


class PatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose statements fail when the server is silent for ``patience``."""

    patience = timedelta(seconds=10)

    def wait(
        self,
        gen: PQGen[_Value],
        interval: float = _INTERVAL,
        timeout: float | None = None,  # noqa: ARG002 - this connection has one of its own
    ) -> _Value:
        """Drive a generator of this connection; raise ``ConnectionTimeout`` after the silence.

        Ctrl-C ends it at once: the library's own way asks the server to cancel, and waits for it.
        """
        bounded = _bounded(gen, self.patience)
        return waiting.wait(bounded, self.pgconn.socket, interval=interval)


def connect_within(patience: timedelta, **parameters: Any) -> PatientConnection:
    """Open a connection; name service and every address of the host have ``patience`` in all.

    Raises ``psycopg.errors.ConnectionTimeout``.
    """
    # In a thread, because nothing interrupts a name service that does not answer.
    connection = _call_within(patience, lambda: PatientConnection.connect(**parameters))
    connection.patience = patience
    return connection


def _call_within(patience: timedelta, call: Callable[[], _Value]) -> _Value:
    """Return what a call returns, or raise what it raises; one that goes on is left to itself."""
    done: list[_Value] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(call())
        except BaseException as exc:  # noqa: BLE001 - it is raised where somebody waits for it
            failed.append(exc)

    thread = threading.Thread(target=run, name="connect", daemon=True)
    thread.start()
    thread.join(patience.total_seconds())
    if failed:
        raise failed[0]
    if not done:
        raise errors.ConnectionTimeout
    return done[0]


def _bounded(gen: PQGen[_Value], patience: timedelta) -> PQGen[_Value]:
    """Drive a generator of psycopg until nothing has come for ``patience``."""
    end = time.monotonic() + patience.total_seconds()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                end = time.monotonic() + patience.total_seconds()
            elif time.monotonic() > end:
                raise errors.ConnectionTimeout
            wanted = gen.send(ready)
    except StopIteration as exc:
        answer: _Value = exc.value
        return answer

"""Reads why a PostgreSQL client program failed from its last words.

Only words of the client itself are relied on: it runs with ``LC_ALL=C``, while a server speaks
whatever language it was set to. Detail and context lines may quote rows, so they are never shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.adapters.process import Completed, failure
from pgben_tasks.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    PgbenError,
    SpoolFull,
    TargetBusy,
)

Explain = Callable[[Completed], PgbenError | None]

_ERROR_LINE: Final = re.compile(r"^(pg_\w+: )?(error|fatal):|\b(ERROR|FATAL|PANIC):", re.IGNORECASE)
_SERVER_LINE: Final = re.compile(r"\b(ERROR|FATAL|PANIC):")
_GONE: Final = (
    "connection to server ",
    "server closed the connection",
    "no connection to the server",
    "connection not open",
    "could not receive data from server",
    "could not send data to server",
    "SSL SYSCALL error",
    "SSL connection has been closed",
    "lost synchronization",
    "Connection refused",
    "connection pointer is NULL",
)
_BUSY: Final = ("could not obtain lock on relation", "Query was: LOCK TABLE")
_SHOWN: Final = 3


def explain_dump(server: PostgresServer, directory: Path) -> Explain:
    """Read failures of ``pg_dump`` and ``pg_dumpall`` writing into ``directory``."""

    def explain(completed: Completed) -> PgbenError | None:
        lines = completed.stderr_tail
        own = [line for line in lines if not _SERVER_LINE.search(line)]
        if _any(own, ("No space left on device", "Disk quota exceeded")):
            return SpoolFull(
                f"'{completed.program}' found no room left in '{directory}'",
                "make room in the spool (PGBEN_SPOOL_DIR), or set it to a larger disk",
            )
        if _any(own, ("Read-only file system", "Permission denied")):
            return ConfigurationError(
                f"'{completed.program}' may not write into '{directory}'",
                "make the spool (PGBEN_SPOOL_DIR) writable for the user that runs pgben",
            )
        if (gone := _gone(completed, server)) is not None:
            return gone
        if _any(lines, _BUSY):
            return TargetBusy(
                f"'{completed.program}' could not lock a table because another session asked for "
                "it exclusively after the backup began",
                "wait for migrations and maintenance to end; the backup is tried again",
            )
        return _failed(completed, "")

    return explain


def explain_restore(server: PostgresServer) -> Explain:
    """Read failures of ``pg_restore`` loading into ``server``."""

    def explain(completed: Completed) -> PgbenError | None:
        hint = (
            "the destination's disk is full; make room there"
            if _any(completed.stderr_tail, ("No space left on device",))
            else ""
        )
        return _gone(completed, server) or _failed(completed, hint)

    return explain


def _gone(completed: Completed, server: PostgresServer) -> PgbenError | None:
    if not _any(completed.stderr_tail, _GONE):
        return None
    return DatabaseUnavailable(
        f"the PostgreSQL server '{server}' went away while '{completed.program}' was running",
        "see whether it was restarted; the work is tried again",
    )


def _failed(completed: Completed, hint: str) -> PgbenError:
    told = [line for line in completed.stderr_tail if _ERROR_LINE.search(line)]
    return failure(completed, lines=told[:_SHOWN], hint=hint)


def _any(lines: tuple[str, ...] | list[str], words: tuple[str, ...]) -> bool:
    return any(word in line for line in lines for word in words)

"""Command lines of ``pg_dump``, ``pg_dumpall`` and ``pg_restore``, running them, and their errors.

The command lines are pure values. Hosts, users and passwords never stand in them: they go through
``PG*`` variables of the child. Only directory dumps are made and only ``pg_restore`` reads them;
psql never sees a dump (CVE-2025-8714: it runs commands hidden in plain ones).

Why a program failed is read from its last lines, and only from words of the client itself: it runs
with ``LC_ALL=C``, while a server speaks whatever language it was set to. Detail and context lines
may quote rows, so they are never shown.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pgben_tasks.adapters import process
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.domain.target import check_name
from pgben_tasks.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    PgbenError,
    SpoolFull,
    TargetBusy,
    TransientError,
)
from pgben_tasks.ports import ClientTools, Progress

GLOBALS: Final = "globals.sql"

_MEASURE_SECONDS: Final = 0.5
_TABLE_BEGUN: Final = re.compile(r"pg_restore: processing data for table")
_ITEM_DONE: Final = re.compile(r"pg_restore: finished item (\d+) ")
#: A worker of pg_dump has closed a table's file. Parallel workers write prefix and message apart,
#: so there may be several prefixes, or none behind a piece of another line.
_FILE_DONE: Final = re.compile(r"(?:pg_dump: )*finished item (\d+) TABLE DATA (.*)")
#: Several processes write at once, each line in pieces: lines join, and lose their beginning.
_DUMP_BEGUN: Final = re.compile(r'dumping contents of table "(.*?)"(?=$|pg_dump: |dumping )')
#: What a database has for each byte of its compressed dump, as a rule: indexes are not dumped.
_DATABASE_PER_DUMP: Final = 5

Explain = Callable[[process.Completed], PgbenError | None]

_ERROR_LINE: Final = re.compile(r"^(pg_\w+: )?(error|fatal):|\b(ERROR|FATAL|PANIC):", re.IGNORECASE)
_SERVER_LINE: Final = re.compile(r"\b(ERROR|FATAL|PANIC):")
_CONNECTION_LOST: Final = (
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
_TABLE_LOCKED: Final = ("could not obtain lock on relation", "Query was: LOCK TABLE")
_SHOWN_LINES: Final = 3


def dump_argv(
    tools: ClientTools, *, destination: Path, jobs: int, snapshot: str, lock_wait: timedelta
) -> list[str]:
    """Build the dump of the database named in the environment, on an exported snapshot.

    ``lock_wait`` ends a deadlock that no server sees: pg_dump queues for its locks behind whoever
    waits for a table that the capture holds, and that one waits for the capture.

    The dump is temporary, so nothing is flushed to disk. ``--enable-row-security`` must never be
    added: with it pg_dump leaves out the rows that policies hide, and exits 0.
    """
    level = tools.compression if tools.compression != "none" else "0"
    return [
        str(tools.pg_dump),
        "--format=directory",
        f"--jobs={jobs}",
        f"--compress={level}",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={round(lock_wait.total_seconds() * 1000)}",
        "--no-sync",
        "--no-password",
        "--verbose",
        f"--file={destination}",
    ]


def globals_argv(tools: ClientTools, *, database: str, destination: Path) -> list[str]:
    """Build the dump of roles and tablespaces, without any password (needs no superuser)."""
    return [
        str(tools.pg_dumpall),
        "--globals-only",
        "--no-role-passwords",
        "--no-sync",
        "--no-password",
        f"--database={check_name(database)}",
        f"--file={destination}",
    ]


def restore_argv(
    tools: ClientTools, *, database: str, dump: Path, jobs: int, tablespaces: bool
) -> list[str]:
    """Build the load of a dump into an existing database.

    A restored copy must not replicate: a subscription would pull the publisher's changes into it
    (and block its removal), so none is created. ``tablespaces`` False puts everything into the
    database's own tablespace.
    """
    return [
        str(tools.pg_restore),
        "--format=directory",
        f"--jobs={jobs}",
        "--exit-on-error",
        "--no-subscriptions",
        *(() if tablespaces else ("--no-tablespaces",)),
        "--no-password",
        "--verbose",
        f"--dbname={check_name(database)}",
        str(dump.absolute()),
    ]


def dump(  # noqa: PLR0913  # One call, one dump: what is dumped, from where, to where, how.
    tools: ClientTools,
    server: PostgresServer,
    database: str,
    destination: Path,
    *,
    snapshot: str,
    tables: Mapping[tuple[str, str], int],
    database_bytes: int,
    jobs: int,
    lock_wait: timedelta,
    timeout: timedelta,
    progress: Progress,
    on_file: Callable[[str], None] | None = None,
) -> None:
    """Dump ``database`` into ``destination`` and the cluster's roles into ``globals.sql`` there.

    The roles are read while pg_dump runs, into a file beside ``destination``, because pg_dump
    wants that empty. ``on_file`` gets the names of tables' files as they are finished (with
    parallel jobs only). ``tables`` says about how many pages each table has: the database's bytes
    are shared among them, so that the progress is told while the dump runs.

    Raises ``CommandFailed``, ``DatabaseUnavailable``, ``TargetBusy``, ``SpoolFull``, and whatever
    ``progress.check`` raises.
    """
    target = destination.absolute()
    progress.begin("dump", total=max(database_bytes, 1), unit="bytes")
    seen = _Dumped(progress, target, tables, database_bytes, compressed=tools.compression != "none")
    suffix = ".dat" if tools.compression == "none" else ".dat.zst"

    def on_line(line: str) -> None:
        seen.line(line)
        if on_file is not None and (item := _FILE_DONE.match(line)) is not None:
            on_file(item[1] + suffix)

    explain = explain_dump(server, target)
    roles_file = target.with_name(GLOBALS)
    with _Beside(
        globals_argv(tools, database=database, destination=roles_file),
        env=_environment(tools, server, database, "pgben globals"),
        cwd=target.parent,
        timeout=timeout,
        explain=explain,
    ) as roles:

        def check() -> None:
            seen.check()
            roles.check()

        process.run(
            dump_argv(tools, destination=target, jobs=jobs, snapshot=snapshot, lock_wait=lock_wait),
            env=_environment(tools, server, database, "pgben dump"),
            cwd=target.parent,
            timeout=timeout,
            check=check,
            on_line=on_line,
            explain=explain,
        )
        roles.finish(seen.check)
    roles_file.replace(target / GLOBALS)
    seen.finish()


def restore(  # One call, one load: what is loaded, to where, how.
    tools: ClientTools,
    server: PostgresServer,
    database: str,
    dump_directory: Path,
    *,
    jobs: int,
    tablespaces: bool,
    timeout: timedelta,
    progress: Progress,
) -> None:
    """Load the dump into ``database``; stops at the first error.

    Raises ``CommandFailed``, ``DatabaseUnavailable``, and whatever ``progress.check`` raises.
    """
    sizes = {path.name.partition(".")[0]: path.stat().st_size for path in dump_directory.iterdir()}
    total = sum(path.stat().st_size for path in dump_directory.iterdir())
    progress.begin("load", total=total, unit="bytes")
    seen = _Loaded(progress, sizes)
    process.run(
        restore_argv(
            tools, database=database, dump=dump_directory, jobs=jobs, tablespaces=tablespaces
        ),
        env=_environment(tools, server, database, "pgben restore"),
        cwd=dump_directory,
        timeout=timeout,
        check=progress.check,
        on_line=seen.line,
        explain=explain_restore(server),
    )
    progress.advance(total - seen.bytes_done)


class _Beside:
    """A second program that runs during the block; its failure ends whatever calls ``check``.

    The thread that starts the program waits for it, so its parent-death signal means what it says.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        timeout: timedelta,
        explain: Explain,
    ) -> None:
        self._given_up = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
        self._run = partial(
            process.run,
            argv,
            env=env,
            cwd=cwd,
            timeout=timeout,
            check=self._check_given_up,
            explain=explain,
        )

    def __enter__(self) -> Self:
        self._ended = self._pool.submit(self._run)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._given_up.set()
        self._pool.shutdown(wait=True)

    def finish(self, check: Callable[[], None]) -> None:
        """Wait for the program's end, calling ``check`` meanwhile; raise its failure."""
        while not self._ended.done():
            check()
            wait([self._ended], timeout=_MEASURE_SECONDS)
        self._ended.result()

    def check(self) -> None:
        """Raise the failure of a program that has ended."""
        if self._ended.done():
            self._ended.result()

    def _check_given_up(self) -> None:
        if self._given_up.is_set():
            raise TransientError("the program beside it failed")


class _Loaded:
    """Turns verbose lines of pg_restore into progress: tables begun and bytes done."""

    def __init__(self, progress: Progress, sizes: dict[str, int]) -> None:
        self.bytes_done = 0
        self._progress = progress
        self._sizes = sizes
        self._tables = 0
        progress.note(tables=0)

    def line(self, line: str) -> None:
        # Parallel workers share one stream, so a line may begin behind a piece of another.
        if _TABLE_BEGUN.search(line):
            self._tables += 1
            self._progress.note(tables=self._tables)
        elif (item := _ITEM_DONE.search(line)) is not None:
            size = self._sizes.get(item[1], 0)
            self.bytes_done += size
            self._progress.advance(size)


class _Dumped:
    """Turns verbose lines of pg_dump, and the growth of its directory, into progress.

    A dump's size is not known before its end. What is known is the database's, about how it is
    shared among the tables, and which of them are begun and finished; between these bounds it is
    estimated from what was written.
    """

    def __init__(
        self,
        progress: Progress,
        directory: Path,
        pages: Mapping[tuple[str, str], int],
        total: int,
        *,
        compressed: bool,
    ) -> None:
        self._progress = progress
        self._directory = directory
        # An empty table takes its moment, too.
        every = sum(pages.values()) + len(pages)
        self._bytes = {
            f"{schema}.{name}": total * (count + 1) // every
            for (schema, name), count in pages.items()
        }
        self._total = total
        self._ratio = _DATABASE_PER_DUMP if compressed else 1
        self._begun = 0
        self._running: dict[str, int] = {}
        self._finished = 0
        self._told = 0
        self._next_look = 0.0
        self._note()

    def line(self, line: str) -> None:
        for begun in _DUMP_BEGUN.finditer(line):
            self._begun += 1
            self._running[begun[1]] = self._bytes.get(begun[1], 0)
            self._note()
        if (item := _FILE_DONE.search(line)) is not None:
            # It names the table without its schema.
            name = next((one for one in self._running if one.endswith(f".{item[2]}")), "")
            self._finished += self._running.pop(name, 0)

    def check(self) -> None:
        self._progress.check()
        if time.monotonic() >= self._next_look:
            written = _size(self._directory) * self._ratio
            highest = self._finished + sum(self._running.values())
            self._tell(min(max(written, self._finished), highest))
            self._next_look = time.monotonic() + _MEASURE_SECONDS

    def finish(self) -> None:
        self._tell(self._total)

    def _tell(self, done: int) -> None:
        self._progress.advance(max(0, done - self._told))
        self._told = max(self._told, done)

    def _note(self) -> None:
        self._progress.note(tables=self._begun, tables_total=len(self._bytes))


def _size(directory: Path) -> int:
    if not directory.is_dir():
        return 0
    return sum(path.stat().st_size for path in directory.iterdir())


def _environment(
    tools: ClientTools, server: PostgresServer, database: str, name: str
) -> dict[str, str]:
    """Return a client program all it may know: where to connect, and messages in English."""
    return {
        "PATH": f"{tools.pg_dump.parent}:/usr/bin:/bin",
        "LC_ALL": "C",
        **server.environment(check_name(database), application_name=name),
    }


def explain_dump(server: PostgresServer, directory: Path) -> Explain:
    """Read failures of ``pg_dump`` and ``pg_dumpall`` writing into ``directory``."""

    def explain(completed: process.Completed) -> PgbenError | None:
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
        if _any(lines, _TABLE_LOCKED):
            return TargetBusy(
                f"'{completed.program}' could not lock a table because another session asked for "
                "it exclusively after the backup began",
                "wait for migrations and maintenance to end; the backup is tried again",
            )
        return _failed(completed, "")

    return explain


def explain_restore(server: PostgresServer) -> Explain:
    """Read failures of ``pg_restore`` loading into ``server``."""

    def explain(completed: process.Completed) -> PgbenError | None:
        hint = (
            "the destination's disk is full; make room there"
            if _any(completed.stderr_tail, ("No space left on device",))
            else ""
        )
        return _gone(completed, server) or _failed(completed, hint)

    return explain


def _gone(completed: process.Completed, server: PostgresServer) -> PgbenError | None:
    if not _any(completed.stderr_tail, _CONNECTION_LOST):
        return None
    return DatabaseUnavailable(
        f"the PostgreSQL server '{server}' went away while '{completed.program}' was running",
        "see whether it was restarted; the work is tried again",
    )


def _failed(completed: process.Completed, hint: str) -> PgbenError:
    lines = [line for line in completed.stderr_tail if _ERROR_LINE.search(line)]
    return process.failure(completed, lines=lines[:_SHOWN_LINES], hint=hint)


def _any(lines: tuple[str, ...] | list[str], words: tuple[str, ...]) -> bool:
    return any(word in line for line in lines for word in words)

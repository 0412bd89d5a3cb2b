"""Databases: one to dump, a server to restore to, two to swap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pgben_tasks.domain.documents import (
    PostgresCapture,
    TableCount,
)
from pgben_tasks.domain.kept_databases import FoundDatabase, RestoredDatabase
from pgben_tasks.domain.plan import Occupied
from pgben_tasks.domain.references import Reference, ReferenceLine
from pgben_tasks.domain.restorability import Archive, Compression
from pgben_tasks.domain.swap import Standing, Swap
from pgben_tasks.ports.work import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTools:
    """Client programs of one PostgreSQL major."""

    version: str
    major: int
    pg_dump: Path
    pg_dumpall: Path
    pg_restore: Path
    compression: Compression


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What was learned before a dump began."""

    server_version: str
    server_version_num: int
    database_bytes: int
    is_superuser: bool
    tools: ClientTools


class Capture(Protocol):
    """An open snapshot of a database: tables locked, snapshot exported, timeouts off.

    Closing it ends the session. If the session dies, ``describe`` or ``count`` raises and the
    dump is void.
    """

    @property
    def snapshot(self) -> str:
        """The exported snapshot's name, for ``pg_dump --snapshot``."""

    @property
    def table_names(self) -> tuple[tuple[str, str], ...]:
        """(schema, table) of every table that will be dumped with data, sorted."""

    @property
    def table_pages(self) -> tuple[int, ...]:
        """About how many pages each of these tables has, in the same order."""

    def cancel(self) -> None:
        """End a count that runs in another thread; it raises there. Safe from any thread."""

    def count(self, *, on_table: Callable[[], None] | None = None) -> tuple[TableCount, ...]:
        """Return every table's rows inside the snapshot, sorted by schema and table."""

    def describe(self, tables: tuple[TableCount, ...]) -> PostgresCapture:
        """Describe the database as the snapshot shows it; check the table list once more."""


class PostgresSource(Protocol):
    """One protected database and the client programs that fit its server."""

    def preflight(self) -> Preflight:
        """Check that the server answers, the credentials work, the role sees every row.

        Raises ``DatabaseUnavailable``, ``ConfigurationError`` (password, database, BYPASSRLS,
        a table that may not be read, client older than server).
        """

    def capture(self, tools: ClientTools) -> AbstractContextManager[Capture]:
        """Lock all tables against TRUNCATE and DROP, then export a snapshot.

        Raises ``TargetBusy``, ``DatabaseUnavailable``, ``ConfigurationError``.
        """

    def dump(
        self,
        capture: Capture,
        destination: Path,
        *,
        tools: ClientTools,
        jobs: int,
        database_bytes: int,
        progress: Progress,
        on_file: Callable[[str], None] | None = None,
    ) -> None:
        """Run ``pg_dump -Fd`` on the capture's snapshot and write ``globals.sql`` beside.

        ``destination`` must not exist or be empty. ``database_bytes`` is what the progress is
        measured against.

        ``on_file`` is called in the calling thread with the names of files that pg_dump has
        finished while it goes on with others; not with all, and with none where they are not sure.

        Raises ``CommandFailed``, ``TargetBusy``, ``SpoolFull``, ``DatabaseUnavailable`` (also when
        the capture's session ended meanwhile: the dump is then void).
        """

    def references(self, capture: Capture, reference: Reference) -> Iterator[ReferenceLine]:
        """Yield the rows of a reference as the capture's snapshot shows them, in any order.

        Raises ``ConfigurationError`` for a table, column or query that the server does not take or
        that takes too long, and ``DatabaseUnavailable``.
        """

    def check_dump(self, dump: Path, capture: PostgresCapture, archive: Archive) -> int:
        """Check that the dump's table of contents names the data of exactly the counted tables.

        ``archive`` says which clients can read it.

        Returns the number of its entries. Raises ``IntegrityError``.
        """


class PostgresDestination(Protocol):
    """The server a database is restored to."""

    def preflight(self, name: str, capture: PostgresCapture, archive: Archive) -> ClientTools:
        """Check that ``name`` is free and the server can take the database; choose the client.

        ``archive`` says which clients can read the dump.

        Raises ``RestoreRefused`` (name taken), ``ConfigurationError``, ``DatabaseUnavailable``.
        """

    def create(
        self, name: str, capture: PostgresCapture, *, marker: str, roles_of: Path | None = None
    ) -> None:
        """Create missing roles NOLOGIN, then the database, marked with ``marker`` as unfinished.

        Roles are those that the database names and, with ``roles_of``, all of that dump's server.
        Raises ``IntegrityError`` when the dump does not describe them as it should.
        """

    def load(
        self, name: str, dump: Path, *, tools: ClientTools, jobs: int, progress: Progress
    ) -> None:
        """Run ``pg_restore --exit-on-error`` from the dump directory into the new database.

        Raises ``RestoreRefused`` unless the database is closed and empty, ``IntegrityError`` when
        the dump cannot be read, ``CommandFailed``, ``DatabaseUnavailable``.
        """

    def finish(
        self,
        name: str,
        capture: PostgresCapture,
        *,
        marker: str,
        jobs: int = 1,
        before_opening: Callable[[], None] | None = None,
    ) -> None:
        """ANALYZE; apply settings, ACL, connection limit and, in place of the marker, the comment.

        ``jobs`` is in how many sessions tables are analysed.
        ``before_opening`` is called between the two, and what it raises leaves the marker; once
        that is replaced, nothing removes the database.
        Raises ``RestoreRefused`` when the database does not carry ``marker``.
        """

    def analyse(
        self, name: str, *, jobs: int = 1, check: Callable[[], None] = lambda: None
    ) -> None:
        """Gather statistics in ``jobs`` sessions; ``check`` may raise between two tables."""

    def finish_roles(self, *, marker: str, roles_of: Path | None = None) -> tuple[str, ...]:
        """Take the marker from the roles that were made with the database: they stay.

        With ``roles_of`` they become what that dump's ``globals.sql`` says: attributes, settings
        and memberships, without passwords. Roles that were there before stay as they are. Returns
        what the server refused, with its reasons.
        """

    def count(
        self, name: str, *, on_table: Callable[[], None] | None = None
    ) -> tuple[TableCount, ...]:
        """Return every table's rows as ``Capture.count`` does."""

    def references(self, name: str, reference: Reference) -> Iterator[ReferenceLine]:
        """Yield the rows of a reference in the database ``name``, in any order.

        Raises ``ConfigurationError`` and ``DatabaseUnavailable`` as ``PostgresSource`` does.
        """

    def count_large_objects(self, name: str) -> int:
        """Return how many large objects a database has."""

    def identify(self, name: str) -> tuple[int, int]:
        """Return a database's oid, and the transaction counter of its server now.

        Where transactions are open that have written to it, the counter is that of their beginning.
        """

    def abandon(self, name: str, *, marker: str) -> bool:
        """Drop the database if it exists and still carries ``marker``; return whether it did."""


class PostgresSwap(Protocol):
    """A server whose databases are swapped, in one transaction or not at all."""

    def blockers(
        self, live: str, aside: str, capture: PostgresCapture | None, *, room: bool
    ) -> tuple[str, ...]:
        """Return everything that stands against ``live`` becoming ``aside``, as sentences.

        That no database has the name ``live`` is no obstacle: nothing is replaced then.
        ``capture`` describes the backup that is to take its place, None when that is a database
        already; with ``room`` the space for one more copy is looked at, where the server's disk is
        one of this machine.
        """

    def occupied(self, live: str) -> Occupied | None:
        """Return who is connected to ``live``, and its bytes; None where there is none."""

    def inspect_pair(self, live: str, incoming: str) -> tuple[int | None, int, bool]:
        """Return the oids of both, and whether ``live`` takes connections.

        The first is None, and the last True, where no database has the name ``live``. Raises
        ``RestoreRefused`` when ``incoming`` does not exist.
        """

    def exchange(
        self,
        swap: Swap,
        *,
        hold: Callable[[], None],
        restored: tuple[PostgresCapture, str] | None,
    ) -> None:
        """Carry out a swap; when it raises, the live database is as it was, or will be settled.

        ``hold`` is called right before the transaction. ``restored`` is (capture, marker) of a
        restored copy, which gets its settings, grants and comment in the same transaction; None
        for a database that has its own. Raises ``TargetBusy`` when sessions do not end or another
        swap is under way, ``RestoreRefused`` when the databases are not those of ``swap``,
        ``DatabaseUnavailable``.
        """

    def settle(self, swap: Swap) -> Standing | None:
        """Return how a swap ended, and leave the live database open; None while it is at work."""

    def drop(self, swap: Swap) -> Literal["dropped", "gone", "in use"]:
        """Drop the database that a swap set aside, unless somebody opened it again.

        ``gone`` when there is no such database any more; ``in use`` when it is open.
        """


class PostgresKeptDatabases(Protocol):
    """A server with databases that restores and swaps left."""

    def find(self, wanted: Callable[[str, int], bool]) -> list[FoundDatabase]:
        """Return the databases whose name and oid are ``wanted``, sorted by name."""

    def drop(self, name: str, oid: int, *, live: str) -> Literal["dropped", "gone", "in use"]:
        """Drop a database, unless sessions are connected or a swap of ``live`` is under way.

        ``gone`` when this name is not that of this oid any more.
        """

    def reopen(self, name: str, oid: int) -> None:
        """Let a database take connections, where this name is still that of this oid."""

    def drop_unchanged(
        self, one: RestoredDatabase, *, live: str
    ) -> Literal["dropped", "gone", "in use", "written"]:
        """Drop a copy unless sessions are connected or somebody wrote to it since its check."""

"""The few protocols that operations need; adapters implement them, tests bring fakes.

Nothing here knows a vendor. All sizes are bytes, all moments are aware and UTC, all digests are
lower-case hex SHA-256.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from pgben_tasks.domain.documents import (
    AuditEntry,
    Manifest,
    Pack,
    PostgresCapture,
    TableCount,
    Verification,
)
from pgben_tasks.domain.packing import EarlyPlan
from pgben_tasks.domain.packing import PackPlan as PackPlan  # noqa: PLC0414  # part of the port
from pgben_tasks.domain.swap import Standing, Swap
from pgben_tasks.domain.target import BackupId, Target

SigningRole = Literal["backup", "verify", "restore", "maintenance"]


class Clock(Protocol):
    """Where the time comes from; production asks the catalog's server."""

    def now(self) -> datetime:
        """Give the present moment, aware, in UTC."""
        ...


class Progress(Protocol):
    """Where long work reports how far it is. Calls are cheap; implementations throttle."""

    def begin(self, phase: str, *, total: int | None = None, unit: str = "bytes") -> None:
        """Start a phase; ``total`` is in ``unit`` and may be unknown."""
        ...

    def advance(self, amount: int) -> None:
        """Add ``amount`` units to the present phase. Safe from any thread."""
        ...

    def note(self, **facts: int | str) -> None:
        """Set side facts of the present phase, such as ``tables=12``."""
        ...

    def check(self) -> None:
        """Raise ``FenceLost`` or another error when this work must stop now."""
        ...


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a listing says of one object."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload that was begun and neither ended nor given up.

    ``upload`` is what the store calls it; ``touched`` is when it was begun or last written to, as
    far as the store can tell, by the store's own clock.
    """

    key: str
    upload: str
    touched: datetime


class ObjectStore(Protocol):
    """A flat store of immutable objects: a directory, an S3 bucket with a prefix, or memory.

    Keys are ``/``-joined safe segments that pgben made itself. Errors: ``ObjectMissing``,
    ``ObjectExists``, ``StoreUnavailable`` (transient), ``ConfigurationError`` (credentials, no
    such bucket), ``SpoolFull`` is never raised here; a full store is ``PermanentError``.
    """

    def describe(self) -> str:
        """Name the store for people, without secrets."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Store small ``data`` under a new key; ``ObjectExists`` when the key is taken."""
        ...

    def put_file(
        self, key: str, path: Path, *, advance: Callable[[int], None] | None = None
    ) -> None:
        """Store a file, streamed, atomically; replaces an object left by an earlier try."""
        ...

    def get(self, key: str, *, limit: int) -> bytes:
        """Fetch a small object whole; more than ``limit`` bytes is an ``IntegrityError``."""
        ...

    def stream(self, key: str) -> Iterator[bytes]:
        """Fetch an object as chunks of about 1 MiB."""
        ...

    def head(self, key: str) -> StoredObject:
        """Look at one object; ``ObjectMissing`` when there is none."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Give every object whose key begins with ``prefix``, sorted by key."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    def now(self) -> datetime:
        """Give the store's own clock: the one that ``StoredObject.modified`` is told by."""
        ...

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """Give the uploads that killed writers left under keys that begin with ``prefix``."""
        ...

    def abort(self, upload: Unfinished) -> None:
        """Give an unfinished upload up; one that is not there is no error."""
        ...


class PackCodec(Protocol):
    """Makes and opens packs outside the calling process's interpreter lock."""

    @property
    def recipients(self) -> tuple[str, ...]:
        """The age recipients packs are sealed to; empty when encryption is off."""
        ...

    def can_open(self, recipients: Sequence[str]) -> bool:
        """Whether an identity at hand opens what is sealed to ``recipients`` (none: unsealed)."""
        ...

    def seal(
        self, plan: PackPlan, source: Path, destination: Path, *, advance: Callable[[int], None]
    ) -> Pack:
        """Tar, compress and seal the members found in ``source`` into the file ``destination``.

        A member whose bytes differ from its planned digest raises ``DigestMismatch``; the
        destination then does not exist. Written under a temporary name, flushed to disk, renamed.
        """
        ...

    def seal_early(
        self, plan: EarlyPlan, source: Path, destination: Path, *, advance: Callable[[int], None]
    ) -> Pack:
        """Seal files as ``seal`` does, and take their digests from the very bytes that it seals.

        A file whose size differs from its plan raises ``DigestMismatch``.
        """
        ...

    def open(
        self,
        pack: Pack,
        sealed: Path,
        destination: Path | None,
        *,
        advance: Callable[[int], None],
    ) -> None:
        """Check the stored digest, open the pack and check every member's digest.

        ``destination`` None checks only. Raises ``DigestMismatch``, ``DecryptionFailed``,
        ``ConfigurationError`` (no identity).
        """
        ...


class Remains(Protocol):
    """What dead runs may have left in a repository, beside packs: it belongs to no backup."""

    def signatures(self, target: Target) -> list[StoredObject]:
        """Signatures below the target's folders whose document does not exist, sorted by key."""
        ...

    def uploads(self, target: Target) -> list[Unfinished]:
        """Unfinished uploads below the target's folders, sorted by key."""
        ...

    def remove_signature(self, key: str) -> None:
        """Remove a signature, unless its document came to exist meanwhile."""
        ...

    def abort(self, upload: Unfinished) -> None:
        """Give an unfinished upload up."""
        ...


class Repository(Protocol):
    """The repository format over an object store, with signatures checked on every read."""

    @property
    def id(self) -> str:
        """The repository's id."""
        ...

    @property
    def remains(self) -> Remains:
        """What dead runs may have left here."""
        ...

    def describe(self) -> str:
        """Name the repository for people, without secrets."""
        ...

    def now(self) -> datetime:
        """Give the clock of the store that the repository lies in."""
        ...

    def check_place(self) -> None:
        """Raise ``ConfigurationError`` unless the repository that was opened is still there.

        A volume that is not mounted any more looks like an empty folder.
        """
        ...

    def targets(self) -> list[Target]:
        """All targets that have backups or packs, sorted."""
        ...

    def backups(self, target: Target) -> list[BackupId]:
        """Ids under ``target`` that have a ``manifest.json`` object, sorted by name."""
        ...

    def manifest(self, target: Target, backup: BackupId) -> Manifest:
        """Fetch a manifest and check signature, role and path.

        Raises ``BackupNotFound``, ``SignatureInvalid``, ``ManifestInvalid``.
        """
        ...

    def manifest_digest(self, target: Target, backup: BackupId) -> str:
        """Give the SHA-256 of the stored manifest's bytes (after the same checks)."""
        ...

    def store_pack(self, pack: Pack, path: Path, *, advance: Callable[[int], None]) -> None:
        """Store a sealed file unless an object of the same size is already under its path."""
        ...

    def packs(self, target: Target) -> dict[str, StoredObject]:
        """Every stored object under ``packs/<target>/``, by path."""
        ...

    def stray(self, target: Target) -> list[str]:
        """Keys under the target's folders that the format does not know."""
        ...

    def foreign(self) -> list[str]:
        """Keys anywhere in the repository that the format does not know, sorted."""
        ...

    def read_pack(self, pack: Pack) -> Iterator[bytes]:
        """Stream the stored bytes of a pack; ``ObjectMissing`` when it is gone."""
        ...

    def fetch_pack(self, pack: Pack, destination: Path, *, advance: Callable[[int], None]) -> None:
        """Store the sealed bytes as a file, checking size and digest on the way."""
        ...

    def commit(self, manifest: Manifest) -> str:
        """Make the backup exist: list its packs once more, signature, manifest, both read back.

        Returns the manifest's SHA-256. Raises ``IntegrityError`` when a pack is missing or has
        another size, ``ObjectExists`` when the id is taken by another manifest.
        """
        ...

    def told_of(self, target: Target) -> list[BackupId]:
        """Ids under ``target`` that signed statements speak of, sorted by name."""
        ...

    def verifications(self, target: Target, backup: BackupId) -> list[Verification]:
        """Every signed statement about a backup, oldest first; a bad one raises."""
        ...

    def record(self, verification: Verification) -> None:
        """Sign and store a statement."""
        ...

    def audit(self, entry: AuditEntry) -> str:
        """Sign and store an audit entry; returns its SHA-256."""
        ...

    def audited(self) -> list[str]:
        """Paths of every stored audit entry, by their sequence number."""
        ...

    def audit_entry(self, path: str) -> AuditEntry:
        """Fetch an audit entry and check signature, role and path.

        Raises ``SignatureInvalid``, ``ManifestInvalid``.
        """
        ...

    def remove_manifest(self, target: Target, backup: BackupId) -> None:
        """Remove a backup's manifest, then its signature: the backup exists no longer."""
        ...

    def remove_pack(self, path: str) -> None:
        """Remove one pack."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTools:
    """Client programs of one PostgreSQL major."""

    version: str
    major: int
    pg_dump: Path
    pg_dumpall: Path
    pg_restore: Path
    compression: Literal["zstd:3", "none"]


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
        ...

    @property
    def table_names(self) -> tuple[tuple[str, str], ...]:
        """(schema, table) of every table that will be dumped with data, sorted."""
        ...

    def cancel(self) -> None:
        """End a count that runs in another thread; it raises there. Safe from any thread."""
        ...

    def count(self, *, on_table: Callable[[], None] | None = None) -> tuple[TableCount, ...]:
        """Count every table's rows inside the snapshot; sorted by schema and table."""
        ...

    def describe(self, tables: tuple[TableCount, ...]) -> PostgresCapture:
        """Describe the database as the snapshot shows it; checks the table list once more."""
        ...


class PostgresSource(Protocol):
    """One protected database and the client programs that fit its server."""

    def preflight(self) -> Preflight:
        """Check that the server answers, the credentials work, the role sees every row.

        Raises ``DatabaseUnavailable``, ``ConfigurationError`` (password, database, BYPASSRLS,
        client older than server).
        """
        ...

    def capture(self, tools: ClientTools) -> AbstractContextManager[Capture]:
        """Lock all tables against TRUNCATE and DROP, then export a snapshot."""
        ...

    def dump(
        self,
        capture: Capture,
        destination: Path,
        *,
        tools: ClientTools,
        jobs: int,
        progress: Progress,
        on_file: Callable[[str], None] | None = None,
    ) -> None:
        """Run ``pg_dump -Fd`` on the capture's snapshot and write ``globals.sql`` beside.

        ``on_file`` hears, in the calling thread, the names of files that pg_dump has finished
        while it goes on with others; not of all, and of none where they cannot be told for sure.

        Raises ``CommandFailed``, ``DatabaseUnavailable``, ``SpoolFull``.
        """
        ...

    def check_dump(self, dump: Path, capture: PostgresCapture) -> int:
        """Check that the dump's table of contents names the data of exactly the counted tables.

        Returns the number of its entries. Raises ``IntegrityError``.
        """
        ...


class PostgresDestination(Protocol):
    """The server a database is restored to."""

    def preflight(self, name: str, capture: PostgresCapture) -> ClientTools:
        """Check that ``name`` is free and the server can take the database; choose the client.

        Raises ``RestoreRefused`` (name taken), ``ConfigurationError``, ``DatabaseUnavailable``.
        """
        ...

    def create(self, name: str, capture: PostgresCapture, *, marker: str) -> None:
        """Create missing roles NOLOGIN, then the database, marked with ``marker`` as unfinished."""
        ...

    def load(
        self, name: str, dump: Path, *, tools: ClientTools, jobs: int, progress: Progress
    ) -> None:
        """Run ``pg_restore --exit-on-error`` from the dump directory into the new database."""
        ...

    def finish(
        self,
        name: str,
        capture: PostgresCapture,
        *,
        marker: str,
        before_opening: Callable[[], None] | None = None,
    ) -> None:
        """ANALYZE; apply settings, ACL, connection limit and, in place of the marker, the comment.

        ``before_opening`` is called between the two, and what it raises leaves the marker.
        Raises ``RestoreRefused`` when the database does not carry ``marker``.
        """
        ...

    def count(
        self, name: str, *, on_table: Callable[[], None] | None = None
    ) -> tuple[TableCount, ...]:
        """Count every table's rows, as ``Capture.count`` does; sorted by schema and table."""
        ...

    def count_large_objects(self, name: str) -> int:
        """Count the large objects of a database."""
        ...

    def abandon(self, name: str, *, marker: str) -> bool:
        """Drop the database if it exists and still carries ``marker``; say whether it did."""
        ...


class PostgresSwap(Protocol):
    """A server whose databases trade places, in one transaction or not at all."""

    def blockers(
        self, live: str, aside: str, capture: PostgresCapture | None, *, room: bool
    ) -> tuple[str, ...]:
        """Say everything that stands against ``live`` becoming ``aside``; empty when nothing does.

        ``capture`` describes the backup that is to take its place, None when that is a database
        already; with ``room`` the space for one more copy is looked at.
        """
        ...

    def look(self, live: str, incoming: str) -> tuple[int, int, bool]:
        """Give the oids of both, and whether ``live`` takes connections.

        Raises ``RestoreRefused`` when one of them does not exist.
        """
        ...

    def analyse(self, name: str) -> None:
        """Gather statistics of a database."""
        ...

    def exchange(
        self,
        swap: Swap,
        *,
        hold: Callable[[], None],
        restored: tuple[PostgresCapture, str] | None,
    ) -> None:
        """Carry out a swap; when it raises, the live database is as it was, or will be settled.

        ``hold`` is called right before the transaction; ``restored`` is the capture of a copy and
        its marker. Raises ``TargetBusy``, ``RestoreRefused``, ``DatabaseUnavailable``.
        """
        ...

    def settle(self, swap: Swap) -> Standing | None:
        """Find out how a swap ended, and leave the live database open; None while it is at work."""
        ...

    def drop(self, swap: Swap) -> Literal["dropped", "gone", "in use"]:
        """Drop the database that a swap set aside, unless somebody opened it again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A plain text for people; ``id`` is the same when the same mail is sent again."""

    subject: str
    body: str
    at: datetime
    id: str


class Mailer(Protocol):
    """Who hands mails to a server; sender and recipients are its own."""

    def send(self, mail: Mail) -> tuple[str, ...]:
        """Hand a mail over; give the recipients that were refused while others were taken.

        Raises ``ConfigurationError`` for what waiting does not mend, else ``TransientError``.
        """
        ...

"""Where backups lie: an object store, the format over it, and packs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pgben_tasks.domain.documents import (
    AuditEntry,
    Manifest,
    Pack,
    RecoveryPoint,
    StoredFile,
    Verification,
)
from pgben_tasks.domain.packing import EarlyPlan, PackPlan
from pgben_tasks.domain.space import Usage
from pgben_tasks.domain.target import BackupId, Target


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as a listing shows it."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload that was begun and neither ended nor aborted.

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
        """Return the store's name for people, without secrets."""

    def put(self, key: str, data: bytes) -> None:
        """Store small ``data`` under a new key; ``ObjectExists`` when the key is taken."""

    def put_file(
        self, key: str, path: Path, *, advance: Callable[[int], None] | None = None
    ) -> None:
        """Store a file, streamed, atomically; replaces an object left by an earlier try."""

    def get(self, key: str, *, limit: int) -> bytes:
        """Return a small object whole; more than ``limit`` bytes is an ``IntegrityError``."""

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield an object in chunks of about 1 MiB."""

    def head(self, key: str) -> StoredObject:
        """Return the facts of one object; ``ObjectMissing`` when there is none."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Return every object whose key begins with ``prefix``, sorted by key."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def now(self) -> datetime:
        """Return the time by the clock that ``StoredObject.modified`` is taken from."""

    def volume(self) -> Usage | None:
        """Return how full the store's volume is; None where a server keeps it."""

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """Return the uploads that killed writers left under keys that begin with ``prefix``."""

    def abort(self, upload: Unfinished) -> None:
        """Abort an unfinished upload; one that is not there is no error."""


class PackCodec(Protocol):
    """Makes and opens packs outside the calling process's interpreter lock."""

    @property
    def recipients(self) -> tuple[str, ...]:
        """The age recipients packs are sealed to; empty when encryption is off."""

    def can_open(self, recipients: Sequence[str]) -> bool:
        """Return whether an identity at hand opens what is sealed to ``recipients``, if to any."""

    def seal(
        self, plan: PackPlan, source: Path, destination: Path, *, advance: Callable[[int], None]
    ) -> Pack:
        """Tar, compress and seal the members found in ``source`` into the file ``destination``.

        A member whose bytes differ from its planned digest raises ``DigestMismatch``; the
        destination then does not exist. Written under a temporary name, flushed to disk, renamed.
        """

    def seal_early(
        self, plan: EarlyPlan, source: Path, destination: Path, *, advance: Callable[[int], None]
    ) -> Pack:
        """Seal files as ``seal`` does, and take their digests from the very bytes that it seals.

        A file whose size differs from its plan raises ``DigestMismatch``.
        """

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


class Repository(Protocol):
    """The repository format over an object store, with signatures checked on every read."""

    @property
    def id(self) -> str:
        """The repository's id."""

    def describe(self) -> str:
        """Return the repository's name for people, without secrets."""

    def now(self) -> datetime:
        """Return the time by the clock of the repository's store."""

    def volume(self) -> Usage | None:
        """Return how full the volume of the repository is; None where a server keeps it."""

    def stored_bytes(self) -> int:
        """Return the bytes of everything that is stored, by a listing of all of it."""

    def check_place(self) -> None:
        """Raise ``ConfigurationError`` unless the repository that was opened is still there.

        A volume that is not mounted any more looks like an empty folder.
        """

    def targets(self) -> list[Target]:
        """Return all targets that have backups or packs, sorted."""

    def targets_with_statements(self) -> list[Target]:
        """Return all targets that signed statements are about, sorted."""

    def backups(self, target: Target) -> list[BackupId]:
        """Return the ids under ``target`` that have a ``manifest.json`` object, sorted by name."""

    def manifest(self, target: Target, backup: BackupId) -> Manifest:
        """Return a manifest after a check of its signature, role and path.

        Raises ``BackupNotFound``, ``SignatureInvalid``, ``ManifestInvalid``.
        """

    def manifest_digest(self, target: Target, backup: BackupId) -> str:
        """Return the SHA-256 of the stored manifest's bytes (after the same checks)."""

    def store_pack(self, pack: Pack, path: Path, *, advance: Callable[[int], None]) -> None:
        """Store a sealed file unless an object of the same size is already under its path."""

    def packs(self, target: Target) -> dict[str, StoredObject]:
        """Return every stored object under ``packs/<target>/``, by path."""

    def inventories(self, target: Target) -> dict[str, StoredObject]:
        """Return every stored inventory of a bucket, or references of a database, by path."""

    def stray(self, target: Target) -> list[str]:
        """Return the keys under the target's folders that the format does not know."""

    def foreign(self) -> list[str]:
        """Return the keys anywhere in the repository that the format does not know, sorted."""

    def all_keys(self) -> list[str]:
        """Return every key of the repository, sorted."""

    def card_digest(self) -> str:
        """Return the SHA-256 of the bytes of ``repository.json``."""

    def public_keys(self) -> dict[str, bool]:
        """Return the path of each document of public keys, and whether its bytes fit its name."""

    def statement_paths(self, target: Target) -> list[str]:
        """Return the paths of all statements about backups of a target, signatures left out."""

    def read_pack(self, pack: StoredFile) -> Iterator[bytes]:
        """Yield the stored bytes of a pack or an inventory; ``ObjectMissing`` when it is gone."""

    def fetch_pack(self, pack: Pack, destination: Path, *, advance: Callable[[int], None]) -> None:
        """Write the sealed bytes to a file, checking size and digest on the way."""

    def store_inventory(self, target: Target, backup: BackupId, path: Path) -> None:
        """Store the inventory of a snapshot; ``path`` is named as it is in the repository."""

    def fetch_inventory(self, manifest: Manifest, destination: Path) -> None:
        """Write a snapshot's inventory to a file, checking size and digest on the way."""

    def commit(self, manifest: Manifest) -> str:
        """Make the backup exist: list its packs, write signature and manifest, read both back.

        Returns the manifest's SHA-256. Raises ``IntegrityError`` when a pack is missing or has
        another size, ``ObjectExists`` when the id is taken by another manifest.
        """

    def backups_with_statements(self, target: Target) -> list[BackupId]:
        """Return the ids under ``target`` that signed statements are about, sorted by name."""

    def verifications(self, target: Target, backup: BackupId) -> list[Verification]:
        """Return every signed statement about a backup, oldest first; a bad one raises."""

    def record(self, verification: Verification) -> None:
        """Sign and store a statement."""

    def audit(self, entry: AuditEntry) -> str:
        """Sign and store an audit entry; return its SHA-256."""

    def audited(self) -> list[str]:
        """Return the paths of every stored audit entry, by their sequence number."""

    def audit_files(self) -> dict[str, StoredObject]:
        """Return every stored object below ``audit/``, by path."""

    def audit_entry(self, path: str) -> AuditEntry:
        """Return an audit entry after a check of its signature, role and path.

        Raises ``SignatureInvalid``, ``ManifestInvalid``.
        """

    def store_report(self, report: str, page: bytes) -> str:
        """Store the file of a report unless an earlier try did; return the stored one's SHA-256."""

    def report_digests(self) -> dict[str, str]:
        """Return the SHA-256 of the file of every report, by path."""

    def points(self) -> list[BackupId]:
        """Return the ids of all recovery points, sorted by name."""

    def point(self, point: BackupId) -> RecoveryPoint:
        """Return a recovery point after a check of its signature, role and path.

        Raises ``BackupNotFound``, ``SignatureInvalid``, ``ManifestInvalid``.
        """

    def store_faults(self, point: BackupId, path: Path) -> None:
        """Store the list of faults that a point's cross-check found, before the point itself."""

    def fetch_faults(self, point: RecoveryPoint, destination: Path) -> StoredFile | None:
        """Write a point's list of faults to a file, checked; return what it is, None without one.

        Raises ``IntegrityError`` when it is gone or another one.
        """

    def store_point(self, point: RecoveryPoint) -> None:
        """Sign and store a recovery point; the same one may be stored again."""

    def remove_point(self, point: BackupId) -> None:
        """Remove a recovery point's document, then its signature; its members stay."""

    def remove_manifest(self, target: Target, backup: BackupId) -> None:
        """Remove a backup's manifest, then its signature: the backup exists no longer."""

    def remove_inventory(self, path: str) -> None:
        """Remove an inventory, unless its manifest came to exist meanwhile."""

    def remove_pack(self, path: str) -> None:
        """Remove one pack."""

    def lone_signatures(self, target: Target) -> list[StoredObject]:
        """Return the signatures whose document does not exist, sorted by key.

        They, unfinished uploads and files of shards are what killed jobs leave beside packs.
        """

    def remove_signature(self, key: str) -> None:
        """Remove a signature, unless its document came to exist meanwhile."""

    def unfinished_uploads(self, target: Target) -> list[Unfinished]:
        """Return the unfinished uploads below the target's folders, sorted by key."""

    def abort_upload(self, upload: Unfinished) -> None:
        """Abort an unfinished upload."""

    def shard_files(self, target: Target) -> dict[str, StoredObject]:
        """Return every file of a shard of the target, by path. No manifest names them."""

    def store_shard_file(self, key: str, file: Path) -> None:
        """Store a file of a shard under its path, replacing what an earlier try left."""

    def fetch_shard_file(self, stored: StoredFile, destination: Path) -> None:
        """Write a shard's file to ``destination``, checking size and digest on the way."""

    def remove_shard_file(self, key: str) -> None:
        """Remove a file of a shard."""

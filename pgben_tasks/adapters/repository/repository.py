"""The repository format over an object store: what a ``Repository`` promises, whatever the store.

Signatures are ``documents``; places are ``domain.layout``; how bytes become a file is ``fetch``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from pgben_tasks.adapters.keys.signatures import Signer, Trust
from pgben_tasks.adapters.repository.card import CARD_LIMIT, REPOSITORY_ID, has_card, read_card
from pgben_tasks.adapters.repository.documents import SignedDocuments
from pgben_tasks.adapters.repository.fetch import fetch_checked
from pgben_tasks.adapters.repository.public_keys import is_unchanged, trusted_from_repository
from pgben_tasks.domain import layout
from pgben_tasks.domain.documents import (
    AuditEntry,
    Manifest,
    Pack,
    PublicKeys,
    RecoveryPoint,
    RepositoryCard,
    StatementKind,
    StoredFile,
    Verification,
)
from pgben_tasks.domain.space import Usage
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import (
    BackupNotFound,
    ConfigurationError,
    DigestMismatch,
    IntegrityError,
    ObjectExists,
    ObjectMissing,
    PermanentError,
    RequestRefused,
    SignatureInvalid,
)
from pgben_tasks.ports import ObjectStore, StoredObject, Unfinished

_RETRY: Final = "the upload was not complete; start the backup again"


class StoreRepository:
    """A repository in an object store. Make it with ``open`` or ``create``."""

    def __init__(
        self, store: ObjectStore, card: RepositoryCard, documents: SignedDocuments
    ) -> None:
        """Join the parts; ``open`` and ``create`` check them."""
        self._store = store
        self._card = card
        self._documents = documents

    @classmethod
    def open(cls, store: ObjectStore, *, signer: Signer | None, trust: Trust) -> Self:
        """Open an existing repository.

        Raises ``ConfigurationError`` when there is none or the signing key is not trusted,
        ``ManifestInvalid`` when its card is damaged.
        """
        card = read_card(store)
        documents = SignedDocuments(store, card.repository, signer=signer, trust=trust)
        return cls(store, card, documents)

    @classmethod
    def create(
        cls,
        store: ObjectStore,
        repository_id: str,
        now: datetime,
        *,
        signer: Signer | None,
        trust: Trust,
    ) -> Self:
        """Make a new repository in an empty place and open it.

        Raises ``RequestRefused`` when there is one, or when backups without a card are there.
        """
        if not REPOSITORY_ID.fullmatch(repository_id):
            raise ConfigurationError(
                f"{repository_id!r} cannot be a repository's id",
                "use 8 to 64 letters, digits and '-'",
            )
        for prefix in (layout.BACKUPS, layout.PACKS):
            if next(store.list(prefix), None) is not None and not has_card(store):
                raise RequestRefused(
                    f"'{store.describe()}' holds backups but no '{layout.REPOSITORY_CARD}'",
                    "restore that file from the copy of the repository; a new one would make "
                    "every signature there invalid",
                )
        card = RepositoryCard(repository=repository_id, created=now)
        try:
            store.put(layout.REPOSITORY_CARD, card.encode())
        except ObjectExists as exc:
            raise RequestRefused(
                f"there is a repository at '{store.describe()}' already",
                "use it as it is, or name another place in PGBEN_REPOSITORY",
            ) from exc
        return cls.open(store, signer=signer, trust=trust)

    @property
    def id(self) -> str:
        """The repository's id."""
        return self._card.repository

    def describe(self) -> str:
        """Return the repository's name for people, without secrets."""
        return self._store.describe()

    def now(self) -> datetime:
        """Return the store's own clock."""
        return self._store.now()

    def volume(self) -> Usage | None:
        """Return how full the volume of the repository is; None where a server keeps it."""
        return self._store.volume()

    def stored_bytes(self) -> int:
        """Return the bytes of everything that is stored, by a listing of all of it."""
        return sum(stored.size for stored in self._store.list(""))

    def check_place(self) -> None:
        """Raise ``ConfigurationError`` unless the repository that was opened is still there."""
        found = read_card(self._store).repository
        if found != self.id:
            raise ConfigurationError(
                f"the repository at '{self.describe()}' is '{found}' now, not '{self.id}'",
                "another volume or bucket took its place; nothing is stored there",
            )

    def targets(self) -> list[Target]:
        """Return all targets that have backups or packs, sorted."""
        found = {
            layout.target_of(stored.key)
            for prefix in (layout.BACKUPS, layout.PACKS)
            for stored in self._store.list(prefix)
        }
        return sorted(target for target in found if target is not None)

    def targets_with_statements(self) -> list[Target]:
        """Return all targets that signed statements are about, sorted."""
        found = {
            layout.target_of_statement(one.key) for one in self._store.list(layout.VERIFICATIONS)
        }
        return sorted(target for target in found if target is not None)

    def backups(self, target: Target) -> list[BackupId]:
        """Return the ids under ``target`` that have a manifest, sorted by name."""
        found = (
            layout.backup_of_manifest(stored.key)
            for stored in self._store.list(layout.backups_prefix(target))
        )
        return sorted((backup for backup in found if backup is not None), key=str)

    def manifest(self, target: Target, backup: BackupId) -> Manifest:
        """Return a manifest after a check of its signature, role and path."""
        return self._manifest(target, backup)[0]

    def manifest_digest(self, target: Target, backup: BackupId) -> str:
        """Return the SHA-256 of the stored manifest's bytes, after the same checks."""
        return hashlib.sha256(self._manifest(target, backup)[1]).hexdigest()

    def store_pack(self, pack: Pack, path: Path, *, advance: Callable[[int], None]) -> None:
        """Store a sealed file unless an object of the same size is already under its path."""
        size = path.stat().st_size
        if size != pack.size:
            raise DigestMismatch(
                f"'{path}' is {size} bytes long, '{pack.path}' was made with {pack.size}",
                "something changed the spool while the backup ran; start the backup again",
            )
        try:
            present = self._store.head(pack.path).size == size
        except ObjectMissing:
            present = False
        if present:
            advance(size)
        else:
            self._store.put_file(pack.path, path, advance=advance)

    def packs(self, target: Target) -> dict[str, StoredObject]:
        """Return every stored object under ``packs/<target>/``, by path."""
        return {stored.key: stored for stored in self._store.list(layout.packs_prefix(target))}

    def inventories(self, target: Target) -> dict[str, StoredObject]:
        """Return every stored inventory of a bucket, or references of a database, by path."""
        found = self._store.list(layout.backups_prefix(target))
        return {stored.key: stored for stored in found if layout.is_inventory(stored.key)}

    def stray(self, target: Target) -> list[str]:
        """Return the keys under the target's folders that the format does not know."""
        return sorted(
            stored.key
            for prefix in layout.prefixes(target)
            for stored in self._store.list(prefix)
            if not layout.is_known(stored.key, target)
        )

    def foreign(self) -> list[str]:
        """Return the keys anywhere in the repository that the format does not know, sorted."""
        return sorted(one.key for one in self._store.list("") if not layout.has_place(one.key))

    def all_keys(self) -> list[str]:
        """Return every key of the repository, sorted."""
        return [stored.key for stored in self._store.list("")]

    def card_digest(self) -> str:
        """Return the SHA-256 of the bytes of ``repository.json``."""
        card = self._store.get(layout.REPOSITORY_CARD, limit=CARD_LIMIT)
        return hashlib.sha256(card).hexdigest()

    def public_keys(self) -> dict[str, bool]:
        """Return the path of each document of public keys, and whether its bytes fit its name."""
        return {path: is_unchanged(self._store, path) for path in self._public_key_paths()}

    def read_public_keys(self) -> list[PublicKeys]:
        """Return every document of public keys, to be compared and never to be believed."""
        named = (layout.public_keys_fingerprint(path) for path in self._public_key_paths())
        return [trusted_from_repository(self._store, one) for one in named if one is not None]

    def _public_key_paths(self) -> list[str]:
        listed = (stored.key for stored in self._store.list(layout.PUBLIC_KEYS))
        return [key for key in listed if layout.public_keys_fingerprint(key) is not None]

    def read_pack(self, pack: StoredFile) -> Iterator[bytes]:
        """Yield the stored bytes of a pack or an inventory."""
        return self._store.stream(pack.path)

    def fetch_pack(self, pack: Pack, destination: Path, *, advance: Callable[[int], None]) -> None:
        """Write the sealed bytes to a file, checking size and digest on the way."""
        fetch_checked(self._store.stream(pack.path), pack, destination, advance=advance)

    def store_inventory(self, target: Target, backup: BackupId, path: Path) -> None:
        """Store the inventory of a snapshot, or the references of a database."""
        sealed = path.suffix == ".age"
        self._store.put_file(layout.inventory_path(target, backup, sealed=sealed), path)

    def fetch_inventory(self, manifest: Manifest, destination: Path) -> None:
        """Write an inventory, or references, to a file, checking size and digest on the way."""
        inventory = layout.inventory_of(manifest)
        fetch_checked(self._store.stream(inventory.path), inventory, destination)

    def commit(self, manifest: Manifest) -> str:
        """Make the backup exist; return the SHA-256 of its manifest."""
        if manifest.repository != self.id:
            raise PermanentError(
                f"a manifest for the repository '{manifest.repository}' cannot be stored in "
                f"'{self.id}'",
                "the repository was replaced while the backup ran; start it again",
            )
        self.check_place()
        stored = self.packs(manifest.target_name)
        if manifest.has_lines:
            inventory = layout.inventory_of(manifest)
            stored |= {one.key: one for one in self._store.list(inventory.path)}
            self._require_stored(inventory, stored)
        for pack in manifest.packs:
            self._require_stored(pack, stored)
        return hashlib.sha256(self._documents.write(manifest)).hexdigest()

    @staticmethod
    def _require_stored(pack: StoredFile, stored: Mapping[str, StoredObject]) -> None:
        found = stored.get(pack.path)
        if found is None:
            raise IntegrityError(f"'{pack.path}' is not in the repository", _RETRY)
        if found.size != pack.size:
            raise IntegrityError(
                f"'{pack.path}' is {found.size} bytes long in the repository, not {pack.size}",
                _RETRY,
            )

    def backups_with_statements(self, target: Target) -> list[BackupId]:
        """Return the ids under ``target`` that signed statements are about, sorted by name."""
        keys = [one.key for one in self._store.list(layout.verifications_prefix(target))]
        return sorted({layout.capture_of(key) for key in keys if layout.is_known(key, target)})

    def statement_paths(self, target: Target) -> list[str]:
        """Return the paths of all statements about backups of a target, signatures left out."""
        keys = [one.key for one in self._store.list(layout.verifications_prefix(target))]
        return [key for key in keys if key.endswith(".json") and layout.is_known(key, target)]

    def verifications(self, target: Target, backup: BackupId) -> list[Verification]:
        """Return every signed statement about a backup, oldest first; a bad one raises."""
        found = [
            self._documents.read(Verification, stored.key)[0]
            for stored in self._store.list(layout.verifications_prefix(target, backup))
            if stored.key.endswith(".json")
        ]
        return sorted(found, key=lambda statement: (statement.at, statement.id))

    def record(self, verification: Verification) -> None:
        """Sign and store a statement."""
        self._documents.write(verification)

    def may_record(self, kind: StatementKind) -> bool:
        """Return whether the key at hand may sign statements of this kind."""
        return self._documents.may_sign(kind)

    def audit(self, entry: AuditEntry) -> str:
        """Sign and store an audit entry; return its SHA-256."""
        return hashlib.sha256(self._documents.write(entry)).hexdigest()

    def audited(self) -> list[str]:
        """Return the paths of every stored audit entry, by their sequence number."""
        numbers = {
            stored.key: layout.audit_sequence(stored.key)
            for stored in self._store.list(layout.AUDIT)
        }
        known = [(number, path) for path, number in numbers.items() if number is not None]
        return [path for _, path in sorted(known)]

    def audit_files(self) -> dict[str, StoredObject]:
        """Return every stored object below ``audit/``, by path."""
        return {stored.key: stored for stored in self._store.list(layout.AUDIT)}

    def audit_entry(self, path: str) -> AuditEntry:
        """Return an audit entry after a check of its signature, role and path."""
        return self._documents.read(AuditEntry, path)[0]

    def store_report(self, report: str, page: bytes) -> str:
        """Store the file of a report unless an earlier try did; return the stored one's SHA-256."""
        path = layout.report_path(report)
        with suppress(ObjectExists):
            self._store.put(path, page)
        return self._digest(path)

    def report_digests(self) -> dict[str, str]:
        """Return the SHA-256 of the file of every report, by path."""
        listed = [stored.key for stored in self._store.list(layout.REPORT_FILES)]
        return {path: self._digest(path) for path in listed if layout.is_report(path)}

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        for chunk in self._store.stream(path):
            digest.update(chunk)
        return digest.hexdigest()

    def points(self) -> list[BackupId]:
        """Return the ids of all recovery points, sorted by name."""
        found = (layout.point_of(stored.key) for stored in self._store.list(layout.POINTS))
        return sorted((point for point in found if point is not None), key=str)

    def point(self, point: BackupId) -> RecoveryPoint:
        """Return a recovery point after a check of its signature, role and path."""
        try:
            return self._documents.read(RecoveryPoint, layout.point_path(point))[0]
        except ObjectMissing as exc:
            raise BackupNotFound(
                f"there is no recovery point '{point}' in {self.describe()}",
                "`pgben points` shows those there are",
            ) from exc
        except SignatureInvalid:
            if point not in self.points():
                # It was removed between the document and its signature.
                raise BackupNotFound(
                    f"recovery point '{point}' was removed just now",
                    "`pgben points` shows the rest",
                ) from None
            raise

    def store_faults(self, point: BackupId, path: Path) -> None:
        """Store the list of faults that a point's cross-check found, before the point itself."""
        self._store.put_file(layout.faults_path(point, sealed=path.suffix == ".age"), path)

    def fetch_faults(self, point: RecoveryPoint, destination: Path) -> StoredFile | None:
        """Write a point's list of faults to a file, checked; return what it is, None without one.

        Whether it is sealed shows by its name.
        """
        for sealed in (True, False):
            stored = layout.faults_of(point, sealed=sealed)
            if stored is None:
                return None
            with suppress(ObjectMissing):
                fetch_checked(self._store.stream(stored.path), stored, destination)
                return stored
        raise IntegrityError(
            f"the list of faults of recovery point '{point.id}' is gone",
            "its numbers stand in the point; the next one makes a new list",
        )

    def store_point(self, point: RecoveryPoint) -> None:
        """Sign and store a recovery point; the same one may be stored again."""
        self.check_place()
        self._documents.write(point)

    def remove_point(self, point: BackupId) -> None:
        """Remove a recovery point's document, then its signature; its members stay."""
        path = layout.point_path(point)
        self._store.delete(path)
        self._store.delete(layout.signature_path(path))
        for sealed in (True, False):
            self._store.delete(layout.faults_path(point, sealed=sealed))

    def remove_manifest(self, target: Target, backup: BackupId) -> None:
        """Remove a backup's manifest, then its signature: the backup exists no longer."""
        path = layout.manifest_path(target, backup)
        self._store.delete(path)
        self._store.delete(layout.signature_path(path))
        for sealed in (True, False):
            self._store.delete(layout.inventory_path(target, backup, sealed=sealed))

    def remove_inventory(self, path: str) -> None:
        """Remove an inventory, unless its manifest came to exist meanwhile."""
        target = layout.target_of(path)
        if target is None or not layout.is_inventory(path):
            raise PermanentError(
                f"'{path}' is no inventory and is not removed", "verify the target"
            )
        if layout.capture_of(path) not in self.backups(target):
            self._store.delete(path)

    def remove_pack(self, path: str) -> None:
        """Remove one pack."""
        target = layout.target_of(path)
        if target is None or not path.startswith(layout.PACKS) or not layout.is_known(path, target):
            raise PermanentError(f"'{path}' is not a pack and is not removed", "verify the target")
        self._store.delete(path)

    def lone_signatures(self, target: Target) -> list[StoredObject]:
        """Return the signatures whose document does not exist, sorted by key."""
        found = {
            stored.key: stored
            for prefix in (layout.backups_prefix(target), layout.verifications_prefix(target))
            for stored in self._store.list(prefix)
        }
        return [
            stored
            for key, stored in sorted(found.items())
            if layout.is_known(key, target)
            and (document := layout.signed_document(key)) is not None
            and document not in found
        ]

    def remove_signature(self, key: str) -> None:
        """Remove a signature, unless its document came to exist meanwhile."""
        document = layout.signed_document(key)
        if document is None:
            raise PermanentError(f"'{key}' is not a signature and is not removed", "verify all")
        try:
            self._store.head(document)
        except ObjectMissing:
            self._store.delete(key)

    def unfinished_uploads(self, target: Target) -> list[Unfinished]:
        """Return the unfinished uploads below the target's folders, sorted by key."""
        return [
            upload
            for prefix in layout.prefixes(target)
            for upload in self._store.unfinished(prefix)
            if layout.is_known(upload.key, target)
        ]

    def abort_upload(self, upload: Unfinished) -> None:
        """Abort an unfinished upload."""
        self._store.abort(upload)

    def shard_files(self, target: Target) -> dict[str, StoredObject]:
        """Return every file of a shard of the target, by path."""
        if target.kind != "bucket":
            return {}
        found = self._store.list(layout.backups_prefix(target))
        return {stored.key: stored for stored in found if layout.is_shard_file(stored.key)}

    def store_shard_file(self, key: str, file: Path) -> None:
        """Store a file of a shard under its path, replacing what an earlier try left."""
        self._store.put_file(key, file)

    def fetch_shard_file(self, stored: StoredFile, destination: Path) -> None:
        """Write a shard's file to ``destination``, checking size and digest on the way."""
        fetch_checked(self._store.stream(stored.path), stored, destination)

    def remove_shard_file(self, key: str) -> None:
        """Remove a file of a shard."""
        if layout.target_of(key) is None or not layout.is_shard_file(key):
            raise PermanentError(
                f"'{key}' is no file of a shard and is not removed", "verify the target"
            )
        self._store.delete(key)

    def _manifest(self, target: Target, backup: BackupId) -> tuple[Manifest, bytes]:
        path = layout.manifest_path(target, backup)
        try:
            return self._documents.read(Manifest, path)
        except ObjectMissing as exc:
            raise BackupNotFound(
                f"there is no backup '{backup}' of '{target}' in '{self.describe()}'",
                "`pgben list` shows the backups there are",
            ) from exc


class UnrecordedRepository(StoreRepository):
    """A repository read by somebody without a key that may sign what was found.

    It reads and checks as every repository does, and keeps no statement. Never for workers: a
    verification by one that is not recorded is worth nothing to the next.
    """

    def record(self, verification: Verification) -> None:
        """Keep nothing; whoever opened this repository has said so to the operator."""

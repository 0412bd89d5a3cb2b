"""Read what a repository holds of a target: manifests, their standing, and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from pgben_tasks.domain.documents import Finding, Manifest, Verification
from pgben_tasks.domain.states import KnownBackup
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import IntegrityError, ManifestInvalid, SignatureInvalid
from pgben_tasks.ports import Repository

_READERS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """One backup: its manifest, the signed statements about it, and its standing."""

    manifest: Manifest
    statements: tuple[Verification, ...]
    known: KnownBackup


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All backups of a target, newest first, and the ones that cannot be believed."""

    target: Target
    backups: tuple[Surveyed, ...]
    unreadable: tuple[tuple[BackupId, Finding], ...]

    @property
    def known(self) -> tuple[KnownBackup, ...]:
        """The standing of every readable backup, newest first."""
        return tuple(backup.known for backup in self.backups)

    @property
    def newest(self) -> Surveyed | None:
        """The backup with the highest sequence number."""
        return self.backups[0] if self.backups else None

    @property
    def newest_good(self) -> Surveyed | None:
        """The newest backup that counts as good."""
        return next((one for one in self.backups if one.known.standing.counts), None)

    def readable_backup(self, backup: BackupId) -> Surveyed | None:
        """Return the backup with this id, when it is readable."""
        return next((one for one in self.backups if one.known.id == backup), None)


def survey(
    repository: Repository, target: Target, *, on_backup: Callable[[], None] | None = None
) -> Survey:
    """Read every manifest of ``target`` and every signed statement about it.

    ``on_backup`` is called after each. A document that cannot be believed becomes a finding; an
    unavailable store raises.
    """

    def read(backup: BackupId) -> Surveyed | tuple[BackupId, Finding]:
        try:
            manifest = repository.manifest(target, backup)
            statements = tuple(repository.verifications(target, backup))
        except IntegrityError as exc:
            return backup, finding_of(exc, f"backups/{target}/{backup}/manifest.json")
        finally:
            if on_backup is not None:
                on_backup()
        return Surveyed(
            manifest=manifest,
            statements=statements,
            known=KnownBackup.from_manifest(manifest, statements),
        )

    # Each document is small and the way to the store may be long: several are on it at a time.
    with ThreadPoolExecutor(_READERS, thread_name_prefix="survey") as readers:
        found = list(readers.map(read, repository.backups(target)))
    backups = [one for one in found if isinstance(one, Surveyed)]
    backups.sort(key=lambda one: one.manifest.sequence, reverse=True)
    unreadable = tuple(one for one in found if not isinstance(one, Surveyed))
    return Survey(target=target, backups=tuple(backups), unreadable=unreadable)


def finding_of(error: IntegrityError, path: str) -> Finding:
    """Describe a document that cannot be believed as a finding."""
    if isinstance(error, SignatureInvalid):
        return Finding(kind="forged", path=path, detail=error.sentence)
    if isinstance(error, ManifestInvalid):
        return Finding(kind="invalid", path=path, detail=error.sentence)
    return Finding(kind="damaged", path=path, detail=error.sentence)

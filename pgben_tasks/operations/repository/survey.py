"""Read what a repository holds of a target: manifests, their standing, and what cannot be read.

Also what lies there without a manifest that names it, and what that means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from pgben_tasks.domain.documents import Finding, Manifest, Verification
from pgben_tasks.domain.layout import FOLDERS, capture_of, is_known
from pgben_tasks.domain.restorability import RestoreSite, missing_client, server_major
from pgben_tasks.domain.states import KnownBackup, state_at
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import IntegrityError, ManifestInvalid, PermanentError, SignatureInvalid
from pgben_tasks.ports import Repository, StoredObject

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
    def named_packs(self) -> frozenset[str]:
        """The paths of all packs that readable manifests name."""
        return frozenset(pack.path for one in self.backups for pack in one.manifest.packs)

    def require_readable(self, refusal: type[PermanentError]) -> None:
        """Raise ``refusal`` when a manifest cannot be believed."""
        if self.unreadable:
            backup, finding = self.unreadable[0]
            raise refusal(
                f"backup '{backup}' of '{self.target}' cannot be believed: {finding.detail}",
                f"run `pgben verify {self.target}`; nothing is removed while a manifest is in "
                "doubt",
            )

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


def missing_at(site: RestoreSite, manifest: Manifest, newest: Manifest) -> str | None:
    """Return what ``site`` lacks to restore a backup; None when nothing is known to be missing.

    The destination is the server as the ``newest`` backup of the target saw it.
    """
    if manifest.postgres is None or newest.postgres is None:
        return None
    destination = server_major(newest.postgres.server_version_num)
    return missing_client(manifest.archive, destination, site.clients)


def judged_at(site: RestoreSite, found: Survey) -> Survey:
    """Return a survey as ``site`` judges it, whatever another site lacked to restore a backup."""

    def judged(one: Surveyed) -> Surveyed:
        needs = missing_at(site, one.manifest, found.backups[0].manifest)
        standing = state_at(one.manifest, one.statements, needs=needs)
        return replace(one, known=replace(one.known, standing=standing))

    return replace(found, backups=tuple(map(judged, found.backups)))


def finding_of(error: IntegrityError, path: str) -> Finding:
    """Return the finding for a document that cannot be believed."""
    if isinstance(error, SignatureInvalid):
        return Finding(kind="forged", path=path, detail=error.sentence)
    if isinstance(error, ManifestInvalid):
        return Finding(kind="invalid", path=path, detail=error.sentence)
    return Finding(kind="damaged", path=path, detail=error.sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """Packs that no manifest names, of one capture that has no manifest.

    ``statements`` tell the cases apart: none for a capture that never got as far as its commit, a
    prune decision for one that was removed, others for a backup whose manifest is lost.
    """

    backup: BackupId
    packs: tuple[StoredObject, ...]
    statements: tuple[Verification, ...]

    @property
    def pruned(self) -> bool:
        """Whether retention decided to remove the backup."""
        return any(statement.kind == "prune" for statement in self.statements)


def was_pruned(repository: Repository, target: Target, backup: BackupId) -> bool:
    """Return ``is_pruned``; a statement that cannot be believed explains nothing."""
    try:
        return is_pruned(repository, target, backup)
    except IntegrityError:
        return False


def is_pruned(repository: Repository, target: Target, backup: BackupId) -> bool:
    """Return whether retention decided to remove a backup; raises for a bad statement about it."""
    return any(one.kind == "prune" for one in repository.verifications(target, backup))


def orphans(
    repository: Repository, one: Survey, stored: Mapping[str, StoredObject]
) -> tuple[Orphans, ...]:
    """Return the captures that have packs among ``stored`` and no manifest, sorted by id.

    Raises ``IntegrityError`` when a statement about one cannot be believed.
    """
    named = one.named_packs
    known = {backup.known.id for backup in one.backups} | {backup for backup, _ in one.unreadable}
    found: dict[BackupId, list[StoredObject]] = {}
    for path, pack in stored.items():
        if path in named or not is_known(path, one.target):
            continue
        backup = capture_of(path)
        if backup not in known:
            found.setdefault(backup, []).append(pack)
    return tuple(
        Orphans(
            backup=backup,
            packs=tuple(packs),
            statements=tuple(repository.verifications(one.target, backup)),
        )
        for backup, packs in sorted(found.items())
    )


def unaccounted(
    repository: Repository, one: Survey, stored: Mapping[str, StoredObject]
) -> list[Finding]:
    """Return what no manifest accounts for: foreign files, stray packs, and lost manifests.

    ``stored`` are the target's packs by path. Packs of a capture that never got as far as its
    commit are no fault: the sweep removes them when they are old enough.
    """
    named = one.named_packs
    committed = {str(backup.known.id) for backup in one.backups}
    findings = [
        Finding(kind="extra", path=key, detail="the format knows no such file")
        for key in repository.stray(one.target)
    ]
    detail = "the backup's manifest does not name this pack"
    # A copy of objects that was taken up again leaves packs that its manifest does not name.
    findings += [
        Finding(kind="extra", path=path, detail=detail)
        for path in sorted(stored)
        if path not in named and path.split("/")[3] in committed and one.target.kind != "bucket"
    ]
    try:
        return findings + _lost(repository, one)
    except IntegrityError as exc:
        return [*findings, finding_of(exc, f"verifications/{one.target}")]


def foreign(repository: Repository, looked_at: Sequence[Target]) -> list[Finding]:
    """Return the unknown files outside the folders of the targets ``looked_at``."""
    folders = tuple(f"{kind}/{target}/" for kind in FOLDERS for target in looked_at)
    detail = "the format knows no such file"
    return [
        Finding(kind="extra", path=key, detail=detail)
        for key in repository.foreign()
        if not key.startswith(folders)
    ]


def _lost(repository: Repository, one: Survey) -> list[Finding]:
    """Return the backups that signed words are about and that are gone without a prune decision.

    These words are the statements about a backup, and the ``previous`` of its successor.
    """
    unreadable = {backup for backup, _ in one.unreadable}
    digests = {
        repository.manifest_digest(one.target, backup.known.id): backup.known.id
        for backup in one.backups
    }
    findings = []
    for backup in repository.backups_with_statements(one.target):
        if one.readable_backup(backup) is not None or backup in unreadable:
            continue
        decided = [
            statement.manifest
            for statement in repository.verifications(one.target, backup)
            if statement.kind == "prune" and statement.manifest is not None
        ]
        digests |= dict.fromkeys(decided, backup)
        if not decided:
            if backup in repository.backups(one.target):
                # It was made after the survey, and so were the statements about it.
                continue
            detail = "signed statements speak of this backup, and no prune decision explains that"
            findings.append(_missing(one.target, backup, f"{detail} its manifest is gone"))
    if not unreadable:
        for successor in one.backups:
            previous = successor.manifest.previous
            if previous is not None and previous not in digests:
                detail = f"the backup before this one (manifest {previous[:12]}…) is gone"
                findings.append(_missing(one.target, successor.known.id, detail))
    return findings


def _missing(target: Target, backup: BackupId, detail: str) -> Finding:
    return Finding(kind="missing", path=f"backups/{target}/{backup}/manifest.json", detail=detail)

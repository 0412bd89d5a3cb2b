"""What lies in a repository without a manifest that names it, and what that means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgben_tasks.domain.documents import Finding, Verification
from pgben_tasks.domain.layout import FOLDERS, capture_of, is_known
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import IntegrityError
from pgben_tasks.operations.repository.survey import Survey, finding_of
from pgben_tasks.ports import Repository, StoredObject


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


def is_pruned(repository: Repository, target: Target, backup: BackupId) -> bool:
    """Return whether retention decided to remove a backup; raises for a bad statement about it."""
    return any(one.kind == "prune" for one in repository.verifications(target, backup))


def orphans(
    repository: Repository, one: Survey, stored: Mapping[str, StoredObject]
) -> tuple[Orphans, ...]:
    """Find the captures that have packs among ``stored`` and no manifest, sorted by id.

    Raises ``IntegrityError`` when a statement about one cannot be believed.
    """
    named = {pack.path for backup in one.backups for pack in backup.manifest.packs}
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
    """Find what no manifest accounts for: foreign files, stray packs, and lost manifests.

    ``stored`` are the target's packs by path. Packs of a capture that never got as far as its
    commit are no fault: the sweep removes them when they are old enough.
    """
    named = {pack.path for backup in one.backups for pack in backup.manifest.packs}
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
    """Find files outside the folders of the targets ``looked_at`` that the format does not know."""
    folders = tuple(f"{kind}/{target}/" for kind in FOLDERS for target in looked_at)
    detail = "the format knows no such file"
    return [
        Finding(kind="extra", path=key, detail=detail)
        for key in repository.foreign()
        if not key.startswith(folders)
    ]


def _lost(repository: Repository, one: Survey) -> list[Finding]:
    """Find backups that signed words speak of and that are gone without a prune decision.

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

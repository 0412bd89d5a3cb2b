"""Read from a repository what its catalog should know: every backup with its state, the trail.

Nothing is written here. Whatever cannot be believed becomes a row or a finding, never a gap.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Final

from pgben_tasks.domain.documents import AuditEntry, Finding
from pgben_tasks.domain.layout import audit_sequence, signature_path, signed_document
from pgben_tasks.domain.reindex import IndexEntry, TargetIndex
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.domain.trail import Trail, assemble
from pgben_tasks.errors import IntegrityError
from pgben_tasks.operations.repository.survey import finding_of, survey, was_pruned
from pgben_tasks.ports import Progress, Repository, StoredObject

_READERS: Final = 8
#: Entries read between two looks at whether somebody stops it.
_AT_ONCE: Final = 64


def read_index(
    repository: Repository,
    targets: Iterable[Target],
    known: Collection[tuple[str, str]],
    progress: Progress,
) -> list[TargetIndex]:
    """Read all that signed documents say of ``targets``.

    ``known`` are the (target, backup) pairs of the old index: each gets a row, too.
    """
    needed = sorted({*targets, *repository.targets(), *(Target.parse(one) for one, _ in known)})
    progress.begin(
        "read", total=sum(len(repository.backups(one)) for one in needed), unit="backups"
    )
    return [
        _target(repository, one, {backup for of, backup in known if of == str(one)}, progress)
        for one in needed
    ]


def list_trail(repository: Repository) -> dict[str, StoredObject]:
    """Return every stored file of the audit trail, by path.

    A listing in several pages is no snapshot: it may lack an entry, or its signature, and show a
    later entry. Entries are stored in their order, so a second listing has all that come before
    the last one of the first.
    """
    first = repository.audit_files()
    numbers = {audit_sequence(path) for path in first} - {None}
    last = max(filter(None, numbers), default=0)
    signed = all(signature_path(path) in first for path in first if audit_sequence(path))
    if signed and len(numbers) == last:
        return first
    again = repository.audit_files()
    of_entry = {path: audit_sequence(signed_document(path) or path) for path in again}
    return first | {path: one for path, one in again.items() if (of_entry[path] or 0) <= last}


def read_trail(repository: Repository, progress: Progress) -> Trail:
    """Read the audit trail, checking every signature and the chain of hashes."""
    entries_at = {path: audit_sequence(path) for path in list_trail(repository)}
    numbered = sorted((number, path) for path, number in entries_at.items() if number is not None)
    paths = [path for _, path in numbered]
    progress.begin("audit trail", total=len(paths), unit="entries")

    entries: list[AuditEntry] = []
    unreadable: dict[int, Finding] = {}
    # Years of small documents: one after another, a way of 10 ms to the store is minutes.
    with ThreadPoolExecutor(_READERS, thread_name_prefix="trail") as readers:
        for start in range(0, len(paths), _AT_ONCE):
            progress.check()
            batch = paths[start : start + _AT_ONCE]
            read = readers.map(partial(_entry, repository), batch)
            for path, found in zip(batch, read, strict=True):
                if isinstance(found, Finding):
                    unreadable[audit_sequence(path) or 0] = found
                else:
                    entries.append(found)
            progress.advance(len(batch))
    return assemble(entries, unreadable)


def read_newest_entries(repository: Repository, *, since: datetime, most: int) -> Trail:
    """Read the newest entries of the audit trail, back to one made before ``since``.

    At most about ``most`` are read; what was made before is neither read nor judged.
    """
    entries_at = {path: audit_sequence(path) for path in list_trail(repository)}
    numbered = [(number, path) for path, number in entries_at.items() if number is not None]
    numbered.sort(reverse=True)
    entries: list[AuditEntry] = []
    unreadable: dict[int, Finding] = {}
    first = 1
    with ThreadPoolExecutor(_READERS, thread_name_prefix="trail") as readers:
        for start in range(0, min(len(numbered), most), _AT_ONCE):
            batch = numbered[start : start + _AT_ONCE]
            read = readers.map(partial(_entry, repository), (path for _, path in batch))
            for (number, _), found in zip(batch, read, strict=True):
                if isinstance(found, Finding):
                    unreadable[number] = found
                else:
                    entries.append(found)
            # The last batch begins where the trail does, or should.
            first = 1 if start + _AT_ONCE >= len(numbered) else batch[-1][0]
            if entries and entries[-1].at < since:
                break
    return assemble(entries, unreadable, first=first)


def _entry(repository: Repository, path: str) -> AuditEntry | Finding:
    try:
        return repository.audit_entry(path)
    except IntegrityError as exc:
        return finding_of(exc, path)


def _target(
    repository: Repository, target: Target, known: Collection[str], progress: Progress
) -> TargetIndex:
    progress.check()
    surveyed = survey(repository, target, on_backup=lambda: progress.advance(1))
    entries = [
        IndexEntry(
            backup=one.known.id,
            state=one.known.standing.state.label,
            manifest=one.manifest,
            acknowledged=one.known.standing.acknowledged,
            needs=one.known.standing.needs,
            hold=one.known.standing.hold,
            verified_at=one.known.standing.last_verified,
        )
        for one in surveyed.backups
    ]
    entries += [IndexEntry(backup=backup, state="damaged") for backup, _ in surveyed.unreadable]
    there = {entry.backup for entry in entries}
    spoken_of = {
        *repository.backups_with_statements(target),
        *(BackupId.parse(one) for one in known),
    }
    entries += [
        IndexEntry(
            backup=backup, state="expired" if was_pruned(repository, target, backup) else "missing"
        )
        for backup in sorted(spoken_of - there)
    ]
    return TargetIndex(target=target, entries=tuple(entries))

"""Read from a repository what `pgben check` judges: nothing of a catalog, a queue or a worker.

Signatures and the chains of statements are checked, stored files are compared with manifests by
name and size. No pack is read: a full verification does that, and its statements say what it found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from pgben_tasks.domain.check import PointSigns, SignedBackup, Signs, TargetSigns
from pgben_tasks.domain.documents import Finding
from pgben_tasks.domain.layout import manifest_path, verifications_prefix
from pgben_tasks.domain.points import KnownPoint
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import BackupNotFound, IntegrityError
from pgben_tasks.operations.repository.evidence import Evidence, finding_text, of_statements
from pgben_tasks.operations.repository.examine import presence, stored_files
from pgben_tasks.operations.repository.points import surveyed_points
from pgben_tasks.operations.repository.rebuild import read_newest_entries
from pgben_tasks.operations.repository.survey import (
    Survey,
    Surveyed,
    finding_of,
    survey,
)
from pgben_tasks.ports import Repository

_READERS: Final = 8
#: How much of the audit trail is read at most: in weeks of daily backups that is far more than one.
_MOST_ENTRIES: Final = 2000
#: How many of the newest removed backups must have a decision that explains it; a verification
#: looks at all of them.
_MOST_REMOVED: Final = 100


def read_signs(
    repository: Repository,
    protected: Sequence[Target],
    *,
    others: Collection[Target],
    since: datetime,
    points_wanted: bool | None,
    points_checked: bool,
) -> Signs:
    """Read what is stored of the ``protected`` targets, and of ``others`` whether it is damaged.

    The audit trail is read back to ``since``. Documents that cannot be believed become findings;
    an unavailable store raises.
    """
    # An entry is made after its statement is stored, so the trail comes before the statements.
    trail = read_newest_entries(repository, since=since, most=_MOST_ENTRIES)
    known = Evidence.of_entries(trail.entries, trail.findings, newest_known=False)
    surveys = [survey(repository, target) for target in (*protected, *others)]
    entered = known.entered()
    return Signs(
        targets=tuple(
            TargetSigns(
                target=str(one.target),
                backups=tuple(map(_signed, one.backups)),
                findings=tuple(
                    found
                    for found in dict.fromkeys(_findings(repository, one, known))
                    if finding_text(found) not in entered
                ),
                protected=one.target in protected,
            )
            for one in surveys
        ),
        points=_points(repository, surveys, wanted=points_wanted, checked=points_checked),
        trail=tuple(one for one in known.findings if finding_text(one) not in entered),
    )


def _signed(one: Surveyed) -> SignedBackup:
    standing = one.known.standing
    return SignedBackup(
        backup=str(one.known.id),
        state=standing.state.label,
        suspect=standing.open_suspicion,
        counts=standing.counts,
        taken=one.known.snapshot_time,
        stored_bytes=one.known.bytes,
        last_read=standing.last_read,
    )


def _findings(repository: Repository, one: Survey, known: Evidence) -> Iterator[Finding]:
    yield from (finding for _, finding in one.unreadable)
    for backup in one.backups:
        yield from known.of_backup(repository, backup)
    yield from _files(repository, one)
    yield from _removed(repository, one, known)


def _files(repository: Repository, one: Survey) -> Iterator[Finding]:
    """Yield the files that are not there, or not as long as the manifest says.

    They are listed after the manifests were read; what a prune removed in between is no finding.
    """
    stored = repository.packs(one.target) | repository.inventories(one.target)
    still: list[BackupId] | None = None
    for backup in one.backups:
        bad = [found for file in stored_files(backup.manifest) if (found := presence(file, stored))]
        if bad:
            still = repository.backups(one.target) if still is None else still
            yield from bad if backup.known.id in still else ()


def _removed(repository: Repository, one: Survey, known: Evidence) -> Iterator[Finding]:
    """Yield the backups that are gone without a decision of retention that explains it.

    Signed statements and the audit trail speak of them, and so does the backup that came after.
    """
    there = {backup.known.id for backup in one.backups} | {backup for backup, _ in one.unreadable}
    named = {BackupId.parse(name) for of, name in known.named if of == str(one.target)}
    gone = sorted({*repository.backups_with_statements(one.target), *named} - there)
    looked = gone[-_MOST_REMOVED:]
    digests = {backup.manifest.digest for backup in one.backups}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="removed") as readers:
        for decided, findings in readers.map(partial(_explain, repository, one, known), looked):
            digests |= decided
            yield from findings
    for backup in () if one.unreadable else one.backups:
        previous = backup.manifest.previous
        # What came before the oldest of those that were looked at may be any of the others.
        judged = len(looked) == len(gone) or backup.known.id > looked[0]
        if previous is not None and previous not in digests and judged:
            detail = f"the backup before this one (manifest {previous[:12]}…) is gone"
            path = manifest_path(one.target, backup.known.id)
            yield Finding(kind="missing", path=path, detail=detail)


def _explain(
    repository: Repository, one: Survey, known: Evidence, backup: BackupId
) -> tuple[frozenset[str], list[Finding]]:
    """Return which manifests retention decided to remove under an id, and what is wrong there."""
    try:
        statements = repository.verifications(one.target, backup)
    except IntegrityError as exc:
        return frozenset(), [finding_of(exc, verifications_prefix(one.target, backup))]
    found = list(of_statements(repository, one.target, backup, statements, known.named))
    decisions = [each for each in statements if each.kind == "prune"]
    # One that was made after the survey is there, and so are the statements about it.
    if not decisions and backup not in repository.backups(one.target):
        detail = "signed documents speak of this backup, and no prune decision explains its absence"
        path = manifest_path(one.target, backup)
        found.append(Finding(kind="missing", path=path, detail=detail))
    return frozenset(each.manifest for each in decisions if each.manifest), found


def _points(
    repository: Repository, surveys: Sequence[Survey], *, wanted: bool | None, checked: bool
) -> PointSigns:
    """Read recovery points, newest first, up to the first that is verified.

    None are read where ``wanted`` is None.
    """
    if wanted is None:
        return PointSigns(points=(), findings=(), checked=checked)
    read: list[KnownPoint] = []
    findings: list[Finding] = []
    for point in sorted(repository.points(), reverse=True):
        try:
            found = surveyed_points(repository, only=point, surveys=surveys)
        except BackupNotFound:
            # A prune removed it since it was listed.
            continue
        read += found.points
        findings += found.findings
        if any(one.good for one in found.points):
            break
    return PointSigns(
        points=tuple(read), findings=tuple(findings), wanted=wanted or bool(read), checked=checked
    )


def trail_since(now: datetime, verify_every: timedelta) -> datetime:
    """Return from when on the audit trail is read: one verification of everything is in it."""
    return now - verify_every - timedelta(days=1)

"""Check the evidence itself: the audit trail, the statements that it names, what nothing covers.

What is wrong with the statements about one backup is a finding of that backup. What is wrong with
the trail, or with statements about backups that retention removed, fails one verification, whose
last step enters it into the trail; later ones list it as known, so that an old break does not hide
a new one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self, get_args

from pgben_tasks.contracts import VerifyRequest
from pgben_tasks.domain import layout
from pgben_tasks.domain.documents import AuditEntry, Finding, Signature, Verification
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.domain.statements import breaks, statement_digest
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.domain.trail import ranges
from pgben_tasks.errors import IntegrityError
from pgben_tasks.operations.repository.examine import stored_files
from pgben_tasks.operations.repository.points import read_points
from pgben_tasks.operations.repository.rebuild import list_trail, read_trail
from pgben_tasks.operations.repository.survey import Survey, Surveyed, finding_of
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Repository, SigningRole, StoredObject

#: Actions of audit entries that a verification makes.
FINDING: Final = "finding"
ANCHOR: Final = "anchor"
#: Action of the audit entry that names the public keys which `pgben init` stored.
PUBLIC_KEYS: Final = "keys"

#: Action of the audit entries that name the files of reports, and what such an entry says.
REPORT: Final = "report"
KEPT: Final = "kept"

#: As many findings are entered at once, which the job's result holds; the others stay news.
_ENTERED: Final = 100
#: As much of a finding as an audit entry holds.
_DETAIL: Final = 2000

#: What a signature may have in bytes: only the name of the role has no fixed length.
_SIGNATURE_SIZES: Final = frozenset(
    len(Signature(role=role, key="0" * 64, signature="A" * 86 + "==").encode())
    for role in get_args(SigningRole)
)

_Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the audit trail and the catalog say, read before the backups are.

    ``findings`` are what is wrong with the trail itself. ``newest_known`` is False without a
    catalog: whether the newest documents were cut off is not known then. ``named`` are the trail's
    entries about statements, by (target, backup) and digest.
    """

    entries: tuple[AuditEntry, ...]
    findings: tuple[Finding, ...]
    newest_known: bool
    named: Mapping[_Place, Mapping[str, AuditEntry]]

    @classmethod
    def of_entries(
        cls, entries: Iterable[AuditEntry], findings: Iterable[Finding], *, newest_known: bool
    ) -> Self:
        """Return what these entries of the trail say, and what is wrong with it."""
        named: dict[_Place, dict[str, AuditEntry]] = {}
        known = tuple(entries)
        for entry in known:
            if entry.statement is not None:
                named.setdefault((entry.target, entry.backup), {})[entry.statement] = entry
        return cls(entries=known, findings=tuple(findings), newest_known=newest_known, named=named)

    @property
    def targets(self) -> frozenset[Target]:
        """The targets whose statements the trail names."""
        return frozenset(Target.parse(target) for target, _ in self.named)

    @property
    def reports(self) -> Iterator[tuple[str, AuditEntry]]:
        """The files of reports that the trail names, with the entry of each."""
        for entry in self.entries:
            if (entry.action, entry.result) == (REPORT, KEPT):
                yield entry.detail.partition(" ")[0], entry

    def entered(self, *, but_of: str = "") -> frozenset[str]:
        """Return the texts of the findings that verifications entered, ``but_of`` one job."""
        return frozenset(
            entry.detail
            for entry in self.entries
            if entry.action == FINDING and entry.job != but_of
        )

    def of_backup(self, repository: Repository, one: Surveyed) -> tuple[Finding, ...]:
        """Return what is wrong with the statements about one backup and is not recorded yet."""
        recorded = {finding_text(found) for each in one.statements for found in each.findings}
        found = of_statements(
            repository, one.manifest.target_name, one.known.id, one.statements, self.named
        )
        return tuple(each for each in found if finding_text(each) not in recorded)


@dataclass(frozen=True, slots=True)
class OfTrail:
    """What is wrong with the trail and with statements about backups that are gone.

    ``known`` is still wrong, and an earlier verification entered it into the trail; ``files``,
    which are ``repository.json``, the public keys and reports, are never entered.
    """

    news: tuple[Finding, ...]
    files: tuple[Finding, ...]
    known: tuple[Finding, ...]

    @property
    def to_enter(self) -> int:
        """How many of the news, the first ones, ``enter_news`` enters."""
        return len(self.news[:_ENTERED])


def read_evidence(run: Run, tools: Toolbox, request: VerifyRequest) -> Evidence:
    """Read the audit trail and compare it with the catalog, before any backup is looked at.

    An entry is made after its statement is stored, so what the trail names by now is there when
    statements are read later. A quick look sees which documents are there and of what size, and
    reads what the catalog has of the trail. What is wrong with the trail itself is told by a look
    at everything.
    """
    everything = request.target is None
    # Before the repository: what is stored meanwhile is missed by neither then.
    record = tools.trail.record()
    findings: list[Finding] = []
    entries = stored = () if record is None else record.entries
    if request.level == "full":
        trail = read_trail(tools.repository, run.progress)
        # What was removed together with its entry, the catalog still names.
        both = dict.fromkeys((*trail.entries, *stored))
        entries = tuple(sorted(both, key=lambda entry: entry.sequence))
        if everything:
            findings += trail.findings
            findings += () if record is None else record.differences(trail)
    elif everything:
        findings += _absent(list_trail(tools.repository), stored)
    return Evidence.of_entries(entries, findings, newest_known=record is not None)


def of_trail(
    run: Run, tools: Toolbox, known: Evidence, surveys: Sequence[Survey], request: VerifyRequest
) -> OfTrail:
    """Return what is wrong and is no finding of a backup.

    What this very job entered is news: it was interrupted before it could tell that.
    """
    findings = list(known.findings)
    for one in surveys if request.backup is None else ():
        findings += _of_removed(tools, one, known.named)
    entered = known.entered(but_of=str(run.job_id))
    # One file of a copy makes each of these whole again: it stays a finding until then.
    whole = request.target is None and request.level == "full"
    files: tuple[Finding, ...] = ()
    if whole:
        files = (
            *_of_card(run, tools, known.entries),
            *_of_keys(tools, known.entries),
            *_of_reports(tools.repository, known),
        )
    return OfTrail(
        news=tuple(
            found for found in dict.fromkeys(findings) if finding_text(found) not in entered
        ),
        files=files,
        known=tuple(found for found in dict.fromkeys(findings) if finding_text(found) in entered),
    )


def enter_news(run: Run, tools: Toolbox, news: Iterable[Finding]) -> None:
    """Enter findings into the trail, each once, when the ledger has them in the job's result.

    Earlier, a job that fails for another reason would leave them as known, told by nobody.
    """
    for found in news:
        tools.trail.append_missing(
            [finding_text(found)],
            who=run.job.requested_by,
            action=FINDING,
            target=EVERYTHING,
            result=found.kind,
            job=str(run.job_id),
        )


def anchor_of(repository: Repository) -> str:
    """Return what the audit entry says that anchors ``repository.json``."""
    return f"{layout.REPOSITORY_CARD} {repository.card_digest()}"


def not_covered(tools: Toolbox, surveys: Iterable[Survey], known: Evidence) -> list[str]:
    """Return the files that no signed document names and that are none, sorted."""
    # Listed first: a document that is stored meanwhile is looked for, and not among them.
    keys = tools.repository.all_keys()
    # The name of a document of public keys says what its bytes are.
    covered = {layout.REPOSITORY_CARD, *tools.repository.public_keys()}
    documents: set[str] = set(tools.repository.audited())
    documents |= {layout.point_path(point) for point in tools.repository.points()}
    for point in read_points(tools.repository).documents:
        lists = (layout.faults_of(point, sealed=sealed) for sealed in (True, False))
        covered |= {one.path for one in lists if one is not None}
    covered |= {path for path, _ in known.reports}
    for one in surveys:
        for backup in one.backups:
            covered |= {file.path for file in stored_files(backup.manifest)}
            documents.add(layout.document_path(backup.manifest))
        documents |= {layout.manifest_path(one.target, backup) for backup, _ in one.unreadable}
        documents |= set(tools.repository.statement_paths(one.target))
    covered |= documents | {layout.signature_path(path) for path in documents}
    return [key for key in keys if key not in covered]


def of_statements(
    repository: Repository,
    target: Target,
    backup: BackupId,
    statements: Sequence[Verification],
    named: Mapping[_Place, Mapping[str, AuditEntry]],
) -> Iterator[Finding]:
    """Yield what is wrong with the statements about one backup; what misses one, after a re-read.

    ``named`` are the trail's entries about statements, as ``Evidence`` has them.

    Others make statements meanwhile, and a listing in several pages is no snapshot: it may show a
    link and lack the one before. What was there before the second reading began is in it.
    """
    of_one = named.get((str(target), str(backup)), {})
    found = [*breaks(statements), *_unseen(target, backup, statements, of_one)]
    if not found:
        return
    try:
        again = repository.verifications(target, backup)
    except IntegrityError as exc:
        yield finding_of(exc, layout.verifications_prefix(target, backup))
        return
    still = {*breaks(again), *_unseen(target, backup, again, of_one)}
    yield from (each for each in found if each in still)


def _unseen(
    target: Target,
    backup: BackupId,
    statements: Iterable[Verification],
    of_one: Mapping[str, AuditEntry],
) -> Iterator[Finding]:
    """Yield the statements that only the trail knows."""
    there = {statement_digest(one) for one in statements}
    for digest, entry in of_one.items():
        if digest not in there:
            yield Finding(
                kind="missing",
                path=layout.verifications_prefix(target, backup),
                detail=f"audit entry {entry.sequence} speaks of a '{entry.result}' statement "
                f"{digest[:12]}…, which cannot be found",
            )


def _of_removed(
    tools: Toolbox, one: Survey, named: Mapping[_Place, Mapping[str, AuditEntry]]
) -> Iterator[Finding]:
    """Yield what is wrong with statements about backups of a target that are gone."""
    there = {backup.known.id for backup in one.backups} | {backup for backup, _ in one.unreadable}
    spoken_of = {
        *tools.repository.backups_with_statements(one.target),
        *(BackupId.parse(backup) for target, backup in named if target == str(one.target)),
    }
    for backup in sorted(spoken_of - there):
        try:
            statements = tools.repository.verifications(one.target, backup)
        except IntegrityError as exc:
            yield finding_of(exc, layout.verifications_prefix(one.target, backup))
            continue
        yield from of_statements(tools.repository, one.target, backup, statements, named)


def _absent(files: Mapping[str, StoredObject], entries: Sequence[AuditEntry]) -> Iterator[Finding]:
    """Yield audit entries that are not there, not in their place or of another size.

    ``files`` is what a listing shows below ``audit/``, ``entries`` is what the catalog has of them.
    """
    expected = {entry.sequence: entry for entry in entries}
    places = {entry.sequence: layout.document_path(entry) for entry in entries}
    found: dict[int, list[str]] = {}
    for path in files:
        number = layout.audit_sequence(path)
        if number is not None:
            found.setdefault(number, []).append(path)
    last = max([*found, *places], default=0)
    there = {number for number, paths in found.items() if places.get(number, paths[0]) in paths}
    for first, last_gone in ranges(number for number in range(1, last + 1) if number not in there):
        what = f"entry {first} is" if first == last_gone else f"entries {first} to {last_gone} are"
        where = places.get(first, layout.AUDIT)
        yield Finding(kind="missing", path=where, detail=f"audit {what} not there")
    for number, paths in found.items():
        place = places.get(number, paths[0])
        for path in paths:
            if path != place:
                detail = f"there is another entry {number}, at '{place}'"
                if place not in paths:
                    detail = f"the catalog stored entry {number} at '{place}'"
                yield Finding(kind="extra", path=path, detail=detail)
            elif number in expected:
                yield from _of_size(files[path], {len(expected[number].encode())})
            signature = files.get(layout.signature_path(path))
            if signature is None:
                yield Finding(kind="forged", path=path, detail="it has no signature")
            else:
                yield from _of_size(signature, _SIGNATURE_SIZES)


def _of_size(file: StoredObject, sizes: Collection[int]) -> Iterator[Finding]:
    """Yield that a file has none of the sizes that it may have."""
    if file.size not in sizes:
        yield Finding(
            kind="truncated" if file.size < min(sizes) else "damaged",
            path=file.key,
            detail=f"it is {file.size} bytes long, not {min(sizes)}",
        )


def _of_card(run: Run, tools: Toolbox, entries: Sequence[AuditEntry]) -> Iterator[Finding]:
    """Yield that ``repository.json`` is not what the trail says; enter it where nothing does."""
    found = anchor_of(tools.repository)
    anchors = [entry.detail for entry in entries if entry.action == ANCHOR]
    if not anchors:
        # `pgben init` may have entered the very same a moment ago.
        tools.trail.append_missing(
            [found],
            who=run.job.requested_by,
            action=ANCHOR,
            target=EVERYTHING,
            result="seen",
            job=str(run.job_id),
        )
    elif anchors[0] != found:
        detail = "its bytes are not those that the audit trail names"
        yield Finding(kind="damaged", path=layout.REPOSITORY_CARD, detail=detail)


def _of_keys(tools: Toolbox, entries: Sequence[AuditEntry]) -> Iterator[Finding]:
    """Yield the public keys that are not what their name says, or gone although the newest."""
    stored = tools.repository.public_keys()
    for path, unchanged in stored.items():
        if not unchanged:
            detail = "its bytes are not those that its name says"
            yield Finding(kind="damaged", path=path, detail=detail)
    named = [entry for entry in entries if entry.action == PUBLIC_KEYS]
    if named and named[-1].detail not in stored:
        detail = f"audit entry {named[-1].sequence} says that these public keys were stored"
        yield Finding(kind="missing", path=named[-1].detail, detail=detail)


def report_entry(path: str, digest: str) -> str:
    """Return what the audit entry says that names the file of a report."""
    return f"{path} {digest}"


def _of_reports(repository: Repository, known: Evidence) -> Iterator[Finding]:
    """Yield the files of reports that are gone, or not what the audit trail says of them."""
    there = repository.report_digests()
    for path, entry in known.reports:
        if path not in there:
            detail = f"audit entry {entry.sequence} says that this report was kept"
            yield Finding(kind="missing", path=path, detail=detail)
        elif report_entry(path, there[path]) != entry.detail:
            detail = "its bytes are not those that the audit trail names"
            yield Finding(kind="damaged", path=path, detail=detail)


def finding_text(found: Finding) -> str:
    """Return a finding as the trail has it."""
    return f"{found.path}: {found.detail}"[:_DETAIL]

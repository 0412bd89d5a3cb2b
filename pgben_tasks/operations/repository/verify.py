"""Check whether stored backups are what was stored: quick, full, and the read-back of a new one.

Failing to look is a failure: a verification that examined nothing raises. What is found is signed
and stored beside the backup, so that its state survives the loss of the catalog.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import structlog

from pgben_tasks.contracts import JSON, VerifyRequest
from pgben_tasks.domain.documents import Finding, FindingKind, Manifest, Verification
from pgben_tasks.domain.restorability import remedy, server_major
from pgben_tasks.domain.states import State, state_at, state_of
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import (
    BackupNotFound,
    IntegrityError,
    NotRestorable,
    ObjectMissing,
    PgbenError,
)
from pgben_tasks.operations.repository import evidence, statements
from pgben_tasks.operations.repository.examine import (
    Examined,
    Level,
    PackContents,
    Reading,
    examine_packs,
    stored_files,
    unread,
)
from pgben_tasks.operations.repository.points import lost_faults, surveyed_points
from pgben_tasks.operations.repository.survey import (
    Survey,
    Surveyed,
    foreign,
    survey,
    unaccounted,
    was_pruned,
)
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)


def examine(run: Run, tools: Toolbox) -> JSON:
    """Verify one backup, one target, or every target; store a signed statement per backup."""
    request = VerifyRequest.parse(run.job.request)
    tools.repository.check_place()
    known = evidence.read_evidence(run, tools, request)
    targets = _targets(tools, request, known)
    surveys = [survey(tools.repository, target) for target in targets]
    chosen = [_chosen(one, request) for one in surveys]
    if not any(backups or one.unreadable for one, backups in zip(surveys, chosen, strict=True)):
        raise BackupNotFound(
            f"there is no backup of '{request.target or 'any target'}' to verify",
            "a verification that looks at nothing proves nothing; make a backup first",
        )
    if request.level == "full":
        # Snapshots share packs, and each is read once.
        sizes = {
            file.path: file.size
            for some in chosen
            for backup in some
            for file in stored_files(backup.manifest)
        }
        run.progress.begin("read", total=sum(sizes.values()))
    else:
        run.progress.begin("look", total=sum(len(some) for some in chosen), unit="backups")
    # A pack may hold the bytes of any other, also of another backup's.
    places = {
        pack.sha256: pack.path
        for one in surveys
        for backup in one.backups
        for pack in backup.manifest.packs
    }
    findings: list[Finding] = []
    not_restorable: list[JSON] = []
    packs = read = examined = 0
    by_target: dict[str, JSON] = {}
    of_trail = evidence.of_trail(run, tools, known, surveys, request)
    findings += (*of_trail.news, *of_trail.files)
    with closing(PackContents(run.folder / "contents")) as contents:
        reading = Reading(places, contents)
        for one, backups in zip(surveys, chosen, strict=True):
            before = (examined, read)
            stored = tools.repository.packs(one.target)
            files = stored | tools.repository.inventories(one.target)
            for backup in backups:
                run.progress.check()
                looked = examine_packs(run, tools, backup.manifest, files, request.level, reading)
                looked = replace(
                    looked, findings=(*looked.findings, *known.of_backup(tools.repository, backup))
                )
                not_restorable += _record_state(run, tools, one, backup, looked, request.level)
                findings += looked.findings
                packs += looked.packs
                read += looked.read
                examined += 1
                if request.level == "quick":
                    run.progress.advance(1)
            findings += _unreadable(run, tools, one, request)
            examined += len(one.unreadable)
            by_target[str(one.target)] = {
                "backups": examined - before[0],
                "bytes_read": read - before[1],
            }
            if request.backup is None:
                findings += unaccounted(tools.repository, one, stored)
                findings += _vanished(tools, one)
    uncovered: list[str] = []
    if request.target is None:
        findings += foreign(tools.repository, targets)
        findings += surveyed_points(tools.repository, surveys=surveys).findings
        if request.level == "full":
            findings += lost_faults(tools.repository, run.folder)
        uncovered = evidence.not_covered(tools, surveys, known)
    return {
        "level": request.level,
        "targets": [str(target) for target in targets],
        "backups": examined,
        "packs": packs,
        "bytes_read": read,
        "by_target": by_target,
        "findings": [finding.model_dump(mode="json") for finding in findings[:100]],
        "findings_total": len(findings),
        "findings_to_enter": of_trail.to_enter,
        "findings_known": [found.model_dump(mode="json") for found in of_trail.known[:100]],
        "not_restorable": not_restorable[:100],
        "not_covered": uncovered[:100],
        "not_covered_total": len(uncovered),
        "newest_known": known.newest_known,
    }


def finish(run: Run, tools: Toolbox) -> JSON:
    """End a verification: enter what is wrong with the trail, raise when anything was found."""
    to_enter = run.job.result["findings"][: run.job.result.get("findings_to_enter", 0)]
    evidence.enter_news(run, tools, (Finding(**one) for one in to_enter))
    total = int(run.job.result["findings_total"])
    if total:
        first = run.job.result["findings"][0]
        raise IntegrityError(
            f"verification found faults, {total} in all, first: {first['kind']} "
            f"'{first['path']}': {first['detail']}",
            f"`pgben show` names the backups concerned; restore from another, repository "
            f"{tools.repository.describe()} needs attention",
        )
    lacking = [one for one in run.job.result.get("not_restorable", ()) if one["alarming"]]
    if lacking:
        first = lacking[0]
        raise NotRestorable(
            f"backups that are whole and not restorable here: {len(lacking)}, first "
            f"'{first['backup']}' of '{first['target']}', which needs {first['needs']}",
            f"{first['remedy']}; the next verification that finds a fitting client makes them good",
        )
    return {"state": "clean"}


def read_back(run: Run, tools: Toolbox, backup: BackupId) -> Verification:
    """Verify a backup right after its commit: all that nobody has read back yet is read in full."""
    manifest = tools.repository.manifest(run.target, backup)
    files_to_read = unread(tools, manifest)
    run.progress.begin("read back", total=sum(file.size for file in files_to_read))
    places = {pack.sha256: pack.path for pack in manifest.packs}
    files = tools.repository.packs(run.target) | tools.repository.inventories(run.target)
    with closing(PackContents(run.folder / "contents")) as contents:
        reading = Reading(places, contents, files_to_read)
        looked = examine_packs(run, tools, manifest, files, "readback", reading)
    needs = None
    if not looked.findings:
        needs = statements.what_is_needed(tools, manifest, newest=manifest, before=None)
    return _record(run, tools, manifest, looked, "readback", needs=needs)


def damage_finding(path: str, error: PgbenError) -> Finding:
    """Return the finding for an error that a job met when it used the file at ``path``."""
    kind: FindingKind = "missing" if isinstance(error, ObjectMissing) else "damaged"
    return Finding(kind=kind, path=path, detail=error.sentence)


def record_damage(
    run: Run, tools: Toolbox, manifest: Manifest, findings: Sequence[Finding]
) -> None:
    """Record damage that a job met, so that no later job chooses this backup without a warning.

    Findings that name a pack also keep later snapshots from inheriting it.
    """
    looked = Examined(packs=len(manifest.packs), read=0, opened=False, findings=tuple(findings))
    try:
        _record(run, tools, manifest, looked, "full")
        tools.index.set_state(manifest.target_name, manifest.backup, "damaged")
    except PgbenError as exc:
        # The job reports the damage itself; that it could not be signed comes second.
        log.warning("damage_not_recorded", why=exc.sentence)


def _targets(tools: Toolbox, request: VerifyRequest, known: evidence.Evidence) -> list[Target]:
    """Return what to look at: one target, or all that are stored and all that should be.

    Settings may no longer name a target whose backups are still there, or were: statements, the
    audit trail and the catalog's index speak of it.
    """
    if request.target is not None:
        return [Target.parse(request.target)]
    stored = {*tools.repository.targets(), *tools.repository.targets_with_statements()}
    return sorted({*stored, *tools.protected, *known.targets, *tools.index.targets()})


def _chosen(one: Survey, request: VerifyRequest) -> list[Surveyed]:
    if request.backup is None:
        return list(one.backups)
    backup = BackupId.parse(request.backup)
    found = one.readable_backup(backup)
    if found is None and backup not in {unreadable for unreadable, _ in one.unreadable}:
        raise BackupNotFound(
            f"'{one.target}' has no backup '{backup}'", f"`pgben list {one.target}` shows its ids"
        )
    return [found] if found else []


def _record(
    run: Run,
    tools: Toolbox,
    manifest: Manifest,
    looked: Examined,
    level: Level,
    *,
    needs: str | None = None,
) -> Verification:
    verification = statements.sign_statement(
        run, tools, manifest, level, looked=looked, needs=needs
    )
    log.info("backup_examined", backup=manifest.backup, level=level, faults=len(looked.findings))
    return verification


def _record_state(
    run: Run, tools: Toolbox, among: Survey, one: Surveyed, looked: Examined, level: Level
) -> list[JSON]:
    """Record what was seen of a backup; return what it lacks to be restorable here, if anything.

    That is an alarm for the newest backup of a target, and for others when it is news.
    """
    newest, before = among.backups[0], one.known.standing
    needs = None
    if not looked.findings:
        needs = statements.what_is_needed(
            tools, one.manifest, newest=newest.manifest, before=before.needs
        )
    verification = _record(run, tools, one.manifest, looked, level, needs=needs)
    known = (*one.statements, verification)
    standing = (
        state_of(one.manifest, known)
        if tools.workers.may_sign_needs
        else state_at(one.manifest, known, needs=needs)
    )
    # The index may have missed the commit.
    digest = tools.repository.manifest_digest(one.manifest.target_name, one.known.id)
    tools.index.add(one.manifest, digest, state=standing.state.label)
    tools.index.set_state(
        one.manifest.target_name,
        one.manifest.backup,
        standing.state.label,
        verified_at=standing.last_verified,
        needs=standing.needs,
    )
    if standing.acknowledged:
        tools.index.acknowledge(one.manifest.target_name, one.manifest.backup)
    tools.index.set_hold(one.manifest.target_name, one.manifest.backup, standing.hold)
    if standing.state is not State.NOT_RESTORABLE:
        return []
    destination = server_major(newest.manifest.database.server_version_num)
    return [
        {
            "target": one.manifest.target,
            "backup": one.manifest.backup,
            "needs": standing.needs,
            "remedy": remedy(one.manifest.archive, destination),
            "alarming": one is newest or before.needs is None,
        }
    ]


def _unreadable(run: Run, tools: Toolbox, one: Survey, request: VerifyRequest) -> list[Finding]:
    """Return the manifests that cannot be believed, and write them into the index as damaged."""
    found = []
    for backup, finding in one.unreadable:
        if request.backup is None or request.backup == str(backup):
            tools.index.set_state(one.target, str(backup), "damaged")
            log.warning("backup_unbelievable", backup=str(backup), job=str(run.job_id))
            found.append(finding)
    return found


def _vanished(tools: Toolbox, one: Survey) -> list[Finding]:
    """Return the backups that the index knows and the repository has no longer, unexplained."""
    there = {str(backup.known.id) for backup in one.backups}
    there |= {str(backup) for backup, _ in one.unreadable}
    unknown = [known.id for known in tools.index.backups(one.target) if known.id not in there]
    # Others make backups meanwhile: one that is there by now was made after the survey.
    there |= {str(backup) for backup in tools.repository.backups(one.target)} if unknown else set()
    unknown = [backup for backup in unknown if backup not in there]
    # A prune may have been killed after it removed a manifest and before it wrote the index.
    pruned = {
        backup
        for backup in unknown
        if was_pruned(tools.repository, one.target, BackupId.parse(backup))
    }
    for backup in unknown:
        tools.index.set_state(one.target, backup, "expired" if backup in pruned else "missing")
    gone = [backup for backup in unknown if backup not in pruned]
    detail = "the catalog knows this backup, the repository has it no longer"
    found = [
        Finding(kind="missing", path=f"backups/{one.target}/{backup}/manifest.json", detail=detail)
        for backup in gone
    ]
    if one.target in tools.protected and not (there or gone):
        path = f"backups/{one.target}"
        detail = "this target is protected, and there is no backup of it"
        found.append(Finding(kind="missing", path=path, detail=detail))
    return found

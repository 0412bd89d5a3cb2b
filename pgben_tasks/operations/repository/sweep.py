"""Remove what killed jobs left in the repository: packs, unfinished uploads, lone signatures.

What is left over is decided in ``domain/sweeping.py``. A file that the format does not
know is no leftover: verifications name it, nothing here touches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog

from pgben_tasks.contracts import JSON, SweepRequest
from pgben_tasks.domain.layout import capture_of, is_known
from pgben_tasks.domain.sweeping import (
    SWEEP_AGE,
    Remnant,
    RemnantDecision,
    RemnantKind,
    decide_remnants,
)
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import IntegrityError, SweepRefused
from pgben_tasks.operations.repository.survey import Survey, is_pruned, survey
from pgben_tasks.operations.room import NOT_AWAITED, is_awaited
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import StoredObject, Unfinished

log = structlog.get_logger(__name__)

#: A result holds this many verdicts; the counts are of all.
MOST_SHOWN: Final = 200
_LEFT_OVER: Final = (
    f"no manifest names it, its job has ended or is unknown, older than {SWEEP_AGE.days} days"
)


def finish(run: Run, tools: Toolbox) -> JSON:
    """Sweep one target; with ``dry_run`` only return what would be removed."""
    dry_run = SweepRequest.parse(run.job.request).dry_run
    if not is_awaited(run, tools):
        return {"sweep": _result((), (), dry_run=dry_run, skipped=NOT_AWAITED)}
    run.progress.begin("look")
    tools.repository.check_place()
    verdicts = _decide(tools, run.target)
    gone = [one.remnant for one in verdicts if not one.reasons]
    busy = None
    if gone and not dry_run:
        with run.try_lock("read") as free:
            if free:
                _remove(run, tools, gone)
            else:
                gone = []
                busy = f"a restore or verification of '{run.target}' is reading the repository"
    return {"sweep": _result(verdicts, gone, dry_run=dry_run, skipped=busy)}


def _decide(tools: Toolbox, target: Target) -> tuple[RemnantDecision, ...]:
    surveyed = survey(tools.repository, target)
    surveyed.require_readable(SweepRefused)
    remnants = _remnants(tools, surveyed)
    try:
        lost = _lost(tools, surveyed, {one.capture for one in remnants})
    except IntegrityError as exc:
        raise SweepRefused(
            f"a statement about a backup of '{target}' cannot be believed: {exc.sentence}",
            f"run `pgben verify {target}`; nothing is removed while it is in doubt",
        ) from exc
    return decide_remnants(
        remnants,
        now=tools.repository.now(),
        running=tools.captures.running(target),
        lost=lost,
    )


def _remnants(tools: Toolbox, surveyed: Survey) -> list[Remnant]:
    target, repository = surveyed.target, tools.repository
    named = surveyed.named_packs
    packs = repository.packs(target).values()
    backups = {one.known.id for one in surveyed.backups}
    inventories = repository.inventories(target).values()
    files: dict[RemnantKind, list[StoredObject]] = {
        "pack": [one for one in packs if one.key not in named and is_known(one.key, target)],
        "inventory": [one for one in inventories if capture_of(one.key) not in backups],
        # No manifest ever names what workers left for each other.
        "shard": list(repository.shard_files(target).values()),
        "signature": repository.lone_signatures(target),
    }
    remnants = [
        Remnant(
            kind=kind,
            key=one.key,
            capture=capture_of(one.key),
            touched=one.modified,
            size=one.size,
        )
        for kind, found in files.items()
        for one in sorted(found, key=lambda one: one.key)
    ]
    uploads = [
        Remnant(
            kind="upload",
            key=one.key,
            capture=capture_of(one.key),
            touched=one.touched,
            upload=one.upload,
        )
        for one in repository.unfinished_uploads(target)
    ]
    return [*remnants, *uploads]


def _lost(tools: Toolbox, surveyed: Survey, captures: set[BackupId]) -> set[BackupId]:
    """Return those of ``captures`` that were backups and have lost their manifest unexplained."""
    target = surveyed.target
    indexed = {one.id for one in tools.index.backups(target)}
    spoken_of = set(tools.repository.backups_with_statements(target))
    return {
        capture
        for capture in captures
        if surveyed.readable_backup(capture) is None
        and (capture in spoken_of or str(capture) in indexed)
        and not is_pruned(tools.repository, target, capture)
    }


def _remove(run: Run, tools: Toolbox, gone: Sequence[Remnant]) -> None:
    run.progress.begin("sweep", total=len(gone), unit="objects")
    for one in gone:
        run.ledger.hold()
        if one.kind == "pack":
            tools.repository.remove_pack(one.key)
        elif one.kind == "inventory":
            tools.repository.remove_inventory(one.key)
        elif one.kind == "shard":
            tools.repository.remove_shard_file(one.key)
        elif one.kind == "signature":
            tools.repository.remove_signature(one.key)
        else:
            tools.repository.abort_upload(Unfinished(one.key, one.upload, one.touched))
        log.info("remnant_removed", kind=one.kind, key=one.key)
        run.progress.advance(1)


def _result(
    verdicts: Sequence[RemnantDecision],
    gone: Sequence[Remnant],
    *,
    dry_run: bool,
    skipped: str | None,
) -> dict[str, Any]:
    return {
        "removed": 0 if dry_run else len(gone),
        "would_remove": len(gone) if dry_run else 0,
        "bytes": sum(one.size for one in gone),
        "kept": len(verdicts) - len(gone),
        "skipped": skipped,
        "decisions": [
            {
                "kind": one.remnant.kind,
                "path": one.remnant.key,
                "bytes": one.remnant.size,
                "decision": "keep" if one.reasons else "remove",
                "reasons": ", ".join(one.reasons) or _LEFT_OVER,
            }
            for one in verdicts[:MOST_SHOWN]
        ],
    }

"""The document of `pgben status --json`, for whoever asks: a terminal, a service, a page."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from pgben_tasks.domain.listing import job_document, moment_text
from pgben_tasks.domain.outlook import PointOutlook, TargetOutlook
from pgben_tasks.domain.verdicts import Verdict
from pgben_tasks.health.situation import Situation
from pgben_tasks.redaction import redact


def status_document(found: Situation) -> dict[str, Any]:
    """Return all of it as JSON; what is not known is null."""
    overall = _verdict(found.verdict)
    answers = {one.target: one.answers for one in found.surroundings.protected}
    return {
        "verdict": overall["colour"],
        "reasons": overall["reasons"],
        "restorable": _verdict(found.restorable),
        "running": _verdict(found.running),
        "now": moment_text(found.now),
        "point": found.point and _point(found.point, found.now),
        "targets": [
            {**_target(one, found.now), "answers": answers.get(one.target)} for one in found.targets
        ],
        "jobs": None if found.jobs is None else [job_document(job) for job in found.jobs],
        "workers": None if found.workers is None else list(found.workers),
        "last_tick": _moment(found.last_tick),
        "reconciler": found.surroundings.reconciler,
        "space": [asdict(one) for one in found.surroundings.space],
        "disks": [
            {"path": str(disk.path), "used": round(disk.used, 4), "free_bytes": disk.free}
            for disk in found.disks
        ],
    }


def _point(one: PointOutlook, now: datetime) -> dict[str, Any]:
    good = one.newest_good
    return {
        "id": good and str(good.id),
        "state": good and good.state,
        "moment": good and moment_text(good.moment),
        "age_seconds": _seconds(now - good.moment) if good else None,
        "within_rpo": one.within_rpo(now),
        "faults": good.faults if good and good.check else None,
        "newest": one.newest and str(one.newest.id),
        "newest_state": one.newest and one.newest.state,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "colour": verdict.colour,
        "reasons": [
            {"colour": one.colour, "text": redact(one.text), "hint": redact(one.hint)}
            for one in verdict.reasons
        ],
    }


def _target(one: TargetOutlook, now: datetime) -> dict[str, Any]:
    good = one.newest_good
    return {
        "target": one.target,
        "restorable_to": good and _moment(good.taken),
        "backup": good and good.backup,
        "state": good and good.state,
        "stored_bytes": good and good.stored_bytes,
        "age_seconds": _seconds(one.age(now)),
        "within_rpo": one.within_rpo(now),
        "newest": one.backups[0].backup if one.backups else None,
        "backups": len(one.backups),
        "restorable": one.kept,
        "failures_since_success": one.failures,
        "last_failure": one.last_failure,
        "last_full_verification": _moment(one.last_full_verification),
        "verification_overdue": one.verification_overdue(now),
        "last_restore_seconds": _seconds(one.last_restore),
        # Null: none was measured.
        "within_rto": one.within_rto,
        # Drills come with a later version; until then there has been none.
        "last_drill": None,
        "next_window": _moment(one.next_window),
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else moment_text(at)


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else round(length.total_seconds(), 3)

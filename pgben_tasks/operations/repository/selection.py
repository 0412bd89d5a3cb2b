"""Choose the backup that a restore takes out of what the repository holds, and say what is odd.

The choice itself is ``domain.selection``; here it meets manifests that cannot be believed and
backups of other targets, which would otherwise look like no backup at all.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import structlog

from pgben_tasks.domain.restorability import RestoreSite
from pgben_tasks.domain.selection import Selection, select
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import BackupNotFound, RequestMistaken, RestoreRefused
from pgben_tasks.operations.repository.survey import Survey, judged_at, survey
from pgben_tasks.ports import Repository

log = structlog.get_logger(__name__)


def choose_backup(
    repository: Repository,
    target: Target,
    wanted: BackupId | str | datetime,
    *,
    now: datetime,
    here: RestoreSite | None = None,
    allow_unverified: bool = False,
    allow_damaged: bool = False,
) -> Selection:
    """Return the backup of ``target`` that a restore takes; its note names those passed over.

    ``here`` judges what is restorable where that is not for the workers to say, as in direct mode.

    Raises ``BackupNotFound`` and ``RestoreRefused``, the latter also for a backup asked for by its
    id whose manifest cannot be believed, and for a moment at which there can be none: one after
    ``now``, by the catalog's clock, or before the first backup.
    """
    if isinstance(wanted, datetime) and wanted > now:
        raise RequestMistaken(
            f"{_moment(wanted, wanted)} has not come yet: it is {_moment(now, wanted)} now",
            "name a moment that is past, or none for the newest backup",
        )
    surveyed = survey(repository, target)
    if here is not None:
        surveyed = judged_at(here, surveyed)
    for backup, finding in surveyed.unreadable:
        log.warning("backup_unbelievable", backup=str(backup), why=finding.detail)
        if str(wanted) == str(backup):
            raise RestoreRefused(
                f"backup '{backup}' cannot be believed: {finding.detail}",
                f"restore another backup; `pgben verify {target}` says more",
            )
    try:
        selection = select(
            surveyed.known, wanted, allow_unverified=allow_unverified, allow_damaged=allow_damaged
        )
    except BackupNotFound as exc:
        if isinstance(wanted, datetime):
            _require_not_before(surveyed, wanted)
        _require_of_target(repository, target, str(wanted))
        raise _with_unreadable(exc, surveyed) from exc
    passed_over = _passed_over(surveyed, selection.backup.id)
    return replace(selection, note="; ".join(filter(None, (selection.note, passed_over))))


def _require_not_before(surveyed: Survey, wanted: datetime) -> None:
    """Raise ``RequestMistaken`` for a moment before the first of all backups that can be read."""
    first = min((one.snapshot_time for one in surveyed.known), default=None)
    if first is not None and wanted < first:
        raise RequestMistaken(
            f"the first backup of '{surveyed.target}' is from {_moment(first, wanted)}, after "
            f"{_moment(wanted, wanted)}",
            "name a later moment; `pgben list` shows the backups there are",
        )


def _moment(moment: datetime, asked: datetime) -> str:
    """Return a moment in the zone in which the one that was ``asked`` for was written."""
    return moment.astimezone(asked.tzinfo).isoformat(timespec="seconds").replace("+00:00", "Z")


def _require_of_target(repository: Repository, target: Target, wanted: str) -> None:
    """Raise ``BackupNotFound`` that names the target of a backup which is another one's."""
    for other in repository.targets():
        if other != target and wanted in map(str, repository.backups(other)):
            raise BackupNotFound(
                f"backup '{wanted}' is one of '{other}', not of '{target}'",
                f"name '{other}' to restore it",
            )


def _with_unreadable(error: BackupNotFound, surveyed: Survey) -> BackupNotFound:
    """Return the error, with the backups that are there and cannot be believed."""
    if not surveyed.unreadable:
        return error
    newest, finding = max(surveyed.unreadable, key=lambda one: one[0].started)
    return BackupNotFound(
        f"{error.sentence}; {len(surveyed.unreadable)} cannot be believed, '{newest}' because "
        f"{finding.detail}",
        f"`pgben verify {surveyed.target}` names each; where all were written for another "
        "repository, 'repository.json' is not this one's: the recovery card has its id",
    )


def _passed_over(surveyed: Survey, chosen: BackupId) -> str:
    """Return the note that names newer backups which could not be believed."""
    later = [str(one) for one, _ in surveyed.unreadable if one.started >= chosen.started]
    if not later:
        return ""
    return f"passed over, because they cannot be believed: {', '.join(sorted(later))}"

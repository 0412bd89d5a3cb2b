"""Which backup a restore takes.

Pure: sentences for what cannot be taken come from here, and nothing is fetched here.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pgben_tasks.domain.states import KnownBackup, State
from pgben_tasks.domain.target import LATEST, BackupId, require_utc
from pgben_tasks.errors import BackupNotFound, RestoreRefused

_NEAREST: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The backup to restore, and what the operator should know about it (often nothing)."""

    backup: KnownBackup
    note: str


def select(
    backups: Sequence[KnownBackup],
    wanted: BackupId | str | datetime,
    *,
    allow_unverified: bool = False,
    allow_damaged: bool = False,
) -> Selection:
    """Return the backup of one target that a restore takes.

    ``wanted`` is ``latest`` (the newest verified), an aware moment (the newest verified whose
    snapshot is not younger), or an id. With ``allow_unverified`` the first two fall back to
    unverified backups when no verified one fits. Newest means: highest sequence number.
    ``allow_damaged`` lets a damaged one be taken, by its id.

    Raises ``BackupNotFound`` and, for a damaged or unverified backup asked for by its id,
    ``RestoreRefused``.
    """
    if isinstance(wanted, datetime):
        moment = require_utc(wanted)
        fitting = [one for one in backups if one.snapshot_time <= moment]
        condition = f" from {moment:%Y-%m-%dT%H:%M:%SZ} or before"
        return _newest(fitting, condition, allow_unverified=allow_unverified)
    if wanted == LATEST:
        return _newest(backups, "", allow_unverified=allow_unverified)
    return _by_id(
        backups, str(wanted), allow_unverified=allow_unverified, allow_damaged=allow_damaged
    )


def _newest(backups: Sequence[KnownBackup], condition: str, *, allow_unverified: bool) -> Selection:
    newest_first = sorted(backups, key=lambda one: one.sequence, reverse=True)
    good = [one for one in newest_first if one.standing.counts]
    unverified = [
        one
        for one in newest_first
        if one.standing.state is State.UNVERIFIED and not one.standing.open_suspicion
    ]
    if good:
        return Selection(backup=good[0], note=_note(good[0]))
    if unverified and allow_unverified:
        return Selection(backup=unverified[0], note=_note(unverified[0]))
    if unverified:
        raise BackupNotFound(
            f"there is no verified backup{condition}, only {len(unverified)} unverified",
            "run `pgben verify --level full`, or restore with `allow_unverified`",
        )
    raise BackupNotFound(
        f"there is no verified backup{condition}",
        "`pgben list` shows what there is; a suspect backup is restored by its id",
    )


def _by_id(
    backups: Sequence[KnownBackup], wanted: str, *, allow_unverified: bool, allow_damaged: bool
) -> Selection:
    known = {str(one.id): one for one in backups}
    backup = known.get(wanted)
    if backup is None:
        near = difflib.get_close_matches(wanted, known, n=_NEAREST, cutoff=0.0)
        raise BackupNotFound(
            f"there is no backup '{wanted[:80]}'",
            f"the nearest ids are {', '.join(near)}" if near else "this target has no backups",
        )
    if backup.standing.state is State.DAMAGED and not allow_damaged:
        raise RestoreRefused(
            f"backup '{backup.id}' is damaged",
            "restore another backup, or repair this one from a copy and run "
            "`pgben verify --level full`; of a bucket `allow_damaged` restores what is whole",
        )
    if backup.standing.state is State.UNVERIFIED and not allow_unverified:
        raise RestoreRefused(
            f"backup '{backup.id}' was never verified",
            "run `pgben verify --level full`, or restore with `allow_unverified`",
        )
    return Selection(backup=backup, note=_note(backup))


def _note(backup: KnownBackup) -> str:
    notes = []
    if backup.standing.state is State.DAMAGED:
        notes.append("it is damaged")
    if backup.standing.open_suspicion:
        notes.append(f"it is suspect: {backup.standing.suspect}")
    if backup.standing.state is State.VERIFIED_UNOPENED:
        notes.append("its packs were read back, but none was ever opened")
    if backup.standing.state is State.UNVERIFIED:
        notes.append("it was never verified")
    return "; ".join(notes)

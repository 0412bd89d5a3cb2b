"""What a monitoring system is told of an installation, as values. Pure.

Moments are UTC, sizes bytes. Nothing here names a person: targets, kinds and states only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pgben_tasks.domain.space import Forecast

#: What the newest backup of a target may be, as labels; `none` is a target without any.
STATES: Final = (
    "none",
    "stored",
    "unverified",
    "verified",
    "verified_unopened",
    "verified_with_exceptions",
    "incomplete",
    "not_restorable_here",
    "suspect",
    "damaged",
    "missing",
)


def state_label(state: str) -> str:
    """Return a state, as lists show it, as the value of a label: ``verified_unopened``."""
    return re.sub(r"[^a-z]+", "_", state.lower()).strip("_")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestGood:
    """The backup that a restore would take: the moment of its data, and its stored bytes."""

    taken: datetime
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LastBackup:
    """The backup that ended well last: when, how long it took, and what it stored."""

    ended: datetime
    took: timedelta | None
    stored_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetMeasures:
    """One target; ``state`` is that of its newest backup, ``backups`` counts them by state.

    ``failures`` are backups that failed since the last success.
    """

    target: str
    state: str
    backups: Mapping[str, int]
    newest_good: NewestGood | None
    last_backup: LastBackup | None
    last_full_verification: datetime | None
    last_restore: timedelta | None
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PointMeasures:
    """The newest verified recovery point; ``faults`` is None where nothing was compared."""

    moment: datetime
    faults: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """What the settings promise."""

    rpo: timedelta
    rto: timedelta
    verify_every: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """All that the catalog says. Jobs are counted by (kind, state), workers by role."""

    now: datetime
    targets: tuple[TargetMeasures, ...]
    point: PointMeasures | None
    restored_everything_in: timedelta | None
    open_jobs: Mapping[tuple[str, str], int]
    ended_jobs: Mapping[tuple[str, str], int]
    workers: Mapping[str, int]
    last_tick: datetime | None
    last_beat: datetime | None
    open_alarms: Mapping[str, int]
    unsent_alarms: int
    space: tuple[Forecast, ...] = ()
    #: Queues of single nodes, beside those of roles.
    node_queues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMeasures:
    """Messages that wait in each queue, and those that were none and are not recorded yet."""

    waiting: Mapping[str, int] = field(default_factory=dict)
    set_aside: int = 0

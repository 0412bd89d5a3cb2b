"""What is known of the ability to restore, and of what works and lives, at one moment.

Pure values; ``verdicts`` judges them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Self

from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.points import KnownPoint, newest_good
from pgben_tasks.domain.restorability import RestoreSite
from pgben_tasks.domain.retention import CLOCK_TOLERANCE
from pgben_tasks.domain.space import Forecast
from pgben_tasks.domain.states import GOOD_LABELS, State

Reconciler = Literal["runs", "runs without beat", "silent", "never ran"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedBackup:
    """One backup as lists show it; ``suspect`` is a reason that nobody acknowledged.

    ``needs`` is what this site lacks to restore it, by what is known now; ``hold`` is what the last
    decision about holding it says, whether or not that has ended (``in_force``).
    """

    backup: str
    state: str
    taken: datetime | None = None
    suspect: str | None = None
    needs: str | None = None
    hold: Hold | None = None
    stored_bytes: int | None = None

    @property
    def good(self) -> bool:
        """Whether ``latest`` may be this backup."""
        return self.state in GOOD_LABELS and self.suspect is None

    @property
    def restorable(self) -> bool:
        """Whether this site is not known to be unable to restore it."""
        return self.state != State.NOT_RESTORABLE.label


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOutlook:
    """What is known of one target; None where it is not known, as without a catalog.

    ``backups`` are newest first. ``failures`` are failed backups since the last success.
    """

    target: str
    backups: tuple[ListedBackup, ...]
    rpo: timedelta
    verify_every: timedelta
    next_window: datetime | None = None
    failures: int | None = None
    last_failure: str | None = None
    last_full_verification: datetime | None = None
    last_restore: timedelta | None = None
    last_restore_at: datetime | None = None
    #: Longest that a restore may take; None where nothing is declared.
    rto: timedelta | None = None

    @property
    def within_rto(self) -> bool | None:
        """Whether the last restore was as fast as PGBEN_RTO wants; None when none was measured."""
        if self.last_restore is None or self.rto is None:
            return None
        return self.last_restore <= self.rto

    @property
    def newest_good(self) -> ListedBackup | None:
        """The backup that a restore would take."""
        return next((one for one in self.backups if one.good), None)

    @property
    def kept(self) -> int:
        """How many backups there are that a restore may take."""
        return sum(one.good for one in self.backups)

    def age(self, now: datetime) -> timedelta | None:
        """Return how old the data of the newest good backup is; None without one."""
        good = self.newest_good
        return None if good is None or good.taken is None else now - good.taken

    def within_rpo(self, now: datetime) -> bool:
        """Return whether no more would be lost than PGBEN_RPO allows.

        Of a backup of the future nobody knows how old it is.
        """
        age = self.age(now)
        return age is not None and -CLOCK_TOLERANCE <= age <= self.rpo

    def verification_overdue(self, now: datetime) -> bool:
        """Return whether stored bytes were not read again for longer than PGBEN_VERIFY_DAYS.

        A backup younger than that was read back when it was made.
        """
        taken = [one.taken for one in self.backups if one.good and one.taken is not None]
        since = [moment for moment in (self.last_full_verification, *taken[-1:]) if moment]
        return bool(since) and now - max(since) > self.verify_every


@dataclass(frozen=True, slots=True, kw_only=True)
class PointOutlook:
    """What is known of the recovery points: the newest, and the newest that is verified."""

    newest: KnownPoint | None
    newest_good: KnownPoint | None
    rpo: timedelta
    #: Whether rows and objects should be compared, and whether faults there make a verdict red.
    checked: bool = False
    strict: bool = False

    @classmethod
    def of(cls, points: Sequence[KnownPoint], rpo: timedelta, **settings: bool) -> Self:
        """Return the outlook for these points, newest first."""
        newest = points[0] if points else None
        return cls(newest=newest, newest_good=newest_good(points), rpo=rpo, **settings)

    def within_rpo(self, now: datetime) -> bool:
        """Return whether a verified one holds data that is recent enough."""
        if self.newest_good is None:
            return False
        # A moment to come is a wrong clock's, and says nothing of how old the data are.
        return -CLOCK_TOLERANCE <= now - self.newest_good.moment <= self.rpo


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something cannot be used, and what to do about it."""

    sentence: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Whether one protected database or bucket answers; ``gone`` where its server lacks it.

    One that was not ``asked`` is not judged: without a secret key at hand a bucket is not.
    """

    target: str
    asked: bool = True
    gone: bool = False
    fault: Fault | None = None

    @property
    def answers(self) -> bool | None:
        """Whether it does; None where it was not asked."""
        return not self.gone and self.fault is None if self.asked else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Who may hold an identity that opens backups: this machine, and workers that restore.

    ``fault`` is why the identity that is ``set_here`` opens none. ``restorers`` are the living
    workers that restore, None without a catalog; the one of this ``node`` reads the same file.
    """

    set_here: bool
    fault: Fault | None = None
    restorers: tuple[str, ...] | None = None
    node: str | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether a worker on another machine may hold one."""
        own = f"restore.{self.node}"
        return any(name != own for name in self.restorers or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known beside the targets; None where the catalog did not say."""

    repository_away: Fault | None = None
    #: Why it is not known which backups there are, although the repository answers.
    backups_away: Fault | None = None
    catalog_away: Fault | None = None
    broker_away: Fault | None = None
    disks_away: Fault | None = None
    protected: tuple[Presence, ...] = ()
    #: Whether the settings name anything to protect.
    protects: bool = True
    #: None where nothing is sealed.
    keys: Keys | None = None
    missing_roles: tuple[str, ...] | None = None
    reconciler: Reconciler | None = None
    #: Volumes that no forecast is about.
    full_disks: tuple[str, ...] = ()
    space: tuple[Forecast, ...] = ()
    #: None without a catalog, or where no database is protected.
    restore_site: RestoreSite | None = None

"""Whether everything can be restored, and to when: what is known of it, and the verdict.

Pure: what is known comes in, a colour with its reasons comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from pgben_tasks.domain.restorability import RestoreSite
from pgben_tasks.domain.states import GOOD_LABELS, State

Colour = Literal["green", "yellow", "red"]
Reconciler = Literal["runs", "runs without beat", "silent", "never ran"]

#: From the least to the most alarming.
_COLOURS: Final[tuple[Colour, ...]] = ("green", "yellow", "red")
_NOT_KNOWN: Final = "whether backups can be restored here is not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedBackup:
    """One backup as lists show it; ``suspect`` is a reason that nobody acknowledged.

    ``needs`` is what this site lacks to restore it, by what is known now.
    """

    backup: str
    state: str
    taken: datetime | None = None
    suspect: str | None = None
    needs: str | None = None
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
        """Return whether no more would be lost than PGBEN_RPO allows."""
        age = self.age(now)
        return age is not None and age <= self.rpo

    def verification_overdue(self, now: datetime) -> bool:
        """Return whether stored bytes were not read again for longer than PGBEN_VERIFY_DAYS.

        A backup younger than that was read back when it was made.
        """
        taken = [one.taken for one in self.backups if one.good and one.taken is not None]
        since = [moment for moment in (self.last_full_verification, *taken[-1:]) if moment]
        return bool(since) and now - max(since) > self.verify_every


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known beside the targets; None where the catalog did not say."""

    repository_away: str | None = None
    catalog_away: str | None = None
    missing_roles: tuple[str, ...] | None = None
    reconciler: Reconciler | None = None
    full_disks: tuple[str, ...] = ()
    #: None without a catalog, or where no database is protected.
    restore_site: RestoreSite | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that keeps the verdict from being green."""

    colour: Colour
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The most alarming colour, and every reason, the most alarming first."""

    colour: Colour
    reasons: tuple[Reason, ...]


def judge_outlook(
    targets: Sequence[TargetOutlook], surroundings: Surroundings, *, now: datetime
) -> Verdict:
    """Return whether everything can be restored.

    Red: something cannot, or not to a moment that is recent enough. Yellow: it can, and something
    is wrong that will keep it from staying so.
    """
    found = list(_of_surroundings(surroundings))
    if surroundings.repository_away is None:
        for target in targets:
            found += _of_target(target, now)
    found.sort(key=lambda reason: _COLOURS.index(reason.colour), reverse=True)
    return Verdict(found[0].colour if found else "green", tuple(found))


def _of_target(one: TargetOutlook, now: datetime) -> Iterator[Reason]:
    name = f"'{one.target}'"
    good, newest = one.newest_good, one.backups[0] if one.backups else None
    if good is None:
        yield Reason("red", f"{name} has no verified backup")
    elif not one.within_rpo(now):
        yield Reason("red", f"the newest verified backup of {name} is older than PGBEN_RPO")
    if newest is not None and newest is not good:
        what = "suspect" if newest.suspect else newest.state
        needs = f": it needs {newest.needs}" if newest.needs else ""
        yield Reason("yellow", f"the newest backup of {name} is {what}{needs}")
    foreign = sum(not backup.restorable for backup in one.backups[1:])
    if foreign:
        yield Reason("yellow", f"{foreign} older backup(s) of {name} are not restorable here")
    damaged = sum(one.state in {"damaged", "unreadable", "missing"} for one in one.backups)
    if damaged:
        yield Reason("yellow", f"{damaged} backup(s) of {name} are damaged or missing")
    if one.failures:
        said = f": {one.last_failure}" if one.last_failure else ""
        yield Reason(
            "yellow", f"{one.failures} backup(s) of {name} failed since the last success{said}"
        )
    if one.verification_overdue(now):
        yield Reason("yellow", f"the stored bytes of {name} were not read for too long")


def _of_surroundings(known: Surroundings) -> Iterator[Reason]:
    if known.repository_away is not None:
        yield Reason("red", f"the repository cannot be read: {known.repository_away}")
    if known.catalog_away is not None:
        yield Reason(
            "yellow",
            f"{known.catalog_away}; `pgben restore … --direct` needs no catalog, and `pgben "
            "catalog rebuild` brings a lost one back",
        )
    if known.missing_roles:
        yield Reason("yellow", f"no worker runs for {', '.join(known.missing_roles)}")
    if known.reconciler == "silent":
        yield Reason("yellow", "the reconciler has not run for five minutes: beat is down")
    elif known.reconciler == "runs without beat":
        yield Reason("yellow", "beat is down; a maintenance worker stands in for it")
    elif known.reconciler == "never ran":
        yield Reason("yellow", "the reconciler has not run yet; beat wakes it every minute")
    if known.restore_site is not None and known.restore_site.clients is None:
        yield Reason("yellow", f"{_NOT_KNOWN}: no restore worker has published its clients")
    elif known.restore_site is not None and not known.restore_site.current:
        yield Reason("yellow", f"{_NOT_KNOWN}: judged by the clients that were published last")
    for disk in known.full_disks:
        yield Reason("yellow", f"the disk of '{disk}' is fuller than PGBEN_DISK_CRITICAL")

"""Which backups retention keeps, and why, and whether the clocks agree.

Pure: a plan is computed here and carried out elsewhere, so that ``--dry-run`` shows exactly what
would be done. Nothing here looks at a clock or a repository.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Final, TypeVar

from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.points import KnownPoint
from pgben_tasks.domain.states import KnownBackup
from pgben_tasks.domain.target import BackupId, Target, require_utc
from pgben_tasks.errors import PruneRefused
from pgben_tasks.language import counted

_Kept = TypeVar("_Kept", KnownBackup, KnownPoint)

#: Removing up to this many verified backups never pulls the brake.
BRAKE_FLOOR: Final = 2

#: A newest backup older than this many intervals means that backups, or the clock, have stopped.
SILENT_INTERVALS: Final = 3

#: The one reason that holds a comma itself.
_SUSPECT: Final = "suspect, not acknowledged"

#: Clocks that differ by more than this stop all pruning. NTP keeps them within a second.
CLOCK_TOLERANCE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long backups of a target are kept.

    ``interval`` is the time between two scheduled backups, None when there is no schedule;
    ``keep_daily`` and its like keep the newest verified backup of that many days, weeks, months of
    ``zone`` beyond ``max_age``; ``brake`` is the share of verified backups one run may remove.
    """

    max_age: timedelta = timedelta(days=30)
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    zone: tzinfo = UTC
    floor: int = 3
    brake: Decimal = Decimal("0.2")
    interval: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of one backup."""

    backup: BackupId
    #: ("newest of 2026-11-22", "held by ana until 2026-12-15T00:00:00Z"); empty means: expire.
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What retention decided for one target, newest backup first.

    A refused plan expires nothing; ``decisions`` still show what it would have done.
    """

    decisions: tuple[Decision, ...]
    refused: str | None = None
    hint: str = ""

    @property
    def expire(self) -> tuple[BackupId, ...]:
        """The backups to remove, oldest first; none when the plan is refused."""
        if self.refused is not None:
            return ()
        return tuple(one.backup for one in reversed(self.decisions) if not one.reasons)

    @property
    def keep(self) -> tuple[BackupId, ...]:
        """The backups that stay, newest first; all when the plan is refused."""
        going = set(self.expire)
        return tuple(one.backup for one in self.decisions if one.backup not in going)

    def explain(self) -> tuple[tuple[str, str, str], ...]:
        """Return rows of (backup id, ``keep`` or ``expire``, reasons), newest first."""
        blocked = "would expire, but pruning is refused"
        past = "past its age, and no rule keeps it"
        return tuple(
            (str(one.backup), "keep", ", ".join(one.reasons))
            if one.reasons
            else (
                str(one.backup),
                *(("expire", past) if self.refused is None else ("keep", blocked)),
            )
            for one in self.decisions
        )

    def refusing(self, sentence: str, hint: str) -> Plan:
        """Return the same plan, refused for this reason, which comes before any other."""
        return replace(self, refused=sentence, hint=hint)

    def check(self) -> None:
        """Raise ``PruneRefused`` when the plan is refused."""
        if self.refused is not None:
            raise PruneRefused(self.refused, self.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """What the three clocks showed at one moment; all aware.

    ``catalog`` names backups and judges their age, ``worker`` is the machine that prunes, and
    ``store`` is where the backups lie.
    """

    catalog: datetime
    worker: datetime
    store: datetime

    def doubt(self) -> tuple[str, str] | None:
        """Return which two clocks differ too much, with a hint; None when all agree."""
        shown = {one.name: require_utc(getattr(self, one.name)) for one in fields(self)}
        behind, ahead = min(shown, key=shown.__getitem__), max(shown, key=shown.__getitem__)
        gap = shown[ahead] - shown[behind]
        if gap <= CLOCK_TOLERANCE:
            return None
        rounded = timedelta(seconds=round(gap.total_seconds()))
        moments = ", ".join(f"{name} {at:%Y-%m-%dT%H:%M:%SZ}" for name, at in shown.items())
        return (
            f"the clock of the {ahead} is {rounded} ahead of the {behind}'s ({moments})",
            "set all three by NTP; nothing is removed while it is unclear how old a backup is",
        )


@dataclass(slots=True)
class _Reasons:
    """Collects why backups stay."""

    by_sequence: dict[int, list[str]] = field(default_factory=dict)

    def add(self, backups: Iterable[KnownBackup], reason: str) -> None:
        for backup in backups:
            self.by_sequence.setdefault(backup.sequence, []).append(reason)


def split_reasons(text: str) -> tuple[str, ...]:
    """Return the reasons that ``Plan.explain`` has joined into one text."""
    parts = text.replace(_SUSPECT, "\0").split(", ")
    return tuple(part.replace("\0", _SUSPECT) for part in parts if part)


def plan(
    backups: Sequence[KnownBackup],
    *,
    now: datetime,
    policy: Policy,
    own: BackupId | None = None,
    named: Container[str] = (),
    joined: Mapping[BackupId, str] | None = None,
) -> Plan:
    """Return which backups of one target stay and which expire.

    ``now`` is aware. The order of ``backups`` does not matter: their sequence numbers order them.
    ``own`` is the backup whose chain asks: it was made by the very clock that is in question, so it
    does not vouch for the clock. ``named`` are the ids that other jobs work on or ask for: a
    restore holds no lock between two steps, and must find its backup again. ``joined`` are the
    members of recovery points that are kept, with the point of each.
    """
    now = require_utc(now)
    newest_first = sorted(backups, key=lambda one: one.sequence, reverse=True)
    reasons = _reasons(newest_first, now=now, policy=policy)
    reasons.add([one for one in newest_first if str(one.id) in named], "in use by a job")
    for one in newest_first:
        if joined and one.id in joined:
            reasons.add([one], f"of recovery point {joined[one.id]}")
    decisions = tuple(
        Decision(backup=one.id, reasons=tuple(reasons.by_sequence.get(one.sequence, ())))
        for one in newest_first
    )
    leaving = [one for one in newest_first if one.sequence not in reasons.by_sequence]
    refused, hint = _refusal(newest_first, leaving, now=now, policy=policy, own=own) or (None, "")
    return Plan(decisions=decisions, refused=refused, hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsPlan:
    """What retention decided for the recovery points of a repository, newest first."""

    keep: tuple[tuple[KnownPoint, tuple[str, ...]], ...]
    expire: tuple[KnownPoint, ...]

    def members_of(self, target: Target) -> dict[BackupId, str]:
        """Return the backups of a target that kept points name, with one of these points each."""
        return {
            backup: str(point.id)
            for point, _ in reversed(self.keep)
            for of, backup in point.backups
            if of == target
        }


def plan_points(points: Sequence[KnownPoint], *, now: datetime, policy: Policy) -> PointsPlan:
    """Return which recovery points stay and which expire; what stays keeps its members.

    The newest verified point stays whatever its age, and so do newer ones that are not verified,
    and those with a member that somebody holds.
    """
    now = require_utc(now)
    # By when they were formed: that is the clock which is compared with others.
    newest_first = sorted(points, key=lambda one: one.id, reverse=True)
    good = [one for one in newest_first if one.good]
    found = _reasons_of_points(newest_first, good, now=now, policy=policy)
    losing = [one for one in good if not found[one.id]]
    if len(losing) > BRAKE_FLOOR and len(losing) > policy.brake * len(good):
        for one in newest_first:
            if not found[one.id]:
                found[one.id].append(
                    f"it would be one of {len(losing)} verified points of {len(good)} at once"
                )
    return PointsPlan(
        keep=tuple((one, tuple(found[one.id])) for one in newest_first if found[one.id]),
        expire=tuple(one for one in newest_first if not found[one.id]),
    )


def unreferenced(
    packs: Iterable[str], *, remaining: Iterable[Manifest], gone: Iterable[Manifest]
) -> tuple[str, ...]:
    """Return the stored packs that only removed backups referred to, sorted.

    ``packs`` are the paths that exist. A pack that no manifest ever named is none of these: it may
    belong to a capture that still runs, and is the sweeper's concern.
    """
    needed = {pack.path for manifest in remaining for pack in manifest.packs}
    named = {pack.path for manifest in gone for pack in manifest.packs}
    return tuple(sorted((named - needed) & set(packs)))


def _reasons(newest_first: Sequence[KnownBackup], *, now: datetime, policy: Policy) -> _Reasons:
    reasons = _Reasons()
    good = [one for one in newest_first if one.standing.counts]
    young = [one for one in newest_first if now - one.started <= policy.max_age]
    reasons.add(young, f"younger than {_days(policy.max_age)}")
    reasons.add(good[: policy.floor], f"one of the {policy.floor} newest verified")
    reasons.add([one for one in good if one.standing.drilled][:1], "newest drilled")
    for limit, name in _periods(policy):
        for backup, period in _newest_of_periods(good, limit, policy.zone, name):
            reasons.add([backup], f"newest of {period}")
    for one in newest_first:
        hold = one.standing.hold_at(now)
        if hold is not None:
            reasons.add([one], hold.phrase)
    reasons.add([one for one in newest_first if one.standing.open_suspicion], _SUSPECT)
    newest_good = good[0].sequence if good else 0
    reasons.add(
        [one for one in newest_first if not one.standing.counts and one.sequence > newest_good],
        "no newer verified backup",
    )
    return reasons


def _reasons_of_points(
    newest_first: Sequence[KnownPoint], good: Sequence[KnownPoint], *, now: datetime, policy: Policy
) -> dict[BackupId, list[str]]:
    found: dict[BackupId, list[str]] = {one.id: [] for one in newest_first}
    for one in newest_first:
        if now - one.started <= policy.max_age:
            found[one.id].append(f"younger than {_days(policy.max_age)}")
        if not one.good and (not good or one.id > good[0].id):
            found[one.id].append("no newer verified recovery point")
        hold = one.hold_at(now)
        if hold is not None:
            found[one.id].append(hold.phrase)
    for one in good[:1]:
        found[one.id].append("newest verified")
    for limit, name in _periods(policy):
        for one, period in _newest_of_periods(good, limit, policy.zone, name):
            found[one.id].append(f"newest of {period}")
    return found


def _periods(policy: Policy) -> tuple[tuple[int, Callable[[datetime], str]], ...]:
    """Return of how many periods the newest is kept, and how the period of a moment is called."""
    return (
        (policy.keep_daily or 0, lambda day: f"{day:%Y-%m-%d}"),
        (policy.keep_weekly or 0, lambda day: f"week {day:%G-W%V}"),
        (policy.keep_monthly or 0, lambda day: f"month {day:%Y-%m}"),
    )


def _newest_of_periods(
    good: Sequence[_Kept], limit: int, zone: tzinfo, name: Callable[[datetime], str]
) -> Iterator[tuple[_Kept, str]]:
    seen: set[str] = set()
    for backup in good:
        period = name(backup.started.astimezone(zone))
        if period in seen:
            continue
        if len(seen) >= limit:
            return
        seen.add(period)
        yield backup, period


def _refusal(
    newest_first: Sequence[KnownBackup],
    leaving: Sequence[KnownBackup],
    *,
    now: datetime,
    policy: Policy,
    own: BackupId | None,
) -> tuple[str, str] | None:
    if not newest_first:
        return None
    for one in newest_first:
        if one.standing.open_suspicion:
            return (
                f"backup '{one.id}' is suspect and not acknowledged: {one.standing.suspect}",
                "look at what changed; nothing is pruned until the backup is acknowledged",
            )
    verified = sum(one.standing.counts for one in newest_first)
    past_age = [one for one in newest_first if now - one.started > policy.max_age]
    if past_age and not verified:
        return (
            "no backup is verified, so none may be removed",
            "run `pgben verify --level full`, then prune again",
        )
    doubt = _doubt_about_time(newest_first, now=now, policy=policy, own=own)
    if doubt is not None:
        return doubt
    losing = sum(one.standing.counts for one in leaving)
    if losing > BRAKE_FLOOR and losing > policy.brake * verified:
        return (
            (
                f"it would remove {losing} of {verified} verified backups at once, more than "
                f"{BRAKE_FLOOR} and more than {policy.brake:.0%}"
            ),
            (
                "check the clock and PGBEN_RETENTION_DAYS with `pgben prune --dry-run`; when it is "
                "meant, raise PGBEN_PRUNE_BRAKE for one run"
            ),
        )
    return None


def _doubt_about_time(
    newest_first: Sequence[KnownBackup], *, now: datetime, policy: Policy, own: BackupId | None
) -> tuple[str, str] | None:
    ahead = max(newest_first, key=lambda one: one.started)
    if now < ahead.started:
        return (
            f"backup '{ahead.id}' began after the present time {now:%Y-%m-%dT%H:%M:%SZ}",
            "the clock went back, or was wrong when that backup ran; set the clocks right",
        )
    newest = next((one for one in newest_first if one.id != own), None)
    if newest is None or policy.interval is None:
        return None
    if now - newest.started > SILENT_INTERVALS * policy.interval:
        return (
            f"the newest backup '{newest.id}' is over {SILENT_INTERVALS} scheduled intervals old",
            "backups have stopped or the clock is wrong: find out which before anything is removed",
        )
    return None


def _days(age: timedelta) -> str:
    return counted(age.days, "day") if age == timedelta(days=age.days) else str(age)

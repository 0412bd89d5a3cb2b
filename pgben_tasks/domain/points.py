"""Recovery points: which snapshot joins one, and what state its members give it. Pure.

Which points retention keeps is decided in ``retention``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pgben_tasks.domain.documents import CrossCheck, PointMember, RecoveryPoint
from pgben_tasks.domain.holds import Hold, in_force, longest
from pgben_tasks.domain.states import GOOD_LABELS, BackupStanding, State
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import BackupNotFound, RestoreRefused

MISSING: Final = "missing"
#: Its manifest or a statement about it cannot be believed.
UNREADABLE: Final = "unreadable"
SUSPECT: Final = "suspect"
#: The states of members from the worst on; any other comes before them.
_WORST_FIRST: Final = (
    MISSING,
    UNREADABLE,
    State.DAMAGED.label,
    State.UNVERIFIED.label,
    State.INCOMPLETE.label,
    State.NOT_RESTORABLE.label,
    SUSPECT,
    State.VERIFIED_EXCEPTIONS.label,
    State.VERIFIED_UNOPENED.label,
    State.VERIFIED.label,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFacts:
    """What is known of a backup: its state as lists show it, its manifest's digest, its hold."""

    state: str
    manifest: str | None
    hold: Hold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPoint:
    """A recovery point with the state that its members give it.

    ``moment`` is that of its databases' data; ``states`` and ``holds`` have one for each of
    ``members``.
    """

    id: BackupId
    job: str
    moment: datetime
    members: tuple[PointMember, ...]
    states: tuple[str, ...]
    holds: tuple[Hold | None, ...] = ()
    check: CrossCheck | None = None

    @property
    def started(self) -> datetime:
        """When it was formed (UTC)."""
        return self.id.started

    @property
    def state(self) -> str:
        """The worst state of its members."""
        return min(self.states, key=_rank)

    @property
    def good(self) -> bool:
        """Whether everything of it counts as verified."""
        return self.state in GOOD_LABELS

    def hold_at(self, now: datetime) -> Hold | None:
        """Return the longest hold of its members: rows and objects of a held one go together."""
        return longest(in_force(one, now) for one in self.holds)

    @property
    def faults(self) -> int:
        """How many rows have objects that are not as they say, as far as that was compared."""
        return self.check.rows if self.check else 0

    @property
    def backups(self) -> frozenset[tuple[Target, BackupId]]:
        """The backups that it names."""
        return frozenset(
            (Target.parse(one.target), BackupId.parse(one.backup)) for one in self.members
        )

    def is_good_with(self, backups: Collection[tuple[Target, BackupId]]) -> bool:
        """Return whether it counts as verified and names one of these backups."""
        return self.good and not self.backups.isdisjoint(backups)


def known_point(point: RecoveryPoint, facts: Mapping[tuple[str, str], MemberFacts]) -> KnownPoint:
    """Return a point with the states of its members; ``facts`` are by (target, backup)."""
    return KnownPoint(
        id=BackupId.parse(point.id),
        job=point.job,
        moment=point.moment,
        members=point.members,
        check=point.check,
        states=tuple(_state(one, facts.get((one.target, one.backup))) for one in point.members),
        holds=tuple(_hold(one, facts.get((one.target, one.backup))) for one in point.members),
    )


def member_state(label: str, *, suspect: bool) -> str:
    """Return the state of a backup as a member: a good one that is suspect counts no more."""
    return SUSPECT if suspect and label in GOOD_LABELS else label


def standing_state(standing: BackupStanding) -> str:
    """Return the state of a backup as a member, from what statements say of it."""
    return member_state(standing.state.label, suspect=standing.open_suspicion)


def newest_good(points: Iterable[KnownPoint]) -> KnownPoint | None:
    """Return the verified point that was formed last."""
    return max((one for one in points if one.good), key=lambda one: one.id, default=None)


def choose_point(points: Iterable[KnownPoint], wanted: BackupId | datetime | None) -> KnownPoint:
    """Return the recovery point that a restore of everything takes.

    ``wanted`` is an id, a moment (the newest verified one whose data are not younger), or None for
    the newest verified one. Raises ``BackupNotFound``, and ``RestoreRefused`` for one named by its
    id that is not whole.
    """
    known = list(points)
    if isinstance(wanted, BackupId):
        return _named(known, wanted)
    good = [one for one in known if one.good]
    fitting = [one for one in good if wanted is None or one.moment <= wanted]
    found = newest_good(fitting)
    if found is not None:
        return found
    if good:
        raise BackupNotFound(
            "there is no verified recovery point whose data are of that moment or before; the "
            f"first one is of {min(one.moment for one in good):%Y-%m-%dT%H:%M:%SZ}",
            "name a later moment; `pgben points` shows the points there are",
        )
    if known:
        raise BackupNotFound(
            f"there is no verified recovery point among those there are: {len(known)}",
            "`pgben points` says what is wrong with each",
        )
    raise BackupNotFound(
        "there is no recovery point",
        "`pgben backup --all` forms one; single targets come back by `pgben restore TARGET`",
    )


def _named(known: Sequence[KnownPoint], wanted: BackupId) -> KnownPoint:
    found = next((one for one in known if one.id == wanted), None)
    if found is None:
        raise BackupNotFound(
            f"there is no recovery point '{wanted}'", "`pgben points` shows the points there are"
        )
    if not found.good:
        member = found.members[found.states.index(found.state)]
        raise RestoreRefused(
            f"recovery point '{found.id}' cannot be restored whole: backup '{member.backup}' of "
            f"'{member.target}' is {found.state}",
            "take another point, or restore its other members one by one",
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A snapshot that may join a point: when its listing began, and whether it counts as good."""

    backup: str
    listed: datetime
    good: bool


def first_fitting(candidates: Sequence[Candidate], after: datetime) -> Candidate | None:
    """Return the first good snapshot whose listing began at ``after`` or later."""
    fitting = [one for one in candidates if one.good and one.listed >= after]
    return min(fitting, key=lambda one: (one.listed, one.backup), default=None)


def _state(member: PointMember, found: MemberFacts | None) -> str:
    if found is None or found.state == "expired":
        return MISSING
    if found.manifest is not None and found.manifest != member.manifest:
        # Another backup has its place.
        return State.DAMAGED.label
    return found.state


def _hold(member: PointMember, found: MemberFacts | None) -> Hold | None:
    # Of another backup that has its place nothing counts.
    is_same = found is not None and found.manifest in {None, member.manifest}
    return found.hold if found is not None and is_same else None


def _rank(state: str) -> int:
    return _WORST_FIRST.index(state) if state in _WORST_FIRST else -1

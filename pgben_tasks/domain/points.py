"""Recovery points: which snapshot joins one, and what state its members give it. Pure.

Which points retention keeps is decided in ``retention``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pgben_tasks.domain.documents import CrossCheck, PointMember, RecoveryPoint
from pgben_tasks.domain.states import GOOD_LABELS, BackupStanding, State
from pgben_tasks.domain.target import BackupId, Target

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
    """What is known of a backup: its state as lists show it, and its manifest's digest."""

    state: str
    manifest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPoint:
    """A recovery point with the state that its members give it.

    ``moment`` is that of its databases' data; ``states`` has one for each of ``members``.
    """

    id: BackupId
    job: str
    moment: datetime
    members: tuple[PointMember, ...]
    states: tuple[str, ...]
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


def known_point(point: RecoveryPoint, facts: Mapping[tuple[str, str], MemberFacts]) -> KnownPoint:
    """Return a point with the states of its members; ``facts`` are by (target, backup)."""
    return KnownPoint(
        id=BackupId.parse(point.id),
        job=point.job,
        moment=point.moment,
        members=point.members,
        check=point.check,
        states=tuple(_state(one, facts.get((one.target, one.backup))) for one in point.members),
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


def _rank(state: str) -> int:
    return _WORST_FIRST.index(state) if state in _WORST_FIRST else -1

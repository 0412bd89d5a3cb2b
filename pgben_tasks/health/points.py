"""The recovery points, with the states of their members as of now."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final

from pgben_tasks.domain.points import KnownPoint, MemberFacts, known_point, member_state
from pgben_tasks.domain.target import BackupId
from pgben_tasks.health.restorability import indexed_backups
from pgben_tasks.operations.repository.points import surveyed_points
from pgben_tasks.ports import Repository
from pgben_tasks.runtime import Workplace

#: For ``stored_points``: up to the newest that is verified.
UNTIL_GOOD: Final[Callable[[KnownPoint], bool]] = attrgetter("good")


def indexed_points(work: Workplace) -> tuple[KnownPoint, ...]:
    """Return the points of the index, newest first."""
    documents = work.index.points()
    if not documents:
        return ()
    facts = {
        (one.target, one.id): MemberFacts(
            state=member_state(one.state, suspect=one.suspect is not None and not one.acknowledged),
            manifest=one.manifest_sha256,
            hold=one.hold,
        )
        for one in indexed_backups(work, None)
    }
    return tuple(known_point(one, facts) for one in documents)


def stored_points(
    repository: Repository, *, until: Callable[[KnownPoint], bool] | None = None
) -> tuple[KnownPoint, ...]:
    """Return the points of the repository, newest first, signatures checked.

    With ``until`` the newest ones up to the first for which it holds: a command that only names
    that one reads no more. Points that cannot be believed are left out; `verify` names them.
    """
    found: list[KnownPoint] = []
    for point in sorted(repository.points(), key=_formed, reverse=True):
        read = surveyed_points(repository, only=point).points
        found += read
        if until is not None and any(map(until, read)):
            break
    return tuple(found)


def _formed(point: BackupId) -> tuple[float, str]:
    return point.started.timestamp(), point.suffix

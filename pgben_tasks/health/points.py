"""The recovery points, with the states of their members as of now."""

from __future__ import annotations

from pgben_tasks.domain.points import KnownPoint, MemberFacts, known_point, member_state
from pgben_tasks.domain.target import BackupId
from pgben_tasks.health.restorability import indexed_backups
from pgben_tasks.operations.repository.points import surveyed_points
from pgben_tasks.ports import Repository
from pgben_tasks.runtime import Workplace


def indexed_points(work: Workplace) -> tuple[KnownPoint, ...]:
    """Return the points of the index, newest first."""
    documents = work.index.points()
    if not documents:
        return ()
    facts = {
        (one.target, one.id): MemberFacts(
            state=member_state(one.state, suspect=one.suspect is not None and not one.acknowledged),
            manifest=one.manifest_sha256,
        )
        for one in indexed_backups(work, None)
    }
    return tuple(known_point(one, facts) for one in documents)


def stored_points(repository: Repository, *, until_good: bool = False) -> tuple[KnownPoint, ...]:
    """Return the points of the repository, newest first, signatures checked.

    With ``until_good`` the newest ones up to the first that is verified: a command that only names
    that one reads no more. Points that cannot be believed are left out; `verify` names them.
    """
    found: list[KnownPoint] = []
    for point in sorted(repository.points(), key=_formed, reverse=True):
        found += surveyed_points(repository, only=point).points
        if until_good and found and found[-1].good:
            break
    return tuple(found)


def _formed(point: BackupId) -> tuple[float, str]:
    return point.started.timestamp(), point.suffix

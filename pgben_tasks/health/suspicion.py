"""What can be restored from before a suspicion: the newest recovery point, or snapshot."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pgben_tasks.domain.buckets.history import first_suspect, good_before
from pgben_tasks.domain.points import KnownPoint
from pgben_tasks.domain.states import KnownBackup
from pgben_tasks.domain.target import Target
from pgben_tasks.health.points import stored_points
from pgben_tasks.ports import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """The first suspect snapshot, and what is good from before it.

    ``point`` is the newest verified recovery point with an older snapshot of the bucket, ``backup``
    the newest good snapshot before; None where there is none.
    """

    suspect: KnownBackup
    point: KnownPoint | None
    backup: KnownBackup | None


def open_suspicion(
    repository: Repository, target: Target, backups: Collection[KnownBackup]
) -> Suspicion | None:
    """Return what is known of a suspicion that nobody acknowledged; None where there is none."""
    suspect = first_suspect(backups)
    if suspect is None:
        return None
    good = good_before(backups, suspect)
    wanted = {(target, one.id) for one in good}

    def fits(point: KnownPoint) -> bool:
        return point.is_good_with(wanted)

    points = stored_points(repository, until=fits) if wanted else ()
    return Suspicion(
        suspect=suspect,
        point=next(filter(fits, points), None),
        backup=good[-1] if good else None,
    )

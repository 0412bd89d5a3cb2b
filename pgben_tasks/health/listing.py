"""The backups that the catalog's index lists: fast, and as true as the last verification."""

from __future__ import annotations

from pgben_tasks.domain.holds import in_force
from pgben_tasks.domain.listing import Listed
from pgben_tasks.domain.target import Target
from pgben_tasks.health.restorability import indexed_backups
from pgben_tasks.runtime import Workplace


def read_index(work: Workplace, target: Target | None) -> list[Listed]:
    """Return the backups of a target, or of all, newest first within each target."""
    now = work.database.now()
    return [
        Listed(
            target=one.target,
            backup=one.id,
            state=one.state,
            needs=one.needs,
            suspect=one.suspect,
            acknowledged=one.acknowledged,
            taken=one.snapshot_at,
            stored_bytes=one.stored_bytes,
            tables=one.table_count,
            rows=one.row_count,
            objects=one.object_count,
            verified_at=one.verified_at,
            hold=in_force(one.hold, now),
        )
        for one in indexed_backups(work, target)
    ]

"""What a rebuilt index says of a target, and the number that its next backup must exceed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pgben_tasks.domain.reindex import IndexEntry, TargetIndex
from pgben_tasks.domain.target import BackupId
from tests.support import samples


def entry(day: int, state: str, **fields: Any) -> IndexEntry:
    backup = BackupId.make(samples.START + timedelta(days=day), "0a0a0a")
    acknowledged = fields.pop("acknowledged", False)
    manifest = samples.manifest(**fields) if fields else None
    return IndexEntry(backup=backup, state=state, manifest=manifest, acknowledged=acknowledged)


def index(*entries: IndexEntry) -> TargetIndex:
    return TargetIndex(target=samples.TARGET, entries=entries)


def test_the_next_number_is_above_every_known_one() -> None:
    made = index(entry(1, "verified", sequence=4), entry(2, "damaged", sequence=9))
    assert made.last_sequence == 9


def test_a_backup_whose_number_is_unknown_leaves_one_free() -> None:
    made = index(entry(1, "verified", sequence=4), entry(2, "damaged"), entry(3, "missing"))
    assert made.last_sequence == 6


def test_an_expired_backup_was_older_than_one_that_is_there() -> None:
    assert index(entry(1, "expired"), entry(2, "verified", sequence=4)).last_sequence == 4
    assert index().last_sequence == 0


def test_states_and_open_suspicions_are_counted() -> None:
    made = index(
        entry(1, "verified", sequence=1),
        entry(2, "verified", sequence=2, suspect="40 % fewer rows"),
        entry(3, "verified", sequence=3, suspect="50 % fewer rows", acknowledged=True),
        entry(4, "damaged"),
    )
    assert made.states == {"verified": 3, "damaged": 1}
    assert made.suspects == 1

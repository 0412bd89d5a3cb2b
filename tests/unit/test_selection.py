"""Claims about which backup a restore takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pgben_tasks.domain.selection import select
from pgben_tasks.domain.states import BackupStanding, KnownBackup, State
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import BackupNotFound, RestoreRefused

NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
GOOD = BackupStanding(state=State.VERIFIED)
UNOPENED = BackupStanding(state=State.VERIFIED_UNOPENED)
UNVERIFIED = BackupStanding(state=State.UNVERIFIED)
DAMAGED = BackupStanding(state=State.DAMAGED)
SUSPECT = BackupStanding(state=State.VERIFIED, suspect="rows shrank from 9 to 1")


def known(sequence: int, days_old: int, standing: BackupStanding = GOOD) -> KnownBackup:
    started = NOW - timedelta(days=days_old)
    return KnownBackup(
        id=BackupId.make(started, f"{sequence:06x}"),
        sequence=sequence,
        started=started,
        snapshot_time=started + timedelta(seconds=5),
        standing=standing,
        bytes=1,
    )


def test_latest_is_the_newest_verified_by_sequence() -> None:
    older_clock = known(3, 9)
    chosen = select([known(1, 3), older_clock, known(2, 1)], wanted="latest")
    assert chosen.backup == older_clock
    assert chosen.note == ""


@pytest.mark.parametrize("standing", [DAMAGED, SUSPECT, UNVERIFIED])
def test_latest_is_never_damaged_suspect_or_unverified(standing: BackupStanding) -> None:
    chosen = select([known(1, 2), known(2, 1, standing)], wanted="latest", allow_unverified=True)
    assert chosen.backup.sequence == 1


def test_an_unopened_backup_counts_with_a_note() -> None:
    chosen = select([known(1, 2), known(2, 1, UNOPENED)], wanted="latest")
    assert chosen.backup.sequence == 2
    assert "none was ever opened" in chosen.note


def test_at_takes_the_newest_snapshot_that_is_not_younger() -> None:
    history = [known(1, 3), known(2, 2), known(3, 1)]
    assert select(history, wanted=history[1].snapshot_time).backup == history[1]
    just_before = history[1].snapshot_time - timedelta(seconds=1)
    assert select(history, wanted=just_before).backup == history[0]


def test_at_before_everything_says_so() -> None:
    with pytest.raises(BackupNotFound, match="from 2026-11-13T06:00:00Z or before"):
        select([known(1, 3)], wanted=NOW - timedelta(days=10))


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        select([], wanted=datetime(2026, 11, 23))  # noqa: DTZ001


def test_an_unverified_backup_is_offered_only_on_request() -> None:
    history = [known(1, 2, UNVERIFIED), known(2, 1, DAMAGED)]
    with pytest.raises(BackupNotFound, match="only 1 unverified") as caught:
        select(history, wanted="latest")
    assert "`allow_unverified`" in caught.value.hint
    chosen = select(history, wanted="latest", allow_unverified=True)
    assert chosen.backup.sequence == 1
    assert chosen.note == "it was never verified"


def test_nothing_fit_to_restore_is_one_sentence() -> None:
    with pytest.raises(BackupNotFound, match="there is no verified backup") as caught:
        select([known(1, 2, SUSPECT)], wanted="latest", allow_unverified=True)
    assert "`pgben list`" in caught.value.hint


def test_an_id_is_taken_as_text_or_value() -> None:
    history = [known(1, 2), known(2, 1)]
    assert select(history, wanted=history[0].id).backup == history[0]
    assert select(history, wanted=str(history[0].id)).backup == history[0]


def test_a_suspect_backup_is_restorable_by_its_id_with_a_note() -> None:
    history = [known(1, 2, SUSPECT)]
    chosen = select(history, wanted=history[0].id)
    assert chosen.note == "it is suspect: rows shrank from 9 to 1"


def test_a_damaged_backup_is_refused_even_by_its_id() -> None:
    history = [known(1, 2, DAMAGED)]
    with pytest.raises(RestoreRefused, match="is damaged"):
        select(history, wanted=history[0].id, allow_unverified=True)


def test_a_damaged_backup_is_taken_by_its_id_where_that_is_allowed() -> None:
    damaged = known(1, 1, DAMAGED)
    chosen = select([damaged], wanted=damaged.id, allow_damaged=True)
    assert (chosen.backup, chosen.note) == (damaged, "it is damaged")


def test_an_unverified_backup_by_its_id_needs_to_be_allowed() -> None:
    history = [known(1, 2, UNVERIFIED)]
    with pytest.raises(RestoreRefused, match="was never verified"):
        select(history, wanted=history[0].id)
    assert select(history, wanted=history[0].id, allow_unverified=True).backup == history[0]


def test_an_unknown_id_names_the_nearest() -> None:
    history = [known(number, 9 - number) for number in range(1, 6)]
    wrong = f"{history[2].id}"[:-1] + "f"
    with pytest.raises(BackupNotFound, match="there is no backup") as caught:
        select(history, wanted=wrong)
    assert caught.value.hint.startswith(f"the nearest ids are {history[2].id}, ")
    with pytest.raises(BackupNotFound) as caught:
        select([], wanted=wrong)
    assert caught.value.hint == "this target has no backups"

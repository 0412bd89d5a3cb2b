"""Two beats and the tick at once: one job, one backup."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from pgben_tasks import names
from tests.end_to_end.house import TARGET, House, eventually
from tests.timetables import daily


def soon() -> datetime:
    """Give the minute that begins in 20 to 80 seconds: time enough to start everything."""
    return (datetime.now(UTC) + timedelta(seconds=80)).replace(second=0, microsecond=0)


@pytest.fixture
def window() -> datetime:
    return soon()


@pytest.fixture
def house(window: datetime) -> Iterator[House]:
    with House.build(PGBEN_SCHEDULE_POSTGRES=daily(window), PGBEN_TIMEZONE="UTC") as built:
        built.start("all", name="worker")
        yield built


@pytest.mark.timeout(240)
def test_two_beats_and_the_tick_give_one_job_and_one_backup(house: House, window: datetime) -> None:
    beats = [house.start("beat", name=name) for name in ("beat-one", "beat-two")]
    assert datetime.now(UTC) < window, "the servers took too long to start"
    eventually(
        lambda: all(f"Sending due task backup {TARGET}" in beat.log.read_text() for beat in beats),
        seconds=100,
        what="both beats send the backup",
    )
    eventually(lambda: bool(house.jobs("backup")), seconds=20, what="the job is written")
    job = house.wait_for(house.jobs("backup")[0], seconds=60)
    # The tick of the same minute, sent by both beats, has run before this is looked at.
    worker = house.processes[0]
    eventually(
        lambda: worker.log.read_text().count(f"Task {names.TICK}[") >= 4,
        seconds=90,
        what="both beats' ticks ran",
    )
    eventually(
        lambda: (
            worker.log.read_text().count("entry_ignored")
            + worker.log.read_text().count(f"Task {names.BACKUP_POSTGRES}[")
            >= 3
        ),
        seconds=30,
        what="the second beat's message is handled",
    )

    assert job.state == "succeeded", job.error
    assert job.key == f"backup:{TARGET}:{window:%Y-%m-%dT%H:%MZ}"
    assert job.window == window
    assert [one.id for one in house.jobs("backup")] == [job.id]
    assert [str(backup) for backup in house.work.repository.backups(TARGET)] == [job.backup]

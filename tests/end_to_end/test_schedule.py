"""Two beats and the tick at once: one job and one backup of each kind of target."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from pgben_tasks import names
from pgben_tasks.domain.target import Target
from pgben_tasks.embedded.stack import PROTECTED_BUCKET
from pgben_tasks.runtime.places import bucket_at
from tests.support.deployment import BUCKET, TARGET, Deployment, eventually, fill_bucket
from tests.support.timetables import daily, soon

pytestmark = pytest.mark.unmeasured


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with Deployment.build(bucket=True, PGBEN_TIMEZONE="UTC") as built:
        fill_bucket(bucket_at(built.work.settings, PROTECTED_BUCKET), 20)
        yield built


@pytest.fixture
def window(deployment: Deployment) -> datetime:
    """Start a worker; return the window that it was given once its servers were there."""
    at = soon()
    for setting in ("PGBEN_SCHEDULE_POSTGRES", "PGBEN_SCHEDULE_BUCKETS"):
        deployment.environment[setting] = daily(at)
    deployment.start("all", name="worker")
    return at


@pytest.mark.timeout(280)
def test_two_beats_and_the_tick_give_one_job_and_one_backup(
    deployment: Deployment, window: datetime
) -> None:
    beats = [
        deployment.start("beat", name=name, by_the_clock=True) for name in ("beat-one", "beat-two")
    ]
    assert datetime.now(UTC) < window, "the servers took too long to start"
    eventually(
        lambda: all(
            f"Sending due task backup {target}" in beat.log.read_text()
            for beat in beats
            for target in (TARGET, BUCKET)
        ),
        seconds=130,
        what="both beats send both backups",
    )
    eventually(lambda: len(deployment.jobs("backup")) >= 2, seconds=20, what="the jobs are written")
    jobs = [deployment.wait_for(job, seconds=60) for job in deployment.jobs("backup")]
    # The tick of the same minute, sent by both beats, has run before this is looked at.
    worker = deployment.processes[0]

    def lines(text: str) -> int:
        return worker.log.read_text().count(text)

    eventually(lambda: lines(f"Task {names.TICK}[") >= 4, seconds=90, what="both beats' ticks ran")
    entries = (names.BACKUP_POSTGRES, names.BACKUP_BUCKET)
    eventually(
        lambda: lines("entry_ignored") + sum(lines(f"Task {name}[") for name in entries) >= 6,
        seconds=30,
        what="the second beat's messages are handled",
    )

    assert {job.id for job in deployment.jobs("backup")} == {job.id for job in jobs}
    assert sorted(job.target for job in jobs) == [str(BUCKET), str(TARGET)]
    for job in jobs:
        assert job.state == "succeeded", job.error
        assert job.key == f"backup:{job.target}:{window:%Y-%m-%dT%H:%MZ}"
        assert job.window == window
        target = Target.parse(job.target)
        assert [str(backup) for backup in deployment.work.repository.backups(target)] == [
            job.backup
        ]

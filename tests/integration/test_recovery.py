"""What stands still is found and taken from the dead, once, whoever looks and however often."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from pgben_tasks import names
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.recovery import Recovery, Stalled
from pgben_tasks.adapters.catalog.workers import Workers
from pgben_tasks.contracts import JobRef
from pgben_tasks.domain.job import REPUBLISH_AFTER
from pgben_tasks.domain.restorability import Client
from pgben_tasks.errors import FenceLost

WAIT = timedelta(minutes=30)
DUMP, CHECKSUM = names.BACKUP_POSTGRES_DUMP, names.BACKUP_POSTGRES_CHECKSUM
#: The test's server has not run for a minute yet, so dead is who was silent for a blink.
BLINK = timedelta(milliseconds=100)
DAY = timedelta(days=1)
CLIENT = Client(version="17.10", major=17, compression="none")


class Desk:
    """Jobs and workers in every state, and a clock that is turned by hand."""

    def __init__(self, catalog: CatalogDatabase, alter: Callable[..., None]) -> None:
        self.catalog = catalog
        self.ledger = Ledger(catalog)
        self.recovery = Recovery(catalog, stale_after=BLINK)
        self.workers = Workers(catalog)
        self.alter = alter

    def worker(self, *, alive: bool, name: str = "backup.n1") -> None:
        self.workers.send_heartbeat([name])
        self._beat("worker", alive=alive)

    def queued(self, kind: Any = "backup") -> JobRef:
        job, _ = self.ledger.request(
            kind,
            target=f"postgres/{secrets.token_hex(4)}",
            key=secrets.token_hex(8),
            request={},
            requested_by="ana",
        )
        return JobRef(job=job.id, fence=1)

    def waiting(self) -> JobRef:
        job = self.ledger.job(self.queued().job)
        return self.ledger.claim(
            job.id,
            node="n1",
            first_step=DUMP,
            lease=(job.target, "write"),
            context={},
            root_task="root",
            wait=WAIT,
        )

    def running(self, *, alive: bool) -> JobRef:
        ref = self.ledger.begin_step(self.waiting(), DUMP, node="n1")
        self._beat("step", alive=alive)
        return ref

    def _beat(self, table: str, *, alive: bool) -> None:
        # A heartbeat of the living is put into the future: a slow test must not kill it.
        offset = DAY if alive else -DAY
        statement = {
            "step": "UPDATE step SET heartbeat_at = clock_timestamp() + %s",
            "worker": "UPDATE worker SET heartbeat_at = clock_timestamp() + %s",
        }[table]
        self.alter(statement, offset)

    def stalled(self) -> Stalled:
        (found,) = self.recovery.stalled()
        return found


@pytest.fixture
def desk(catalog: CatalogDatabase, alter: Callable[..., None]) -> Desk:
    return Desk(catalog, alter)


# Finding


def test_who_shows_a_heartbeat_is_left_alone(desk: Desk) -> None:
    desk.worker(alive=True)
    desk.running(alive=True)
    desk.waiting()
    desk.queued()
    assert desk.recovery.stalled() == []


@pytest.mark.parametrize("alive", [True, False])
def test_a_running_step_without_a_heartbeat_is_found_whether_its_node_lives_or_not(
    desk: Desk, alive: bool
) -> None:
    desk.worker(alive=alive)
    ref = desk.running(alive=False)
    assert desk.stalled() == Stalled(
        job=ref.job,
        kind="backup",
        fence=1,
        step=DUMP,
        node="n1",
        state="running",
        losses=0,
        node_alive=alive,
        overdue=False,
        why="its step stopped showing a heartbeat",
    )


def test_a_waiting_step_past_its_deadline_is_found(desk: Desk) -> None:
    desk.worker(alive=True)
    desk.waiting()
    desk.alter("UPDATE job SET step_due_at = clock_timestamp() - interval '1 second'")
    assert (desk.stalled().why, desk.stalled().node_alive) == ("its next step did not begin", True)
    assert desk.stalled().overdue


def test_a_waiting_step_of_a_dead_node_is_found_before_its_deadline(desk: Desk) -> None:
    desk.worker(alive=False)
    desk.waiting()
    assert desk.stalled().why == "its node stopped showing a heartbeat"
    assert not desk.stalled().node_alive


def test_a_waiting_step_whose_broker_was_started_anew_is_found(desk: Desk) -> None:
    desk.worker(alive=True)
    desk.waiting()
    now = desk.catalog.now()
    assert desk.recovery.stalled(broker_since=now - DAY) == []
    (found,) = desk.recovery.stalled(broker_since=now)
    assert (found.why, found.overdue) == ("the broker was started anew", True)
    assert desk.recovery.take_over(found, wait=WAIT) is not None
    assert desk.recovery.stalled(broker_since=now) == [], "its message is sent once more"


def test_a_queued_job_whose_broker_was_started_anew_is_sent_again(desk: Desk) -> None:
    job, _ = desk.ledger.request(
        "backup", target="postgres/x", key="k", request={}, requested_by="test", published=True
    )
    now = desk.catalog.now()
    assert desk.recovery.to_publish(broker_since=now - DAY) == []
    assert desk.recovery.to_publish(broker_since=now) == [(job.id, "backup")]
    assert desk.recovery.to_publish(broker_since=now) == []


def test_a_node_that_was_never_seen_is_dead(desk: Desk) -> None:
    desk.waiting()
    desk.alter("UPDATE job SET started_at = clock_timestamp() - %s", DAY)
    assert not desk.stalled().node_alive


def test_a_worker_of_another_role_does_not_keep_a_node_alive(desk: Desk) -> None:
    desk.worker(alive=True, name="restore.n1")
    desk.running(alive=False)
    assert not desk.stalled().node_alive


def test_the_worker_that_prunes_is_not_the_worker_that_has_the_spool(desk: Desk) -> None:
    # The prune step ran elsewhere; the next one waits for the node of the backup, which lives.
    desk.worker(alive=True)
    ref = desk.running(alive=True)
    desk.ledger.end_step(ref, DUMP, result={}, following=CHECKSUM, wait=WAIT)
    ref = desk.ledger.begin_step(ref, CHECKSUM, node="maintenance-0")
    desk.ledger.end_step(ref, CHECKSUM, result={}, following=DUMP, wait=WAIT)
    desk.alter("UPDATE job SET started_at = clock_timestamp() - %s", DAY)
    assert desk.recovery.stalled() == []


def test_ended_jobs_never_stand_still(desk: Desk) -> None:
    ref = desk.running(alive=False)
    desk.ledger.fail(ref, state="failed", error={})
    assert desk.recovery.stalled() == []


def test_after_a_restart_of_the_catalog_everybody_gets_time_to_be_heard(desk: Desk) -> None:
    # The server has run for less than a day, so nobody can have been silent for one while it ran.
    desk.worker(alive=False)
    desk.running(alive=False)
    desk.waiting()
    patient = Recovery(desk.catalog, stale_after=DAY / 2)
    assert patient.stalled() == []
    desk.alter("UPDATE job SET step_due_at = clock_timestamp() - %s WHERE state = 'waiting'", DAY)
    (overdue,) = patient.stalled()
    assert overdue.node_alive


# Taking over


def test_a_step_is_taken_over_with_its_lease_and_a_new_fence(desk: Desk) -> None:
    desk.worker(alive=True)
    old = desk.running(alive=False)
    new = desk.recovery.take_over(desk.stalled(), wait=WAIT)
    assert new == JobRef(job=old.job, fence=old.fence + 1)
    assert desk.recovery.stalled() == []
    assert [step.state for step in desk.ledger.steps(old.job)] == ["interrupted"]
    with pytest.raises(FenceLost):
        desk.ledger.hold(old)
    again = desk.ledger.begin_step(new, DUMP, node="n1")
    desk.ledger.end_step(again, DUMP, result={}, following=None, wait=WAIT)
    job = desk.ledger.job(old.job)
    assert (job.state, job.attempt) == ("succeeded", 1)
    with desk.catalog.transaction() as cursor:
        assert cursor.execute("SELECT 1 FROM lease").fetchone() is None


@pytest.mark.parametrize(("running", "losses"), [(True, 1), (False, 0)])
def test_only_a_step_that_had_begun_has_lost_its_worker(
    desk: Desk, running: bool, losses: int
) -> None:
    desk.worker(alive=True)
    if running:
        desk.running(alive=False)
    else:
        desk.waiting()
        desk.alter("UPDATE job SET step_due_at = clock_timestamp() - %s", DAY)
    assert desk.recovery.take_over(desk.stalled(), wait=WAIT) is not None
    with desk.catalog.transaction() as cursor:
        assert cursor.execute("SELECT losses FROM job").fetchall() == [{"losses": losses}]


def test_a_job_that_moved_meanwhile_is_not_taken(desk: Desk) -> None:
    desk.worker(alive=True)
    ref = desk.running(alive=False)
    seen = desk.stalled()
    desk.ledger.end_step(ref, DUMP, result={}, following=CHECKSUM, wait=WAIT)
    assert desk.recovery.take_over(seen, wait=WAIT) is None
    desk.ledger.hold(desk.ledger.begin_step(ref, CHECKSUM, node="n1"))


def test_a_job_that_ended_meanwhile_is_neither_taken_nor_begun_again(desk: Desk) -> None:
    ref = desk.running(alive=False)
    seen = desk.stalled()
    desk.ledger.end_step(ref, DUMP, result={}, following=None, wait=WAIT)
    assert desk.recovery.take_over(seen, wait=WAIT) is None
    assert not desk.recovery.begin_again(seen)
    assert desk.ledger.job(ref.job).state == "succeeded"


def test_a_job_of_a_dead_node_begins_a_new_attempt_anywhere(desk: Desk) -> None:
    old = desk.running(alive=False)
    seen = desk.stalled()
    assert desk.recovery.begin_again(seen)
    job = desk.ledger.job(old.job)
    assert (job.state, job.step, job.attempt) == ("queued", None, 1)
    with pytest.raises(FenceLost):
        desk.ledger.hold(old)
    ref = desk.ledger.claim(
        job.id,
        node="n2",
        first_step=DUMP,
        lease=(job.target, "write"),
        context={},
        root_task="root",
        wait=WAIT,
    )
    desk.ledger.begin_step(ref, DUMP, node="n2")
    steps = desk.ledger.steps(job.id)
    assert [(step.attempt, step.state, step.node) for step in steps] == [
        (1, "interrupted", "n1"),
        (2, "running", "n2"),
    ]
    with desk.catalog.transaction() as cursor:
        rows = cursor.execute("SELECT state FROM attempt ORDER BY n").fetchall()
    assert [row["state"] for row in rows] == ["lost", "running"]


@pytest.mark.parametrize("action", ["take_over", "begin_again"])
def test_of_many_that_see_a_dead_job_one_acts(desk: Desk, action: str) -> None:
    desk.running(alive=False)
    seen = desk.stalled()

    def act(_: int) -> bool:
        if action == "begin_again":
            return desk.recovery.begin_again(seen)
        return desk.recovery.take_over(seen, wait=WAIT) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(act, range(8))) == 1
    assert desk.ledger.job(seen.job).fence == 2


# Publishing


def test_a_queued_job_is_published_at_once_and_again_after_a_while(desk: Desk) -> None:
    ref = desk.queued("verify")
    assert desk.recovery.to_publish() == [(ref.job, "verify")]
    assert desk.recovery.to_publish() == []
    desk.alter("UPDATE job SET published_at = published_at - %s", REPUBLISH_AFTER)
    assert desk.recovery.to_publish() == [(ref.job, "verify")]


def test_a_job_whose_message_may_have_died_with_a_worker_is_published_when_one_is_back(
    desk: Desk,
) -> None:
    ref = desk.queued("verify")
    assert desk.recovery.to_publish() == [(ref.job, "verify")]
    desk.workers.register(["backup.n1", "maintenance.n1"])
    assert desk.recovery.to_publish() == [], "it is not theirs"
    desk.workers.register(["verify.n1"])
    assert desk.recovery.to_publish() == [(ref.job, "verify")]
    assert desk.recovery.to_publish() == []
    # A second start of the same name counts as much, and forgets no client.
    desk.workers.publish(["verify.n1"], [CLIENT])
    desk.workers.register(["verify.n1"])
    assert desk.recovery.to_publish() == [(ref.job, "verify")]
    assert desk.recovery.to_publish() == []


def test_a_message_under_way_postpones_the_next_one(desk: Desk) -> None:
    ref = desk.queued()
    desk.ledger.postpone(ref.job)
    assert desk.recovery.to_publish() == []


def test_only_queued_jobs_are_published(desk: Desk) -> None:
    desk.waiting()
    desk.running(alive=True)
    failed = desk.queued()
    desk.ledger.fail_unclaimed(failed.job, state="failed", error={})
    assert desk.recovery.to_publish() == []


def test_a_failed_job_is_published_when_its_next_attempt_is_due(desk: Desk) -> None:
    ref = desk.running(alive=True)
    desk.ledger.fail(ref, state="failed", error={}, retry_at=desk.catalog.now() + DAY)
    assert desk.recovery.to_publish() == []
    desk.alter("UPDATE job SET retry_at = clock_timestamp()")
    assert desk.recovery.to_publish() == [(ref.job, "backup")]
    job = desk.ledger.job(ref.job)
    assert (job.state, job.retry_at, job.ended_at) == ("queued", None, None)


def test_many_publishers_publish_each_job_once(desk: Desk) -> None:
    jobs = [desk.queued().job for _ in range(12)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: desk.recovery.to_publish(), range(6)))
    assert sorted(job for some in found for job, _ in some) == sorted(jobs)


# Workers


def test_workers_show_their_life_under_their_names(desk: Desk) -> None:
    desk.workers.send_heartbeat(["backup.n1", "verify.n1"])
    desk.workers.send_heartbeat(["backup.n1"])
    assert desk.workers.living() == ["backup.n1", "verify.n1"]
    desk.worker(alive=False)
    assert desk.workers.living() == []

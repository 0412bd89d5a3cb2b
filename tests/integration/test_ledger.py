"""The ledger decides: one row per request, one owner, and an old fence does nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from pgben_tasks import names
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.recovery import Recovery
from pgben_tasks.contracts import JobRef
from pgben_tasks.domain.job import Job
from pgben_tasks.errors import FenceLost, JobNotFound, PgbenError, TargetBusy

TARGET = "postgres/pgben"
WAIT = timedelta(minutes=30)
DUMP, CHECKSUM = names.BACKUP_POSTGRES_DUMP, names.BACKUP_POSTGRES_CHECKSUM
ERROR = {"type": "CommandFailed", "sentence": "it failed", "hint": ""}


def ask(ledger: Ledger, key: str | None = None, **fields: Any) -> tuple[Job, bool]:
    return ledger.request(
        fields.pop("kind", "backup"),
        target=fields.pop("target", TARGET),
        key=key or secrets.token_hex(8),
        request={"target": TARGET},
        requested_by="ana",
        **fields,
    )


def take(ledger: Ledger, job: UUID, **fields: Any) -> JobRef:
    values: dict[str, Any] = {
        "node": "n1",
        "first_step": DUMP,
        "lease": (TARGET, "write"),
        "context": {},
        "root_task": "root",
        "wait": WAIT,
    }
    return ledger.claim(job, **(values | fields))


def begun(ledger: Ledger) -> JobRef:
    """Return a job whose first step runs."""
    job, _ = ask(ledger)
    return ledger.begin_step(take(ledger, job.id), DUMP, node="n1")


# One row


def test_sixteen_requests_with_one_key_are_one_job(ledger: Ledger) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(ledger, "one"), range(16)))
    assert len({job.id for job, _ in answers}) == 1
    assert sum(new for _, new in answers) == 1
    assert len(ledger.jobs()) == 1


def test_a_second_request_changes_nothing_of_the_first(ledger: Ledger) -> None:
    first, _ = ask(ledger, "one")
    second, new = ask(ledger, "one", target="postgres/other", kind="verify")
    assert (new, second) == (False, first)


def test_a_job_is_found_by_the_beginning_of_its_id(ledger: Ledger) -> None:
    job, _ = ask(ledger)
    assert ledger.find(str(job.id)[:8].upper()) == job == ledger.job(job.id)
    for text in ("", "%", "_", "x" * 50):
        ask(ledger)
        with pytest.raises(JobNotFound):
            ledger.find(text)
    with pytest.raises(JobNotFound):
        ledger.job(uuid4())


def test_the_newest_jobs_come_first_and_open_ones_alone_when_asked(ledger: Ledger) -> None:
    old, _ = ask(ledger)
    new, _ = ask(ledger)
    assert [job.id for job in ledger.jobs()] == [new.id, old.id]
    assert [job.id for job in ledger.jobs(limit=1)] == [new.id]
    ledger.fail_unclaimed(new.id, state="refused", error=ERROR)
    assert [job.id for job in ledger.jobs(open_only=True)] == [old.id]


# One owner


def test_of_many_claims_exactly_one_wins(ledger: Ledger) -> None:
    job, _ = ask(ledger)

    def claim(number: int) -> JobRef | None:
        try:
            return take(ledger, job.id, node=f"n{number}")
        except FenceLost:
            return None

    with ThreadPoolExecutor(12) as pool:
        won = [ref for ref in pool.map(claim, range(12)) if ref]
    assert won == [JobRef(job=job.id, fence=1)]
    claimed = ledger.job(job.id)
    assert (claimed.state, claimed.attempt, claimed.fence) == ("waiting", 1, 1)


def test_a_busy_target_leaves_the_second_job_queued_until_the_first_ends(ledger: Ledger) -> None:
    ref = begun(ledger)
    second, _ = ask(ledger)
    with pytest.raises(TargetBusy, match=str(ref.job)):
        take(ledger, second.id)
    assert ledger.job(second.id) == second
    ledger.end_step(ref, DUMP, result={}, following=None, wait=WAIT)
    assert take(ledger, second.id).fence == 1


def test_of_many_jobs_of_one_target_one_at_a_time_is_claimed(ledger: Ledger) -> None:
    jobs = [ask(ledger)[0] for _ in range(8)]

    def claim(job: Job) -> bool:
        try:
            take(ledger, job.id)
        except TargetBusy:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, jobs)) == 1
    assert sorted(ledger.job(job.id).state for job in jobs) == ["queued"] * 7 + ["waiting"]


@pytest.mark.parametrize("lease", [("postgres/other", "write"), (TARGET, "verify")])
def test_another_target_or_kind_of_work_is_free(ledger: Ledger, lease: tuple[str, str]) -> None:
    begun(ledger)
    other, _ = ask(ledger)
    assert take(ledger, other.id, lease=lease).fence == 1


@pytest.mark.parametrize("state", ["failed", "refused"])
def test_a_job_that_failed_gives_its_target_free(ledger: Ledger, state: Any) -> None:
    ledger.fail(begun(ledger), state=state, error=ERROR)
    assert begun(ledger).fence == 1


# The fence


def old_hands(ledger: Ledger, ref: JobRef) -> dict[str, Callable[[], object]]:
    """Everything that a step may do to its row."""
    return {
        "heartbeat": partial(ledger.heartbeat, ref, DUMP, {}),
        "hold": partial(ledger.hold, ref),
        "keep": partial(ledger.keep, ref, context={"stolen": True}, backup="stolen"),
        "end": partial(
            ledger.end_step, ref, DUMP, result={"stolen": True}, following=None, wait=WAIT
        ),
        "fail": partial(ledger.fail, ref, state="failed", error=ERROR),
        "begin": partial(ledger.begin_step, ref, DUMP, node="n2"),
    }


def test_an_older_fence_can_do_nothing(ledger: Ledger) -> None:
    old = begun(ledger)
    new = ledger.begin_step(old, DUMP, node="n1")
    before = ledger.job(old.job)
    for action in old_hands(ledger, old).values():
        with pytest.raises(FenceLost):
            action()
    ledger.release_step(old, DUMP, state="interrupted", wait=WAIT)
    assert ledger.job(old.job) == before
    ledger.hold(new)


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_the_hands_of_an_ended_job_are_empty(ledger: Ledger, state: str) -> None:
    ref = begun(ledger)
    if state == "failed":
        ledger.fail(ref, state="failed", error=ERROR)
    else:
        ledger.end_step(ref, DUMP, result={}, following=None, wait=WAIT)
    before = ledger.job(ref.job)
    for action in old_hands(ledger, ref).values():
        with pytest.raises(FenceLost):
            action()
    assert ledger.job(ref.job) == before
    assert before.state == state


def test_a_step_that_is_begun_twice_belongs_to_the_second(ledger: Ledger) -> None:
    first = begun(ledger)
    second = ledger.begin_step(first, DUMP, node="n1")
    assert second.fence == first.fence + 1
    ledger.heartbeat(second, DUMP, {"done": 5})
    assert ledger.job(first.job).progress == {"done": 5}


def test_a_step_that_ended_is_not_begun_again(ledger: Ledger) -> None:
    ref = begun(ledger)
    ledger.end_step(ref, DUMP, result={}, following=CHECKSUM, wait=WAIT)
    with pytest.raises(FenceLost, match="no longer wanted"):
        ledger.begin_step(ref, DUMP, node="n1")
    with pytest.raises(FenceLost):
        ledger.end_step(ref, DUMP, result={}, following=CHECKSUM, wait=WAIT)
    assert ledger.begin_step(ref, CHECKSUM, node="n1") == ref


def test_of_two_deliveries_of_a_waiting_step_both_cannot_hold_it(ledger: Ledger) -> None:
    job, _ = ask(ledger)
    ref = take(ledger, job.id)

    def begin(_: int) -> JobRef | None:
        try:
            return ledger.begin_step(ref, DUMP, node="n1")
        except FenceLost:
            return None

    with ThreadPoolExecutor(8) as pool:
        begun_by = [one for one in pool.map(begin, range(8)) if one]
    newest = max(begun_by, key=lambda one: one.fence)
    ledger.hold(newest)
    for one in begun_by:
        if one != newest:
            with pytest.raises(FenceLost):
                ledger.hold(one)


def test_a_job_stays_with_the_node_that_has_its_files(ledger: Ledger) -> None:
    # The prune step of a backup runs on another node, which has none of the backup's spool.
    ref = begun(ledger)
    ledger.end_step(ref, DUMP, result={}, following=CHECKSUM, wait=WAIT)
    ledger.begin_step(ref, CHECKSUM, node="elsewhere")
    assert ledger.job(ref.job).node == "n1"
    assert [step.node for step in ledger.steps(ref.job)] == ["n1", "elsewhere"]


# Ends and further attempts


def test_steps_leave_their_results_and_their_times(ledger: Ledger) -> None:
    ref = begun(ledger)
    ledger.keep(ref, context={"a": 1}, backup="b-1")
    ledger.keep(ref, context={"b": 2})
    waiting = ledger.end_step(ref, DUMP, result={"rows": 3}, following=CHECKSUM, wait=WAIT)
    assert (waiting.state, waiting.step, waiting.backup) == ("waiting", CHECKSUM, "b-1")
    assert waiting.context == {"a": 1, "b": 2}
    ref = ledger.begin_step(ref, CHECKSUM, node="n1")
    ended = ledger.end_step(ref, CHECKSUM, result={"files": 2}, following=None, wait=WAIT)
    assert (ended.state, ended.result, ended.ended) == ("succeeded", {"rows": 3, "files": 2}, True)
    assert ended.ended_at is not None
    steps = ledger.steps(ref.job)
    assert [(step.name, step.state, step.result) for step in steps] == [
        (DUMP, "done", {"rows": 3}),
        (CHECKSUM, "done", {"files": 2}),
    ]
    assert all(step.seconds is not None and step.seconds >= 0 for step in steps)


def test_a_failed_job_begins_a_second_attempt_from_its_first_step(
    ledger: Ledger, recovery: Recovery, catalog: CatalogDatabase
) -> None:
    ref = begun(ledger)
    ledger.keep(ref, context={"old": True}, backup="b-1")
    now = catalog.now()
    ledger.fail(ref, state="failed", error=ERROR, retry_at=now + timedelta(minutes=15))
    assert recovery.to_publish() == []
    failed = ledger.job(ref.job)
    assert (failed.state, failed.error, failed.backup) == ("failed", ERROR, "b-1")
    with pytest.raises(FenceLost):
        take(ledger, ref.job)
    with catalog.transaction() as cursor:
        cursor.execute("UPDATE job SET retry_at = %s", (now - timedelta(seconds=1),))
    assert recovery.to_publish() == [(ref.job, "backup")]
    again = take(ledger, ref.job, context={"new": True})
    second = ledger.job(ref.job)
    assert (second.attempt, again.fence) == (2, ref.fence + 1)
    assert (second.context, second.result, second.backup) == ({"new": True}, {}, None)
    assert (second.error, second.retry_at, second.ended_at) == (None, None, None)
    ledger.begin_step(again, DUMP, node="n2")
    history = [(step.attempt, step.state) for step in ledger.steps(ref.job)]
    assert history == [(1, "failed"), (2, "running")]
    with catalog.transaction() as cursor:
        rows = cursor.execute("SELECT n, state, node FROM attempt ORDER BY n").fetchall()
    assert [tuple(row.values()) for row in rows] == [(1, "failed", "n1"), (2, "running", "n1")]


def test_a_refused_job_is_never_tried_again(ledger: Ledger, recovery: Recovery) -> None:
    job, _ = ask(ledger)
    ledger.fail_unclaimed(job.id, state="refused", error=ERROR)
    refused = ledger.job(job.id)
    assert (refused.state, refused.error, refused.attempt) == ("refused", ERROR, 0)
    assert recovery.to_publish() == []
    with pytest.raises(FenceLost):
        take(ledger, job.id)


def test_a_job_that_is_claimed_cannot_be_refused_from_outside(ledger: Ledger) -> None:
    ref = begun(ledger)
    before = ledger.job(ref.job)
    ledger.fail_unclaimed(ref.job, state="refused", error=ERROR)
    assert ledger.job(ref.job) == before


@pytest.mark.parametrize("state", ["retrying", "interrupted"])
def test_a_step_given_back_begins_again_under_the_same_fence(ledger: Ledger, state: str) -> None:
    ref = begun(ledger)
    ledger.release_step(ref, DUMP, state=state, wait=WAIT)
    released = ledger.job(ref.job)
    assert (released.state, released.step, released.fence) == ("waiting", DUMP, ref.fence)
    assert [step.state for step in ledger.steps(ref.job)] == [state]
    assert ledger.begin_step(ref, DUMP, node="n1") == ref
    assert [(step.state, step.ended_at) for step in ledger.steps(ref.job)] == [("running", None)]


def test_a_released_step_is_not_released_twice(ledger: Ledger) -> None:
    ref = begun(ledger)
    ledger.end_step(ref, DUMP, result={}, following=CHECKSUM, wait=WAIT)
    before = ledger.job(ref.job)
    ledger.release_step(ref, DUMP, state="interrupted", wait=WAIT)
    assert ledger.job(ref.job) == before


def test_whatever_races_a_job_ends_once(ledger: Ledger) -> None:
    ref = begun(ledger)
    actions = [
        partial(ledger.end_step, ref, DUMP, result={}, following=None, wait=WAIT),
        partial(ledger.fail, ref, state="failed", error=ERROR),
    ] * 4

    def attempt(action: Callable[[], object]) -> bool:
        try:
            action()
        except PgbenError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, actions)) == 1
    assert ledger.job(ref.job).ended


# Calling off, and beginning again


CANCELLED = {"type": "JobCancelled", "sentence": "cancelled by 'ana'", "hint": ""}


def attempts(ledger: Ledger) -> list[str]:
    with ledger.database.transaction() as cursor:
        rows = cursor.execute("SELECT state FROM attempt ORDER BY n").fetchall()
    return [row["state"] for row in rows]


def leases(ledger: Ledger) -> int:
    with ledger.database.transaction() as cursor:
        return len(cursor.execute("SELECT 1 FROM lease").fetchall())


def test_a_cancelled_running_job_is_taken_from_its_step(ledger: Ledger) -> None:
    ref = begun(ledger)
    assert ledger.cancel(ref.job, error=CANCELLED)
    job = ledger.job(ref.job)
    assert (job.state, job.error, job.fence) == ("cancelled", CANCELLED, ref.fence + 1)
    assert (attempts(ledger), leases(ledger)) == (["cancelled"], 0)
    assert [step.state for step in ledger.steps(ref.job)] == ["interrupted"]
    assert [one.id for one in ledger.to_clean()] == [ref.job]
    for action in (
        partial(ledger.hold, ref),
        partial(ledger.heartbeat, ref, DUMP, {}),
        partial(ledger.keep, ref, context={}),
        partial(ledger.end_step, ref, DUMP, result={}, following=None, wait=WAIT),
        partial(ledger.fail, ref, state="failed", error=ERROR),
        partial(ledger.begin_step, ref, DUMP, node="n1"),
    ):
        with pytest.raises(FenceLost):
            action()
    ledger.release_step(ref, DUMP, state="retrying", wait=WAIT)
    assert ledger.job(ref.job) == job


def test_a_cancelled_waiting_or_queued_job_is_never_begun(ledger: Ledger) -> None:
    queued, _ = ask(ledger)
    assert ledger.cancel(queued.id, error=CANCELLED)
    with pytest.raises(FenceLost):
        take(ledger, queued.id)
    assert ledger.to_clean() == [], "no worker ever had it"
    waiting, _ = ask(ledger)
    ref = take(ledger, waiting.id)
    assert ledger.cancel(waiting.id, error=CANCELLED)
    with pytest.raises(FenceLost):
        ledger.begin_step(ref, DUMP, node="n1")
    assert leases(ledger) == 0


def test_neither_a_cancelled_job_nor_its_window_is_taken_up_again(ledger: Ledger) -> None:
    ref = begun(ledger)
    ledger.fail(ref, state="failed", error=ERROR, retry_at=ledger.database.now() + WAIT)
    assert ledger.cancel(ref.job, error=CANCELLED), "its next attempt is called off"
    assert ledger.job(ref.job).retry_at is None
    recovery = Recovery(ledger.database, stale_after=timedelta(0))
    assert recovery.to_publish() == []
    assert recovery.stalled() == []
    assert ask(ledger, ledger.job(ref.job).key) == (ledger.job(ref.job), False)


@pytest.mark.parametrize(("state", "cancelled"), [("intended", False), ("abandoned", True)])
def test_a_job_that_swaps_cannot_be_cancelled(
    ledger: Ledger, alter: Callable[..., None], state: str, cancelled: bool
) -> None:
    ref = begun(ledger)
    alter(
        "INSERT INTO swap (job, target, live, incoming, aside, live_oid, incoming_oid, was_open,"
        " state) VALUES (%s, 'postgres/pgben', 'pgben', 'b', 'c', 1, 2, true, %s)",
        ref.job,
        state,
    )
    assert ledger.cancel(ref.job, error=CANCELLED) is cancelled


@pytest.mark.parametrize("state", ["succeeded", "failed", "refused", "cancelled"])
def test_an_ended_job_cannot_be_cancelled(ledger: Ledger, state: Any) -> None:
    ref = begun(ledger)
    if state == "succeeded":
        ledger.end_step(ref, DUMP, result={}, following=None, wait=WAIT)
    elif state == "cancelled":
        ledger.cancel(ref.job, error=CANCELLED)
    else:
        ledger.fail(ref, state=state, error=ERROR)
    before = ledger.job(ref.job)
    assert not ledger.cancel(ref.job, error={**CANCELLED, "sentence": "again"})
    assert ledger.job(ref.job) == before


def test_of_an_end_and_a_cancellation_one_wins(ledger: Ledger) -> None:
    def end(ref: JobRef) -> bool:
        try:
            ledger.end_step(ref, DUMP, result={}, following=None, wait=WAIT)
        except FenceLost:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for _ in range(8):
            ref = begun(ledger)
            ended = pool.submit(end, ref)
            cancelled = pool.submit(ledger.cancel, ref.job, error=CANCELLED)
            assert ended.result() != cancelled.result()
            state = ledger.job(ref.job).state
            assert state == ("succeeded" if ended.result() else "cancelled")


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_is_queued_again_with_its_key_and_gets_a_further_attempt(
    ledger: Ledger, state: str
) -> None:
    ref = begun(ledger)
    if state == "failed":
        ledger.fail(ref, state="failed", error=ERROR, retry_at=ledger.database.now() + WAIT)
    else:
        ledger.cancel(ref.job, error=CANCELLED)
    before = ledger.job(ref.job)
    assert ledger.queue_again(ref.job)
    job = ledger.job(ref.job)
    assert (job.state, job.key, job.window) == ("queued", before.key, before.window)
    assert (job.error, job.retry_at, job.ended_at) == (None, None, None)
    again = take(ledger, ref.job)
    assert again.fence > ref.fence
    assert ledger.job(ref.job).attempt == 2
    assert attempts(ledger) == [state, "running"]


def test_only_failed_and_cancelled_jobs_are_queued_again(ledger: Ledger) -> None:
    running = begun(ledger)
    assert not ledger.queue_again(running.job)
    ledger.end_step(running, DUMP, result={}, following=None, wait=WAIT)
    assert not ledger.queue_again(running.job)
    assert ledger.job(running.job).state == "succeeded"

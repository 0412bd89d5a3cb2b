"""Tasks and the tick against the real ledger, in this process: no worker, a broker in memory."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty
from typing import Any

import pytest
from celery.exceptions import Retry
from celery.states import IGNORED
from pydantic import SecretStr

from pgben_tasks import canvases, names, runtime
from pgben_tasks.adapters.catalog.locks import holding, job_lock
from pgben_tasks.adapters.catalog.recovery import Recovery
from pgben_tasks.adapters.postgres.server import Lock
from pgben_tasks.app import app
from pgben_tasks.contracts import JobRef
from pgben_tasks.domain.job import MOST_LOSSES, RETRY_DELAYS, Job, window_key
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.errors import (
    ConfigurationError,
    FenceLost,
    IntegrityError,
    JobCancelled,
    PermanentError,
    PgbenError,
    RequestRefused,
    RestoreRefused,
)
from pgben_tasks.health.listing import read_index
from pgben_tasks.runtime import process
from pgben_tasks.tasks import buckets, points, postgres, reconciler, repository
from tests.support.installation import FILL_PEDIDO, Installation
from tests.support.timetables import daily, noon

BLINK = timedelta(milliseconds=100)
DAY = timedelta(days=1)
WAIT = timedelta(minutes=30)


@dataclass(frozen=True)
class Site(runtime.Workplace):
    """The installation's workplace; a test's server is too young for the production silence."""

    @property
    def recovery(self) -> Recovery:
        """Call silent what was silent for a blink."""
        return Recovery(self.database, stale_after=BLINK)


@pytest.fixture
def site(installation: Installation) -> Iterator[Site]:
    app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    # No day ends while a test looks at what is done once a day.
    made = Site(installation.shop.work.settings.model_copy(update={"timezone": noon()}))
    process._workplace = made
    yield made
    queues = ("backup", "verify", "maintenance", "backup.workshop")
    while any(messages(queue) for queue in queues):
        pass
    if "tools" in vars(made):
        made.tools.codec.close()  # type: ignore[attr-defined]  # the real codec has children
    runtime.forget()


def call(task: Any, request: object) -> Any:
    """Run a task, and the chain it becomes, in this process."""
    return task.apply(args=(request,), throw=True).get()


def ignored(task: Any, request: object) -> bool:
    """Run a task and say whether it left without an answer."""
    return bool(task.apply(args=(request,), throw=True).state == IGNORED)


def messages(queue: str) -> list[Any]:
    """Take every message from a queue."""
    found: list[Any] = []
    with app.connection() as connection, connection.SimpleQueue(queue) as waiting:
        while True:
            try:
                message = waiting.get_nowait()
            except Empty:
                return found
            message.ack()
            found.append(message)


def newest(site: Site) -> Job:
    return site.ledger.jobs(limit=1)[0]


# Entries


def test_a_request_becomes_a_chain_and_ends_with_its_outcome(
    site: Site, installation: Installation
) -> None:
    target = str(installation.target)
    outcome = call(postgres.backup, {"target": target, "idempotency_key": "one"})
    assert (outcome["state"], outcome["target"]) == ("succeeded", target)
    assert outcome["result"]["state"] == "verified"
    assert installation.state(outcome["backup"]) == "verified"
    # Asked again under the same key, the same job answers, and nothing is done twice.
    assert call(postgres.backup, {"target": target, "idempotency_key": "one"}) == outcome
    assert len(site.ledger.jobs()) == 1
    with site.database.transaction() as cursor:
        query = "SELECT action, result FROM audit WHERE job = %s ORDER BY sequence"
        rows = cursor.execute(query, (outcome["job"],)).fetchall()
    assert [(row["action"], row["result"]) for row in rows] == [
        ("backup", "began"),
        ("statement", "readback"),
        ("backup", "succeeded"),
    ]


def test_a_failed_job_answers_with_its_error_again(site: Site, installation: Installation) -> None:
    request = {
        "target": str(installation.target),
        "into": installation.target.name,
        "idempotency_key": "two",
    }
    for _ in range(2):
        with pytest.raises(RestoreRefused, match="already a database"):
            call(postgres.restore, request)
    assert newest(site).state == "refused"
    assert len(site.ledger.jobs()) == 1
    assert not (site.tools.spool / "jobs" / str(newest(site).id)).exists()


def test_a_second_delivery_of_a_running_job_is_ignored(
    site: Site, installation: Installation
) -> None:
    target = str(installation.target)
    running = installation.chain("backup")
    assert ignored(postgres.backup, {"target": target, "idempotency_key": running.job.key})
    assert running.job.state == "waiting"


@pytest.mark.parametrize(
    "request_",
    [
        {"target": "postgresql://ana:hunter2@db/pgben", "requested_by": "ana"},
        {"target": "postgres/pgben", "requested_by": "password=hunter2", "surprise": 1},
        {"target": "postgres/" + "x" * 64},
        {"target": "postgres/a\0b", "requested_by": "a\0b"},
        {"target": "\ud800"},
        {},
        [],
        None,
        "hunter2",
    ],
)
def test_a_malformed_request_is_refused_on_record_without_its_secrets(
    site: Site, request_: object
) -> None:
    with pytest.raises(RequestRefused):
        call(postgres.backup, request_)
    job = newest(site)
    assert (job.state, job.attempt) == ("refused", 0)
    with site.database.transaction() as cursor:
        text = str(cursor.execute("SELECT * FROM job").fetchall())
        text += str(cursor.execute("SELECT * FROM audit WHERE job = %s", (str(job.id),)).fetchall())
    assert "hunter2" not in text


@pytest.mark.parametrize("key", ["a\0b", "relat\ud800rio.pdf"])
def test_text_that_the_catalog_cannot_keep_is_refused_not_a_failure(site: Site, key: str) -> None:
    with pytest.raises(RequestRefused, match="a NUL or half a surrogate pair"):
        call(buckets.restore, {"target": "bucket/documentos", "keys": ["whole", key]})
    job = newest(site)
    assert (job.state, job.attempt) == ("refused", 0)


def test_a_target_that_is_not_protected_is_refused_on_record(site: Site) -> None:
    with pytest.raises(RequestRefused, match="not protected by this installation") as caught:
        call(postgres.backup, {"target": "postgres/unknown", "requested_by": "ana"})
    assert "known targets" in caught.value.hint
    job = newest(site)
    assert (job.state, job.target, job.requested_by) == ("refused", "postgres/unknown", "ana")


def test_a_malformed_request_cannot_end_a_job_by_knowing_its_key(
    site: Site, installation: Installation
) -> None:
    target = str(installation.target)
    queued, _ = site.ledger.request(
        "backup", target=target, key="mine", request={"target": target}, requested_by="ana"
    )
    with pytest.raises(RequestRefused):
        call(postgres.backup, {"target": target, "idempotency_key": "mine", "surprise": 1})
    assert site.ledger.job(queued.id) == queued


@pytest.mark.parametrize("other", ["kind", "target"])
def test_one_key_is_one_job(site: Site, installation: Installation, other: str) -> None:
    target = str(installation.target)
    queued, _ = site.ledger.request(
        "backup",
        target=target if other == "kind" else "postgres/other",
        key="mine",
        request={"target": target},
        requested_by="ana",
    )
    task = repository.prune if other == "kind" else postgres.backup
    with pytest.raises(RequestRefused, match="key 'mine' belongs to a backup of"):
        call(task, {"target": target, "idempotency_key": "mine"})
    assert site.ledger.job(queued.id) == queued
    assert newest(site).state == "refused"


def test_a_missing_repository_is_recorded_and_tried_again(
    site: Site, installation: Installation
) -> None:
    aside = installation.repository.with_name("aside")
    installation.repository.rename(aside)
    try:
        with pytest.raises(ConfigurationError, match="does not exist"):
            call(postgres.backup, {"target": str(installation.target)})
        on_demand = newest(site)
        assert (on_demand.state, on_demand.retry_at) == ("failed", None)
        scheduled, _ = site.ledger.request(
            "backup",
            target=str(installation.target),
            key=window_key("backup", str(installation.target), site.database.now() + DAY),
            request={"target": str(installation.target)},
            requested_by="schedule",
            window=site.database.now() + DAY,
        )
        request = {"target": str(installation.target), "idempotency_key": scheduled.key}
        with pytest.raises(ConfigurationError):
            call(postgres.backup, request)
        again = site.ledger.job(scheduled.id)
        assert again.state == "failed"
        assert again.retry_at is not None
    finally:
        aside.rename(installation.repository)


def test_a_repository_that_vanishes_between_two_steps_fails_the_job(
    site: Site, installation: Installation
) -> None:
    chain = installation.chain("backup").until("checksum")
    aside = installation.repository.with_name("aside")
    installation.repository.rename(aside)
    try:
        with pytest.raises(ConfigurationError, match="does not exist"):
            call(app.tasks[names.BACKUP_POSTGRES_CHECKSUM], chain.ref.to_json())
    finally:
        aside.rename(installation.repository)
    assert (chain.job.state, (chain.job.error or {})["type"]) == ("failed", "ConfigurationError")


def test_a_step_of_an_older_fence_is_ignored(site: Site, installation: Installation) -> None:
    chain = installation.chain("backup")
    chain.step()
    before = chain.job
    old = JobRef(job=chain.ref.job, fence=chain.ref.fence)
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE job SET fence = fence + 1 WHERE id = %s", (before.id,))
    for step in (
        app.tasks[names.BACKUP_POSTGRES_DUMP],
        app.tasks[names.BACKUP_POSTGRES_CHECKSUM],
        app.tasks[names.BACKUP_POSTGRES_UPLOAD],
        app.tasks[names.BACKUP_POSTGRES_RECORD],
    ):
        assert ignored(step, old.to_json())
    assert chain.job.state == before.state == "waiting"


def test_a_verification_of_everything_runs_under_the_key_of_its_window(site: Site) -> None:
    key = window_key("verify", "*", datetime(2026, 11, 23, 11, tzinfo=UTC))
    outcome = call(repository.verify, {"level": "full", "idempotency_key": key})
    assert (outcome["state"], outcome["target"]) == ("succeeded", "*")


# The tick


def test_many_ticks_at_once_give_one_job_per_window(site: Site, installation: Installation) -> None:
    line = daily((site.database.now() - timedelta(hours=1)).astimezone(site.zone))
    settings = site.settings.model_copy(update={"schedule_postgres": line, "schedule_verify": line})
    due = Site(settings)
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: reconciler.tick(due, app), range(6)))
    jobs = site.ledger.jobs()
    assert {(job.kind, job.target) for job in jobs} == {
        ("backup", str(installation.target)),
        ("verify", "*"),
    }
    assert [sum(one[what] for one in done) for what in ("windows", "published")] == [2, 2]
    assert [len(messages(queue)) for queue in ("backup", "verify")] == [1, 1]
    again = reconciler.tick(due, app)
    assert (again["windows"], again["published"]) == (0, 0)


def with_a_bucket(site: Site) -> Site:
    """Return an installation that also protects a bucket; its databases were due an hour ago."""
    line = daily((site.database.now() - timedelta(hours=1)).astimezone(site.zone))
    changed = {
        "schedule_postgres": line,
        "minio_access_key": SecretStr("access"),
        "minio_secret_key": SecretStr("secret"),
        "buckets": ("papers",),
    }
    return Site(site.settings.model_copy(update=changed))


def test_a_night_of_databases_and_buckets_has_one_recovery_point(site: Site) -> None:
    due = with_a_bucket(site)
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: reconciler.tick(due, app), range(3)))
    assert sum(one["windows"] for one in done) == 2
    (point,) = [job for job in site.ledger.jobs() if job.kind == "point"]
    assert point.target == "*"
    assert point.window is not None
    assert point.key == window_key("point", "*", point.window)
    sent = [message.headers["task"] for message in messages("backup")]
    assert sorted(sent) == [names.BACKUP_ALL, names.BACKUP_POSTGRES]
    process._workplace = due
    # Beat's own message reaches the same job.
    site.ledger.cancel(point.id, error={"type": "JobCancelled", "sentence": "x", "hint": ""})
    with pytest.raises(JobCancelled):
        call(points.backup_all, {"scheduled": True})


def test_no_hold_is_begun_while_a_worker_counts_that_knows_none(
    site: Site, installation: Installation
) -> None:
    asked = {
        "target": str(installation.target),
        "backup": installation.backups[0].backup,
        "keep_for": "1d",
        "reason": "audit",
    }
    site.workers.send_heartbeat(["maintenance.old"])
    with pytest.raises(RequestRefused, match="whose version of pgben knows no holds"):
        call(repository.hold, asked)
    site.workers.publish(["maintenance.old"], ())
    assert call(repository.hold, asked)["state"] == "succeeded"


def test_no_point_is_begun_while_a_worker_counts_that_knows_none(site: Site) -> None:
    due = process._workplace = with_a_bucket(site)
    site.workers.send_heartbeat(["maintenance.old"])
    assert reconciler.tick(due, app)["windows"] == 1
    assert ignored(points.backup_all, {"scheduled": True})
    with pytest.raises(RequestRefused, match="whose version of pgben knows none"):
        call(points.backup_all, {})
    site.workers.publish(["maintenance.old"], ())
    assert reconciler.tick(due, app)["windows"] == 1
    assert newest(site).kind == "point"


def test_a_point_needs_databases_and_buckets(site: Site) -> None:
    with pytest.raises(RequestRefused, match="does not protect both"):
        call(points.backup_all, {})


def test_what_the_tick_publishes_is_what_the_entry_takes(
    site: Site, installation: Installation
) -> None:
    target = str(installation.target)
    at = site.database.now()
    for kind, what in (("backup", target), ("verify", "*")):
        request = {"target": what} if kind == "backup" else {"level": "full"}
        site.ledger.request(
            kind,  # type: ignore[arg-type]  # a kind of job
            target=what,
            key=window_key(kind, what, at),
            request={**request, "scheduled": True},
            requested_by="schedule",
            window=at,
        )
    reconciler.tick(site, app)
    for queue, task in (("backup", postgres.backup), ("verify", repository.verify)):
        for message in messages(queue):
            assert call(task, message.payload[0][0])["state"] == "succeeded"
    assert {job.state for job in site.ledger.jobs()} == {"succeeded"}


def stood_still(site: Site, installation: Installation, *, node_alive: bool) -> JobRef:
    chain = installation.chain("backup")
    ref = site.ledger.begin_step(chain.ref, canvases.first_step("backup"), node="workshop")
    site.workers.send_heartbeat(["backup.workshop"])
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE step SET heartbeat_at = clock_timestamp() - %s", (DAY,))
        cursor.execute(
            "UPDATE worker SET heartbeat_at = clock_timestamp() + %s",
            (DAY * (1 if node_alive else -1),),
        )
    return ref


def test_many_ticks_at_once_take_a_dead_step_over_once(
    site: Site, installation: Installation
) -> None:
    ref = stood_still(site, installation, node_alive=True)
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: reconciler.tick(site, app), range(6)))
    assert sum(one["taken_over"] for one in done) == 1
    (message,) = messages("backup.workshop")
    assert message.headers["task"] == "pgben.backup.postgres.dump"
    assert message.payload[0] == [{"job": str(ref.job), "fence": ref.fence + 1}]
    assert message.payload[2]["chain"][0]["options"]["task_id"] == "root"


def test_a_job_of_a_dead_node_is_sent_to_everybody(site: Site, installation: Installation) -> None:
    ref = stood_still(site, installation, node_alive=False)
    assert reconciler.tick(site, app)["taken_over"] == 1
    sent = [message.payload[0][0]["idempotency_key"] for message in messages("backup")]
    assert site.ledger.job(ref.job).key in sent
    assert site.ledger.job(ref.job).state == "queued"


@pytest.mark.parametrize("node_alive", [True, False])
def test_a_job_that_stands_at_a_step_of_another_version_begins_again(
    site: Site, installation: Installation, node_alive: bool
) -> None:
    ref = stood_still(site, installation, node_alive=node_alive)
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE job SET step = 'pgben.backup.postgres.squeeze'")
        cursor.execute("UPDATE step SET name = 'pgben.backup.postgres.squeeze'")
    assert reconciler.tick(site, app)["taken_over"] == 1
    assert site.ledger.job(ref.job).state == "queued"


def test_a_step_without_files_waits_for_a_worker_and_is_then_sent_to_all(
    site: Site, installation: Installation
) -> None:
    chain = installation.chain("verify")
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE job SET started_at = clock_timestamp() - %s", (DAY,))
    assert reconciler.tick(site, app)["taken_over"] == 0
    site.workers.send_heartbeat(["verify.another"])
    assert reconciler.tick(site, app)["taken_over"] == 1
    job = site.ledger.job(chain.ref.job)
    assert (job.state, job.fence, job.attempt) == ("waiting", 2, 1)


def test_a_step_whose_process_holds_its_lock_is_left_alone(
    site: Site, installation: Installation
) -> None:
    ref = stood_still(site, installation, node_alive=True)
    with holding(site.database, [job_lock(ref.job)]):
        assert reconciler.tick(site, app)["taken_over"] == 0
    site.ledger.hold(ref)


def test_a_step_that_waited_in_a_killed_process_is_sent_again_when_its_node_is_back(
    site: Site, installation: Installation
) -> None:
    chain = installation.chain("backup")
    site.workers.register(["backup.workshop"])
    assert site.ledger.job(chain.ref.job).state == "waiting"
    with site.database.transaction() as cursor:
        # The node lives; it was started after the step began to wait.
        cursor.execute("UPDATE worker SET heartbeat_at = heartbeat_at + %s", (DAY,))
    assert reconciler.tick(site, app)["taken_over"] == 1
    assert reconciler.tick(site, app)["taken_over"] == 0
    (message,) = messages("backup.workshop")
    assert message.payload[0] == [{"job": str(chain.ref.job), "fence": chain.ref.fence + 1}]


@pytest.mark.parametrize("node_alive", [True, False])
def test_a_job_that_kills_one_worker_after_another_is_given_up(
    site: Site, installation: Installation, node_alive: bool
) -> None:
    ref = stood_still(site, installation, node_alive=node_alive)
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE job SET losses = %s WHERE id = %s", (MOST_LOSSES, ref.job))
    assert reconciler.tick(site, app)["taken_over"] == 1
    job = site.ledger.job(ref.job)
    assert job.state == "failed"
    assert "lost 3 times in a row" in (job.error or {})["sentence"]
    # No step of it is left that would tell whoever waits.
    with pytest.raises(PermanentError, match="lost 3 times in a row"):
        app.AsyncResult(str(job.root_task)).get(timeout=5)
    # The lost worker's message comes back hours later; its STARTED has hidden the answer by then.
    last, again = app.tasks[names.BACKUP_POSTGRES_RECORD], (ref.to_json(),)
    with pytest.raises(PermanentError, match="lost 3 times in a row"):
        last.apply(args=again, task_id=job.root_task, throw=True)
    assert last.apply(args=again, task_id="another", throw=True).state == IGNORED
    with site.database.transaction() as cursor:
        leases = cursor.execute("SELECT 1 FROM lease WHERE job = %s", (ref.job,)).fetchall()
    assert leases == []


def test_every_loss_is_counted_until_a_step_ends(site: Site, installation: Installation) -> None:
    ref = stood_still(site, installation, node_alive=True)
    reconciler.tick(site, app)
    losses = "SELECT losses FROM job WHERE id = %s"
    with site.database.transaction() as cursor:
        assert cursor.execute(losses, (ref.job,)).fetchall() == [{"losses": 1}]
    taken = JobRef(job=ref.job, fence=ref.fence + 1)
    call(app.tasks[names.BACKUP_POSTGRES_DUMP], taken.to_json())
    with site.database.transaction() as cursor:
        assert cursor.execute(losses, (ref.job,)).fetchall() == [{"losses": 0}]


def test_a_tick_sends_again_what_a_killed_broker_has_lost(
    site: Site, installation: Installation
) -> None:
    chain = installation.chain("backup")
    site.workers.send_heartbeat(["backup.workshop"])
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE worker SET started_at = started_at - %s", (DAY,))
    with EmbeddedRedis.start() as broker:
        settings = site.settings.model_copy(update={"redis_url": SecretStr(broker.url)})
        place = runtime.Workplace(settings)
        since = reconciler._broker_since(place)
        assert since is not None
        assert timedelta(0) <= place.database.now() - since < DAY
        broker.kill()
        assert reconciler._broker_since(place) is None
        assert reconciler.tick(place, app)["taken_over"] == 0
        broker.restart()
        # The server counts whole seconds.
        assert wait_until(lambda: reconciler.tick(place, app)["taken_over"] == 1, seconds=5)
    assert place.ledger.job(chain.job.id).fence == chain.ref.fence + 1


def test_the_tick_needs_the_catalog_only(site: Site, installation: Installation) -> None:
    ref = stood_still(site, installation, node_alive=True)
    aside = installation.repository.with_name("aside")
    installation.repository.rename(aside)
    try:
        assert reconciler.tick(site, app)["taken_over"] == 1
        assert site.ledger.job(ref.job).state == "waiting"
    finally:
        aside.rename(installation.repository)


def test_a_copy_that_could_not_be_removed_is_removed_by_the_tick(
    site: Site, installation: Installation
) -> None:
    installation.backup()
    chain = installation.restore().until("check")
    name = installation.copies[-1]
    error = {"type": "DatabaseUnavailable", "sentence": "gone", "hint": ""}
    # As when the server was away at the very moment of the failure: recorded, not cleaned.
    chain.ledger.fail(chain.ref, state="failed", error=error)
    assert name in installation.databases()
    assert reconciler.tick(site, app)["cleaned"] == 1
    assert name not in installation.databases()
    assert reconciler.tick(site, app)["cleaned"] == 0


def test_waiting_for_a_lock_uses_up_no_retry(site: Site, installation: Installation) -> None:
    chain = installation.chain("backup").until("upload")
    ref = chain.ref
    for expected in range(len(RETRY_DELAYS)):
        assert site.ledger.retries(ref, canvases.CHAINS["backup"][2][0]) == expected
        ref = site.ledger.begin_step(ref, canvases.CHAINS["backup"][2][0], node="workshop")
        site.ledger.release_step(ref, canvases.CHAINS["backup"][2][0], state="retrying", wait=WAIT)
    # An interruption by a stopping worker is none either.
    ref = site.ledger.begin_step(ref, canvases.CHAINS["backup"][2][0], node="workshop")
    site.ledger.release_step(ref, canvases.CHAINS["backup"][2][0], state="interrupted", wait=WAIT)
    assert site.ledger.retries(ref, canvases.CHAINS["backup"][2][0]) == len(RETRY_DELAYS)


def test_no_step_of_a_restore_in_place_that_relies_on_the_snapshot_runs_while_it_is_pruned(
    site: Site,
) -> None:
    """Hours of copying aside hold pruning off as reading packs does."""
    target = "bucket/documentos"
    job, _ = site.ledger.request(
        "restore", target=target, key="in place", request={"in_place": True}, requested_by="test"
    )
    ref = site.ledger.claim(
        job.id,
        node="workshop",
        first_step=names.RESTORE_BUCKET_REPLACE_ASIDE,
        lease=(target, "replace"),
        context={},
        root_task="root",
        wait=WAIT,
    )
    with holding(site.database, [Lock(f"read:{target}")]), pytest.raises(Retry, match="read:"):
        app.tasks[names.RESTORE_BUCKET_REPLACE_ASIDE].apply(args=(ref.to_json(),), throw=True)
    assert site.ledger.job(job.id).state == "waiting"


def test_a_step_that_waits_for_another_job_is_not_taken_for_lost(
    site: Site, installation: Installation
) -> None:
    site.workers.send_heartbeat(["backup.workshop"])
    chain = installation.chain("backup")
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE job SET step_due_at = clock_timestamp() - %s", (DAY,))
        cursor.execute("UPDATE worker SET heartbeat_at = clock_timestamp() + %s", (DAY,))
    assert [one.overdue for one in site.recovery.stalled()] == [True]
    site.ledger.wait_on(chain.ref, wait=WAIT)
    assert site.recovery.stalled() == []


def test_a_step_whose_next_look_is_lost_is_sent_again_soon(
    site: Site, installation: Installation
) -> None:
    target = str(installation.shop.target)
    job, _ = site.ledger.request(
        "restore_all", target="*", key="all", request={}, requested_by="test"
    )
    ref = site.ledger.claim(
        job.id,
        node="workshop",
        first_step=names.RESTORE_ALL_DATABASES,
        lease=("*", "swap"),
        context={"members": {target: installation.backups[0].backup}},
        root_task="root",
        wait=WAIT,
    )
    with pytest.raises(Retry, match="waits for restores"):
        app.tasks[names.RESTORE_ALL_DATABASES].apply(args=(ref.to_json(),), throw=True)
    row = site.database.fetch_one(
        "SELECT step_due_at - clock_timestamp() AS due FROM job WHERE id = %s", (job.id,)
    )
    assert row is not None
    assert timedelta(0) < row["due"] < timedelta(minutes=2)


def test_a_step_that_waits_well_has_lost_no_worker(site: Site, installation: Installation) -> None:
    chain = installation.chain("backup")
    step = canvases.first_step("backup")
    for state, losses in (("interrupted", 2), ("waiting", 0)):
        site.database.execute("UPDATE job SET losses = 2")
        ref = site.ledger.begin_step(chain.ref, step, node="workshop")
        site.ledger.release_step(ref, step, state=state, wait=WAIT, why="waits for others")
        row = site.database.fetch_one("SELECT losses FROM job")
        assert row is not None
        assert row["losses"] == losses
    (waiting,) = site.ledger.steps(chain.job.id)
    assert (waiting.state, waiting.result["waits"]) == ("waiting", "waits for others")


def test_a_spool_that_cannot_be_used_fails_the_job_instead_of_stalling_it(
    site: Site, installation: Installation
) -> None:
    chain = installation.chain("backup")
    jobs = site.tools.spool / "jobs"
    shutil.rmtree(jobs, ignore_errors=True)
    jobs.write_text("a file in its place", encoding="utf-8")
    try:
        with pytest.raises(PgbenError):
            call(app.tasks[names.BACKUP_POSTGRES_DUMP], chain.ref.to_json())
    finally:
        jobs.unlink()
    assert chain.job.state == "failed"


def test_a_verification_that_found_damage_is_not_repeated(
    site: Site, installation: Installation
) -> None:
    manifest = installation.backup()
    installation.pack_files(manifest)[0].unlink()
    at = site.database.now()
    key = window_key("verify", "*", at)
    site.ledger.request(
        "verify",
        target="*",
        key=key,
        request={"level": "full", "scheduled": True},
        requested_by="schedule",
        window=at,
    )
    with pytest.raises(IntegrityError, match="missing"):
        call(repository.verify, {"level": "full", "idempotency_key": key})
    assert newest(site).state == "failed"
    assert newest(site).retry_at is None


def test_the_tick_stores_what_the_audit_trail_still_owes(site: Site) -> None:
    site.trail.append(who="ana", action="look", target="*", result=secrets.token_hex(4))
    assert reconciler.tick(site, app)["audited"] >= 1
    assert reconciler.tick(site, app)["audited"] == 0


def test_the_tick_enters_the_ends_of_jobs_that_nobody_entered(site: Site) -> None:
    job, _ = site.ledger.request(
        "verify",
        target="*",
        key=secrets.token_hex(8),
        request={},
        requested_by="ana",
    )
    site.ledger.fail_unclaimed(job.id, state="refused", error={"sentence": "no"})
    with site.database.transaction() as cursor:
        cursor.execute(
            "UPDATE job SET ended_at = ended_at - interval '5 minutes' WHERE id = %s", (job.id,)
        )
    assert reconciler.tick(site, app)["ends_entered"] >= 1
    assert reconciler.tick(site, app)["ends_entered"] == 0


# Keeping the house


def test_a_suspect_backup_is_acknowledged_through_its_task(
    site: Site, installation: Installation
) -> None:
    installation.run_sql("TRUNCATE pedido")
    try:
        suspect = installation.backup()
    finally:
        installation.run_sql(FILL_PEDIDO)
    target = str(installation.target)
    request = {"target": target, "backup": suspect.backup, "requested_by": "ana"}
    # It is in nobody's way, and nobody is in its.
    installation.chain("backup")
    outcome = call(repository.acknowledge, request)
    assert (outcome["backup"], outcome["result"]["state"]) == (suspect.backup, "verified")
    with site.database.transaction() as cursor:
        rows = cursor.execute(
            "SELECT who, action, backup FROM audit WHERE job = %s AND result = 'succeeded'",
            (outcome["job"],),
        ).fetchall()
    assert [tuple(row.values()) for row in rows] == [("ana", "acknowledge", suspect.backup)]
    with pytest.raises(RequestRefused, match="was acknowledged before"):
        call(repository.acknowledge, request)
    assert newest(site).state == "refused"


def test_a_sweep_through_its_task(site: Site, installation: Installation) -> None:
    outcome = call(repository.sweep, {"target": str(installation.target)})
    assert outcome["result"]["sweep"]["decisions"] == []
    with pytest.raises(RequestRefused, match="is not protected"):
        call(repository.sweep, {"target": "postgres/other"})


def test_the_tick_begins_one_sweep_per_target_and_day(
    site: Site, installation: Installation
) -> None:
    def sweeps() -> list[Job]:
        return [job for job in site.ledger.jobs() if job.kind == "sweep"]

    target = str(installation.target)
    installation.chain("backup").rest()
    # Nothing can be left over of a target that is younger than what is swept.
    assert reconciler.tick(site, app)["sweeps"] == 0
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE job SET created_at = created_at - %s", (8 * DAY,))
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: reconciler.tick(site, app), range(6)))
    assert sum(one["sweeps"] for one in done) == 1
    (job,) = sweeps()
    day = site.database.now().astimezone(site.zone)
    assert job.key == f"sweep:{target}:{day:%Y-%m-%d}"
    (message,) = messages("maintenance")
    assert message.headers["task"] == "pgben.sweep.run"
    assert call(repository.sweep, message.payload[0][0])["state"] == "succeeded"
    assert reconciler.tick(site, app)["sweeps"] == 0
    # Yesterday's does not stand for today's.
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE job SET key = %s WHERE kind = 'sweep'", (f"sweep:{target}:past",))
    assert reconciler.tick(site, app)["sweeps"] == 1


@pytest.mark.parametrize("kind", ["prune", "acknowledge", "sweep"])
def test_a_dead_maintenance_worker_is_told_from_a_living_one(
    site: Site, installation: Installation, kind: Any
) -> None:
    fields: dict[str, Any] = {}
    if kind == "acknowledge":
        fields["backup"] = installation.backups[0].backup
    chain = installation.chain(kind, **fields)
    site.ledger.begin_step(chain.ref, canvases.first_step(kind), node="workshop")
    site.workers.send_heartbeat(["maintenance.workshop"])
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE step SET heartbeat_at = clock_timestamp() - %s", (DAY,))
        cursor.execute("UPDATE worker SET heartbeat_at = clock_timestamp() + %s", (DAY,))
    (stalled,) = site.recovery.stalled()
    assert stalled.node_alive


def test_errors_of_jobs_are_rebuilt_with_their_hints(
    site: Site, installation: Installation, errors: Callable[[], list[type[PgbenError]]]
) -> None:
    for kind in errors():
        target = str(installation.target)
        job, _ = site.ledger.request(
            "backup", target=target, key=secrets.token_hex(4), request={}, requested_by="ana"
        )
        recorded = {"type": kind.__name__, "sentence": "it failed", "hint": "do this"}
        site.ledger.fail_unclaimed(job.id, state="failed", error=recorded)
        with pytest.raises(kind) as caught:
            call(postgres.backup, {"target": target, "idempotency_key": job.key})
        assert (type(caught.value), caught.value.hint) == (kind, "do this")


# Cancelled


CANCELLED = {"type": "JobCancelled", "sentence": "cancelled by 'ana'", "hint": "retry it"}


def test_a_cancelled_job_answers_with_its_cancellation(
    site: Site, installation: Installation
) -> None:
    target = str(installation.target)
    job, _ = site.ledger.request(
        "backup", target=target, key="off", request={"target": target}, requested_by="ana"
    )
    site.ledger.cancel(job.id, error=CANCELLED)
    with pytest.raises(JobCancelled, match="cancelled by 'ana'"):
        call(postgres.backup, {"target": target, "idempotency_key": "off"})
    assert site.ledger.job(job.id).state == "cancelled"
    reconciler.tick(site, app)
    assert "off" not in [one.payload[0][0]["idempotency_key"] for one in messages("backup")]


def test_the_next_step_of_a_cancelled_job_removes_its_files_and_says_so(
    site: Site, installation: Installation
) -> None:
    chain = installation.chain("backup").until("upload")
    assert chain.folder.exists()
    site.ledger.cancel(chain.ref.job, error=CANCELLED)
    with pytest.raises(JobCancelled):
        call(app.tasks[names.BACKUP_POSTGRES_UPLOAD], chain.ref.to_json())
    assert not chain.folder.exists()
    assert site.ledger.to_clean() == []
    assert chain.job.state == "cancelled"


def test_the_copy_of_a_cancelled_restore_stays_while_its_step_runs_and_then_goes(
    site: Site, installation: Installation
) -> None:
    chain = installation.restore().until("check")
    name = installation.copies[-1]
    site.ledger.cancel(chain.ref.job, error=CANCELLED)
    with holding(site.database, [job_lock(chain.ref.job)]):
        assert reconciler.tick(site, app)["cleaned"] == 0
        assert name in installation.databases()
    assert reconciler.tick(site, app)["cleaned"] == 1
    assert name not in installation.databases()
    assert not chain.folder.exists()


def test_a_restore_cancelled_before_it_is_opened_leaves_no_copy(
    site: Site, installation: Installation
) -> None:
    chain = installation.restore().until("finish")

    def cancel() -> None:
        site.ledger.cancel(chain.ref.job, error=CANCELLED)

    chain.row.before_hold = cancel
    with pytest.raises(FenceLost):
        chain.step()
    assert chain.job.state == "cancelled"
    assert installation.copies[-1] not in installation.databases()


def test_what_a_job_that_was_begun_again_makes_is_not_cleaned_away(
    site: Site, installation: Installation
) -> None:
    chain = installation.restore().until("check")
    site.ledger.cancel(chain.ref.job, error=CANCELLED)
    (seen,) = site.ledger.to_clean()
    site.ledger.queue_again(chain.ref.job)
    assert reconciler._clean(site, seen) == 0
    assert chain.folder.exists()


@pytest.fixture
def errors() -> Callable[[], list[type[PgbenError]]]:
    def every() -> list[type[PgbenError]]:
        found: list[type[PgbenError]] = []
        waiting: list[type[PgbenError]] = [PgbenError]
        while waiting:
            kind = waiting.pop()
            found.append(kind)
            waiting += kind.__subclasses__()
        return found

    return every


# Backups that are held


def listed(site: Site, backup: str) -> Any:
    (found,) = [one for one in read_index(site, None) if one.backup == backup]
    return found


def test_a_gate_is_answered_by_the_verified_backup_that_is_new_enough(
    site: Site, installation: Installation
) -> None:
    target = str(installation.target)
    before = installation.backups[-1].backup
    gate = {"target": target, "hold_for": "14d", "label": "release-42", "max_age": "1h"}
    outcome = call(postgres.backup, {**gate, "requested_by": "ci@host"})
    result = outcome["result"]
    assert (outcome["backup"], result["backup"], result["existing"]) == (before, before, True)
    assert result["state"] == "verified"
    assert (result["hold"]["label"], result["hold"]["by"]) == ("release-42", "ci@host")
    assert listed(site, before).to_json()["hold"] == result["hold"]
    assert len(site.tools.repository.backups(installation.target)) == 2
    # Nothing was backed up, which is what would put a failure right.
    begun = site.database.now() - timedelta(minutes=5)
    assert site.records.good_ends(since=begun) == []
    assert site.records.attempts(since=begun) == []
    assert ("backup", target) not in site.records.standing()
    # The same with no hold asked for changes nothing; an older one makes a new one.
    again = call(postgres.backup, {"target": target, "max_age": "1h"})
    assert again["result"] == {"backup": before, "state": "verified", "existing": True}
    made = call(postgres.backup, {**gate, "label": "release-43", "max_age": "1s"})
    assert made["backup"] not in {one.backup for one in installation.backups}
    assert made["result"]["hold"]["label"] == "release-43"
    assert "existing" not in made["result"]


def test_no_suspect_or_damaged_backup_answers_a_gate(
    site: Site, installation: Installation
) -> None:
    older, newest_one = installation.backups
    target = str(installation.target)
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE backup SET suspect = 'x' WHERE id = %s", (newest_one.backup,))
    assert call(postgres.backup, {"target": target, "max_age": "1h"})["backup"] == older.backup
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE backup SET state = 'damaged' WHERE id = %s", (older.backup,))
    made = call(postgres.backup, {"target": target, "max_age": "1h", "hold_for": "1d"})
    assert made["backup"] not in {older.backup, newest_one.backup}


def test_a_backup_that_the_catalog_alone_calls_verified_answers_no_gate(
    site: Site, installation: Installation
) -> None:
    newest_one = installation.backups[-1]
    folder = installation.repository / "verifications" / newest_one.target / newest_one.backup
    shutil.rmtree(folder)
    with pytest.raises(PermanentError, match="was taken for verified, and is unverified"):
        call(postgres.backup, {"target": str(installation.target), "max_age": "1h"})


def test_one_key_stands_for_one_hold(site: Site, installation: Installation) -> None:
    target = str(installation.target)
    asked = {"target": target, "idempotency_key": "deploy-42", "max_age": "1h", "hold_for": "14d"}
    first = call(postgres.backup, asked)
    assert call(postgres.backup, {**asked, "hold_for": "P14D"}) == first
    for other in ({"hold_for": "30d"}, {"label": "release-42"}, {"max_age": "2h"}):
        with pytest.raises(RequestRefused, match="held for another time, or label"):
            call(postgres.backup, {**asked, **other})
    plain = {name: asked[name] for name in ("target", "idempotency_key")}
    with pytest.raises(RequestRefused, match="held for another time, or label"):
        call(postgres.backup, plain)
    # What was refused did not end the job that has the key.
    assert call(postgres.backup, asked) == first


def test_a_hold_and_a_release_are_jobs_of_the_maintenance_worker(
    site: Site, installation: Installation
) -> None:
    backup = installation.backups[0].backup
    asked = {"target": str(installation.target), "backup": backup, "reason": "auditoria"}
    held = call(repository.hold, {**asked, "keep_for": "90d", "label": "audit"})
    assert held["result"]["hold"]["label"] == "audit"
    assert listed(site, backup).hold is not None
    released = call(repository.hold, {**asked, "release": True})
    assert released["result"]["released"]
    assert listed(site, backup).hold is None
    kinds = [(job.kind, job.backup) for job in site.ledger.jobs(limit=2)]
    assert kinds == [("hold", backup)] * 2

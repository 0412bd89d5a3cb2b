"""The store of results on a real Redis: what failures say, and progress that hides no end."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, states
from celery.backends.redis import RedisBackend
from redis.client import Pipeline

from pgben_tasks.app import create_app
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.errors import BackupNotFound, PermanentError, TargetBusy
from pgben_tasks.events import send_failure
from pgben_tasks.results import PROGRESS, Results

CANARY = "hunter2"
ERROR = BackupNotFound("there is no backup 'x'", "`pgben list` shows them")
READ = "from celery import Celery; import sys; r = Celery(backend=sys.argv[1]).AsyncResult('{id}')"


@pytest.fixture
def app(redis_server: EmbeddedRedis) -> Celery:
    return create_app(redis_server.url)


@pytest.fixture
def results(app: Celery) -> Results:
    assert isinstance(app.backend, Results)
    return app.backend


@pytest.fixture
def task() -> str:
    return secrets.token_hex(8)


def stored(results: Results, task: str) -> dict[str, Any]:
    """Return what lies in Redis, as a reader that is not written in Python gets it."""
    found: dict[str, Any] = json.loads(results.get(results.get_key_for_task(task)))
    return found


@pytest.mark.parametrize("mark", ["mark_as_failure", "mark_as_retry"])
def test_a_failure_says_what_to_do_and_has_no_traceback(
    results: Results, task: str, mark: str
) -> None:
    getattr(results, mark)(task, ERROR, traceback=f"Traceback of {CANARY}")
    meta = stored(results, task)
    assert meta["traceback"] is None
    assert meta["result"] == {
        "exc_type": "BackupNotFound",
        "exc_module": "pgben_tasks.errors",
        "exc_message": ["there is no backup 'x'", "`pgben list` shows them"],
        "sentence": "there is no backup 'x'",
        "hint": "`pgben list` shows them",
        "code": "BackupNotFound",
    }
    assert CANARY not in json.dumps(meta)


def test_an_error_of_somebody_else_is_told_by_its_type_only(results: Results, task: str) -> None:
    results.mark_as_failure(task, ValueError(f"password={CANARY}"))
    meta = stored(results, task)
    assert CANARY not in json.dumps(meta)
    assert meta["result"]["code"] == "PermanentError"
    assert "ValueError" in meta["result"]["sentence"]
    assert isinstance(results.get_result(task), PermanentError)


def test_an_error_of_celery_keeps_its_name(results: Results, task: str) -> None:
    results.mark_as_revoked(task, reason="expired")
    meta = stored(results, task)
    assert (meta["status"], meta["result"]["code"]) == (states.REVOKED, "TaskRevokedError")
    assert meta["result"]["sentence"] == "expired"


def test_any_celery_client_rebuilds_the_error(
    redis_server: EmbeddedRedis, results: Results, task: str
) -> None:
    results.mark_as_failure(task, ERROR)
    url = redis_server.url.removesuffix("0") + "1"
    plain = RedisBackend(app=Celery(), url=url)
    assert type(plain.get_result(task)) is BackupNotFound
    # One that has no pgben, too.
    script = READ.format(id=task) + "; print(type(r.result).__name__, r.state, r.result.args)"
    done = subprocess.run(
        [sys.executable, "-c", script, url], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split()[:2] == ["BackupNotFound", "FAILURE"]
    assert "there is no backup 'x'" in done.stdout


# Progress


def test_progress_is_read_by_any_client_and_expires_as_results_do(
    redis_server: EmbeddedRedis, results: Results, task: str
) -> None:
    assert results.store_progress(task, {"step": "s", "done": 1})
    url = redis_server.url.removesuffix("0") + "1"
    plain = RedisBackend(app=Celery(), url=url)
    assert (plain.get_state(task), plain.get_result(task)) == (PROGRESS, {"step": "s", "done": 1})
    assert stored(results, task)["task_id"] == task
    assert 0 < results.client.ttl(results.get_key_for_task(task)) <= 7 * 86_400


@pytest.mark.parametrize("state", [states.SUCCESS, states.FAILURE, states.REVOKED])
def test_late_progress_leaves_an_end_as_it_is(results: Results, task: str, state: str) -> None:
    results.store_result(task, {"n": 1} if state == states.SUCCESS else ERROR, state)
    before = stored(results, task)
    assert not results.store_progress(task, {"done": 1})
    assert stored(results, task) == before


class Late(Pipeline):
    """A pipeline whose reader is overtaken: after it has looked, somebody else ends the job."""

    def get(self, name: Any) -> Any:
        found = super().get(name)
        if END:
            END.pop()()
        return found


#: What ends a job in that moment.
END: list[Any] = []


@pytest.mark.parametrize("state", [states.SUCCESS, states.FAILURE, states.REVOKED])
def test_an_end_that_comes_while_progress_is_written_wins(
    redis_server: EmbeddedRedis, results: Results, task: str, state: str
) -> None:
    results.mark_as_started(task)
    other = create_app(redis_server.url)
    client = results.client
    client.pipeline = lambda *_, **__: Late(
        client.connection_pool, {}, transaction=True, shard_hint=None
    )
    END.append(
        lambda: other.backend.store_result(
            task, {"n": 1} if state == states.SUCCESS else ERROR, state
        )
    )
    assert not results.store_progress(task, {"done": 1})
    assert END == []
    assert stored(results, task)["status"] == state


def test_a_stream_of_progress_never_hides_the_end(
    redis_server: EmbeddedRedis, results: Results, task: str
) -> None:
    ended = threading.Event()

    def show() -> None:
        backend = create_app(redis_server.url).backend
        number = 0
        while not ended.is_set() or number % 100:
            number += 1
            backend.store_progress(task, {"done": number})

    writers = [threading.Thread(target=show) for _ in range(3)]
    for writer in writers:
        writer.start()
    for number in range(50):
        results.mark_as_failure(task, PermanentError(f"end {number}", ""))
        assert results.get_state(task) == states.FAILURE
    ended.set()
    for writer in writers:
        writer.join(timeout=30)
    assert results.get_result(task).sentence == "end 49"


def test_a_step_that_begins_or_waits_does_not_hide_progress(results: Results, task: str) -> None:
    results.mark_as_started(task)
    assert stored(results, task)["status"] == states.STARTED
    results.store_progress(task, {"done": 1})
    results.mark_as_started(task)
    results.mark_as_retry(task, TargetBusy("somebody has it"))
    assert stored(results, task)["status"] == PROGRESS
    results.mark_as_done(task, {"state": "succeeded"})
    assert stored(results, task)["status"] == states.SUCCESS


def test_a_job_that_is_begun_again_shows_progress_again(results: Results, task: str) -> None:
    results.mark_as_failure(task, ERROR)
    # Celery writes so when the entry task begins under the same id.
    results.mark_as_started(task)
    assert results.store_progress(task, {"attempt": 2})
    assert stored(results, task)["result"] == {"attempt": 2}


# Events


def test_the_failure_of_a_job_is_marked_as_not_the_first_and_names_its_worker(app: Celery) -> None:
    sent: list[dict[str, Any]] = []
    received = threading.Event()

    def send() -> None:
        # What is sent before the subscription is heard by nobody.
        while not received.wait(0.2):
            send_failure(app, "root", ERROR, hostname="verify@n1")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection)

            def hear(event: dict[str, Any]) -> None:
                sent.append(event)
                receiver.should_stop = True

            receiver.handlers["*"] = hear
            receiver.capture(limit=None, timeout=20, wakeup=False)
    finally:
        received.set()
        sender.join(timeout=30)
    event = sent[0]
    assert (event["type"], event["uuid"], event["hostname"]) == ("task-failed", "root", "verify@n1")
    assert event["root"] is True
    assert (event["exception"], event["traceback"]) == (repr(ERROR), "")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    END.clear()
    yield
    END.clear()

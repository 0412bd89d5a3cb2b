"""Events show targets and jobs, and nothing else that a request says."""

from __future__ import annotations

from base64 import b64decode
from queue import Empty
from types import SimpleNamespace

import pytest
from celery import Celery
from hypothesis import given, strategies as st
from kombu.message import Message
from kombu.transport.virtual import Message as RedisMessage

from pgben_tasks import app as app_module, canvases, events, names
from pgben_tasks.client import Client
from tests.support import poison
from workers.consumer import Consumer

TARGET = "postgres/pgben"
JOB = "3f0c9a2b-1111-4222-8333-444444444444"
CANARY = "cidadao-canary"
REQUEST = {
    "target": "bucket/docs",
    "keys": [f"{CANARY}/1"],
    "prefix": CANARY,
    "put_below": CANARY,
    "reason": CANARY,
    "requested_by": CANARY,
}


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (({"target": TARGET},), "({'target': 'postgres/pgben'},)"),
        ([{"target": TARGET, "job": JOB}], f"({{'target': 'postgres/pgben', 'job': '{JOB}'}},)"),
        (({"job": JOB, "fence": 3},), f"({{'job': '{JOB}'}},)"),
        ((REQUEST,), "({'target': 'bucket/docs'},)"),
        (({"target": None},), "()"),
        ((), "()"),
        (None, "()"),
        ((TARGET,), "()"),
        (TARGET, "()"),
    ],
)
def test_arguments_are_shown_by_target_and_job(args: object, shown: str) -> None:
    assert events.shown_arguments(args) == shown


@pytest.mark.parametrize(
    "target",
    [
        f"postgresql://postgres:{CANARY}@db/pgben",
        f"postgres/password={CANARY}",
        f"postgres/../{CANARY}",
        f"postgres/{CANARY}\ud800",
        {"postgres": CANARY},
        [CANARY],
    ],
)
def test_a_target_that_is_none_is_not_shown(target: object) -> None:
    assert events.shown_arguments(({"target": target, "job": target},)) == "()"


@given(st.recursive(st.none() | st.text() | st.integers(), st.lists))
def test_anything_can_be_arguments(args: object) -> None:
    assert events.shown_arguments(args) == "()"


# What is sent


@pytest.fixture
def app() -> Celery:
    """Return the application with a broker in this process."""
    made = app_module.create_app("redis://localhost/0")
    made.conf.update(broker_url="memory://", result_backend="cache+memory://")
    return made


def taken(app: Celery, queue: str) -> Message:
    """Take the newest message from a queue, and those of other tests before it."""
    found = None
    with app.connection() as connection, connection.SimpleQueue(queue) as waiting:
        while True:
            try:
                found = waiting.get_nowait()
            except Empty:
                break
            found.ack()
    assert found is not None
    return found


def shown(message: Message) -> tuple[str, str]:
    return message.headers["argsrepr"], message.headers["kwargsrepr"]


def test_the_client_sends_no_text_of_a_request_beside_it(app: Celery) -> None:
    client = Client("redis://localhost/0", app=app)
    client.restore_objects("bucket/docs", keys=[f"{CANARY}/1"], requested_by=CANARY)
    assert shown(taken(app, "restore")) == ("({'target': 'bucket/docs'},)", "{}")
    client.cancel(JOB, requested_by=CANARY)
    assert shown(taken(app, "maintenance")) == (f"({{'job': '{JOB}'}},)", "{}")
    client.jobs(TARGET)
    assert shown(taken(app, "maintenance")) == ("({'target': 'postgres/pgben'},)", "{}")


def test_every_step_of_a_chain_is_shown_by_its_job(app: Celery) -> None:
    canvases.build(app, "backup", {"job": JOB, "fence": 1}, node="n1").apply_async()
    message = taken(app, "backup.n1")
    expected = (f"({{'job': '{JOB}'}},)", "{}")
    assert shown(message) == expected
    rest = [step["options"] for step in message.payload[2]["chain"]]
    assert [(one["argsrepr"], one["kwargsrepr"]) for one in rest] == [expected] * 4


# What workers read


def test_a_worker_replaces_what_a_stranger_wrote_of_the_arguments() -> None:
    seen: list[RedisMessage] = []
    raw = poison.envelope("bucket/docs", body=poison.body([[REQUEST], {}, {}]))
    raw["headers"] |= {"argsrepr": f"({CANARY},)", "kwargsrepr": f"{{'keys': '{CANARY}'}}"}
    consumer = object.__new__(Consumer)
    consumer.__dict__ |= {
        "strategies": {names.BACKUP_POSTGRES: lambda message, *_: seen.append(message)},
        "on_task_message": set(),
        "call_soon": None,
        "_maximum_prefetch_restored": True,
        "qos": SimpleNamespace(),
    }
    channel = SimpleNamespace(
        decode_body=lambda body, _encoding: b64decode(body),
        encode_body=lambda body, encoding: (body, encoding),
    )
    message = RedisMessage(raw, channel=channel)
    consumer.create_task_handler(promise=lambda *_, **__: None)(message)
    assert seen == [message]
    assert shown(message) == ("({'target': 'bucket/docs'},)", "{}")
    assert CANARY not in str(message.headers)
    # The task itself gets what was asked for.
    assert message.payload[0] == [REQUEST]


# The names that others use


def test_the_public_tasks_are_those_that_chains_begin_with_and_the_cancellation() -> None:
    assert len(set(names.ENTRY_TASKS)) == len(names.ENTRY_TASKS)
    assert set(names.ENTRY_TASKS) == canvases.entry_tasks() | {names.CANCEL_RUN}
    assert {one for one in vars(names).values() if str(one).startswith("pgben.catalog.")} == set(
        names.READ_ONLY_TASKS
    )

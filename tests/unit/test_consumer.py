"""The consumer sets aside what passes the checks of messages and Celery fails on."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.transport.virtual import Message

from pgben_tasks import names
from tests.support import poison
from workers.consumer import Consumer


class Shelf:
    """A channel that keeps what is set aside and discarded."""

    def __init__(self) -> None:
        self.aside: list[tuple[str, str]] = []
        self.rejected: list[str] = []

    def set_aside(self, _number: object, queue: str, raw: bytes, why: str) -> None:
        assert json.loads(raw)["headers"]["task"] == names.BACKUP_POSTGRES
        self.aside.append((queue, why))

    def basic_reject(self, tag: str, *, requeue: bool) -> None:
        assert not requeue
        self.rejected.append(tag)

    def decode_body(self, body: str, _encoding: str) -> bytes:
        return b64decode(body)

    def encode_body(self, body: bytes, encoding: str) -> tuple[str, str]:
        return b64encode(body).decode(), encoding


@pytest.mark.parametrize("error", [TypeError, KeyError, RecursionError, OverflowError])
def test_what_celery_fails_on_is_set_aside_and_discarded(error: type[Exception]) -> None:
    def fail(*_: Any) -> None:
        raise error

    shelf = Shelf()
    consumer = object.__new__(Consumer)
    consumer.__dict__ |= {
        "strategies": {names.BACKUP_POSTGRES: fail},
        "on_task_message": set(),
        "call_soon": None,
        "_maximum_prefetch_restored": True,
        "qos": SimpleNamespace(),
    }
    message = Message(poison.envelope("postgres/pgben"), channel=shelf)
    consumer.create_task_handler(promise=lambda *_, **__: None)(message)
    assert shelf.aside == [("backup", f"Celery fails on it with {error.__name__}")]
    assert len(shelf.rejected) == 1


def test_a_message_that_was_discarded_before_the_error_is_set_aside_all_the_same() -> None:
    def discard_and_fail(message: Message, *_: Any) -> None:
        message.reject()
        raise TypeError

    shelf = Shelf()
    consumer = object.__new__(Consumer)
    consumer.__dict__ |= {
        "strategies": {names.BACKUP_POSTGRES: discard_and_fail},
        "on_task_message": set(),
        "_maximum_prefetch_restored": True,
    }
    message = Message(poison.envelope("postgres/pgben"), channel=shelf)
    consumer.create_task_handler(promise=lambda *_, **__: None)(message)
    assert (len(shelf.aside), len(shelf.rejected)) == (1, 1)


def test_a_lost_connection_is_celerys_own_business() -> None:
    def fail(*_: Any) -> None:
        raise ConnectionResetError

    consumer = object.__new__(Consumer)
    consumer.__dict__ |= {
        "strategies": {names.BACKUP_POSTGRES: fail},
        "on_task_message": set(),
        "_maximum_prefetch_restored": True,
    }
    message = Message(poison.envelope("postgres/pgben"), channel=Shelf())
    with pytest.raises(ConnectionResetError):
        consumer.create_task_handler(promise=lambda *_, **__: None)(message)

"""The consumer of task messages, which sets aside what Celery cannot take.

An error in Celery's main process would end it, at every start, and a message for an unknown task
would be discarded without a record. The tick records what is set aside.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from celery.worker import consumer
from kombu.transport.virtual import Message

from pgben_tasks.broker import id_of_bytes
from pgben_tasks.events import NO_NAMED_ARGUMENTS, shown_arguments

#: Raised by code that got a value it does not expect; a lost connection is none of these.
_UNEXPECTED: Final = (
    *(TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError),
)


class Consumer(consumer.Consumer):
    """Celery's consumer, which no message ends, and which discards none without a record."""

    def create_task_handler(self, *arguments: Any, **more: Any) -> Callable[[Message], None]:
        """Return the function that hands a message to its task."""
        take = super().create_task_handler(*arguments, **more)

        def checked(message: Message) -> None:
            try:
                _hide_arguments(message)
                take(message)
            except _UNEXPECTED as exc:
                _set_aside(message, f"Celery fails on it with {type(exc).__name__}")
                if not message.acknowledged:
                    message.reject()

        return checked

    def on_unknown_message(self, body: Any, message: Message) -> None:
        """Set it aside, and discard it."""
        _set_aside(message, "Celery does not know its form")
        super().on_unknown_message(body, message)

    def on_unknown_task(self, body: Any, message: Message, exc: Exception) -> None:
        """Set it aside, and answer whoever waits for it that there is no such task."""
        _set_aside(message, "it names no task of this version")
        super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: Any, message: Message, exc: Exception) -> None:
        """Set it aside, and discard it."""
        _set_aside(message, "Celery calls it invalid")
        super().on_invalid_task(body, message, exc)


def _hide_arguments(message: Message) -> None:
    """Let events show a message's target and job only, whoever wrote what they would show."""
    if not isinstance(message.headers, dict) or "task" not in message.headers:
        # An older form of messages, whose arguments Celery itself reads; it is discarded.
        return
    args, *_ = message.payload
    message.headers.update(argsrepr=shown_arguments(args), kwargsrepr=NO_NAMED_ARGUMENTS)


def _set_aside(message: Message, why: str) -> None:
    raw = json.dumps(message.serializable()).encode()
    queue = str(message.delivery_info.get("routing_key", "?"))
    # Of one id: what is set aside twice is recorded once.
    message.channel.set_aside(id_of_bytes(raw), queue, raw, why)

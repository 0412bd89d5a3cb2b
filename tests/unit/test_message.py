"""Claims about what a message of a task queue is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from pgben_tasks import names
from pgben_tasks.domain.message import (
    DEEPEST,
    MOST_BYTES,
    depth,
    fault_of_command,
    fault_of_message,
)
from tests.support import poison

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def raw(**changes: object) -> bytes:
    return json.dumps(poison.envelope("postgres/pgben", **changes)).encode()


def test_a_message_as_celery_sends_it_is_one() -> None:
    assert fault_of_message(raw()) is None
    later = poison.envelope("postgres/pgben")
    later["headers"] |= {"eta": "2026-11-29T05:00:00+00:00", "timelimit": [60, 30.5]}
    assert fault_of_message(json.dumps(later).encode()) is None


@pytest.mark.parametrize("number", range(len(poison.CHANGES)))
def test_a_message_with_one_thing_wrong_is_none(number: int) -> None:
    (message,) = list(poison.messages("postgres/pgben", number + 1, 1))[number:]
    why = fault_of_message(message)
    assert why
    assert "pgben" not in why, "it repeats nothing of the message"


def test_a_question_to_every_worker_is_a_command() -> None:
    whole: dict[str, object] = {
        "method": "ping",
        "arguments": {},
        "destination": ["all@here"],
        "pattern": None,
    }
    whole |= {"matcher": None, "ticket": "x", "reply_to": {"exchange": "reply", "routing_key": "a"}}
    for content in (whole, {"method": "enable_events", "arguments": {}}):
        assert fault_of_command(raw(body=poison.body(content), headers={"clock": 3})) is None


def test_what_changes_or_ends_a_worker_is_no_command() -> None:
    for message in poison.commands("postgres/pgben", seed=1):
        assert fault_of_command(message), message


def test_only_requests_may_have_other_arguments_than_pgben_sends() -> None:
    reference = poison.body([[{"job": "7", "fence": 1}], {}, None])
    step = {**poison.envelope("")["headers"], "task": names.BACKUP_POSTGRES_DUMP}
    assert fault_of_message(raw(body=reference, headers=step)) is None
    assert fault_of_message(raw(headers=step)) == "it is a step without its job"
    assert fault_of_message(raw(body=poison.body([[], {"target": 1}, {}]))) is None


@given(st.binary(max_size=400))
def test_noise_is_no_message_and_raises_nothing(noise: bytes) -> None:
    assert fault_of_message(noise) is not None
    assert fault_of_command(noise) is not None


@given(JSON)
def test_other_json_is_no_message_and_raises_nothing(value: object) -> None:
    assert fault_of_message(json.dumps(value).encode()) is not None


@given(JSON)
def test_headers_of_any_kind_raise_nothing(value: object) -> None:
    message = poison.envelope("postgres/pgben")
    for name in ("task", "id", "timelimit", "retries", "eta", "stamps"):
        changed = {**message, "headers": {**message["headers"], name: value}}
        fault_of_message(json.dumps(changed).encode())


@given(JSON)
def test_depth_is_that_of_the_value(value: object) -> None:
    def nested(one: object) -> int:
        if isinstance(one, list):
            return 1 + max(map(nested, one), default=0)
        if isinstance(one, dict):
            return 1 + max(map(nested, one.values()), default=0)
        return 0

    assert depth(json.dumps(value)) == nested(value)


def test_a_message_that_is_too_large_is_none_before_it_is_read() -> None:
    assert fault_of_message(b"[" * (MOST_BYTES + 1)) == (
        f"the message has more than {MOST_BYTES} bytes"
    )


def test_a_header_that_is_half_a_surrogate_pair_is_no_text() -> None:
    message = poison.envelope("postgres/pgben")
    message["headers"] |= {"shadow": "\ud800"}
    assert fault_of_message(json.dumps(message).encode()) == "its header 'shadow' is no text"


def test_brackets_in_texts_do_not_count_and_deep_ones_do() -> None:
    inside = {"target": "[" * 500 + '\\"' + "{" * 500}
    assert fault_of_message(raw(body=poison.body([[], inside, None]))) is None
    for levels, fine in ((DEEPEST - 3, True), (DEEPEST + 1, False)):
        content = f'[[], {{"target": {poison.nested(levels)}}}, null]'
        found = fault_of_message(raw(body=poison._raw(content)))
        assert (found is None) is fine

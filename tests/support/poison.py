"""Messages that are none, as anybody who reaches the broker can put them into a queue."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, Final
from uuid import uuid4

from pgben_tasks import names

#: Nested deeper than Python's own limit allows to pickle.
DEEP: Final = 900


def envelope(target: str, **changes: Any) -> dict[str, Any]:
    """Return a good message that asks for a backup of ``target``, with some keys changed."""
    task = str(uuid4())
    return {
        "body": body([[{"target": target}], {}, {"callbacks": None, "errbacks": None}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": names.BACKUP_POSTGRES,
            "id": task,
            "root_id": task,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": "{}",
            "origin": "somebody",
            "ignore_result": False,
        },
        "properties": {
            "correlation_id": task,
            "reply_to": str(uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "backup"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
        **changes,
    }


def body(content: object) -> str:
    """Return content as a message carries it."""
    return b64encode(json.dumps(content).encode()).decode()


def nested(depth: int = DEEP, *, inner: str = "1") -> str:
    """Return JSON that is nested so deep."""
    return "[" * depth + inner + "]" * depth


def _raw(text: str) -> str:
    return b64encode(text.encode()).decode()


Change = Callable[[dict[str, Any], random.Random], None]


def _put(*path: str, value: object) -> Change:
    def change(message: dict[str, Any], _chance: random.Random) -> None:
        place = message
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = deepcopy(value)

    return change


def _drop(*path: str) -> Change:
    def change(message: dict[str, Any], _chance: random.Random) -> None:
        place = message
        for name in path[:-1]:
            place = place[name]
        del place[path[-1]]

    return change


#: What is wrong with a message that is JSON.
CHANGES: Final[tuple[Change, ...]] = (
    _put("body", value=_raw('[[], {"target": ' + nested() + "}, null]")),
    _put("body", value=_raw(nested(100_000))),
    _put("body", value=_raw('{"target": "postgres/pgben"}')),
    _put("body", value=_raw("[[], {}]")),
    _put("body", value=_raw("[[], [], null]")),
    _put("body", value=_raw("[{}, {}, {}]")),
    _put("body", value=_raw("[[], {}, []]")),
    _put("body", value=_raw("null")),
    _put("body", value=_raw("[[], {}, {}")),
    _put("body", value=b64encode(b"\xff\xfe[]").decode()),
    _put("body", value="%%% no base64 %%%"),
    _put("body", value=b64encode(b"[[],{},{}]").decode()[:-3]),
    _put("body", value=_raw('[[], {}, {"callbacks": 5}]')),
    _put("body", value=_raw('[[], {}, {"errbacks": [5]}]')),
    _put("body", value=_raw('[[], {}, {"chain": [{"task": ["a"]}]}]')),
    _put("body", value=_raw('[[], {}, {"chord": {"task": "x", "args": 7}}]')),
    _put("body", value=_raw('[[], {}, {"chord": {"task": "x"}, "group": [1]}]')),
    _put("body", value=7),
    _put("body", value=None),
    _drop("body"),
    _put("headers", value=None),
    _put("headers", value=[]),
    _put("headers", value="task"),
    _drop("headers"),
    _drop("headers", "task"),
    _drop("headers", "id"),
    _put("headers", "task", value=["pgben.backup.postgres"]),
    _put("headers", "task", value={}),
    _put("headers", "id", value=17),
    _put("headers", "id", value="a\x00b"),
    _put("headers", "id", value="\ud800"),
    _put("headers", "root_id", value=[]),
    _put("headers", "parent_id", value={"a": 1}),
    _put("headers", "group", value="\x7f"),
    _put("headers", "timelimit", value=["a", "b"]),
    _put("headers", "timelimit", value=[1]),
    _put("headers", "timelimit", value=7),
    _put("headers", "timelimit", value=[-1, None]),
    _put("headers", "retries", value="many"),
    _put("headers", "retries", value=10**30),
    _put("headers", "eta", value="tomorrow"),
    _put("headers", "eta", value=12),
    _put("headers", "expires", value="99999-01-01"),
    _put("headers", "expires", value=[]),
    _put("headers", "ignore_result", value="yes"),
    _put("headers", "stamped_headers", value=3),
    _put("headers", "stamped_headers", value=[[1]]),
    _put("headers", "stamped_headers", value=["a"]),
    _put("headers", "eta", value="0001-01-01T00:00:00+14:00"),
    _put("headers", "expires", value="9999-12-31T23:59:59-14:00"),
    _put("headers", "task", value=names.TICK),
    _put("headers", "task", value=names.BACKUP_POSTGRES_UPLOAD),
    _put("properties", "reply_to", value={"a": [1]}),
    _put("properties", "correlation_id", value=[3]),
    _put("headers", "stamps", value=[]),
    _put("headers", "argsrepr", value={}),
    _put("headers", "compression", value="application/x-gzip"),
    _put("content-type", value="application/x-python-serialize"),
    _put("content-type", value=None),
    _put("content-encoding", value="binary"),
    _put("properties", value=None),
    _put("properties", value=[]),
    _drop("properties"),
    _drop("properties", "delivery_tag"),
    _put("properties", "delivery_tag", value={}),
    _drop("properties", "delivery_info"),
    _put("properties", "delivery_info", value="backup"),
    _put("properties", "delivery_info", value={"exchange": ""}),
    _put("properties", "body_encoding", value="rot13"),
    _drop("properties", "body_encoding"),
)


def messages(target: str, count: int, seed: int) -> Iterator[bytes]:
    """Yield messages that are none: every change above, and envelopes that are no messages."""
    chance = random.Random(seed)
    whole = json.dumps(envelope(target)).encode()
    for number in range(count):
        if number < len(CHANGES):
            change = CHANGES[number]
        else:
            change = chance.choice(CHANGES)
            if chance.random() < 0.5:
                yield _broken(whole, chance)
                continue
        message = envelope(target)
        change(message, chance)
        yield json.dumps(message).encode()


#: Bodies of control commands that workers do not carry out, some of which end them.
COMMANDS: Final[tuple[object, ...]] = (
    *([1, 2], 7, {}, {"method": "nope", "arguments": {}}, {"method": ["ping"], "arguments": {}}),
    {"method": "add_consumer", "arguments": {"queue": "xxxxx", "exchange": 5}},
    {"method": "add_consumer", "arguments": {"queue": [1]}},
    {"method": "time_limit", "arguments": {"task_name": names.BACKUP_POSTGRES, "hard": "a"}},
    {"method": "shutdown", "arguments": {}},
    {"method": "pool_shrink", "arguments": {"n": 9}},
    {"method": "revoke", "arguments": {"task_id": [{}]}},
    {"method": "ping", "arguments": [1]},
    {"method": "ping", "arguments": {}, "destination": 7},
    {"method": "ping", "arguments": {}, "pattern": "(((", "matcher": "pcre"},
    {"method": "ping", "arguments": {}, "reply_to": 5},
    {"method": "ping", "arguments": {}, "reply_to": {"exchange": [1], "routing_key": {}}},
)


def commands(target: str, seed: int) -> Iterator[bytes]:
    """Yield broadcasts that are no commands: by their envelope, or by what they ask for."""
    for content in COMMANDS:
        yield json.dumps(envelope(target, body=body(content))).encode()
    for change in (
        _put("headers", value=[1]),
        _put("properties", value=[]),
        _put("body", value="%%%"),
        _put("body", value=_raw(nested())),
    ):
        message = envelope(target, body=body({"method": "ping", "arguments": {}}))
        change(message, random.Random(seed))
        yield json.dumps(message).encode()
    yield nested(50_000).encode()


def _broken(whole: bytes, chance: random.Random) -> bytes:
    """Return an envelope that is cut, noise, another JSON, or nested too deep."""
    kind = chance.randrange(6)
    if kind == 0:
        return whole[: chance.randrange(1, len(whole) - 1)]
    if kind == 1:
        return chance.randbytes(chance.randrange(1, 300))
    if kind == 2:
        return chance.choice([b"null", b"7", b'"backup"', b"[]", b"{}", b"{{}}", b"NaN", b"\x00"])
    if kind == 3:
        return nested(chance.choice([DEEP, 50_000])).encode()
    if kind == 4:
        return whole[:-1] + b',"more":' + nested().encode() + b"}"
    return b'{"body":"' + b"A" * (5 * 1024 * 1024) + b'"}'

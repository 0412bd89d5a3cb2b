"""What a message of a task queue must look like before a worker touches it.

Pure. A message that Celery's main process cannot take ends that process, is given back, and ends it
again at every start. Seen: nested 900 deep, a body that is no list or no base64, ``timelimit`` of
words. The form is that of Celery's protocol 2 in kombu's envelope for Redis; what is asked for is
judged by the task.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

#: Larger than any request: a thousand keys of 1,024 bytes, in base64.
MOST_BYTES: Final = 4 * 1024 * 1024
#: Deeper than any chain that is sent; Python's own limit is near a thousand.
DEEPEST: Final = 60
_LONGEST_NAME: Final = 200
_MOST_RETRIES: Final = 1_000_000


class _Fault(ValueError):
    """Why a message is none; a short phrase that repeats nothing of it."""


def fault_of_message(raw: bytes) -> str | None:
    """Return why the bytes from a queue are no message of a task; None when they are one."""
    try:
        envelope = _json(raw, "the message")
        _check_envelope(envelope)
        _check_headers(envelope["headers"])
        _check_body(envelope["body"])
    except _Fault as exc:
        return str(exc)
    return None


def fault_of_broadcast(raw: bytes) -> str | None:
    """Return why the bytes that every worker got are no control command or event; None for one.

    What such a command asks for is judged where it is carried out, and ends nobody.
    """
    try:
        envelope = _json(raw, "the message")
        _check_envelope(envelope)
        content = _json(_decoded(envelope["body"]), "its body")
        _require(isinstance(content, dict | list), "its body is neither a JSON object nor a list")
    except _Fault as exc:
        return str(exc)
    return None


def depth(text: str) -> int:
    """Return how deep the brackets of a JSON text are nested; those in its strings do not count."""
    deepest = level = 0
    in_string = escaped = False
    for sign in text:
        if in_string:
            in_string, escaped = escaped or sign != '"', not escaped and sign == "\\"
        elif sign == '"':
            in_string = True
        elif sign in "[{":
            level += 1
            deepest = max(deepest, level)
        elif sign in "]}":
            level -= 1
    return deepest


def _json(data: bytes, what: str) -> Any:
    if len(data) > MOST_BYTES:
        raise _Fault(f"{what} has more than {MOST_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _Fault(f"{what} is no UTF-8") from None
    if depth(text) > DEEPEST:
        raise _Fault(f"{what} is nested deeper than {DEEPEST}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _Fault(f"{what} is no JSON") from None


def _check_envelope(envelope: Any) -> None:
    _require(isinstance(envelope, dict), "the message is no JSON object")
    properties = envelope.get("properties")
    _require(isinstance(properties, dict), "it has no properties")
    _require(_is_name(properties.get("delivery_tag")), "its delivery tag is none")
    _require(properties.get("body_encoding") == "base64", "its body is not said to be base64")
    delivery = properties.get("delivery_info")
    _require(isinstance(delivery, dict), "it does not say where it was sent")
    for name in ("exchange", "routing_key"):
        _require(isinstance(delivery.get(name), str), "it does not say where it was sent")
    _require(envelope.get("content-type") == "application/json", "its content is not JSON")
    _require(envelope.get("content-encoding") == "utf-8", "its content is not UTF-8")
    _require(isinstance(envelope.get("headers"), dict), "it has no headers")
    _require(isinstance(envelope.get("body"), str), "it has no body")


def _check_headers(headers: Mapping[str, Any]) -> None:
    _require("compression" not in headers, "its body is compressed")
    for name in ("task", "id"):
        _require(_is_name(headers.get(name)), f"its header '{name}' is none")
    for name, (allowed, what) in _HEADERS.items():
        value = headers.get(name)
        _require(value is None or allowed(value), f"its header '{name}' is {what}")


def _check_body(body: str) -> None:
    content = _json(_decoded(body), "its body")
    form = isinstance(content, list) and [type(one) for one in content]
    _require(
        form in ([list, dict, dict], [list, dict, type(None)]),
        "its body is not a list of arguments, named arguments and options",
    )


def _decoded(body: str) -> bytes:
    try:
        return b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise _Fault("its body is no base64") from None


def _require(holds: object, why: str) -> None:
    if not holds:
        raise _Fault(why)


def _is_name(value: object) -> bool:
    short = isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME
    return short and str(value).isascii() and str(value).isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_count(value: object) -> bool:
    return _is_number(value) and isinstance(value, int) and value <= _MOST_RETRIES


def _is_limit(value: object) -> bool:
    pair = isinstance(value, list) and len(value) == 2  # noqa: PLR2004 - soft and hard
    return pair and all(one is None or _is_number(one) for one in list(value))  # type: ignore[call-overload]


def _is_moment(value: object) -> bool:
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return isinstance(value, str)


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


class _Rule(NamedTuple):
    allowed: Callable[[object], bool]
    what: str


_TEXT: Final = _Rule(_is_text, what="no text")
_NAME: Final = _Rule(_is_name, what="no name")
_COUNT: Final = _Rule(_is_count, what="no count")
_MOMENT: Final = _Rule(_is_moment, what="no moment")
#: Headers that Celery reads in its main process, and what each must be where it is there.
_HEADERS: Final[Mapping[str, _Rule]] = {
    **dict.fromkeys(("root_id", "parent_id", "group", "parent_group"), _NAME),
    **dict.fromkeys(("lang", "shadow", "argsrepr", "kwargsrepr", "origin", "meth"), _TEXT),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), _COUNT),
    **dict.fromkeys(("eta", "expires"), _MOMENT),
    "timelimit": _Rule(_is_limit, what="no pair of numbers"),
    "ignore_result": _Rule(lambda value: isinstance(value, bool), what="no truth value"),
    "stamped_headers": _Rule(lambda value: isinstance(value, list), what="no list"),
    "stamps": _Rule(lambda value: isinstance(value, dict), what="no object"),
}

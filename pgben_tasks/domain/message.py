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

from pgben_tasks import names

#: What may be sent to every worker: questions, and the events that Flower shows. Other commands
#: of Celery change or end workers behind the ledger's back.
COMMANDS: Final = frozenset(
    {
        *("ping", "hello", "clock", "report", "conf", "stats", "heartbeat"),
        *("registered", "active", "active_queues", "scheduled", "reserved", "revoked"),
        *("query_task", "enable_events", "disable_events"),
    }
)
#: Larger than any request: a thousand keys of 1,024 bytes, in base64.
MOST_BYTES: Final = 4 * 1024 * 1024
#: Deeper than any chain that is sent; Python's own limit is near a thousand.
DEEPEST: Final = 60
_LONGEST_NAME: Final = 200
_MOST_RETRIES: Final = 1_000_000
_OPTIONS: Final = frozenset({"callbacks", "errbacks", "chain", "chord"})
_YEARS: Final = range(1970, 2200)
#: Steps repeat the name of their chain (``names``): ``pgben.backup.postgres.dump``.
_DOTS_OF_STEPS: Final = 3


class _Fault(ValueError):
    """Why a message is none; a short phrase that repeats nothing of it."""


def fault_of_message(raw: bytes) -> str | None:
    """Return why the bytes from a queue are no message of a task; None when they are one."""
    try:
        envelope = _json(raw, "the message")
        _check_envelope(envelope)
        _check_headers(envelope["headers"])
        _check_body(envelope["body"], str(envelope["headers"]["task"]))
        _check_reply(envelope["properties"])
    except _Fault as exc:
        return str(exc)
    return None


def fault_of_command(raw: bytes) -> str | None:
    """Return why the bytes that every worker got are no command that is carried out here.

    None for one. Others change workers behind the ledger's back, and some end them.
    """
    try:
        envelope = _json(raw, "the message")
        _check_envelope(envelope)
        command = _json(_decoded(envelope["body"]), "its body")
        _require(isinstance(command, dict), "its body is no JSON object")
        method, reply = command.get("method"), command.get("reply_to")
        _require(_is_name(method) and method in COMMANDS, "it is no command that workers carry out")
        _require(isinstance(command.get("arguments"), dict), "its arguments are no object")
        _require(_are_names(command.get("destination")), "it does not say for which workers")
        chosen = (command.get("pattern"), command.get("matcher"))
        _require(chosen == (None, None), "it chooses workers by a pattern")
        _require(reply is None or _is_address(reply), "it does not say whom to answer")
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
    stamped, stamps = headers.get("stamped_headers") or (), headers.get("stamps") or {}
    _require(set(stamped) <= set(stamps), "it names stamps that it does not have")


def _check_reply(properties: Mapping[str, Any]) -> None:
    for name in ("reply_to", "correlation_id"):
        _require(_is_text(properties.get(name, "")), "it does not say whom to answer")


def _check_body(body: str, task: str) -> None:
    content = _json(_decoded(body), "its body")
    form = isinstance(content, list) and [type(one) for one in content]
    _require(
        form in ([list, dict, dict], [list, dict, type(None)]),
        "its body is not a list of arguments, named arguments and options",
    )
    _check_arguments(content[0], content[1], task)
    options = content[2] or {}
    _require(set(options) <= _OPTIONS, "it has options that are none")
    for name in ("callbacks", "errbacks", "chain"):
        following = options.get(name) or []
        _require(isinstance(following, list), f"its option '{name}' is no list")
        _require(all(map(_is_signature, following)), f"its option '{name}' names no task")
    chord = options.get("chord")
    _require(chord is None or _is_signature(chord), "its option 'chord' names no task")


def _check_arguments(arguments: list[Any], named: Mapping[str, Any], task: str) -> None:
    """Check what only pgben itself sends; a request is judged, and refused, by its task."""
    if task == names.TICK:
        _require(not arguments and set(named) <= {"stand_in"}, "a tick has no arguments")
    elif task.startswith("pgben.") and task.count(".") >= _DOTS_OF_STEPS:
        ref = arguments[0] if len(arguments) == 1 and not named else None
        whole = isinstance(ref, dict) and set(ref) == {"job", "fence"}
        _require(whole, "it is a step without its job")


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


def _are_names(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_name, value)))


def _is_address(value: object) -> bool:
    whole = isinstance(value, dict) and set(value) == {"exchange", "routing_key"}
    return whole and all(map(_is_text, dict(value).values()))  # type: ignore[call-overload]


def _is_signature(value: object) -> bool:
    """Return whether a task that follows is described as Celery describes one."""
    if not (isinstance(value, dict) and _is_name(value.get("task"))):
        return False
    kinds = {"args": list, "kwargs": dict, "options": dict}
    return all(isinstance(value.get(name, kind()), kind) for name, kind in kinds.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_count(value: object) -> bool:
    return _is_number(value) and isinstance(value, int) and value <= _MOST_RETRIES


def _is_limit(value: object) -> bool:
    pair = isinstance(value, list) and len(value) == 2  # noqa: PLR2004 - soft and hard
    return pair and all(one is None or _is_number(one) for one in list(value))  # type: ignore[call-overload]


def _is_moment(value: object) -> bool:
    try:
        year = datetime.fromisoformat(str(value)).year
    except ValueError:
        return False
    # Nearer to the ends of the calendar, another zone's date may be none.
    return isinstance(value, str) and year in _YEARS


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
    "stamped_headers": _Rule(_are_names, what="no list"),
    "stamps": _Rule(lambda value: isinstance(value, dict), what="no object"),
}

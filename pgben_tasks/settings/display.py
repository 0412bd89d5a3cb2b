"""How values of settings are shown to people: without secrets, the way they are written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from pydantic import ByteSize, SecretStr

from pgben_tasks.redaction import HIDDEN, redact
from pgben_tasks.settings.servers import ServersFile
from pgben_tasks.settings.values import Contact, SecretUrl, format_duration


def show(value: object) -> str:
    """Write a setting's value for people, without what is secret in it."""
    if value is None or value == ():
        return "not set"
    for kind, write in _SHOWN:
        if isinstance(value, kind):
            return write(value)
    return redact(str(value))


#: How values are shown, the narrower kind before the wider one.
_SHOWN: Final[tuple[tuple[type, Callable[[Any], str]], ...]] = (
    (SecretUrl, str),
    (SecretStr, lambda _: HIDDEN),
    (bool, lambda value: "on" if value else "off"),
    (timedelta, format_duration),
    (ByteSize, lambda value: value.human_readable(separator="").replace(".0", "")),
    (Contact, "; ".join),
    (ServersFile, lambda value: str(value.path)),
    (tuple, lambda value: ", ".join(map(show, value))),
)

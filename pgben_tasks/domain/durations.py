"""Lengths of time as people write them: ``12h``, ``7d``, ``30min``, ``1d12h``. Pure."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "min": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_DURATION: Final = re.compile(r"(\d{1,6})\s*(w|d|h|min|s)")
#: Added to a date of today, more would soon leave the years that dates can have.
_LONGEST: Final = timedelta(days=999_999)


def parse_duration(value: object) -> object:
    """Read ``12h``, ``7d``, ``30min`` or ``1d12h``; other kinds of values pass unchanged."""
    if not isinstance(value, str):
        return value
    text = value.replace(" ", "").lower()
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        message = "must be a duration like '12h', '7d', '30min' or '1d12h'"
        raise ValueError(message)
    seconds = sum(int(number) * int(_UNITS[unit].total_seconds()) for number, unit in parts)
    if seconds > _LONGEST.total_seconds():
        message = "must be at most 999999d"
        raise ValueError(message)
    duration = timedelta(seconds=seconds)
    if not duration:
        message = "must be longer than no time at all"
        raise ValueError(message)
    return duration


def format_duration(value: timedelta) -> str:
    """Write a duration the way ``parse_duration`` reads it."""
    seconds, text = int(value.total_seconds()), ""
    # '24h' says more than '1d' where a limit is meant.
    units = ("d", "h", "min", "s") if value >= 2 * _UNITS["d"] else ("h", "min", "s")
    for unit in units:
        count, seconds = divmod(seconds, int(_UNITS[unit].total_seconds()))
        text += f"{count}{unit}" if count else ""
    return text or "0s"

"""Pydantic's findings as sentences for operators, without the values they are about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from pgben_tasks.domain.faults import phrase
from pgben_tasks.errors import ConfigurationError

#: As settings are written, and not in JSON.
_ON_OR_OFF: Final = {"bool_parsing": "must be 'on' or 'off'"}

#: It only repeats that another field is wrong.
_ECHO: Final = "default_factory_not_called"


def explain(error: ValidationError, *, name: Callable[[str], str] = str) -> list[str]:
    """Return one sentence per finding; ``name`` makes a setting's name from a field's."""
    sentences = []
    for fault in error.errors(include_input=False, include_url=False):
        if fault["type"] == _ECHO:
            continue
        place = name(str(fault["loc"][0])) if fault["loc"] else ""
        said = _ON_OR_OFF.get(fault["type"]) or phrase(fault)
        sentences.append(f"{place} {said}".strip())
    return sentences


def checked_by(check: Callable[[str], object]) -> Callable[[str], str]:
    """Return a check whose ``ConfigurationError`` pydantic collects with other faults."""

    def checked(value: str) -> str:
        try:
            check(value)
        except ConfigurationError as exc:
            raise ValueError(f"{exc.sentence}; {exc.hint}") from exc
        return value

    return checked

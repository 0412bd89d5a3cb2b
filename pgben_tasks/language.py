"""Texts for people in the language of PGBEN_LANGUAGE: gettext's catalogues, nothing beside them.

English texts stand in the code where they are used, as templates with named gaps; `locale/` holds
their translations. `make catalogues` collects the texts and compiles the translations.

Errors are raised in English with their values filled in, and travel so: to logs, through the ledger
to a mail. Where one is shown in another language, the catalogue `errors` tells it by its pattern.
"""

from __future__ import annotations

import gettext
import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

Language = Literal["pt_BR", "en"]

#: The catalogues: texts, and patterns of errors.
TEXTS: Final = "pgben"
ERRORS: Final = "errors"
LOCALE: Final = Path(__file__).parent / "locale"
#: Brazilian Portuguese writes 1.024,5 for 1,024.5.
_MARKS: Final = str.maketrans(".,", ",.")


def translatable(text: str) -> str:
    """Return the text itself; the mark by which it is found for the catalogues (imported as _)."""
    return text


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return in English how many there are: ``1 pack``, ``2 packs``, ``1,234 entries``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def with_marks(number: str, language: Language) -> str:
    """Return a number that is written in English with a language's marks: ``1,5``, ``1.024``."""
    return number if language == "en" else number.translate(_MARKS)


_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")
_KIBI: Final = 1024
_MINUTE: Final = 60
_HOUR: Final = 3600


def size(count: int | None) -> str:
    """Write a number of bytes in English with three significant digits: ``1.46 MiB``."""
    if count is None:
        return "-"
    if count < _KIBI:
        return f"{count} B"
    value, unit = count / _KIBI, 0
    # 1023.9 KiB would be written as 1024 KiB and is one MiB.
    while value >= _KIBI - 0.5 and unit < len(_UNITS) - 1:
        value, unit = value / _KIBI, unit + 1
    digits = 2 if value < 10 else 1 if value < 100 else 0  # noqa: PLR2004
    return f"{value:.{digits}f} {_UNITS[unit]}"


def duration(seconds: float | timedelta | None) -> str:
    """Write a length of time in English: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``1 h 05 min``."""
    if seconds is None:
        return "-"
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if seconds < 10:  # noqa: PLR2004
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    minutes = round(seconds / _MINUTE)
    return f"{minutes // _MINUTE} h {minutes % _MINUTE:02d} min"


def age(elapsed: timedelta) -> str:
    """Return an age in two units that every language reads: ``1 d 2 h``, ``3 h 20 min``."""
    minutes = max(int(elapsed.total_seconds() // 60), 0)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def translate(text: str, language: Language, **values: object) -> str:
    """Return a text in a language, its gaps filled; values are never read as templates."""
    # An empty text would be answered with the catalogue's header.
    return _catalogue(TEXTS, language).gettext(text).format_map(values) if text else ""


def translate_error(sentence: str, hint: str, language: Language) -> tuple[str, str]:
    """Return what an error says in a language; as it is, when a part of it has no translation."""
    # The faults of settings are told one to a line.
    texts = sentence, *hint.splitlines()
    translated = [translation_of_error(text, language) if text else "" for text in texts]
    known = [text for text in translated if text is not None]
    if language == "en" or len(known) < len(texts):
        return sentence, hint
    return known[0], "\n".join(known[1:])


class _Pattern(NamedTuple):
    expression: re.Pattern[str]
    translation: str
    #: Which values are names in quotes, and stay as they are whatever they look like.
    quoted: tuple[bool, ...]


_GAP: Final = re.compile(r"(['\"`]?)\{\d+\}")
#: A number with marks that no version of a program has.
_THOUSANDS: Final = re.compile(r"\d{1,3}(?:,\d{3})+")


def translation_of_error(text: str, language: Language) -> str | None:
    """Return a sentence or a hint in a language; None when no pattern knows it."""
    for pattern in _error_patterns(language):
        if match := pattern.expression.fullmatch(text):
            # A value may be what another error says, or a number.
            values = (
                value if quoted else _value(value, language)
                for value, quoted in zip(match.groups(), pattern.quoted, strict=True)
            )
            return pattern.translation.format(*values)
    return None


def _value(text: str, language: Language) -> str:
    if _THOUSANDS.fullmatch(text):
        return with_marks(text, language)
    return translation_of_error(text, language) or text


@cache
def _error_patterns(language: Language) -> tuple[_Pattern, ...]:
    """Return the patterns of errors, those that say most first."""
    # gettext finds texts, and has no public way to list them.
    known = vars(_catalogue(ERRORS, language)).get("_catalog", {})
    texts = sorted(filter(None, known), key=lambda text: (-len(_GAP.sub("", text)), text))
    return tuple(
        _Pattern(
            expression=re.compile(
                "(.*?)".join(re.escape(part) for part in re.split(r"\{\d+\}", text)), re.DOTALL
            ),
            translation=known[text],
            quoted=tuple(bool(quote) for quote in _GAP.findall(text)),
        )
        for text in texts
    )


@cache
def _catalogue(domain: str, language: Language) -> gettext.NullTranslations:
    if language == "en":
        return gettext.NullTranslations()
    return gettext.translation(domain, LOCALE, [language])

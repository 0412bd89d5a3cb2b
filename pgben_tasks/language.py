"""Texts for people in the language of PGBEN_LANGUAGE: gettext's catalogues, nothing beside them.

English texts stand in the code where they are used, as templates with named gaps; `locale/` holds
their translations. `make catalogues` collects the texts and compiles the translations.
"""

from __future__ import annotations

import gettext
from functools import cache
from pathlib import Path
from typing import Final, Literal

Language = Literal["pt_BR", "en"]

DOMAIN: Final = "pgben"
LOCALE: Final = Path(__file__).parent / "locale"


def translatable(text: str) -> str:
    """Return the text itself; the mark by which it is found for the catalogues (imported as _)."""
    return text


def translate(text: str, language: Language, **values: object) -> str:
    """Return a text in a language, its gaps filled; values are never read as templates."""
    # An empty text would be answered with the catalogue's header.
    return _catalogue(language).gettext(text).format_map(values) if text else ""


@cache
def _catalogue(language: Language) -> gettext.NullTranslations:
    if language == "en":
        return gettext.NullTranslations()
    return gettext.translation(DOMAIN, LOCALE, [language])

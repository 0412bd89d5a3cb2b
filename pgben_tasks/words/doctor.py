"""Write results in a language: the catalogues hold the words, this finds and fills them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pgben_tasks.health.doctor.report import Result
from pgben_tasks.words import doctor_en as words_en, doctor_pt as words_pt

Language = Literal["pt_BR", "en"]

CATALOGUES: Final[Mapping[Language, Mapping[str, tuple[str, str]]]] = {
    "en": words_en.WORDS,
    "pt_BR": words_pt.WORDS,
}


def written(result: Result, language: Language) -> tuple[str, str]:
    """Return the sentence of a result, and what to do about it (often nothing)."""
    words = CATALOGUES[language]
    sentence, hint = words.get(f"{result.check}.{result.word}") or words[f"any.{result.word}"]
    # Facts are filled in as they are: a name that holds braces is not read as a template.
    return sentence.format_map(result.facts), hint.format_map(result.facts).strip()

"""The page of the README that is read at 3 a.m.: its commands, by branch and language."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.support.reader import in_english

ROOT: Final = Path(__file__).parents[2]
HEADINGS: Final = {"en": "## Restore at 3 a.m.", "pt_BR": "## Restauração às 3 da manhã"}
_BRANCH: Final = re.compile(r"^\*\*([A-Z])[. ]", re.MULTILINE)


def page(language: str) -> str:
    """Return the page in a language."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition(HEADINGS[language])[2].partition("\n## ")[0]


def branches(language: str) -> dict[str, list[str]]:
    """Return the commands of each branch, in their order; those before the first as ``first``."""
    first, *others = _BRANCH.split(page(language))
    found = {"first": _commands(first)}
    for name, text in zip(others[::2], others[1::2], strict=True):
        found[name] = _commands(text)
    return found


def _commands(text: str) -> list[str]:
    return [in_english(line.strip()) for line in text.splitlines() if line.startswith("    ")]

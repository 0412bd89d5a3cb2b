"""The examples of docs/tasks.md, as people copy them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"
SECTION = "## The same restore four ways"


def restores(language: str) -> list[str]:
    """Return the examples of one language (``python``, ``sh``, ``typescript``) that restore."""
    section = PAGE.read_text(encoding="utf-8").partition(SECTION)[2].partition("\n## ")[0]
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return found

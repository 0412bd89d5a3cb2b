"""How a judgement looks to a monitoring system: the lines of a plugin for Nagios, and JSON. Pure.

The first line is `PGBEN LEVEL - text|figures`; further lines say more. A bar separates the figures,
so no text has one. All of it is English: machines and people of the monitoring read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pgben_tasks.domain.check import Judgement, Level, performance
from pgben_tasks.redaction import redact

#: How many details of one problem are written; JSON has all.
_MOST_DETAILS: Final = 10


def plugin_lines(found: Judgement) -> Iterator[str]:
    """Yield the lines of a judgement."""
    yield f"{_headline(found.level, found.summary)}|{performance(found.figures)}"
    for problem in found.problems:
        yield _plain(f"{problem.level.name}: {problem.text}")
        for detail in problem.details[:_MOST_DETAILS]:
            yield _plain(f"  {detail}")
        left = len(problem.details) - _MOST_DETAILS
        if left > 0:
            yield f"  and {left} more"


def unknown_lines(sentence: str, hint: str) -> Iterator[str]:
    """Yield the lines when nothing could be judged."""
    yield _headline(Level.UNKNOWN, sentence)
    for line in hint.splitlines():
        yield _plain(f"HINT: {line}")


def judgement_document(found: Judgement) -> dict[str, Any]:
    """Return a judgement as JSON."""
    return {
        "status": found.level.label,
        "code": int(found.level),
        "summary": redact(found.summary),
        "problems": [
            {
                "status": one.level.label,
                "target": one.target or None,
                "text": redact(one.text),
                "details": [redact(each) for each in one.details],
            }
            for one in found.problems
        ],
        "figures": [
            {
                "label": one.label,
                "value": one.value,
                "unit": one.unit,
                "warning": one.warn,
                "critical": one.crit,
            }
            for one in found.figures
        ],
    }


def unknown_document(kind: str, sentence: str, hint: str) -> dict[str, Any]:
    """Return as JSON that nothing could be judged, and why."""
    error = {"type": kind, "sentence": redact(sentence), "hint": redact(hint)}
    return {"status": Level.UNKNOWN.label, "code": int(Level.UNKNOWN), "error": error}


def _headline(level: Level, text: str) -> str:
    return _plain(f"PGBEN {level.name} - {text}")


def _plain(text: str) -> str:
    """Return text as one line without a bar, secrets hidden."""
    return " ".join(redact(text).replace("|", "/").split("\n"))

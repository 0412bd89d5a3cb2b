"""What `pgben doctor` shows: a line per result as soon as it is there, then the sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.text import Text

from pgben_tasks import runtime
from pgben_tasks.cli.view import output
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.health.doctor.report import Result, Status
from pgben_tasks.language import Language, translatable as _, translate
from pgben_tasks.redaction import redact

_MARKS: Final[dict[Status, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "error": ("✗", "bold red"),
}
_SUM: Final = _("{ok} as they should be, {warning} warning(s), {error} error(s)")


def language() -> Language:
    """Return PGBEN_LANGUAGE, or its default where the settings cannot be read."""
    try:
        return runtime.workplace().settings.language
    except ConfigurationError:
        return "pt_BR"


def document(results: Sequence[Result]) -> dict[str, Any]:
    """Return results as JSON, in English."""
    return {
        "checks": [
            {
                "check": one.check,
                "status": one.status,
                "sentence": redact(one.written("en")[0]),
                "hint": redact(one.written("en")[1]),
            }
            for one in results
        ],
        "counts": _counts(results),
    }


def show(results: Iterable[Result], *, language: Language) -> list[Result]:
    """Write results one after another; return them."""
    console = output.out()
    found = []
    for one in results:
        found.append(one)
        sentence, hint = one.written(language)
        mark, style = _MARKS[one.status]
        console.print(Text.assemble((f"{mark} ", style), redact(sentence)), soft_wrap=True)
        if hint:
            console.print(Text(f"    {redact(hint)}", style="yellow"), soft_wrap=True)
    console.print(Text(translate(_SUM, language, **_counts(found))))
    return found


def _counts(results: Iterable[Result]) -> dict[str, int]:
    counted = Counter(one.status for one in results)
    return {status: counted[status] for status in _MARKS}

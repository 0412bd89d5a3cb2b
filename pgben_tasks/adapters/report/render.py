"""A report as text and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Final

from pgben_tasks.domain.report import Report
from pgben_tasks.language import Language, translatable as _, translate, translate_error
from pgben_tasks.ports import Images

#: The folder of the stylesheet, for pages that link it.
STYLES: Final = Path(__file__).parent / "styles"
#: What the subject begins with, by the verdict.
_TITLES = {"green": "[OK]", "yellow": _("[ATTENTION]"), "red": _("[CRITICAL]")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A report in one language; ``images`` are those of a mail, by their content ids."""

    subject: str
    text: str
    html: str
    images: Mapping[str, bytes] = field(default_factory=dict)


def render(report: Report, language: Language, *, images: Images) -> Rendered:
    """Return the report in a language."""
    title = translate(_TITLES[report.colour], language)
    about = translate(_("Report of the backups"), language)
    subject = f"{title} {about} {report.made_at:%Y-%m-%d}"
    lines = [subject, ""]
    for one in report.reasons:
        sentence, hint = translate_error(one.text, one.hint, language)
        lines += [f"- {sentence}", *([f"  {hint}"] if hint else [])]
    text = "\n".join(lines) + "\n"
    body = f"<pre>{escape(text)}</pre>"
    if images == "svg":
        return Rendered(subject=subject, text=text, html=body)
    head = f"<meta charset=utf-8><title>{escape(subject)}</title>"
    page = f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"
    return Rendered(subject=subject, text=text, html=page)

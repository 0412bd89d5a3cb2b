"""Writes a report: as a mail of HTML and text, as a file of its own, or for a page of the console.

The same stylesheet serves all three. A mail has it twice: as styles of every element, for programs
that know no stylesheets, and as a stylesheet for phones and dark screens. The console's pages allow
no inline styles, and link ``styles/report.css``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pgben_tasks.adapters.report.content import content
from pgben_tasks.adapters.report.parts import Picture
from pgben_tasks.adapters.report.text import plain_text
from pgben_tasks.adapters.report.words import ReportWords
from pgben_tasks.domain.report import Report
from pgben_tasks.language import Language
from pgben_tasks.words import SIGNS

Images = Literal["cid", "inline", "svg"]

#: The folder of the stylesheet, for pages that link it.
STYLES: Final = Path(__file__).parent / "styles"
_CSS: Final = "report.css"
_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_RULE: Final = re.compile(r"([^{}]+)\{([^{}]*)\}")
_CODE: Final = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A report as it is sent or shown; ``images`` has a PNG for each content id of a mail."""

    subject: str
    text: str
    html: str
    images: Mapping[str, bytes] = field(default_factory=dict)


def render(report: Report, language: Language, *, images: Images) -> Rendered:
    """Return a report in a language.

    ``cid``: a document for a mail, whose pictures are ``images``. ``inline``: a document that needs
    nothing beside it. ``svg``: the body of a page that links the stylesheet.
    """
    words = ReportWords(language, _zone(report.zone))
    found = content(report, words)
    form: Literal["png", "svg"] = "png" if images == "cid" else "svg"
    drawn = _draw(found.pictures, words, form)
    # Ids of content are unique in the world, or programs show the pictures of another mail.
    of_report = hashlib.sha256(f"{report.id} {report.node}".encode()).hexdigest()[:16]
    ids = {name: f"{name}.{of_report}@pgben" for name in drawn}
    html = (
        _environment(styled=images == "cid")
        .get_template("body.html" if images == "svg" else "document.html")
        .render(
            content=found,
            language=language.replace("_", "-"),
            css=Markup(stylesheet()),  # noqa: S704 - our own file
            signs=SIGNS,
            images=images,
            ids=ids,
            drawn={name: Markup(one.decode()) for name, one in drawn.items()}  # noqa: S704 - escaped XML
            if form == "svg"
            else {},
        )
    )
    return Rendered(
        subject=found.subject,
        text=plain_text(found, words),
        html=html,
        images={ids[name]: one for name, one in drawn.items()} if images == "cid" else {},
    )


def stylesheet() -> str:
    """Return the stylesheet of reports."""
    return _COMMENT.sub("", (STYLES / _CSS).read_text(encoding="utf-8")).strip()


def _zone(name: str) -> ZoneInfo:
    """Return a time zone; UTC where this machine does not know the report's."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _draw(
    pictures: tuple[Picture, ...], words: ReportWords, form: Literal["png", "svg"]
) -> dict[str, bytes]:
    if not pictures:
        return {}
    # It takes a second to import, and most processes draw nothing.
    from pgben_tasks.adapters.report.plots import draw  # noqa: PLC0415

    return {one.name: draw(one, words, form) for one in pictures}


@cache
def _environment(*, styled: bool) -> Environment:
    """Return the templates; ``styled`` ones give every element its styles."""
    found = Environment(
        loader=PackageLoader("pgben_tasks.adapters.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rules = _rules() if styled else {}

    def look(*names: str) -> Markup:
        """Return the attributes by which an element looks as these classes say."""
        classes = [f"report-{name}" for name in names if name]
        styles = ";".join(rules[one] for one in classes if one in rules)
        attribute = Markup(' style="{}"').format(styles) if styles else ""
        return Markup('class="{}"{}').format(" ".join(classes), attribute)

    found.globals["look"] = look
    found.filters["code"] = lambda text: Markup(  # noqa: S704 - escaped before
        _CODE.sub(lambda one: f"<code {look('code')}>{one[1]}</code>", str(escape(text)))
    )
    return found


def _rules() -> dict[str, str]:
    """Return what the stylesheet says of each class by itself, on any screen."""
    found: dict[str, str] = {}
    for selectors, declarations in _RULE.findall(stylesheet().partition("@media")[0]):
        said = ";".join(filter(None, (" ".join(one.split()) for one in declarations.split(";"))))
        for selector in selectors.split(","):
            name = selector.strip().removeprefix(".")
            if re.fullmatch(r"report-[a-z0-9-]+", name):
                found[name] = f"{found[name]};{said}" if name in found else said
    return found

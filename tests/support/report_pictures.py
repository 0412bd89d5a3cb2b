"""Takes the pictures of docs/report.md: `make report-pictures`, then look at each of them.

The mail is shown as a program for mails shows it, that of ``narrow`` by one that knows no
stylesheets.
"""

from __future__ import annotations

import base64
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser

from pgben_tasks.adapters.report.render import render
from pgben_tasks.language import Language
from tests.support.browser import chromium, visit
from tests.support.report_examples import EXAMPLES

FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"
_DESKTOP: Final = 720
_PHONE: Final = 360
#: Few colours are enough for pages, and make a picture a third as large.
_COLOURS: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One picture: which example in which language, how wide, and how much of it is shown."""

    name: str
    kind: str
    language: Language
    width: int
    styled: bool = True
    dark: bool = False
    height: int | None = None


SHOTS: Final = (
    Shot(name="report-pt-desktop", kind="attention", language="pt_BR", width=_DESKTOP),
    Shot(name="report-en-desktop", kind="critical", language="en", width=_DESKTOP),
    Shot(name="report-pt-phone", kind="critical", language="pt_BR", width=_PHONE),
    Shot(name="report-en-phone", kind="good", language="en", width=_PHONE, height=1500),
    Shot(
        name="report-pt-narrow",
        kind="critical",
        language="pt_BR",
        width=_PHONE,
        styled=False,
        height=1500,
    ),
    Shot(
        name="report-en-dark",
        kind="attention",
        language="en",
        width=_DESKTOP,
        dark=True,
        height=1500,
    ),
)


def take(browser: Browser, shot: Shot, folder: Path) -> None:
    """Take one picture."""
    found = render(EXAMPLES[shot.kind](), shot.language, images="cid")
    html = found.html
    for content_id, png in found.images.items():
        data = base64.b64encode(png).decode()
        html = html.replace(f"cid:{content_id}", f"data:image/png;base64,{data}")
    if not shot.styled:
        html = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    if shot.dark:
        # The file that is kept has pictures that follow the page's colours.
        html = render(EXAMPLES[shot.kind](), shot.language, images="inline").html
    page_file = folder / f"{shot.name}.html"
    page_file.write_text(html, encoding="utf-8")
    target = FOLDER / f"{shot.name}.png"
    with visit(browser, width=shot.width, height=shot.height or 900) as context:
        page = context.new_page()
        page.emulate_media(color_scheme="dark" if shot.dark else "light")
        page.goto(page_file.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide == shot.width, f"{shot.name} is {wide} wide"
        page.screenshot(path=target, full_page=shot.height is None)
    with Image.open(target) as taken:
        small = taken.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    small.save(target, optimize=True)


def main() -> None:
    """Take all of them."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        for shot in SHOTS:
            take(browser, shot, Path(folder))


if __name__ == "__main__":
    main()

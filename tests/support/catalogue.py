"""Collects the texts of the code; updates, checks and compiles the catalogues of `locale/` (Babel).

`make catalogues` runs it: new texts are added to every catalogue without a translation, texts that
nothing uses any more are removed, and the catalogues are compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from babel.messages import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po, write_po

from pgben_tasks.language import ERRORS, LOCALE, TEXTS
from pgben_tasks.settings import Settings
from tests.support.errors_in_code import patterns

_PACKAGE = LOCALE.parent
#: The functions whose first argument is a text (pgben_tasks/language.py).
_KEYWORDS = {"_": None, "translate": None}
#: What finds them, in code and in the templates of pages.
_METHODS = [("**.py", "python"), ("**/templates/**.html", "jinja2.ext:babel_extract")]
_WIDTH = 100
_COMMENT = """\
# Texts for people, by their English originals in the code (pgben_tasks/language.py). After a change
# of the code or of this file: `make catalogues`."""
#: Headers that would differ after every run, or that say nothing.
_CHANGING = re.compile(
    rb'^"(?:Project|Report|POT|PO|Last|Language-Team|Plural|Generated).*\n', re.MULTILINE
)


def sources() -> list[Path]:
    """Return the catalogues of every language, as translators write them."""
    return sorted(LOCALE.glob("*/LC_MESSAGES/*.po"))


def collect(domain: str) -> set[str]:
    """Return every text of the code that belongs into a catalogue."""
    if domain == ERRORS:
        return patterns(_PACKAGE)
    marked = {
        text
        for _file, _line, text, _comments, _context in extract_from_dir(
            str(_PACKAGE), method_map=_METHODS, keywords=_KEYWORDS
        )
        if isinstance(text, str)
    }
    return marked | set(_descriptions())


def _descriptions() -> Iterator[str]:
    """Yield what is said of settings: their declarations are the mark."""
    for info in Settings.model_fields.values():
        yield info.description or ""
        extra = info.json_schema_extra
        words = extra.get("shown") if isinstance(extra, dict) else None
        if isinstance(words, str):
            yield words


def read(source: Path) -> dict[str, str]:
    """Return the translation of every text, empty where there is none."""
    return _messages(_catalog(source))


def read_compiled(source: Path) -> dict[str, str]:
    """Return the translations that the program reads, compiled from ``source``."""
    with source.with_suffix(".mo").open("rb") as file:
        return _messages(read_mo(file))


def update() -> Iterator[str]:
    """Bring every catalogue up to date, and compile it; yield what has no translation."""
    texts = {domain: collect(domain) for domain in (TEXTS, ERRORS)}
    for source in sources():
        old = _catalog(source)
        new = Catalog(locale=old.locale, header_comment=_COMMENT, fuzzy=False)
        for text in sorted(texts[source.stem]):
            known = old.get(text)
            new.add(text, known.string if known else "")
        written = BytesIO()
        write_po(written, new, width=_WIDTH)
        source.write_bytes(_CHANGING.sub(b"", written.getvalue()))
        if not source.with_suffix(".mo").exists() or read_compiled(source) != read(source):
            with source.with_suffix(".mo").open("wb") as file:
                write_mo(file, new)
        yield from (text for text, translation in read(source).items() if not translation)


def _catalog(source: Path) -> Catalog:
    with source.open("rb") as file:
        return read_po(file, locale=source.parents[1].name, domain=source.stem)


def _messages(catalog: Catalog) -> dict[str, str]:
    return {str(one.id): str(one.string) for one in catalog if one.id}


if __name__ == "__main__":
    for untranslated in update():
        print("untranslated:", untranslated)  # noqa: T201 - for the person who ran it

"""The recovery card: one printed page that leads from bare metal to a restored database.

Pure text. It holds fingerprints, places and people, and no secret key: whoever finds it can read
nothing with it. The words stand in ``recovery_words``; here is what is said in which order.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Final, Literal

from pgben_tasks import __version__
from pgben_tasks.words.recovery import WORDS, Language

_WIDTH: Final = 92
_LINE: Final = "_" * 48

Block = tuple[Literal["text", "facts", "code"], tuple[tuple[str, str], ...]]
Section = tuple[str, tuple[Block, ...]]

#: The way back without this program; docs/format.md has every detail.
COMMANDS: Final = (
    "mkdir -m 700 dump",
    "sha256sum 1.tar.age",
    "age -d -i escrow-identity.txt 1.tar.age | tar -x -C dump",
    "age -d -i escrow-identity.txt 2.tar.zst.age | zstd -d | tar -x -C dump",
    "createdb -T template0 -E UTF8 --locale=... -O OWNER NEWDB",
    "pg_restore -j 4 --exit-on-error -d NEWDB dump",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a recovery card says of one installation; nothing in it is secret.

    ``recipients`` are public age keys by name, ``signing_keys`` (name, roles, SHA-256), ``made``
    is aware and in the reader's time zone.
    """

    repository: str
    repository_id: str
    recipients: dict[str, str]
    signing_keys: tuple[tuple[str, tuple[str, ...], str], ...]
    escrow_file: str
    contacts: tuple[tuple[str, str, str], ...]
    made: datetime


def as_text(card: Card, language: Language) -> str:
    """Write the card as plain text."""
    words = WORDS[language]
    lines = [words["title"].upper(), words["subtitle"], _made(card, language), ""]
    for heading, blocks in _sections(card, language):
        lines += [heading, "-" * len(heading)]
        for kind, rows in blocks:
            lines += _text_rows(kind, rows)
        lines.append("")
    return "\n".join(lines)


def as_html(card: Card, language: Language) -> str:
    """Write the card as one A4 page of HTML that needs no other file."""
    words = WORDS[language]
    body = [f"<h1>{escape(words['title'])}</h1>", f"<p>{escape(words['subtitle'])}</p>"]
    for heading, blocks in _sections(card, language):
        body.append(f"<h2>{escape(heading)}</h2>")
        body += [_html_rows(kind, rows) for kind, rows in blocks]
    body.append(f"<footer>{escape(_made(card, language))}</footer>")
    return _PAGE.format(
        language=language.replace("_", "-"), title=escape(words["title"]), body="\n".join(body)
    )


def grouped(fingerprint: str) -> str:
    """Write a fingerprint in groups of eight, to be compared by eye."""
    return " ".join(textwrap.wrap(fingerprint, 8))


def _sections(card: Card, language: Language) -> Iterator[Section]:
    words = WORDS[language]
    blank = "; ".join((_LINE[:24],) * 3)
    yield (
        words["repository"],
        (("facts", ((words["place"], card.repository), (words["id"], card.repository_id))),),
    )
    yield (
        words["keys"],
        (
            (
                "facts",
                tuple((words.get(name, name), key) for name, key in card.recipients.items()),
            ),
            (
                "facts",
                tuple(
                    (f"{words['signing']} ({', '.join(roles)})", grouped(fingerprint))
                    for _, roles, fingerprint in card.signing_keys
                ),
            ),
            ("text", (("", words["compare"]),)),
        ),
    )
    yield (
        words["escrow_heading"],
        (
            ("text", (("", words["escrow_text"].format(file=card.escrow_file)),)),
            ("facts", ((words["lies_at"], _LINE), (words["opened_by"], _LINE))),
        ),
    )
    people = tuple((name, f"{mail}; {phone}") for name, mail, phone in card.contacts)
    yield words["contacts"], (("facts", people or ((words["nobody"], blank),)),)
    yield words["with_pgben"], (("text", (("", words["with_pgben_text"]),)),)
    yield (
        words["by_hand"],
        (
            ("text", tuple(("", words[f"hand_{n}"]) for n in range(1, 4))),
            ("code", tuple(("", command) for command in COMMANDS)),
            ("text", tuple(("", words[f"hand_{n}"]) for n in range(4, 7))),
        ),
    )


def _made(card: Card, language: Language) -> str:
    return WORDS[language]["made"].format(
        at=card.made.replace(microsecond=0).isoformat(sep=" "), version=__version__
    )


def _text_rows(kind: str, rows: tuple[tuple[str, str], ...]) -> list[str]:
    if kind == "code":
        return ["", *(f"    {value}" for _, value in rows), ""]
    lines = []
    for name, value in rows:
        if kind == "facts":
            lines += [f"  {name}:", f"      {value}"]
        else:
            lines += textwrap.wrap(value, _WIDTH, initial_indent="  ", subsequent_indent="  ")
    return lines


def _html_rows(kind: str, rows: tuple[tuple[str, str], ...]) -> str:
    if kind == "code":
        return f"<pre>{escape(chr(10).join(value for _, value in rows))}</pre>"
    if kind == "text":
        return "".join(f"<p>{escape(value)}</p>" for _, value in rows)
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"


_PAGE: Final = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
@page {{ size: A4; margin: 14mm 16mm; }}
body {{ font: 9.5pt/1.35 sans-serif; max-width: 178mm; margin: 0 auto; color: #111; }}
h1 {{ font-size: 17pt; margin: 0 0 1mm; }}
h2 {{ font-size: 11pt; margin: 4mm 0 1mm; border-bottom: 0.4pt solid #888; break-after: avoid; }}
p {{ margin: 0.6mm 0; }}
table {{ border-collapse: collapse; width: 100%; }}
th {{ text-align: left; font-weight: normal; color: #444; width: 34%; vertical-align: top; }}
td, pre {{ font-family: monospace; font-size: 8.5pt; overflow-wrap: anywhere; }}
pre {{ background: #f2f2f2; padding: 2mm; margin: 1.5mm 0; white-space: pre-wrap; }}
footer {{ margin-top: 4mm; color: #444; font-size: 8pt; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""

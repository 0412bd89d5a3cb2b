"""The recovery card: one printed page that leads from bare metal to a restored database.

Pure text. It holds fingerprints, places and people, and no secret key: whoever finds it can read
nothing with it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Final, Literal

from pgben_tasks import __version__
from pgben_tasks.language import Language, translatable as _, translate

_WIDTH: Final = 92
_LINE: Final = "_" * 48

_TITLE: Final = _("pgben recovery card")
_SUBTITLE: Final = _(
    "Print this page and keep it with the escrow key, away from the servers. It holds no secret."
)

#: What the identities are for whose public halves the card lists, by their names.
_RECIPIENTS: Final[Mapping[str, str]] = {
    "operations": _("operations key: opens backups, on restore workers only"),
    "escrow": _("escrow key: opens backups, kept offline"),
}

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

_BEFORE_COMMANDS: Final = (
    _(
        "1. From the repository, fetch backups/postgres/<database>/<backup>/manifest.json and "
        'every file under "packs" in it.'
    ),
    _("2. The SHA-256 of every fetched pack must equal the one in the manifest."),
    _("3. Open every pack into one folder; those named .tar.zst.age go through zstd as well:"),
)
_AFTER_COMMANDS: Final = (
    _(
        "4. Encoding, locale and owner of the new database stand in the manifest under "
        '"postgres"; create roles that are missing with CREATE ROLE … NOLOGIN '
        "(globals.sql names them). Never feed a dump to psql."
    ),
    _('5. Compare the rows of every table with "tables" in the manifest.'),
    _(
        "6. Apply grants, settings and comment from the manifest, run ANALYZE, then let the "
        "application in."
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a recovery card says of one installation; nothing in it is secret.

    ``recipients`` are public age keys by name, ``signing_keys`` (roles, public key, SHA-256),
    ``public_keys`` is the fingerprint of the document that the repository has of all these, if
    any; ``made`` is aware and in the reader's time zone.
    """

    repository: str
    repository_id: str
    recipients: dict[str, str]
    signing_keys: tuple[tuple[tuple[str, ...], str, str], ...]
    public_keys: str | None
    escrow_file: str
    contacts: tuple[tuple[str, str, str], ...]
    made: datetime


def as_text(card: Card, language: Language) -> str:
    """Write the card as plain text."""
    title, subtitle = translate(_TITLE, language), translate(_SUBTITLE, language)
    lines = [title.upper(), subtitle, _made(card, language), ""]
    for heading, blocks in _sections(card, language):
        lines += [heading, "-" * len(heading)]
        for kind, rows in blocks:
            lines += _text_rows(kind, rows)
        lines.append("")
    return "\n".join(lines)


def as_html(card: Card, language: Language) -> str:
    """Write the card as one A4 page of HTML that needs no other file."""
    title, subtitle = translate(_TITLE, language), translate(_SUBTITLE, language)
    body = [f"<h1>{escape(title)}</h1>", f"<p>{escape(subtitle)}</p>"]
    for heading, blocks in _sections(card, language):
        body.append(f"<h2>{escape(heading)}</h2>")
        body += [_html_rows(kind, rows) for kind, rows in blocks]
    body.append(f"<footer>{escape(_made(card, language))}</footer>")
    return _PAGE.format(
        language=language.replace("_", "-"), title=escape(title), body="\n".join(body)
    )


def grouped(fingerprint: str, size: int = 8) -> str:
    """Write a fingerprint in groups: of eight to be compared by eye, of four to be typed."""
    return " ".join(textwrap.wrap(fingerprint, size))


def _sections(card: Card, language: Language) -> Iterator[Section]:
    blank = "; ".join((_LINE[:24],) * 3)
    yield (
        translate("Where the backups are", language),
        (
            _facts(
                (translate("repository", language), card.repository),
                (translate("repository id", language), card.repository_id),
            ),
        ),
    )
    signing = translate("signing key", language)
    yield (
        translate("Keys (public halves and fingerprints)", language),
        (
            _facts(
                *(
                    (translate(_RECIPIENTS.get(name, name), language), key)
                    for name, key in card.recipients.items()
                )
            ),
            _facts(
                *(
                    row
                    for roles, public, fingerprint in card.signing_keys
                    for row in (
                        (f"{signing} ({', '.join(roles)})", public),
                        (translate("its fingerprint", language), grouped(fingerprint)),
                    )
                )
            ),
            _text(
                translate(
                    "On a new site, compare the fingerprints here with trusted-keys.json before "
                    "believing any backup.",
                    language,
                )
            ),
            *_stored_keys(card, language),
        ),
    )
    yield (
        translate("The escrow key", language),
        (
            _text(
                translate(
                    "The file {file} opens every backup. Print it or copy it to two media, lock "
                    "them away in two places together with trusted-keys.json and recipients.txt, "
                    "then delete it from the machine where it was made. Without this key and "
                    "without the operations key, no backup can ever be opened again.",
                    language,
                    file=card.escrow_file,
                )
            ),
            _facts(
                (translate("it lies at", language), _LINE),
                (translate("who can get it", language), _LINE),
            ),
        ),
    )
    people = tuple((name, f"{mail}; {phone}") for name, mail, phone in card.contacts)
    nobody = ((translate("name; mail; phone", language), blank),)
    yield translate("People", language), (_facts(*(people or nobody)),)
    yield (
        translate("Restoring with pgben", language),
        (
            _text(
                translate(
                    "Install pgben. `pgben bootstrap` asks for the repository, the escrow key, the "
                    "fingerprint of the public keys and new, empty servers, and brings everything "
                    "back. For one database alone set PGBEN_REPOSITORY with its credentials, "
                    "PGBEN_TRUSTED_KEYS_FILE to trusted-keys.json, PGBEN_AGE_IDENTITY_FILE to the "
                    "escrow file, and PGBEN_DB_HOST, PGBEN_DB_USER, PGBEN_DB_PASS to the new "
                    "server. `pgben list --direct` shows what there is, `pgben restore TARGET "
                    "--direct --into NAME` brings it back; Redis, workers and a catalog are not "
                    "needed. Afterwards `pgben catalog rebuild` makes the catalog anew.",
                    language,
                )
            ),
        ),
    )
    yield (
        translate("Restoring by hand (age, tar, zstd, pg_restore)", language),
        (
            _text(*(translate(step, language) for step in _BEFORE_COMMANDS)),
            ("code", tuple(("", command) for command in COMMANDS)),
            _text(*(translate(step, language) for step in _AFTER_COMMANDS)),
        ),
    )


def _stored_keys(card: Card, language: Language) -> Iterator[Block]:
    if card.public_keys is None:
        yield _text(
            translate(
                "The repository does not have these keys yet: run `pgben init` again once every "
                "worker runs this version, and print the card it writes then.",
                language,
            )
        )
        return
    yield _facts(
        (
            translate("fingerprint of the public keys in the repository", language),
            grouped(card.public_keys, 4),
        )
    )
    yield _text(
        translate(
            "Without trusted-keys.json: the repository has these keys in keys/, in a file named "
            "like this fingerprint. Believe it only when `sha256sum` shows all 16 groups; then it "
            "holds what trusted-keys.json held.",
            language,
        )
    )


def _facts(*rows: tuple[str, str]) -> Block:
    return "facts", rows


def _text(*paragraphs: str) -> Block:
    return "text", tuple(("", paragraph) for paragraph in paragraphs)


def _made(card: Card, language: Language) -> str:
    return translate(
        "made {at} by pgben {version}",
        language,
        at=card.made.replace(microsecond=0).isoformat(sep=" "),
        version=__version__,
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

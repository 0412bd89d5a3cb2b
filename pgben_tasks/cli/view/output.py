"""How values look on a screen: sizes, durations, moments, tables, JSON. Decides nothing.

Results go to stdout, everything said on the way (progress, hints, errors) to stderr.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from pgben_tasks import language
from pgben_tasks.cli.view import tables
from pgben_tasks.cli.view.tables import Facts, Listing, wrap
from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.listing import moment_text
from pgben_tasks.language import counted
from pgben_tasks.redaction import redact

#: The width where no line is to be wrapped or cut: in a file, in another program, on demand.
_UNBOUNDED: Final = 100_000

#: Colours of states and decisions; words without one stay plain.
STYLES: Final[Mapping[str, str]] = {
    "verified": "green",
    "succeeded": "green",
    "clean": "green",
    "restored": "green",
    "swapped": "green",
    "undone": "green",
    "done": "green",
    "verified (unopened)": "yellow",
    "unverified": "yellow",
    "stored": "yellow",
    "suspect": "yellow",
    "running": "cyan",
    "waiting": "cyan",
    "queued": "cyan",
    "expire": "yellow",
    "remove": "yellow",
    "not restorable here": "bold red",
    "damaged": "bold red",
    "unreadable": "bold red",
    "missing": "bold red",
    "failed": "bold red",
    "lost": "bold red",
    "refused": "red",
    "cancelled": "red",
}

#: Units of phases whose singular is not merely without its ending.
_SINGULARS: Final = {"entries": "entry"}

#: What is typed for the fields of requests, as errors name them (``errors``).
OPTIONS: Final[Mapping[str, str]] = {
    "target": "TARGET",
    "job": "JOB",
    "backup": "--backup",
    "at": "--at",
    "point": "--point",
    "into": "--into",
    "swap": "--in-place",
    "in_place": "--in-place",
    "confirm": "--confirm",
    "allow_unverified": "--unverified",
    "allow_damaged": "--damaged",
    "prefix": "--prefix",
    "keys": "--key",
    "put_below": "--put-below",
    "settings": "--settings",
    "roles": "--roles",
    "delete_extra": "--delete-extra",
    "level": "--level",
    "reason": "--reason",
    "dry_run": "--dry-run",
    "mail": "--mail",
    "until": "--until",
    "hold_for": "--hold",
    "keep_for": "--for",
    "label": "--label",
    "max_age": "--max-age",
    "release": "release",
}
_FIELD: Final = re.compile(r"`([a-z_]+)(?:=([^`]*))?`")

Cell = tables.Cell


size: Final = language.size
duration: Final = language.duration


def moment(at: datetime | None, zone: tzinfo = UTC) -> str:
    """Write a moment in ``zone``, with its offset: ``2026-11-23 02:00:05-03:00``."""
    if at is None:
        return "-"
    return at.astimezone(zone).replace(microsecond=0).isoformat(sep=" ")


def minute(at: datetime | None, zone: tzinfo = UTC) -> str:
    """Write a moment shortly, for a narrow screen: ``2026-11-23 02:00-03:00``."""
    return "-" if at is None else at.astimezone(zone).isoformat(sep=" ", timespec="minutes")


def number(value: int | None) -> str:
    """Write a number with separators: ``1,234,567``."""
    return "-" if value is None else f"{value:,}"


def amount(value: int, unit: str) -> str:
    """Write how much of something: bytes as a size, anything else counted.

    ``unit`` is a plural, as phases have it: ``tables``.
    """
    if unit == "bytes":
        return size(value)
    return counted(value, _SINGULARS.get(unit, unit.removesuffix("s")), unit)


def key(text: str) -> str:
    """Return an object's key as text that a terminal cannot take for a control sequence."""
    return text if text.isprintable() else repr(text)


def as_typed(text: str) -> str:
    """Return what an error says with the options of commands in place of a request's fields."""

    def option(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in OPTIONS:
            return found[0]
        return f"`{OPTIONS[name]}`" if value is None else f"`{OPTIONS[name]} {shlex.quote(value)}`"

    return _FIELD.sub(option, text)


def state(word: str) -> Text:
    """Return a state in its colour."""
    return Text(word, style=STYLES.get(word, ""))


def suspicion(reason: str, *, acknowledged: bool) -> Text:
    """Return why a backup is suspect, or was before somebody acknowledged it."""
    if acknowledged:
        return Text(f"suspect (acknowledged): {reason}")
    return Text(f"suspect: {reason}", style="yellow")


def hold(one: Hold | None, zone: tzinfo = UTC) -> str:
    """Return until when a backup is held, by whom and for what; nothing where it is not."""
    if one is None:
        return ""
    end = "it is released" if one.until is None else minute(one.until, zone)
    by = f" by {one.who}" if one.who else ""
    return f"held until {end}{by}" + (f", {one.label}" if one.label else "")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    title: str = "",
    right: str = "",
    below: int = 1,
) -> Listing:
    """Return a table; the columns whose names are listed in ``right`` are set to the right.

    On a narrow screen the last ``below`` columns go below a row in which they do not fit. Cells
    are shown as they are: nothing in them is read as markup.
    """
    names = [name.strip() for name in right.split(",")]
    return Listing(columns, rows, title=title, right=names, below=below)


def facts(pairs: Iterable[tuple[str, Cell]], *, title: str = "") -> Facts:
    """Return a table of names and values."""
    return Facts(pairs, title=title)


def is_wide(asked: bool = False) -> bool:
    """Return whether results are shown with every column, one line a row, however long.

    They are when it was asked for, and for a file or another program.
    """
    return asked or not sys.stdout.isatty()


def out(*, wide: bool = False) -> Console:
    """Return the console of results."""
    return _console(sys.stdout, wide=wide)


def err() -> Console:
    """Return the console of everything else."""
    return _console(sys.stderr)


def show(
    parts: Iterable[RenderableType], *, wide: bool = False, console: Console | None = None
) -> None:
    """Write tables and lines, one after another, to stdout unless another ``console`` is given.

    ``wide`` wraps none of them.
    """
    console = console or out(wide=wide)
    for number, part in enumerate(parts):
        if isinstance(part, Text):
            print_wrapped(console, part, indent=_indent(part.plain))
            continue
        if number:
            console.print()
        console.print(part)


def say(text: str, *, style: str = "") -> None:
    """Write a line for the person at the terminal, on stderr."""
    print_wrapped(err(), Text(text, style=style))


def hint(text: str) -> None:
    """Write a hint, on stderr."""
    say(f"HINT: {text}", style="yellow")


def complain(sentence: str, remedy: str) -> None:
    """Write an error and its hint, on stderr."""
    say(f"error: {redact(as_typed(sentence))}", style="bold red")
    if remedy:
        hint(redact(as_typed(remedy)))


def print_json(value: object) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(json.dumps(value, default=plain, ensure_ascii=False, indent=2) + "\n")
    sys.stdout.flush()


def plain(value: object) -> Any:
    """Return a value that JSON lacks as one that it has; moments in UTC."""
    if isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def print_wrapped(console: Console, text: Text, *, indent: int = 0) -> None:
    """Write a text between words, and commands in one piece, so that they can be copied.

    ``indent`` is what all lines but the first are set in by.
    """
    for number, line in enumerate(wrap(text, console.width - indent)):
        console.print(Text.assemble(" " * indent, line) if number else line, soft_wrap=True)


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip(" "))


def _console(stream: TextIO, *, wide: bool = False) -> Console:
    if not wide and stream.isatty():
        return Console(file=stream, highlight=False)
    # On a terminal without a cursor rich believes in a width only together with a height.
    return Console(file=stream, highlight=False, width=_UNBOUNDED, height=1)

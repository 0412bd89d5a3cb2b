"""Tables that fit the screen they are shown on: how columns share its width, where lines break.

A word is broken only when it is longer than a whole line. A last column that does not fit beside
the rest of its row is written below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Final

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions
from rich.text import Text

Cell = str | Text

_GAP: Final = 2
_INDENT: Final = 4
#: What the names of facts take of the width at most, where values have long words.
_NAMES_SHARE: Final = 0.4

#: What stays on one line: a word, or a command between backticks, which people copy.
_UNIT: Final = re.compile(r"\s+|(?:`[^`\n]*`|\S)+\s*")
_WORD: Final = re.compile(r"\s+|\S+\s*")


class Listing:
    """Rows under the names of their columns; see ``output.table``."""

    def __init__(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        *,
        title: str,
        right: Sequence[str],
        below: int,
    ) -> None:
        """Take the cells; nothing in them is read as markup."""
        self._title = title
        self._right = [name in right for name in columns]
        self._head = [Text(name, style="bold") for name in columns]
        self._rows = [[_text(cell) for cell in row] for row in rows]
        self._kept = max(len(columns) - below, 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines for a screen of this width."""
        width = options.max_width
        cells = [self._head, *self._rows]
        columns = list(zip(*cells, strict=True))
        widths = [max(cell_len(cell.plain) for cell in column) for column in columns]
        kept = len(widths)
        if _total(widths) > width:
            least = [max(map(_longest, column)) for column in columns]
            kept = self._kept
            while kept > 1 and _total(least[:kept]) > width:
                kept -= 1
            widths = _shrunk(widths[:kept], least[:kept], width)
        beside = [False] * len(cells)
        if kept == self._kept < len(columns):
            # The first of the last columns is beside the others in rows that have room for it.
            sizes = [cell_len(cell.plain) for cell in columns[kept]]
            room = width - _total(widths) - _GAP
            beside = [0 < size <= room for size in sizes]
            beside[0] = beside[0] and any(beside[1:])
            fitting = zip(sizes, beside, strict=True)
            widths.append(max(size if fits else 0 for size, fits in fitting))
        yield from _wrapped(self._title, "bold", width)
        for number, row in enumerate(cells):
            shown = kept + beside[number]
            yield from self._lines(row[:shown], widths)
            if number == 0:
                yield Text("─" * _total(widths[:shown]), style="dim")
                continue
            for place in range(shown, len(row)):
                # The last columns speak for themselves; any other needs its name.
                name = "" if place >= self._kept else f"{self._head[place].plain}: "
                yield from _below(row[place], width, name)

    def _lines(self, row: Sequence[Text], widths: Sequence[int]) -> Iterator[Text]:
        columns = [wrap(cell, size) for cell, size in zip(row, widths, strict=False)]
        for parts in zip_longest(*columns, fillvalue=Text()):
            line = Text()
            for part, size, right in zip(parts, widths, self._right, strict=False):
                space = " " * (size - cell_len(part.plain))
                line = Text.assemble(line, *((space, part) if right else (part, space)), " " * _GAP)
            line.rstrip()
            yield line


class Facts:
    """Names and values; see ``output.facts``."""

    def __init__(self, pairs: Iterable[tuple[str, Cell]], *, title: str) -> None:
        """Take the values; nothing in them is read as markup."""
        self._title = title
        self._pairs = [(Text(name, style="dim"), _text(value)) for name, value in pairs]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines for a screen of this width."""
        width = options.max_width
        longest = max((cell_len(name.plain) for name, _ in self._pairs), default=0)
        # Names are whole where every word of the values has room beside them.
        room = width - _GAP - max((_longest(value) for _, value in self._pairs), default=0)
        named = min(longest, max(int(width * _NAMES_SHARE), room))
        yield from _wrapped(self._title, "bold", width)
        for name, value in self._pairs:
            room = width - named - _GAP
            fits = _longest(value) <= room
            values = wrap(value, room) if fits else []
            for left, right in zip_longest(wrap(name, named), values, fillvalue=Text()):
                space = " " * (named + _GAP - cell_len(left.plain))
                line = Text.assemble(left, space, right)
                line.rstrip()
                yield line
            if not fits:
                yield from _below(value, width)


def wrap(text: Text, width: int) -> list[Text]:
    """Return the lines of a text on a screen of this width; at least one."""
    if cell_len(text.plain) <= width and "\n" not in text.plain:
        return [text]
    lines = []
    for paragraph in text.split("\n", allow_blank=True):
        for line in paragraph.divide(_breaks(paragraph.plain, width)):
            line.rstrip()
            lines.append(line)
    return lines or [Text()]


def _breaks(text: str, width: int, units: re.Pattern[str] = _UNIT) -> list[int]:
    """Return where lines of a paragraph begin, except its first."""
    places: list[int] = []
    used = 0
    for found in units.finditer(text):
        unit = found[0]
        size = cell_len(unit.rstrip())
        if used and used + size > width:
            places.append(found.start())
            used = 0
        if size > width:
            # Not even a line of its own is long enough.
            inner = _breaks(unit, width, _WORD) if units is _UNIT else _pieces(unit, width)
            places += [found.start() + place for place in inner]
            unit = unit[inner[-1] :] if inner else unit
        used += cell_len(unit)
    return places


def _pieces(word: str, width: int) -> list[int]:
    """Return where to break a word that is longer than a line: behind a slash, if there is one."""
    places: list[int] = []
    start = 0
    while cell_len(word[start:].rstrip()) > width:
        end = start + max(len(chop_cells(word[start:], width)[0]), 1)
        slash = word.rfind("/", start, end) + 1
        start = slash if slash > start else end
        places.append(start)
    return places


def _below(cell: Text, width: int, name: str = "") -> Iterator[Text]:
    """Yield what stands below its row; nothing for an empty cell."""
    if cell.plain not in {"", "-"}:
        for line in wrap(Text.assemble(name, cell), width - _INDENT):
            yield Text.assemble(" " * _INDENT, line)


def _wrapped(text: str, style: str, width: int) -> list[Text]:
    return wrap(Text(text, style=style), width) if text else []


def _fits(row: Sequence[Text], loose: range, room: int) -> bool:
    """Return whether there is something in the first of the loose cells, and room for it."""
    return bool(loose) and 0 < cell_len(row[loose.start].plain) <= room


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def _longest(cell: Text) -> int:
    return max((cell_len(word) for word in cell.plain.split()), default=0)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _shrunk(natural: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Return widths that fit: the widest column gives way first, to its longest word at least."""
    widths = list(natural)
    while _total(widths) > width:
        spare = [size for size, short in zip(widths, least, strict=True) if size > short]
        if not spare:
            # One column is left, and its longest word is longer than the screen.
            return [min(size, width) for size in widths]
        widths[widths.index(max(spare))] -= 1
    return widths

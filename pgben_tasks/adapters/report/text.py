"""Writes a report as plain text that reads well alone, in lines of at most 72 letters."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from pgben_tasks.adapters.report.parts import (
    Calendar,
    Content,
    Fact,
    Facts,
    Line,
    Lines,
    Meter,
    Part,
    Section,
    Trend,
    Week,
)
from pgben_tasks.adapters.report.words import WEEKDAYS, ReportWords
from pgben_tasks.words import LEVELS, SIGNS

WIDTH: Final = 72
#: Labels stand in a column of their own, this wide at most.
_LABELS: Final = 26
_BARS: Final = "▁▂▃▄▅▆▇█"
#: Bars of a trend beside each other.
_TREND: Final = 45
_METER: Final = 40
#: Stands for a space where a line must not end.
_KEPT: Final = "\N{NO-BREAK SPACE}"


def plain_text(content: Content, words: ReportWords) -> str:
    """Return the whole report as text; it ends with a line break."""
    lines = [
        *_wrap(f"pgben · {content.title}"),
        *_wrap(content.about),
        "=" * WIDTH,
        *_wrap(f"{SIGNS[content.level]} {content.mark}: {content.verdict}", indent="  "),
        "=" * WIDTH,
        "",
    ]
    for one in content.answers:
        lines += _wrap(f"{one.question}  {SIGNS[one.level]} {one.answer}", indent="    ")
        for more in one.more:
            lines += _wrap(more, first="    ", indent="    ")
    for section in content.sections:
        lines += ["", *_section(section, words)]
    lines.append("")
    for foot in content.foot:
        lines += _wrap(foot)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _section(section: Section, words: ReportWords) -> Iterator[str]:
    badge = f"  [{SIGNS[section.level]} {section.badge}]" if section.badge else ""
    yield from _wrap(f"{section.heading.upper() if not badge else section.heading}{badge}")
    yield "-" * WIDTH
    for part in section.parts:
        yield from _part(part, words)


def _part(part: Part, words: ReportWords) -> Iterator[str]:
    if isinstance(part, Facts):
        yield from _facts(part.facts)
    elif isinstance(part, Lines):
        if part.heading:
            yield from ("", f"{part.heading}:")
        for one in part.lines:
            yield from _line(one)
    elif isinstance(part, Week):
        yield from _week(part)
    elif isinstance(part, Meter):
        filled = round(part.share * _METER)
        yield f"[{'#' * filled}{'.' * (_METER - filled)}]"
    elif isinstance(part, Trend):
        yield from _trend(part, words)
    else:
        yield from _calendar(part, words)


def _wrap(text: str, *, first: str = "", indent: str = "") -> list[str]:
    """Return a paragraph in lines, the later ones indented."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )


def _facts(facts: tuple[Fact, ...]) -> Iterator[str]:
    column = min(max((len(one.label) for one in facts), default=0), _LABELS) + 2
    for one in facts:
        sign = f"{SIGNS[one.level]} " if one.level else ""
        label = f"{one.label}:"
        # A label that is too long has a line of its own.
        first = f"{label:<{column}}" if len(label) < column else " " * column
        if len(label) >= column:
            yield from _wrap(label)
        yield from _wrap(f"{sign}{one.value}", first=first, indent=" " * column)
        for more in one.more:
            yield from _wrap(more, first=" " * column, indent=" " * column)


def _line(line: Line) -> Iterator[str]:
    sign = f"{SIGNS[line.level]} " if line.level else "  "
    label = f"{line.label}: " if line.label and line.text else line.label
    yield from _wrap(f"{label}{line.text}", first=sign, indent="  ")
    if line.hint:
        yield from _wrap(line.hint, first="    ", indent="    ")


def _week(week: Week) -> Iterator[str]:
    cells = [f"{one.weekday} {one.day} {SIGNS[one.level]}" for one in week.nights]
    yield from _wrap(f"{week.label}: {week.summary}", indent="  ")
    yield from _kept("   ".join(cell.replace(" ", _KEPT) for cell in cells))
    yield ""


def _kept(text: str) -> Iterator[str]:
    """Yield a paragraph in lines that do not end at a kept space."""
    for line in _wrap(text, first="  ", indent="  "):
        yield line.replace(_KEPT, " ")


def _trend(trend: Trend, words: ReportWords) -> Iterator[str]:
    """Yield the sizes as bars of letters; a space is a time without a backup."""
    span = max((trend.until - trend.since).total_seconds(), 1)
    largest: list[int | None] = [None] * _TREND
    for one in trend.sizes:
        passed = (one.at - trend.since).total_seconds() / span
        place = int(min(max(passed, 0.0), 1.0) * (_TREND - 1))
        largest[place] = max(one.stored_bytes, largest[place] or 0)
    most = max(one.stored_bytes for one in trend.sizes) or 1
    bars = "".join(
        " " if one is None else _BARS[min(int(one / most * len(_BARS)), len(_BARS) - 1)]
        for one in largest
    )
    since, until = (words.short_day(words.local(at)) for at in (trend.since, trend.until))
    yield from ("", f"{trend.titles[0]}:")
    yield f"  {since:<7}{bars} {until}"


def _calendar(calendar: Calendar, words: ReportWords) -> Iterator[str]:
    weeks = calendar.weeks
    row = " " * (2 * len(weeks) + 4)
    for column, month in calendar.months.items():
        name = words.month(month)
        row = row[: 2 * column] + name + row[2 * column + len(name) :]
    yield f"      {row}"
    for weekday, name in enumerate(WEEKDAYS):
        nights = [week[weekday] for week in weeks]
        signs = [" " if one is None else SIGNS[LEVELS[one.state]] for one in nights]
        yield f"  {words(name):<4}" + " ".join(signs)
    legend = "   ".join(
        f"{SIGNS[LEVELS[state]]} {text}".replace(" ", _KEPT) for state, text in calendar.legend
    )
    yield ""
    yield from _kept(legend)
    yield ""

"""Nights in the report: the week of one target, and the calendar of everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from pgben_tasks.adapters.report.parts import Calendar, Line, Lines, Night, Part, Week
from pgben_tasks.adapters.report.words import ReportWords
from pgben_tasks.domain.nights import NightState
from pgben_tasks.domain.report import NightOf
from pgben_tasks.language import translatable as _
from pgben_tasks.words import LEVELS

#: Kinds of nights in the legend of a calendar; those of one level share its sign and its words.
_LEGEND: Final[dict[NightState, str]] = {
    "good": _("all good"),
    "doubtful": _("suspect or incomplete"),
    "open": _("not ended yet"),
    "none": _("nothing was due"),
    "failed": _("failed, or no backup ran"),
}
_LONGEST: Final = timedelta(days=92)
#: Troubled nights that are named below the calendar.
_MOST_NAMED: Final = 10


def week(nights: Sequence[NightOf], words: ReportWords) -> Week:
    """Return the nights of a week."""
    return Week(
        label=words(_("The nights of this week")),
        nights=tuple(
            Night(
                weekday=words.weekday(one.day),
                day=f"{one.day.day}",
                level=LEVELS[one.state],
                state=words.state(one.state),
            )
            for one in nights
        ),
        summary="; ".join(
            f"{words.weekday(one.day)} {words.short_day(one.day)}: {words.state(one.state)}"
            for one in nights
            if one.state != "good"
        )
        or words(_("all good")),
    )


def calendar(nights: Sequence[NightOf], words: ReportWords) -> Iterator[Part]:
    """Yield the calendar, and the nights of it that were not good, the newest first."""
    nights = _of_one_calendar(nights)
    good = sum(one.state == "good" for one in nights)
    yield Calendar(
        name="nights",
        alt=words(
            _("Calendar of {count} nights, {good} of them all good; those with trouble are below."),
            count=len(nights),
            good=good,
        ),
        nights=nights,
        legend=tuple((state, words(text)) for state, text in _LEGEND.items()),
    )
    troubled = [one for one in reversed(nights) if LEVELS[one.state] in {"bad", "doubt"}]
    lines = [
        Line(
            label=f"{words.weekday(one.day)} {words.day(one.day)}",
            text=words.state(one.state),
            level=LEVELS[one.state],
        )
        for one in troubled[:_MOST_NAMED]
    ]
    if len(troubled) > _MOST_NAMED:
        lines.append(_and_more(len(troubled) - _MOST_NAMED, words))
    if not troubled:
        lines.append(Line(text=words(_("No night had trouble.")), level="good"))
    yield Lines(lines=tuple(lines))


def _of_one_calendar(nights: Sequence[NightOf]) -> list[NightOf]:
    """Return the nights up to the newest one that have room in a calendar."""
    newest = max(one.day for one in nights)
    return [one for one in nights if newest - one.day < _LONGEST]


def _and_more(count: int, words: ReportWords) -> Line:
    return Line(text=words(_("and {count} more"), count=words.number(count)), level="")

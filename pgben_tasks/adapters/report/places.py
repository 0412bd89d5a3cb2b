"""Places that fill, in the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pgben_tasks.adapters.report.parts import Fact, Facts, Meter, Part
from pgben_tasks.adapters.report.words import ReportWords
from pgben_tasks.domain.report import Report, SpaceFacts
from pgben_tasks.language import translatable as _

#: Days left from which on a place is not worth a look.
_ENOUGH_DAYS: Final = 14
_MOST_DAYS: Final = 999


def space(report: Report, words: ReportWords) -> Iterator[Part]:
    """Yield of every place how full it is, how it grows, and whether tonight fits."""
    for one in report.space:
        level = _level(one)
        yield Facts(
            facts=(
                Fact(
                    label=words.place(one.place),
                    value=_used(one, words),
                    level=level,
                    more=tuple(_more(one, words)),
                ),
            )
        )
        if one.used is not None and one.capacity:
            share = min(max(one.used / one.capacity, 0.0), 1.0)
            yield Meter(
                label=words(
                    _("{place}: {share} used"),
                    place=words.place(one.place),
                    share=words.percent(share),
                ),
                share=share,
                level=level,
            )


def _level(one: SpaceFacts) -> str:
    if one.critical or one.fits is False:
        return "bad"
    if one.days_left is not None and one.days_left < _ENOUGH_DAYS:
        return "doubt"
    return "plain" if one.used is None or one.capacity is None else "good"


def _used(one: SpaceFacts, words: ReportWords) -> str:
    if one.used is None:
        return words(_("not known"))
    if not one.capacity:
        return words(_("{used} used, of nobody knows how much"), used=words.size(one.used))
    return words(
        _("{used} of {capacity} ({share})"),
        used=words.size(one.used),
        capacity=words.size(one.capacity),
        share=words.percent(one.used / one.capacity),
    )


def _more(one: SpaceFacts, words: ReportWords) -> Iterator[str]:
    pace = []
    if one.growth_per_day is not None:
        text = _("grows {size} a day") if one.growth_per_day >= 0 else _("shrinks {size} a day")
        pace.append(words(text, size=words.size(abs(one.growth_per_day))))
    if one.days_left is not None:
        days = min(max(one.days_left, 0), _MOST_DAYS)
        text = _("days left: {count}") if days < _MOST_DAYS else _("days left: more than {count}")
        pace.append(words(text, count=words.number(days)))
    if pace:
        yield " · ".join(pace)
    if one.tonight is not None:
        text = {
            True: _("tonight writes about {size}, which fits"),
            False: _("tonight writes about {size}, which does not fit"),
            None: _("tonight writes about {size}"),
        }[one.fits]
        yield words(text, size=words.size(one.tonight))
    yield words.plain(one.where)

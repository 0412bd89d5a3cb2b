"""What a report consists of, in words of one language: sections, and the parts they are made of.

HTML and text are written from the same parts, so that both say the same in the same order. The
level of a part (``good``, ``doubt``, ``bad``, ``busy``, ``plain``) is a colour with a sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from pgben_tasks.domain.nights import NightState
from pgben_tasks.domain.report import NightOf, Size

#: As many columns of a calendar as the name of a month is wide.
_COLUMNS_OF_A_MONTH: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A label with its value; ``more`` is said of it in smaller letters."""

    label: str
    value: str
    level: str = ""
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts below each other."""

    facts: tuple[Fact, ...]
    kind: str = field(default="facts", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A sentence, and what to do about it; ``label`` says first what it is about."""

    text: str
    level: str = "plain"
    hint: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Sentences below each other, with a heading of their own where they need one."""

    lines: tuple[Line, ...]
    heading: str = ""
    kind: str = field(default="lines", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One night of a week."""

    weekday: str
    day: str
    level: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """The nights of a week beside each other; ``summary`` names those that were not good."""

    label: str
    nights: tuple[Night, ...]
    summary: str
    kind: str = field(default="week", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """How full a place is; ``share`` lies between 0 and 1."""

    label: str
    share: float
    level: str
    kind: str = field(default="meter", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Sizes and durations over weeks; ``alt`` says in words what a picture of them shows."""

    name: str
    alt: str
    sizes: Sequence[Size]
    since: datetime
    until: datetime
    titles: tuple[str, str]
    kind: str = field(default="trend", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Nights as weeks in columns; ``alt`` says in words what a picture of them shows.

    ``legend`` has a state and its words for each kind of night.
    """

    name: str
    alt: str
    nights: Sequence[NightOf]
    legend: tuple[tuple[NightState, str], ...]
    kind: str = field(default="calendar", init=False)

    @property
    def weeks(self) -> list[list[NightOf | None]]:
        """The nights as columns from Monday to Sunday; None where there is none."""
        by_day = {night.day: night for night in self.nights}
        if not by_day:
            return []
        first = min(by_day).toordinal() - min(by_day).weekday()
        return [
            [by_day.get(date.fromordinal(monday + weekday)) for weekday in range(7)]
            for monday in range(first, max(by_day).toordinal() + 1, 7)
        ]

    @property
    def months(self) -> dict[int, date]:
        """The columns that a month is written above, each with a day of that month.

        The first column, unless the next month begins so soon that the names would touch.
        """
        found: dict[int, date] = {}
        for column, week in enumerate(self.weeks):
            begins = [night.day for night in week if night is not None and night.day.day == 1]
            if column == 0:
                found[0] = begins[0] if begins else min(night.day for night in week if night)
            elif begins:
                found[column] = begins[0]
        columns = sorted(found)
        if len(columns) > 1 and columns[1] < _COLUMNS_OF_A_MONTH:
            del found[0]
        return found


Part = Facts | Lines | Week | Meter | Trend | Calendar
Picture = Trend | Calendar


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and what stands below it; ``badge`` says how it is, in the colour of ``level``."""

    id: str
    heading: str
    parts: tuple[Part, ...]
    level: str = ""
    badge: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A question with its answer."""

    question: str
    answer: str
    level: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A whole report."""

    subject: str
    title: str
    #: When and where it was made.
    about: str
    level: str
    mark: str
    verdict: str
    answers: tuple[Answer, ...]
    sections: tuple[Section, ...]
    foot: tuple[str, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """What is to be drawn."""
        return tuple(
            part
            for section in self.sections
            for part in section.parts
            if isinstance(part, Trend | Calendar)
        )

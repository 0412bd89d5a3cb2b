"""How the report writes dates, and what it calls kinds of findings, places and decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from pgben_tasks.domain.alarm import one_line
from pgben_tasks.language import age, translatable as _, with_marks
from pgben_tasks.words import ALARMS, PlainWords

WEEKDAYS: Final = (_("Mon"), _("Tue"), _("Wed"), _("Thu"), _("Fri"), _("Sat"), _("Sun"))
MONTHS: Final = (
    *(_("Jan"), _("Feb"), _("Mar"), _("Apr"), _("May"), _("Jun")),
    *(_("Jul"), _("Aug"), _("Sep"), _("Oct"), _("Nov"), _("Dec")),
)

#: What a verification finds wrong.
FINDINGS: Final[Mapping[str, str]] = {
    "missing": _("missing"),
    "damaged": _("damaged"),
    "unreadable": _("unreadable"),
    "truncated": _("cut off"),
    "swapped": _("in another one's place"),
    "forged": _("not signed by a trusted key"),
    "invalid": _("not as the format says"),
    "extra": _("not known to the format"),
}

#: Places that fill.
PLACES: Final[Mapping[str, str]] = {
    "spool": _("Temporary files (spool)"),
    "repository": _("Repository"),
    "restore": _("Room for a restore beside"),
}

#: What retention decided.
DECISIONS: Final[Mapping[str, str]] = {
    "keep": _("stays"),
    "expire": _("goes next"),
    "expired": _("was removed"),
}


@dataclass(frozen=True, slots=True)
class ReportWords(PlainWords):
    """Writes the texts and values of a report."""

    def short_day(self, at: date) -> str:
        """Write a day without its year: ``30/11``, ``30 Nov``."""
        return f"{at:%d/%m}" if self.language == "pt_BR" else f"{at.day} {self.month(at)}"

    def day(self, at: date) -> str:
        """Write a day: ``30/11/2026``, ``30 Nov 2026``."""
        return (
            f"{at:%d/%m}/{at.year}"
            if self.language == "pt_BR"
            else f"{self.short_day(at)} {at.year}"
        )

    def weekday(self, at: date) -> str:
        """Write the day of the week in three letters."""
        return self(WEEKDAYS[at.weekday()])

    def month(self, at: date) -> str:
        """Write the month in three letters."""
        return self(MONTHS[at.month - 1])

    def local(self, at: datetime) -> datetime:
        """Return a moment in the report's zone; as it is at the ends of the calendar."""
        try:
            return at.astimezone(self.zone)
        except OverflowError:
            return at

    def moment(self, at: datetime | None) -> str:
        """Write a moment in local time, to the minute."""
        if at is None:
            return "–"
        local = self.local(at)
        return f"{self.day(local)} {local:%H:%M}"

    def short_moment(self, at: datetime) -> str:
        """Write a moment without its year."""
        local = self.local(at)
        return f"{self.short_day(local)} {local:%H:%M}"

    def age(self, seconds: float) -> str:
        """Write an age in two units."""
        return age(timedelta(seconds=min(seconds, timedelta.max.total_seconds() / 2)))

    def hours(self, seconds: float) -> str:
        """Write a limit: ``26 h``, ``45 min``."""
        hours = seconds / 3600
        return self.duration(seconds) if hours < 1 else f"{self.decimal(hours)} h"

    def against(self, seconds: float, limit: float) -> str:
        """Write an age, and how old what can be restored may be."""
        return self(
            _("{age} old; PGBEN_RPO allows {limit}"), age=self.age(seconds), limit=self.hours(limit)
        )

    def decimal(self, value: float) -> str:
        """Write a number with one digit where it has one: ``26``, ``1,5``."""
        return with_marks(f"{value:,.1f}".removesuffix(".0"), self.language)

    def percent(self, share: float) -> str:
        """Write a share in hundredths."""
        return f"{share * 100:.0f} %"

    def plain(self, text: str) -> str:
        """Return a name or an address as one line without secrets."""
        return one_line(text)

    def said(self, text: str) -> str:
        """Return what an error or a reason says, in the language where it is known, as one line."""
        return one_line(self.phrase(text))

    def kind_of_finding(self, kind: str) -> str:
        """Return what a finding is called; one that is not known as it is."""
        return self(FINDINGS[kind]) if kind in FINDINGS else self.plain(kind)

    def kind_of_alarm(self, kind: str) -> str:
        """Return what an alarm is about; one that is not known as it is."""
        return self(ALARMS[kind]) if kind in ALARMS else self.plain(kind)

    def place(self, place: str) -> str:
        """Return what a place that fills is called; one that is not known as it is."""
        return self(PLACES[place]) if place in PLACES else self.plain(place)

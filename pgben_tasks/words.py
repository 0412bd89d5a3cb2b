"""The words that pages, mails and the report share: states, colours, alarms, and written values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

from pgben_tasks.language import (
    Language,
    duration,
    size,
    translatable as _,
    translate,
    translation_of_error,
    with_marks,
)
from pgben_tasks.redaction import redact

STATES: Final[Mapping[str, str]] = {
    "queued": _("queued"),
    "running": _("running"),
    "waiting": _("waiting"),
    "succeeded": _("succeeded"),
    "failed": _("failed"),
    "refused": _("refused"),
    "cancelled": _("cancelled"),
    "lost": _("lost its worker"),
    "verified": _("verified"),
    "verified (unopened)": _("verified (unopened)"),
    "verified with exceptions": _("verified with exceptions"),
    "unverified": _("unverified"),
    "stored": _("stored"),
    "suspect": _("suspect"),
    "incomplete": _("incomplete"),
    "damaged": _("damaged"),
    "unreadable": _("unreadable"),
    "missing": _("missing"),
    "no backup": _("no backup ran"),
    "expired": _("expired"),
    "not restorable here": _("not restorable here"),
    "done": _("done"),
    "interrupted": _("interrupted"),
    "retrying": _("tried again"),
    "offered": _("offered"),
    "good": _("all good"),
    "doubtful": _("suspect or incomplete"),
    "open": _("not ended yet"),
    "none": _("nothing was due"),
    "undone": _("undone"),
    "swapped": _("swapped"),
    "restored": _("restored"),
    "dropped": _("swapped, and the replaced database removed"),
    # Verdicts, by their colours.
    "green": _("all is well"),
    "yellow": _("something needs a look"),
    "red": _("something is wrong"),
}

#: How alarming a state is, for its colour; a sign says the same to who sees no colours.
LEVELS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            *("succeeded", "verified", "verified with exceptions", "done", "good", "restored"),
            "swapped",
        ),
        "good",
    ),
    **dict.fromkeys(("queued", "running", "waiting", "open", "offered", "retrying"), "busy"),
    **dict.fromkeys(
        ("verified (unopened)", "unverified", "stored", "suspect", "doubtful", "incomplete"),
        "doubt",
    ),
    **dict.fromkeys(("interrupted", "undone", "dropped", "expired", "none", "cancelled"), "plain"),
    **dict.fromkeys(
        (
            *("failed", "refused", "damaged", "unreadable", "missing", "not restorable here"),
            *("lost", "no backup"),
        ),
        "bad",
    ),
    "green": "good",
    "yellow": "doubt",
    "red": "bad",
}
SIGNS: Final[Mapping[str, str]] = {
    "good": "✓",
    "busy": "…",
    "doubt": "!",
    "bad": "✗",
    "plain": "–",
}

#: What the colour of the verdict says to the question whether everything can be restored.
CAN: Final[Mapping[str, str]] = {
    "green": _("Yes"),
    "yellow": _("Yes, and something needs a look"),
    "red": _("No, not everything"),
    "unknown": _("Nobody answers"),
}

#: What alarms are about, without their target.
ALARMS: Final[Mapping[str, str]] = {
    "failed": _("a job failed"),
    "after_swap": _("the command after a swap failed"),
    "refused": _("a request was refused"),
    "damaged": _("damage was found"),
    "suspect": _("a backup is suspect"),
    "faulty": _("rows and objects do not go together"),
    "overdue": _("a window is overdue"),
    "stale": _("a target has no recent verified backup"),
    "space": _("a place is running out of room"),
    "silent": _("the scheduler was silent"),
    "expiring": _("a restored copy will be removed"),
    "unverified": _("a verification did not take place"),
    "audit": _("the audit trail cannot be continued"),
    "foreign": _("a target cannot be restored by the workers here"),
    "channel": _("a channel takes no alarms"),
    "unsent": _("a report could not be sent"),
    "message": _("a message was set aside"),
    "in_place": _("a restore in place"),
}


@dataclass(frozen=True, slots=True)
class PlainWords:
    """Writes texts and values in one language; moments are shown in the zone of schedules."""

    language: Language
    zone: ZoneInfo

    def __call__(self, text: str, **values: object) -> str:
        """Return a text in the language, its gaps filled."""
        return translate(text, self.language, **values)

    def state(self, state: str) -> str:
        """Return a state in words; one that is not known as it is."""
        return self(STATES[state]) if state in STATES else state

    def phrase(self, text: str) -> str:
        """Return one sentence, or several between semicolons, in the language.

        As it is, where a part of it has no translation.
        """
        safe = redact(text)
        if self.language == "en":
            return safe
        if whole := translation_of_error(safe, self.language):
            return whole
        parts = [translation_of_error(one, self.language) for one in safe.split("; ")]
        known = [one for one in parts if one is not None]
        return "; ".join(known) if len(known) == len(parts) else safe

    def size(self, count: int | None) -> str:
        """Write a number of bytes."""
        return "–" if count is None else with_marks(size(count), self.language)

    def number(self, value: float | None) -> str:
        """Write a whole number with its marks."""
        return "–" if value is None else with_marks(f"{int(value):,}", self.language)

    def duration(self, seconds: float | timedelta | None) -> str:
        """Write a length of time."""
        return "–" if seconds is None else with_marks(duration(seconds), self.language)

"""What every operation gets: the time, where it reports its progress, and who sends mails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The source of the time; production asks the catalog's server."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""


class Progress(Protocol):
    """Where long work reports how far it is. Calls are cheap; implementations throttle."""

    def begin(self, phase: str, *, total: int | None = None, unit: str = "bytes") -> None:
        """Start a phase; ``total`` is in ``unit`` and may be unknown."""

    def advance(self, amount: int) -> None:
        """Add ``amount`` units to the present phase. Safe from any thread."""

    def note(self, **facts: int | str) -> None:
        """Set side facts of the present phase, such as ``tables=12``."""

    def check(self) -> None:
        """Raise ``FenceLost`` or another error when this work must stop now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A text for people; ``id`` is the same when the same mail is sent again.

    ``brief`` says the same in a few lines, for telephones; ``html`` for programs that show it, with
    ``images`` (PNG) by their content ids. ``to_contacts`` is whether people in charge beside the
    administrators get it.
    """

    subject: str
    body: str
    at: datetime
    id: str
    html: str = ""
    images: Mapping[str, bytes] = field(default_factory=dict)
    brief: str = ""
    to_contacts: bool = False


class Mailer(Protocol):
    """Sends mails; sender and recipients are its own."""

    def send(self, mail: Mail) -> tuple[str, ...]:
        """Send a mail; return the recipients that were refused while others were accepted.

        Raises ``ConfigurationError`` for what waiting does not mend, else ``TransientError``.
        """


class Channel(Protocol):
    """One way to reach people: mail, a chat, a telephone. Sender and recipients are its own."""

    @property
    def name(self) -> str:
        """What it is called, in logs as well: nothing of it is secret."""

    def send(self, mail: Mail) -> tuple[str, ...]:
        """Send a message; return the recipients that were refused while others were accepted.

        Raises ``ConfigurationError`` for what waiting does not mend, else ``TransientError``.
        """

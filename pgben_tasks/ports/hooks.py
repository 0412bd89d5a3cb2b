"""Commands of a site that run around a swap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol
from uuid import UUID

Moment = Literal["before", "after"]


class SwapHooks(Protocol):
    """The commands that a site runs before databases are swapped and after it."""

    def has(self, moment: Moment) -> bool:
        """Return whether a command is set for this moment."""

    def check(self) -> None:
        """Raise ``ConfigurationError`` where a command is set that cannot be started here."""

    def run(
        self,
        moment: Moment,
        *,
        job: UUID,
        databases: Sequence[str],
        check: Callable[[], None],
        on_line: Callable[[str], None],
    ) -> None:
        """Run the command of a moment to its end; ``on_line`` gets each line of its output.

        ``check`` is called again and again meanwhile; what it raises ends the command. Raises
        ``CommandFailed`` for any end but a good one, ``ConfigurationError`` for a command that
        cannot be started.
        """

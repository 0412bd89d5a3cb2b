"""This machine's clock. Decisions use the catalog's; this one is only compared with it."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """A ``Clock`` that asks the operating system."""

    def now(self) -> datetime:
        """Return the present moment, in UTC."""
        return datetime.now(UTC)

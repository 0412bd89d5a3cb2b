"""Whether the clocks that decisions about age rest on agree with each other. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Final

from pgben_tasks.domain.target import require_utc

#: Clocks that differ by more than this stop all pruning. NTP keeps them within a second.
TOLERANCE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """What the three clocks showed at one moment; all aware.

    ``catalog`` names backups and judges their age, ``worker`` is the machine that prunes, and
    ``store`` is where the backups lie.
    """

    catalog: datetime
    worker: datetime
    store: datetime

    def doubt(self) -> tuple[str, str] | None:
        """Say, with a hint, which two clocks differ too much; None when all agree."""
        shown = {one.name: require_utc(getattr(self, one.name)) for one in fields(self)}
        behind, ahead = min(shown, key=shown.__getitem__), max(shown, key=shown.__getitem__)
        gap = shown[ahead] - shown[behind]
        if gap <= TOLERANCE:
            return None
        told = ", ".join(f"{name} {at:%Y-%m-%dT%H:%M:%SZ}" for name, at in shown.items())
        return (
            f"the clock of the {ahead} is {_rounded(gap)} ahead of the {behind}'s ({told})",
            "set all three by NTP; nothing is removed while it is unclear how old a backup is",
        )


def _rounded(gap: timedelta) -> timedelta:
    return timedelta(seconds=round(gap.total_seconds()))

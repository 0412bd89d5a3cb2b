"""What the catalog's index should hold of a target, and which number its next backup must exceed.

Pure values: what the repository says comes in, rows of an index come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.target import BackupId, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One row of the index. ``manifest`` is None where only the backup's name is known."""

    backup: BackupId
    state: str
    manifest: Manifest | None = None
    acknowledged: bool = False
    needs: str | None = None
    hold: Hold | None = None
    verified_at: datetime | None = None

    @property
    def suspect(self) -> bool:
        """Whether the backup is suspect and nobody has acknowledged that."""
        implausible = self.manifest is not None and self.manifest.suspect is not None
        return implausible and not self.acknowledged


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetIndex:
    """All rows of one target."""

    target: Target
    entries: tuple[IndexEntry, ...]

    @property
    def states(self) -> Mapping[str, int]:
        """How many backups are in which state."""
        return Counter(entry.state for entry in self.entries)

    @property
    def suspects(self) -> int:
        """How many backups wait for somebody to look at them."""
        return sum(entry.suspect for entry in self.entries)

    @property
    def last_sequence(self) -> int:
        """The number that the next backup must exceed.

        A backup whose manifest cannot be read had a number too, perhaps the highest: one is left
        free for each, so that none is ever given out twice.
        """
        numbers = [one.manifest.sequence for one in self.entries if one.manifest is not None]
        unknown = sum(
            one.manifest is None and one.state in {"damaged", "missing"} for one in self.entries
        )
        return max(numbers, default=0) + unknown

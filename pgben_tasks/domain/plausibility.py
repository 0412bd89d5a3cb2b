"""Whether a new backup is plausible beside the one before it.

Pure. A backup that shrank too much is kept but ``suspect``: somebody may have emptied the
database, and pruning the good backups would then complete the loss.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple, Self

from pgben_tasks.domain.documents import Manifest


class Measure(NamedTuple):
    """How big a database backup is: plain bytes of the dump, rows, tables."""

    bytes: int
    rows: int
    tables: int

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> Self:
        """Return the measure of a stored backup of a database."""
        return cls(manifest.plain_bytes, manifest.database.rows, len(manifest.database.tables))


def suspicion(
    previous: tuple[int, int, int] | None,
    current: tuple[int, int, int],
    shrink: Decimal | float,
) -> str | None:
    """Return why ``current`` is suspect, or None when it is plausible.

    Both are (bytes, rows, tables); ``shrink`` is the share, 0 to 1, that may be lost between two
    backups. Bytes compare only between dumps compressed alike: pass 0 to leave one out.
    """
    if previous is None:
        return None
    # The text of a float is what the operator wrote; its binary value is a little off.
    share = Decimal(str(shrink))
    before, after = Measure(*previous), Measure(*current)
    reasons = [
        f"{name} shrank from {old} to {new}"
        for name, old, new in zip(Measure._fields, before, after, strict=True)
        if new < old * (1 - share)
    ]
    return f"{', '.join(reasons)}: more than {share:.0%}" if reasons else None

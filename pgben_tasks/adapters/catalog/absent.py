"""What stands where there is no catalog: this machine's clock, and an index that forgets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pgben_tasks.adapters.catalog.index import IndexedBackup
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import ConfigurationError


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Give the present moment in UTC."""
        return datetime.now(UTC)


class ForgetfulIndex:
    """Takes what it is told and knows nothing: the repository itself is asked for everything."""

    def next_sequence(self, target: Target, *, at_least: int) -> int:
        """Refuse: two that count for themselves would give out the same number."""
        raise ConfigurationError(
            f"without the catalog there is no number for a backup of '{target}' after {at_least}",
            "make a catalog first: `pgben catalog rebuild`",
        )

    def add(self, manifest: Manifest, digest: str, *, state: str) -> None:
        """Forget a backup."""

    def backups(self, target: Target) -> Sequence[IndexedBackup]:  # noqa: ARG002 - nothing is known
        """Know of no backup."""
        return ()

    def set_state(
        self, target: Target, backup: str, state: str, *, verified_at: datetime | None = None
    ) -> None:
        """Forget a state."""

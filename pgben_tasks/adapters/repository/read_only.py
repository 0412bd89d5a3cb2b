"""A repository that is looked at by somebody without a key that may sign what was found."""

from __future__ import annotations

from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.domain.documents import Verification


class UnrecordedRepository(StoreRepository):
    """Reads and checks as every repository does, and keeps no statement.

    Never for workers: a verification by one that is not recorded is worth nothing to the next.
    """

    def record(self, verification: Verification) -> None:
        """Keep nothing; whoever opened this repository so has said it to the person asking."""

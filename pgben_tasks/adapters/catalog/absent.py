"""What is used where there is no catalog: an index that forgets, a ledger that refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final
from uuid import UUID

from pgben_tasks.adapters.catalog.index import IndexedBackup
from pgben_tasks.adapters.postgres.clients import published_clients
from pgben_tasks.domain.documents import Manifest, RecoveryPoint, Verification
from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.kept_databases import RestoredDatabase
from pgben_tasks.domain.restorability import RestoreSite
from pgben_tasks.domain.space import Night
from pgben_tasks.domain.swap import Swap, SwapState
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import ConfigurationError


class ForgetfulIndex:
    """Keeps nothing and knows nothing: everything is read from the repository itself."""

    def next_sequence(self, target: Target, *, at_least: int) -> int:
        """Refuse: two that count for themselves would give out the same number."""
        raise ConfigurationError(
            f"without the catalog there is no number for a backup of '{target}' after {at_least}",
            "make a catalog first: `pgben catalog rebuild`",
        )

    def add(self, manifest: Manifest, digest: str, *, state: str) -> None:
        """Forget a backup."""

    def backups(self, target: Target) -> Sequence[IndexedBackup]:  # noqa: ARG002 - nothing is known
        """Return no backup."""
        return ()

    def targets(self) -> Sequence[Target]:
        """Return no target."""
        return ()

    def add_point(self, point: RecoveryPoint) -> None:
        """Forget a recovery point."""

    def remove_point(self, point: BackupId) -> None:
        """Forget that a recovery point is gone."""

    def points(self) -> Sequence[RecoveryPoint]:
        """Return no recovery point."""
        return ()

    def acknowledge(self, target: Target, backup: str) -> None:
        """Forget an acknowledgement."""

    def set_hold(self, target: Target, backup: str, hold: Hold | None) -> None:
        """Forget a hold."""

    def set_state(
        self,
        target: Target,
        backup: str,
        state: str,
        *,
        verified_at: datetime | None = None,
        needs: str | None = None,
    ) -> None:
        """Forget a state."""


class ForgottenCopies:
    """Nobody remembers a copy, so nothing ever removes it by itself."""

    def add(self, one: RestoredDatabase) -> None:
        """Forget a copy."""


class ForgottenWrites:
    """Nobody remembers what a restore wrote: the next snapshot may be called suspect."""

    def intend(self, job: Job, part: str, objects: int) -> None:
        """Forget what is about to be written."""

    def since(self, target: Target, moment: datetime) -> int:  # noqa: ARG002 - nothing is known
        """Return 0."""
        return 0


class NoWorkers:
    """Restores run on this machine; which versions of pgben run elsewhere is not known."""

    may_sign_needs: Final = False

    def restore_site(self) -> RestoreSite:
        """Return the clients of this machine."""
        clients = published_clients()
        return RestoreSite(clients=clients, living=clients, current=True)

    def may_use_new_fields(self, revision: int, *, in_use: bool) -> bool:  # noqa: ARG002 - no worker is known
        """Return whether they are in use already: then whoever cannot read them has found out."""
        return in_use


class AbsentTrail:
    """Nothing is entered: what is signed here, the next link of a worker takes into its chain."""

    @contextmanager
    def stating(self, target: Target) -> Iterator[Callable[[Verification, str], None]]:  # noqa: ARG002 - nobody else is there
        """Let a statement be made beside whoever else makes one."""
        yield lambda _statement, _who: None

    def append_missing(self, details: Iterable[str], **_fields: str) -> None:
        """Forget entries."""

    def record(self) -> None:
        """Return None: what was stored last is not known."""


class AbsentLedger:
    """Refuses what only a ledger makes safe: sweeping, pruning, and swapping live databases."""

    def running(self, target: Target) -> frozenset[str]:
        """Refuse: which captures still run is not known."""
        raise self._absent(f"sweep '{target}'")

    def named(self, target: Target) -> frozenset[str]:
        """Refuse: which backups are in use is not known."""
        raise self._absent(f"prune '{target}'")

    def request(self, kind: str, *, target: str, **_fields: object) -> tuple[Job, bool]:
        """Refuse: nobody would do it."""
        raise self._absent(f"ask for a {kind} of '{target}'")

    def job(self, job: UUID) -> Job:
        """Refuse: no job is known."""
        raise self._absent(f"look for job '{job}'")

    def restore_rate(self, target: Target) -> float | None:  # noqa: ARG002 - nothing is known
        """Return None: no restore is known."""
        return None

    def nights(self, target: Target) -> Sequence[Night]:  # noqa: ARG002 - nothing is known
        """Return nothing: no backup is known."""
        return ()

    def cancel(self, job: UUID, **_fields: object) -> bool:
        """Refuse: no job is known."""
        raise self._absent(f"cancel job '{job}'")

    def by_key(self, key: str) -> Job | None:
        """Refuse: no job is known."""
        raise self._absent(f"look for the job '{key}'")

    def open_backup(self, target: Target) -> Job | None:
        """Refuse: no job is known."""
        raise self._absent(f"look for backups of '{target}'")

    def intend(self, swap: Swap) -> None:
        """Refuse: nobody would end the swap of a killed process."""
        raise self._absent(f"swap '{swap.live}'")

    def settle(self, swap: Swap, state: SwapState) -> None:
        """Refuse: no swap was begun."""
        raise self._absent(f"settle the swap of '{swap.live}' as {state}")

    def open(self, target: str) -> Sequence[Swap]:
        """Refuse: no swap is known."""
        raise self._absent(f"look for swaps of '{target}'")

    def swap_of_job(self, job: UUID) -> Swap | None:
        """Refuse: no swap is known."""
        raise self._absent(f"look for the swap of job '{job}'")

    @staticmethod
    def _absent(doing: str) -> ConfigurationError:
        return ConfigurationError(
            f"without the catalog it is not safe to {doing}",
            "make a catalog first: `pgben catalog rebuild`; a restore beside needs none",
        )

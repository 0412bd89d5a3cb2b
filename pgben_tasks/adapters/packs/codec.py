"""Packs, made and opened in child processes so that the worker's own threads never stand still."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pgben_tasks.adapters.keys.age import parse_recipients, public_keys
from pgben_tasks.adapters.packs.opening import unfinished
from pgben_tasks.adapters.packs.pool import PACK_CHILDREN, PackPool
from pgben_tasks.adapters.packs.streams import PlannedFacts
from pgben_tasks.domain.documents import Member, Pack
from pgben_tasks.domain.packing import EarlyPlan
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.files.durable import remove_unfinished
from pgben_tasks.ports import PackPlan


class AgePackCodec:
    """A ``PackCodec`` with a pool of children; sealed to ``recipients``, opened by an identity.

    ``advance`` counts plain bytes, of sealing as of opening. Without recipients packs are stored
    in the clear; without ``identity_file`` sealed packs cannot be opened here.
    """

    def __init__(
        self,
        recipients: Iterable[str] = (),
        *,
        identity_file: Path | None = None,
        pool: PackPool | None = None,
    ) -> None:
        """Check the keys now, so that a wrong one is found before any work.

        ``pool`` may be shared with others; a new one by default.

        Raises ``ConfigurationError``.
        """
        self._recipients = parse_recipients(recipients)
        self._identity_file = identity_file
        self._own_keys = frozenset(public_keys(identity_file) if identity_file else ())
        self._pool = pool or PackPool(PACK_CHILDREN)

    @property
    def recipients(self) -> tuple[str, ...]:
        """The age recipients packs are sealed to; empty when encryption is off."""
        return self._recipients

    def can_open(self, recipients: Sequence[str]) -> bool:
        """Whether an identity at hand opens what is sealed to ``recipients`` (none: unsealed)."""
        return not recipients or not self._own_keys.isdisjoint(recipients)

    def close(self) -> None:
        """End the children."""
        self._pool.close()

    def seal(
        self,
        plan: PackPlan,
        source: Path,
        destination: Path,
        *,
        advance: Callable[[int], None],
    ) -> Pack:
        """Tar, compress and seal the members found in ``source`` into ``destination``."""
        return self._seal(plan.path, _facts(plan.members), source, destination, advance)

    def seal_early(
        self,
        plan: EarlyPlan,
        source: Path,
        destination: Path,
        *,
        advance: Callable[[int], None],
    ) -> Pack:
        """Seal finished files; the pack's members carry the digests of what was sealed."""
        files = [(file.name, file.size, None) for file in plan.files]
        return self._seal(plan.path, files, source, destination, advance)

    def _seal(
        self,
        path: str,
        members: Sequence[PlannedFacts],
        source: Path,
        destination: Path,
        advance: Callable[[int], None],
    ) -> Pack:
        pack = Pack(path=path, size=0, sha256="0" * 64, members=())
        if pack.sealed != bool(self._recipients):
            raise ConfigurationError(
                f"the name of '{path}' does not say whether it is sealed to recipients",
                "set PGBEN_AGE_RECIPIENTS, or PGBEN_ENCRYPTION=off to store in the clear",
            )
        request = {
            "operation": "seal",
            "members": members,
            "source": str(source),
            "destination": str(destination),
            "compressed": pack.compressed,
            "recipients": self._recipients,
        }
        try:
            done = self._pool.ask(request, advance)
        except BaseException:
            remove_unfinished(destination)
            raise
        taken = tuple(
            Member(name=name, size=size, sha256=sha) for name, size, sha in done["members"]
        )
        return Pack(path=path, size=done["size"], sha256=done["sha256"], members=taken)

    def open(
        self,
        pack: Pack,
        sealed: Path,
        destination: Path | None,
        *,
        advance: Callable[[int], None],
    ) -> None:
        """Check the stored digest, open the pack and check every member's digest."""
        if pack.sealed and self._identity_file is None:
            raise ConfigurationError(
                f"'{pack.path}' is sealed and no identity is at hand",
                "set PGBEN_AGE_IDENTITY_FILE to the identity of one of the backup's recipients",
            )
        request = {
            "operation": "open",
            "path": pack.path,
            "size": pack.size,
            "sha256": pack.sha256,
            "members": _facts(pack.members),
            "stored": str(sealed),
            "destination": None if destination is None else str(destination),
            "compressed": pack.compressed,
            "identity": str(self._identity_file) if pack.sealed else None,
        }
        try:
            self._pool.ask(request, advance)
        except BaseException:
            if destination is not None:
                for member in pack.members:
                    with suppress(OSError):
                        unfinished(destination, member.name).unlink()
            raise


def _facts(members: Iterable[Member]) -> list[PlannedFacts]:
    return [(member.name, member.size, member.sha256) for member in members]

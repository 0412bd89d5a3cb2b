"""Packs and inventories, sealed and opened in child processes, so that no thread stands still.

One way to seal and to open serves two kinds of content: the files of a dump, which the manifest
names, and the objects of a bucket, which are named like their digests, with their inventories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pgben_tasks.adapters.keys.age import parse_recipients, public_keys
from pgben_tasks.adapters.packs.pool import PACK_CHILDREN, PackPool
from pgben_tasks.adapters.packs.streams import PlannedFacts, unfinished
from pgben_tasks.domain.documents import Member, Pack, StoredFile
from pgben_tasks.domain.packing import EarlyPlan
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.files.durable import remove_unfinished
from pgben_tasks.ports import PackPlan, Sealed

#: The settings that name identities.
_IDENTITY: Final = "PGBEN_AGE_IDENTITY_FILE"
_INVENTORY_IDENTITY: Final = "PGBEN_INVENTORY_IDENTITY_FILE"


class _Codec:
    """What both kinds of content are sealed and opened by; ``recipients`` are checked at once."""

    def __init__(self, pool: PackPool, recipients: Iterable[str]) -> None:
        self._recipients = parse_recipients(recipients)
        self._pool = pool

    def _seal(
        self,
        content: str,
        source: Path,
        destination: Path,
        advance: Callable[[int], None],
        *,
        recipients: Sequence[str] | None = None,
        compressed: bool = True,
        **fields: Any,
    ) -> dict[str, Any]:
        request = {
            "operation": "seal",
            "content": content,
            "source": str(source),
            "destination": str(destination),
            "compressed": compressed,
            "recipients": self._recipients if recipients is None else recipients,
            **fields,
        }
        try:
            return self._pool.ask(request, advance)
        except BaseException:
            remove_unfinished(destination)
            raise

    def _open(
        self,
        content: str,
        stored: StoredFile,
        file: Path,
        destination: Path | None,
        advance: Callable[[int], None],
        *,
        identities: Sequence[Path],
        setting: str,
        begun: Iterable[Path] = (),
        **fields: Any,
    ) -> dict[str, Any]:
        """Check ``stored`` and open it; ``begun`` are files that a child may leave when killed."""
        sealed = stored.path.endswith(".age")
        if sealed and not identities:
            raise ConfigurationError(
                f"'{stored.path}' is sealed and no identity is at hand",
                f"set {setting} to an identity that it is sealed to",
            )
        request = {
            "operation": "open",
            "content": content,
            "path": stored.path,
            "size": stored.size,
            "sha256": stored.sha256,
            "stored": str(file),
            "destination": None if destination is None else str(destination),
            "compressed": ".zst" in stored.path.rpartition("/")[2],
            "identities": [str(one) for one in identities] if sealed else [],
            **fields,
        }
        try:
            return self._pool.ask(request, advance)
        except BaseException:
            # Here, because a child that was killed could not.
            for one in begun:
                with suppress(OSError):
                    one.unlink()
            raise


class AgePackCodec(_Codec):
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
        super().__init__(pool or PackPool(PACK_CHILDREN), recipients)
        self._identities = () if identity_file is None else (identity_file,)
        self._own_keys = frozenset(public_keys(identity_file) if identity_file else ())

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
        return self._seal_files(plan.path, _facts(plan.members), source, destination, advance)

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
        return self._seal_files(plan.path, files, source, destination, advance)

    def _seal_files(
        self,
        path: str,
        members: Sequence[PlannedFacts],
        source: Path,
        destination: Path,
        advance: Callable[[int], None],
    ) -> Pack:
        pack = _new_pack(path)
        if pack.sealed != bool(self._recipients):
            raise ConfigurationError(
                f"the name of '{path}' does not say whether it is sealed to recipients",
                "set PGBEN_AGE_RECIPIENTS, or PGBEN_ENCRYPTION=off to store in the clear",
            )
        done = self._seal(
            "files", source, destination, advance, compressed=pack.compressed, members=members
        )
        taken = tuple(
            Member(name=name, size=size, sha256=sha) for name, size, sha in done["members"]
        )
        return _made(pack, done, members=taken)

    def open(
        self,
        pack: Pack,
        sealed: Path,
        destination: Path | None,
        *,
        advance: Callable[[int], None],
    ) -> None:
        """Check the stored digest, open the pack and check every member's digest."""
        names = [member.name for member in pack.members]
        self._open(
            "files",
            pack,
            sealed,
            destination,
            advance,
            identities=self._identities,
            setting=_IDENTITY,
            begun=[] if destination is None else [unfinished(destination, one) for one in names],
            members=_facts(pack.members),
        )


class AgeObjectCodec(_Codec):
    """An ``ObjectCodec``; see there.

    Inventories are sealed to the recipients and to the own ``inventory_identity``, because the
    next night's comparison needs them; contents are sealed to the recipients alone.
    """

    def __init__(
        self,
        pool: PackPool,
        recipients: Iterable[str] = (),
        *,
        identity: Path | None = None,
        inventory_identity: Path | None = None,
    ) -> None:
        """Check the keys now; raises ``ConfigurationError``."""
        super().__init__(pool, recipients)
        self._identities = tuple(one for one in (identity,) if one is not None)
        self._inventory_identities = tuple(
            one for one in (inventory_identity, identity) if one is not None
        )
        own = public_keys(inventory_identity) if inventory_identity else ()
        self._inventory_recipients = (
            tuple(dict.fromkeys((*self._recipients, *own))) if self._recipients else ()
        )

    @property
    def sealed(self) -> bool:
        """Whether what is made here is encrypted."""
        return bool(self._recipients)

    def can_open_inventories(self) -> bool:
        """Whether an identity for inventories is at hand."""
        return bool(self._inventory_identities)

    def end_spare_children(self) -> None:
        """End the children that only several packs at a time need, for their memory."""
        self._pool.end_spare_children()

    def seal_inventory(self, lines: Path, destination: Path) -> Sealed:
        """Compress and seal the plain lines of an inventory."""
        done = self._seal(
            "lines", lines, destination, _ignore, recipients=self._inventory_recipients
        )
        return Sealed(size=done["size"], sha256=done["sha256"], plain=done["plain"])

    def open_inventory(self, stored: StoredFile, file: Path, destination: Path) -> str:
        """Check the stored bytes, open them; returns the digest of the plain lines."""
        done = self._open(
            "lines",
            stored,
            file,
            destination,
            _ignore,
            identities=self._inventory_identities,
            setting=_INVENTORY_IDENTITY,
        )
        return str(done["sha256"])

    def seal_pack(self, path: str, tar: Path, destination: Path) -> Pack:
        """Seal a finished tar of objects, after checking each against its name."""
        pack = _new_pack(path)
        done = self._seal("objects", tar, destination, _ignore, compressed=pack.compressed)
        return _made(pack, done)

    def open_objects(
        self,
        pack: Pack,
        file: Path,
        wanted: Sequence[str] = (),
        destination: Path | None = None,
        *,
        advance: Callable[[int], None],
    ) -> dict[str, int]:
        """Check a pack whole and write the ``wanted`` objects to ``destination``; see the port."""
        begun = [] if destination is None else [unfinished(destination.parent, destination.name)]
        done = self._open(
            "objects",
            pack,
            file,
            destination,
            advance,
            identities=self._identities,
            setting=_IDENTITY,
            begun=begun,
            wanted=list(wanted),
        )
        return {name: int(size) for name, size in done["members"]}


def _new_pack(path: str) -> Pack:
    return Pack(path=path, size=0, sha256="0" * 64, members=())


def _made(pack: Pack, done: Mapping[str, Any], members: tuple[Member, ...] = ()) -> Pack:
    return Pack(path=pack.path, size=done["size"], sha256=done["sha256"], members=members)


def _facts(members: Iterable[Member]) -> list[PlannedFacts]:
    return [(member.name, member.size, member.sha256) for member in members]


def _ignore(_amount: int) -> None:
    """Count nothing: whoever wrote or fetched the file counted its bytes."""

"""Inventories and packs of buckets, sealed and opened in the pack children (``object_child``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pgben_tasks.adapters.keys.age import parse_recipients, public_keys
from pgben_tasks.adapters.packs.opening import unfinished
from pgben_tasks.adapters.packs.pool import PackPool
from pgben_tasks.domain.documents import Pack, StoredFile
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.files.durable import remove_unfinished
from pgben_tasks.ports import Sealed


class AgeObjectCodec:
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
        self._pool = pool
        self._recipients = parse_recipients(recipients)
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

    def seal_inventory(self, lines: Path, destination: Path) -> Sealed:
        """Compress and seal the plain lines of an inventory."""
        request = {
            "operation": "seal_file",
            "source": str(lines),
            "destination": str(destination),
            "compressed": True,
            "recipients": list(self._inventory_recipients),
        }
        answer = self._pool.ask(request, _ignore)
        return Sealed(size=answer["size"], sha256=answer["sha256"], plain=answer["plain"])

    def open_inventory(self, stored: StoredFile, file: Path, destination: Path) -> str:
        """Check the stored bytes, open them; gives the digest of the plain lines."""
        request = self._opening(stored, file, self._inventory_identities)
        answer = self._pool.ask(
            {"operation": "open_file", "destination": str(destination), **request}, _ignore
        )
        return str(answer["sha256"])

    def rest(self) -> None:
        """Give back what only several packs at a time need."""
        self._pool.rest()

    def seal_pack(self, path: str, tar: Path, destination: Path) -> Pack:
        """Seal a finished tar of objects, after checking each against its name."""
        pack = Pack(path=path, size=0, sha256="0" * 64, members=())
        request = {
            "operation": "seal_objects",
            "source": str(tar),
            "destination": str(destination),
            "compressed": pack.compressed,
            "recipients": list(self._recipients),
        }
        try:
            answer = self._pool.ask(request, _ignore)
        except BaseException:
            remove_unfinished(destination)
            raise
        return pack.model_copy(update={"size": answer["size"], "sha256": answer["sha256"]})

    def open_objects(
        self,
        pack: Pack,
        file: Path,
        wanted: Sequence[str] = (),
        destination: Path | None = None,
        *,
        advance: Callable[[int], None],
    ) -> dict[str, int]:
        """Check a pack whole and write the ``wanted`` objects below ``destination``.

        The files are named like the digests. Gives digest and size of every object in the pack.
        """
        request = {
            "operation": "open_objects",
            "wanted": list(wanted),
            "destination": None if destination is None else str(destination),
            **self._opening(pack, file, self._identities),
        }
        try:
            return {name: int(size) for name, size in self._pool.ask(request, advance)["members"]}
        except BaseException:
            if destination is not None:
                # Here, because a child that was killed could not.
                for name in wanted:
                    with suppress(OSError):
                        unfinished(destination, name).unlink()
            raise

    @staticmethod
    def _opening(stored: StoredFile, file: Path, identities: Sequence[Path]) -> dict[str, object]:
        sealed = stored.path.endswith(".age")
        if sealed and not identities:
            raise ConfigurationError(
                f"'{stored.path}' is sealed and no identity is at hand",
                "set PGBEN_INVENTORY_IDENTITY_FILE for inventories, PGBEN_AGE_IDENTITY_FILE for "
                "contents",
            )
        return {
            "path": stored.path,
            "size": stored.size,
            "sha256": stored.sha256,
            "stored": str(file),
            "compressed": ".zst" in stored.path.rpartition("/")[2],
            "identities": [str(one) for one in identities] if sealed else [],
        }


def _ignore(_amount: int) -> None:
    """Count nothing: whoever wrote or fetched the file counted its bytes."""

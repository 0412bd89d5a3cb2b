"""The packs of one capture before they are sealed: where their tars lie, how they are numbered."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from pgben_tasks.adapters.packs.growing_tar import GrowingTar
from pgben_tasks.domain.packing import pack_path
from pgben_tasks.domain.target import BackupId, Target


@dataclass(frozen=True, slots=True)
class OpenPack:
    """A tar that has its path in the repository already."""

    tar: GrowingTar
    path: str

    @property
    def place(self) -> str:
        """What inventories call it: ``<backup id>/<n>.tar…``."""
        return "/".join(self.path.split("/")[-2:])

    @property
    def sealed_file(self) -> Path:
        """Where its sealed form lies until it is stored."""
        return self.tar.path.with_name(self.path.rpartition("/")[2])


class PackSeries:
    """Gives out tars in ``folder``, and paths by number; the caller sees to it that one at a time.

    A large object has a number only when it is whole, so that none is spent on what is not kept.
    """

    def __init__(
        self, folder: Path, *, target: Target, backup: BackupId, first: int, sealed: bool
    ) -> None:
        """Begin with the number ``first``; ``sealed`` says whether the packs will be encrypted."""
        self.folder = folder
        self._target = target
        self._backup = backup
        self._sealed = sealed
        self._numbers = itertools.count(first)
        self._tars = itertools.count(1)

    def new_tar(self) -> GrowingTar:
        """Begin a tar."""
        return GrowingTar(self.folder / f"{next(self._tars)}.tar.part")

    def numbered(self, tar: GrowingTar, *, compressed: bool) -> OpenPack:
        """Return a tar the next number."""
        path = pack_path(
            self._target,
            self._backup,
            next(self._numbers),
            compressed=compressed,
            sealed=self._sealed,
        )
        return OpenPack(tar, path)

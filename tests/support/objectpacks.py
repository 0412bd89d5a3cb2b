"""Packs of objects for tests: a writer with real children, and what it stored, read again."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pgben_tasks.adapters.keys import files as keys
from pgben_tasks.adapters.keys.age import public_keys
from pgben_tasks.adapters.packs.codec import AgeObjectCodec
from pgben_tasks.adapters.packs.object_writer import SpoolPacks
from pgben_tasks.adapters.packs.pool import PackPool
from pgben_tasks.domain.documents import Pack
from pgben_tasks.domain.target import Target
from pgben_tasks.ports import ObjectPackWriter
from tests.support.samples import BACKUP, START

TARGET = Target("bucket", "documentos")
PACK_SIZE = 16 * 1024 * 1024


def ignore(_amount: int) -> None:
    """Count nothing."""


def peak_memory(process: int | str = "self") -> int:
    """Return the most memory (MiB) that a process ever had.

    Not ``getrusage``: there a process begins with the peak of the one that started it.
    """
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


@dataclass
class Packing:
    """Writes packs in ``folder`` and keeps those that were stored, as a repository would."""

    folder: Path
    codec: AgeObjectCodec
    stored: dict[str, tuple[Pack, Path]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(cls, folder: Path, *, sealed: bool = True, children: int = 2) -> Iterator[Packing]:
        """Make keys and start a pool."""
        folder.mkdir(parents=True, exist_ok=True)
        with closing(PackPool(children)) as pool:
            if not sealed:
                yield cls(folder, AgeObjectCodec(pool))
                return
            identity = folder / f"{secrets.token_hex(4)}.txt"
            keys.make_age_identity(identity, now=START)
            yield cls(folder, AgeObjectCodec(pool, public_keys(identity), identity=identity))

    def at(self, folder: Path) -> Packing:
        """Return another, empty one with the same children and keys."""
        folder.mkdir(parents=True, exist_ok=True)
        return Packing(folder, self.codec)

    @property
    def spool(self) -> Path:
        """Where the writer works."""
        return self.folder / "spool"

    @contextmanager
    def writer(
        self,
        *,
        known: dict[str, str] | None = None,
        pack_size: int = PACK_SIZE,
        store: Callable[[Pack, Path], None] | None = None,
        require_room: Callable[[int], None] = ignore,
    ) -> Iterator[ObjectPackWriter]:
        """Open a writer in an empty folder."""
        packs = SpoolPacks(self.codec, pack_size=pack_size)
        self.spool.mkdir()
        with (
            closing(packs.index(self.folder / "known.sqlite")) as index,
            packs.writer(
                self.spool,
                known=index,
                target=TARGET,
                backup=BACKUP,
                first=1,
                store=store or self.store,
                require_room=require_room,
            ) as writer,
        ):
            index.fill((known or {}).items())
            yield writer

    def store(self, pack: Pack, file: Path) -> None:
        """Keep a copy of what was sealed."""
        kept = self.folder / f"stored-{file.name}"
        shutil.copy(file, kept)
        self.stored["/".join(pack.path.split("/")[-2:])] = (pack, kept)

    def listed(self) -> dict[str, int]:
        """Return digest and size of all that is stored; every pack is checked whole."""
        found: dict[str, int] = {}
        for pack, file in self.stored.values():
            members = self.codec.open_objects(pack, file, advance=ignore)
            assert not found.keys() & members.keys()
            found |= members
        return found

    def content(self, place: str, digest: str) -> bytes:
        """Take one object out of its pack."""
        pack, file = self.stored[place]
        out = self.folder / "out"
        out.mkdir(exist_ok=True)
        self.codec.open_objects(pack, file, [digest], out / "object", advance=ignore)
        (taken,) = out.iterdir()
        assert taken.stat().st_mode & 0o777 == 0o600
        data = taken.read_bytes()
        taken.unlink()
        return data

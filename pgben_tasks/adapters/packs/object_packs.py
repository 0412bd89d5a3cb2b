"""What a copy of objects works with: writers of packs, and indexes of what is stored already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pgben_tasks.adapters.packs.digest_index import SqliteDigestIndex
from pgben_tasks.adapters.packs.object_writer import SpoolPackWriter
from pgben_tasks.adapters.packs.open_packs import PackSeries
from pgben_tasks.domain.documents import Pack
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.ports import DigestIndex, ObjectCodec


class SpoolPacks:
    """Makes writers and indexes (``ports.ObjectPacks``)."""

    def __init__(self, codec: ObjectCodec, *, pack_size: int) -> None:
        """Seal with ``codec``; small objects share packs of at most ``pack_size`` bytes of tar."""
        self._codec = codec
        self._pack_size = pack_size

    def index(self, file: Path) -> DigestIndex:
        """Begin an index of digests in ``file``."""
        return SqliteDigestIndex(file)

    def writer(
        self,
        folder: Path,
        *,
        known: DigestIndex,
        target: Target,
        backup: BackupId,
        first: int,
        store: Callable[[Pack, Path], None],
        require_room: Callable[[int], None],
    ) -> SpoolPackWriter:
        """Write packs numbered from ``first``."""
        series = PackSeries(
            folder, target=target, backup=backup, first=first, sealed=self._codec.sealed
        )
        return SpoolPackWriter(
            series,
            codec=self._codec,
            known=known,
            pack_size=self._pack_size,
            store=store,
            require_room=require_room,
        )

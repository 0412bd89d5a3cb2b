"""What lies in the packs that a verification opened, beside the lines that say so.

A line of an inventory says that bytes with its digest are in a pack: to open the pack shows what is
really there. Memory stays flat: what a pack holds lies in a file, and of a snapshot only the lines
are looked up that differ from those of the snapshot looked at before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import groupby
from pathlib import Path

from pgben_tasks.domain.buckets.inventory import Line
from pgben_tasks.domain.documents import Pack
from pgben_tasks.operations import spool
from pgben_tasks.operations.snapshot_files import by_pack, place_of, read_lines


class PackContents:
    """What packs hold, and the lines that were compared with it."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing in ``folder``, which is made anew."""
        self._folder = spool.fresh(folder)
        self._compared = folder / "compared.jsonl"
        self._held: set[str] = set()

    def close(self) -> None:
        """Remove the folder."""
        spool.remove(self._folder)

    def add(self, pack: Pack, objects: Mapping[str, int]) -> None:
        """Take digest and size of every object of a pack."""
        with spool.disk_errors(self._folder):
            self._file(place_of(pack)).write_text(json.dumps(dict(objects)), encoding="ascii")
        self._held.add(place_of(pack))

    def absent(self, inventory: Path) -> Iterator[tuple[str, int]]:
        """Yield each pack that lacks objects which ``inventory`` says are in it, and how many.

        Lines whose pack was not opened are not judged. The file is taken over.
        """
        if not self._held:
            return
        scratch = spool.fresh(self._folder / "scratch")
        self._compared.touch(mode=0o600)
        with closing(read_lines(inventory)) as lines, closing(read_lines(self._compared)) as before:
            fresh = (line for line in _others(lines, before) if line.pack in self._held)
            for place, group in groupby(by_pack(fresh, scratch), key=lambda line: line.pack or ""):
                held = json.loads(self._file(place).read_text(encoding="ascii"))
                lacking = sum(held.get(line.sha256) != line.size for line in group)
                if lacking:
                    yield place, lacking
        spool.remove(scratch)
        inventory.replace(self._compared)

    def _file(self, place: str) -> Path:
        return self._folder / f"{place.replace('/', '_')}.json"


def _others(lines: Iterable[Line], before: Iterator[Line]) -> Iterator[Line]:
    """Yield the lines that are not among those ``before``; both are in the order of keys."""
    line = next(before, None)
    for one in lines:
        while line is not None and line.key < one.key:
            line = next(before, None)
        if line is None or line.raw != one.raw:
            yield one

"""An external merge sort: records that do not fit into memory, sorted by way of files.

What the records say may be foreign text: it stands inside the files, never in a name.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pgben_tasks.files.disk import disk_errors
from pgben_tasks.files.durable import FILE_MODE

#: How many files are merged at a time: each is open.
_MOST_OPEN: Final = 128
#: Records in a run: two runs in memory take about 34 MB (measured, objects with keys of 60 bytes).
RUN: Final = 50_000

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ExternalSort(Generic[_T]):
    """Sorts records of one kind: ``encode`` makes one line of each, ``read`` reads a file of them.

    What is written is below ``scratch``, an empty private folder that the caller removes.
    """

    key: Callable[[_T], Any]
    encode: Callable[[_T], bytes]
    read: Callable[[Path], Generator[_T, None, None]]

    def sort(self, records: Iterable[_T], scratch: Path, *, run: int = RUN) -> Iterator[_T]:
        """Return ``records`` in order; at most two times ``run`` of them are in memory.

        All are read before this returns. Raises ``SpoolFull``, and whatever ``records`` raises.
        """
        left = iter(records)
        runs: list[Path] = []
        while some := sorted(islice(left, run), key=self.key):
            runs.append(self._write(some, scratch / f"run-{len(runs)}"))
        return self.merge(runs, scratch)

    def merge(self, files: Sequence[Path], scratch: Path) -> Iterator[_T]:
        """Yield the records of sorted files in one order, with few files open at a time."""
        left = list(files)
        written = 0
        while len(left) > _MOST_OPEN:
            # Merged ones are merged again only after all others.
            file = scratch / f"merged-{written}"
            left = [*left[_MOST_OPEN:], self._write(self._merged(left[:_MOST_OPEN]), file)]
            written += 1
        yield from self._merged(left)

    def _write(self, records: Iterable[_T], path: Path) -> Path:
        with disk_errors(path.parent):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(map(self.encode, records))
        return path

    def _merged(self, files: Iterable[Path]) -> Iterator[_T]:
        with ExitStack() as stack:
            streams = []
            for path in files:
                streams.append(self.read(path))
                stack.callback(streams[-1].close)
            yield from heapq.merge(*streams, key=self.key)

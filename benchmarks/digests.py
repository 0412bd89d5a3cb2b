"""What it costs to ask of new objects whether their bytes are stored already.

Most nights nothing of what is new is known. Compared are an index that writes all known digests
to its file at once with one that writes them when one of them is first asked for.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from pgben_tasks.adapters.packs.digest_index import SqliteDigestIndex

_PLACE: Final = "20260101T000000Z-abcdef/7.tar.zst.age"
#: As many threads copy objects at a time (``Limits.copy_concurrency``).
_THREADS: Final = 16

_Known = Callable[[], Iterator[tuple[str, str]]]


def measure(known: int, new: int, rounds: int) -> dict[str, float]:
    """Return processor seconds, the median of the rounds, of ``new`` digests beside ``known``."""
    digests = [_digest(f"known {number}") for number in range(known)]
    asked = [_digest(f"new {number}") for number in range(new)]
    ways: dict[str, Callable[[SqliteDigestIndex, _Known], None]] = {
        "written at once": lambda index, read: index.fill(read()),
        "written when asked for": lambda index, read: index.fill_from(read),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, fill in ways.items():
            found[way].append(_one(fill, partial(_pairs, digests), asked))
    return {way: statistics.median(each) for way, each in found.items()}


def _one(
    fill: Callable[[SqliteDigestIndex, _Known], None], read: _Known, asked: list[str]
) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        with (
            closing(SqliteDigestIndex(Path(folder) / "known")) as index,
            ThreadPoolExecutor(_THREADS) as threads,
        ):
            fill(index, read)
            if any(threads.map(partial(_ask, index), asked)):
                message = "the index knows a digest that is new"
                raise AssertionError(message)
        return time.process_time() - began


def _ask(index: SqliteDigestIndex, digest: str) -> str | None:
    return index.place(digest) or index.take(digest, _PLACE)


def _pairs(digests: list[str]) -> Iterator[tuple[str, str]]:
    return ((digest, _PLACE) for digest in digests)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

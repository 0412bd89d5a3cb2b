"""Listings of servers that have an order of their own, sorted with bounded memory.

Sorted runs go to files in a private folder and are merged from there. Keys are foreign text: they
stand inside the files, never in a name.
"""

from __future__ import annotations

import heapq
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import IO, Final

import msgspec

from pgben_tasks.domain.buckets.diff import unordered
from pgben_tasks.errors import SpoolFull
from pgben_tasks.files.durable import NO_ROOM
from pgben_tasks.ports.buckets import ListedObject

#: Objects in a run: two runs in memory take about 34 MB (measured, keys of 60 bytes). Each run is
#: an open file while they are merged: 1,000 files, the usual limit, serve 50 million objects.
_RUN: Final = 50_000
_OBJECT: Final = msgspec.json.Decoder(ListedObject)


@contextmanager
def sorted_listing(
    listing: Iterable[ListedObject], folder: Path, *, run: int = _RUN
) -> Iterator[Iterator[ListedObject]]:
    """Yield ``listing`` in the order of the keys' UTF-8 bytes, to be read inside the block.

    At most two times ``run`` objects are in memory. The files (mode 0600) are below ``folder``, in
    a folder of mode 0700, and gone when the block ends.

    Reading raises ``ListingUnordered`` when a key comes twice; entering raises
    ``SpoolFull`` and whatever the listing raises.
    """
    place = Path(tempfile.mkdtemp(prefix=".sort-", dir=folder))
    try:
        with ExitStack() as files:
            runs = [files.enter_context(file) for file in _runs(listing, place, run)]
            yield _each_once(heapq.merge(*map(_read, runs), key=attrgetter("key")))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _runs(listing: Iterable[ListedObject], place: Path, run: int) -> Iterator[IO[bytes]]:
    left = iter(listing)
    while objects := sorted(islice(left, run), key=attrgetter("key")):
        try:
            file = _written(objects, place)
        except OSError as exc:
            if exc.errno not in NO_ROOM:
                raise
            raise SpoolFull(
                f"'{place.parent}' has no room left for sorting a listing",
                "free or add space there, then retry",
            ) from exc
        yield file


def _written(objects: list[ListedObject], place: Path) -> IO[bytes]:
    descriptor, name = tempfile.mkstemp(dir=place)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(msgspec.json.encode(one) + b"\n" for one in objects)
    return Path(name).open("rb")


def _read(file: IO[bytes]) -> Iterator[ListedObject]:
    return map(_OBJECT.decode, file)


def _each_once(objects: Iterable[ListedObject]) -> Iterator[ListedObject]:
    before = ""
    for number, listed in enumerate(objects, start=1):
        # A key is never empty, so the first one passes.
        if listed.key == before:
            raise unordered(number)
        before = listed.key
        yield listed

"""The files of a snapshot in the spool: lines of inventories, listings, lists of what to fetch."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from pgben_tasks.domain.buckets.diff import unordered
from pgben_tasks.domain.buckets.inventory import Line, read_line
from pgben_tasks.domain.documents import Pack
from pgben_tasks.errors import IntegrityError, ManifestInvalid
from pgben_tasks.files.sort import RUN, ExternalSort
from pgben_tasks.operations import spool
from pgben_tasks.ports import ListedObject

#: Bytes read at a time: every line of every night goes through here. So many times as many files
#: as are merged.
_BUFFER: Final = 64 * 1024
_OBJECT: Final = msgspec.json.Decoder(ListedObject)


def place_of(pack: Pack) -> str:
    """Return a pack's place below ``packs/<target>/``, as inventories name it."""
    return "/".join(pack.path.split("/")[3:])


def read_lines(path: Path) -> Generator[Line, None, None]:
    """Yield the lines of a file that was checked; one that ends in mid-line raises."""
    name = path.name
    with path.open("rb", buffering=_BUFFER) as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                raise ManifestInvalid(f"'{path.name}' ends in the middle of a line")
            yield read_line(raw, where=name)


class Lines:
    """Writes lines in rising order of their keys, counting and digesting them."""

    def __init__(self, file: BinaryIO) -> None:
        """Write to ``file``."""
        self.number = 0
        self._file = file
        self._last = ""
        self._hash = hashlib.sha256()

    def add(self, line: Line) -> None:
        """Write one line; a key that does not rise is an ``IntegrityError``."""
        if line.key <= self._last:
            raise IntegrityError(
                "the lines of an inventory are out of order or name a key twice",
                "this attempt is void; the next makes a new snapshot",
            )
        self._last = line.key
        self.add_raw(line.raw)

    def add_raw(self, line: bytes) -> None:
        """Write one line that somebody sorted."""
        self.number += 1
        self._hash.update(line)
        self._file.write(line)

    @property
    def sha256(self) -> str:
        """The digest of all lines so far."""
        return self._hash.hexdigest()


def _read_objects(path: Path) -> Generator[ListedObject, None, None]:
    with path.open("rb") as file:
        yield from map(_OBJECT.decode, file)


_BY_KEY: Final = ExternalSort(key=attrgetter("key"), encode=attrgetter("raw"), read=read_lines)
_BY_PACK: Final = ExternalSort(
    key=lambda line: (line.pack or "", line.key), encode=attrgetter("raw"), read=read_lines
)
_BY_TAGS_AGE: Final = ExternalSort(
    key=lambda line: (line.tags_at or "", line.key), encode=attrgetter("raw"), read=read_lines
)
_OBJECTS_BY_KEY: Final = ExternalSort(
    key=attrgetter("key"),
    encode=lambda listed: msgspec.json.encode(listed) + b"\n",
    read=_read_objects,
)


def merged(files: Sequence[Path], scratch: Path) -> Iterator[Line]:
    """Return the lines of sorted files in one order, with few files open at a time."""
    return _BY_KEY.merge(files, scratch)


def by_pack(lines: Iterable[Line], scratch: Path) -> Iterator[Line]:
    """Return readable lines in the order of the packs that hold their bytes, memory flat."""
    return _BY_PACK.sort(lines, scratch)


def by_tags_age(lines: Iterable[Line], scratch: Path) -> Iterator[Line]:
    """Return lines in the order in which their tags were read, the longest unread first."""
    return _BY_TAGS_AGE.sort(lines, scratch)


def by_key(lines: Iterable[Line], scratch: Path) -> Iterator[Line]:
    """Return lines in the order of their keys."""
    return _BY_KEY.sort(lines, scratch)


@contextmanager
def sorted_listing(
    listing: Iterable[ListedObject], folder: Path, *, run: int = RUN
) -> Iterator[Iterator[ListedObject]]:
    """Yield ``listing`` in the order of the keys' UTF-8 bytes, to be read inside the block.

    Memory is bounded. The files (mode 0600) are below ``folder``, in a folder of mode 0700, and
    gone when the block ends.

    Reading raises ``ListingUnordered`` when a key comes twice; entering raises ``SpoolFull`` and
    whatever the listing raises.
    """
    with spool.disk_errors(folder):
        place = Path(tempfile.mkdtemp(prefix=".sort-", dir=folder))
    try:
        yield _each_once(_OBJECTS_BY_KEY.sort(listing, place, run=run))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _each_once(objects: Iterable[ListedObject]) -> Iterator[ListedObject]:
    before = ""
    for number, listed in enumerate(objects, start=1):
        # A key is never empty, so the first one passes.
        if listed.key == before:
            raise unordered(number)
        before = listed.key
        yield listed


@dataclass(frozen=True, slots=True, kw_only=True)
class ToFetch:
    """One object to fetch, or to ask for its tags alone.

    ``line`` is the line before of an object that is as it was and whose bytes are kept: it stands
    when the server cannot give the object. ``modified`` is when it was stored as the listing says,
    in whole seconds since 1970.
    """

    key: str
    size: int
    modified: int | None = None
    line: str | None = None
    tags_only: bool = False

    def encode(self) -> bytes:
        """Return a line of ``wanted.jsonl``."""
        fields = asdict(self)
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> ToFetch:
        """Read a line of ``wanted.jsonl``, which is our own."""
        return cls(**json.loads(line))


def read_to_fetch(file: Path) -> Iterator[ToFetch]:
    """Yield the objects that such a file lists, in the order of keys."""
    with file.open("rb") as lines:
        for line in lines:
            yield ToFetch.decode(line)

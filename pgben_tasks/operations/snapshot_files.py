"""The files of a snapshot in the spool: lines of inventories, and lists of what to fetch."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, Final

from pgben_tasks.domain.buckets.inventory import Line, read_line
from pgben_tasks.domain.documents import Pack
from pgben_tasks.errors import IntegrityError, ManifestInvalid
from pgben_tasks.operations import spool

#: How many files are merged at a time: each is open.
_MOST_OPEN: Final = 128
#: How many lines are sorted at a time.
_BATCH: Final = 50_000
#: Bytes read or written at a time: every line of every night goes through here. So many times as
#: many files as are merged.
_BUFFER: Final = 64 * 1024


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
        self.number += 1
        self._hash.update(line.raw)
        self._file.write(line.raw)

    @property
    def sha256(self) -> str:
        """The digest of all lines so far."""
        return self._hash.hexdigest()


def merged(files: Sequence[Path], scratch: Path) -> Iterator[Line]:
    """Yield the lines of sorted files in one order, with few files open at a time."""
    left = list(files)
    round_ = 0
    while len(left) > _MOST_OPEN:
        groups = [left[at : at + _MOST_OPEN] for at in range(0, len(left), _MOST_OPEN)]
        left = []
        for number, group in enumerate(groups):
            together = scratch / f"merged-{round_}-{number}"
            with spool.disk_errors(scratch), together.open("xb") as file:
                file.writelines(line.raw for line in _merge(group))
            left.append(together)
        round_ += 1
    yield from _merge(left)


def _merge(files: Iterable[Path]) -> Iterator[Line]:
    with ExitStack() as stack:
        streams = [_closing(stack, path) for path in files]
        yield from heapq.merge(*streams, key=attrgetter("key"))


def _closing(stack: ExitStack, path: Path) -> Iterator[Line]:
    lines = read_lines(path)
    stack.callback(lines.close)
    return lines


def by_pack(lines: Iterable[Line], scratch: Path) -> Iterator[Line]:
    """Yield readable lines in the order of the packs that hold their bytes, memory flat."""
    runs: list[Path] = []
    batch: list[Line] = []

    def write() -> None:
        batch.sort(key=_pack_and_key)
        runs.append(scratch / f"run-{len(runs)}")
        with spool.disk_errors(scratch), runs[-1].open("xb") as file:
            file.writelines(line.raw for line in batch)
        batch.clear()

    for line in lines:
        batch.append(line)
        if len(batch) >= _BATCH:
            write()
    write()
    with ExitStack() as stack:
        streams = [_closing(stack, path) for path in runs]
        yield from heapq.merge(*streams, key=_pack_and_key)


def _pack_and_key(line: Line) -> tuple[str, str]:
    return line.pack or "", line.key


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

"""What a snapshot wants of a bucket: lines of a file in the spool, or of a shard's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
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
        """Give a line of ``wanted.jsonl``."""
        fields = asdict(self)
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Want:
        """Read a line of ``wanted.jsonl``, which is our own."""
        return cls(**json.loads(line))


def wants_in(file: Path) -> Iterator[Want]:
    """Give what a file of wants holds, in the order of keys."""
    with file.open("rb") as lines:
        for line in lines:
            yield Want.decode(line)

"""What a listing says beside the inventory before it, and what to make of that. Pure.

Everything here works on streams in the order of the keys' UTF-8 bytes, so that memory stays flat
however many objects there are.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, Protocol

from pydantic_core import from_json

from pgben_tasks.domain.inventory import Entry, parse_line, sort_key
from pgben_tasks.errors import ListingUnordered, ManifestInvalid

Why = Literal["new", "changed", "unreadable before", "pack avoided"]


class Listed(Protocol):
    """What a listing says of one object."""

    @property
    def key(self) -> str:
        """Its key."""
        ...

    @property
    def etag(self) -> str:
        """Its etag, without quotes."""
        ...

    @property
    def size(self) -> int:
        """Its bytes."""
        ...

    @property
    def modified(self) -> datetime:
        """When it was stored."""
        ...


#: In a canonical line these stand together, and nowhere else: a size among what people wrote
#: (headers, metadata, tags) is a text, and quotation marks in a text have a backslash before them.
_PLACE: Final = re.compile(rb'"pack":"([^"\\]+)","sha256":"([0-9a-f]{64})","size":([0-9]+)')


class Place(NamedTuple):
    """Where an object's bytes lie: pack, digest, size in bytes."""

    pack: str
    sha256: str
    size: int


def place_in(raw: bytes) -> Place | None:
    """Find in a canonical line where its bytes lie; None where they are nowhere.

    A line is read whole only where that is needed: this is a tenth of the work.
    """
    found = _PLACE.search(raw)
    if found is None:
        return None
    return Place(found[1].decode(), found[2].decode(), int(found[3]))


class Line:
    """A line of an inventory that is carried over as it is; only what decides is read."""

    __slots__ = ("_fields", "key", "raw", "where")

    def __init__(self, raw: bytes, *, where: str) -> None:
        """Read the line; ``ManifestInvalid`` when it is no object with a key."""
        try:
            fields = from_json(raw)
        except ValueError:
            fields = None
        if not isinstance(fields, dict) or not isinstance(fields.get("key"), str):
            raise ManifestInvalid(
                f"'{where}' is not valid: a line describes no object",
                "the stored inventory was changed or damaged; verify the target",
            )
        self.raw = raw
        self.where = where
        self.key: str = fields["key"]
        self._fields: dict[str, Any] = fields

    @property
    def size(self) -> int:
        """The object's bytes."""
        return int(self._fields.get("size", 0))

    @property
    def pack(self) -> str | None:
        """Where its bytes lie."""
        place = self._fields.get("pack")
        return place if isinstance(place, str) else None

    @property
    def sha256(self) -> str | None:
        """The digest of its bytes."""
        digest = self._fields.get("sha256")
        return digest if isinstance(digest, str) else None

    @property
    def tags_at(self) -> str | None:
        """When its tags were read, in canonical form, which sorts by time."""
        return self._fields.get("tags_at")

    def entry(self) -> Entry:
        """Read the whole line strictly."""
        return parse_line(self.raw, where=self.where)

    def is_of(self, listed: Listed) -> bool:
        """Say whether the listing shows the very object that this line describes."""
        fields = self._fields
        return (
            fields.get("etag") == listed.etag
            and fields.get("size") == listed.size
            and _seconds(str(fields.get("modified"))) == int(listed.modified.timestamp())
        )


class Placed(Protocol):
    """What a line says of an object's bytes."""

    @property
    def pack(self) -> str | None:
        """Where they lie."""
        ...

    @property
    def size(self) -> int:
        """How many they are."""
        ...


@dataclass(frozen=True, slots=True)
class Carried:
    """The object is as it was: its line is taken over."""

    line: Line


@dataclass(frozen=True, slots=True)
class Wanted:
    """The object is to be fetched, and why; ``line`` is its line before, where it had one."""

    listed: Listed
    why: Why
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """The object is no longer there."""

    line: Line


Change = Carried | Wanted | Gone


def compare(
    listing: Iterable[Listed], previous: Iterable[Line], *, avoid: Container[str] = ()
) -> Iterator[Change]:
    """Join a listing with the inventory before it, key by key.

    Bytes in the packs ``avoid`` are fetched anew. Raises ``ListingUnordered`` for the listing and
    ``ManifestInvalid`` for an inventory that is out of order.
    """
    lines = _ordered(previous)
    line = next(lines, None)
    last: bytes | None = None
    for number, listed in enumerate(listing, start=1):
        key = sort_key(listed.key)
        if last is not None and key <= last:
            raise unordered(number)
        last = key
        while line is not None and sort_key(line.key) < key:
            yield Gone(line)
            line = next(lines, None)
        if line is None or line.key != listed.key:
            yield Wanted(listed, "new")
            continue
        yield _same_key(listed, line, avoid)
        line = next(lines, None)
    while line is not None:
        yield Gone(line)
        line = next(lines, None)


def _same_key(listed: Listed, line: Line, avoid: Container[str]) -> Change:
    if line.pack is None:
        return Wanted(listed, "unreadable before", line)
    if not line.is_of(listed):
        return Wanted(listed, "changed", line)
    return Wanted(listed, "pack avoided", line) if line.pack in avoid else Carried(line)


def _ordered(lines: Iterable[Line]) -> Iterator[Line]:
    last: bytes | None = None
    for line in lines:
        key = sort_key(line.key)
        if last is not None and key <= last:
            raise ManifestInvalid(
                f"'{line.where}' is not valid: its lines are out of order",
                "the stored inventory was changed or damaged; verify the target",
            )
        last = key
        yield line


@dataclass(slots=True)
class Totals:
    """What a comparison came to, counted change by change."""

    listed: int = 0
    known: int = 0
    carried: int = 0
    new: int = 0
    changed: int = 0
    again: int = 0
    gone: int = 0
    refreshed: int = 0

    @property
    def wanted(self) -> int:
        """Objects to be fetched."""
        return self.new + self.changed + self.again

    def count(self, change: Change) -> None:
        """Count one change."""
        if isinstance(change, Gone):
            self.gone += 1
            self.known += 1
            return
        self.listed += 1
        if isinstance(change, Carried):
            self.carried += 1
            self.known += 1
        elif change.why == "new":
            self.new += 1
        else:
            self.known += 1
            self.changed += change.why == "changed"
            self.again += change.why != "changed"


def mass_change(totals: Totals, share: Decimal, *, expected: int = 0) -> str | None:
    """Say why a snapshot is suspect: documents are write-once, and too many changed or went.

    ``share`` (0 to 1) is of the keys known before; ``expected`` changes are our own, made by a
    restore. None when it is plausible, or when nothing was known before.
    """
    lost = max(0, totals.changed + totals.gone - expected)
    if not totals.known or Decimal(lost) <= share * totals.known:
        return None
    return (
        f"{totals.changed} of {totals.known} known objects were overwritten and {totals.gone} "
        f"deleted: more than {share:.0%}"
    )


#: A pack with less than this share of its plain bytes alive is emptied.
_HALF: Final = Decimal("0.5")


def vacating(
    lines: Iterable[Placed], packs: Mapping[str, int], *, share: Decimal
) -> frozenset[str]:
    """Choose the packs whose living objects are fetched anew, so that the packs can expire.

    ``packs`` are stored bytes by place, of everything that the inventory before refers to. Packs
    less than half alive, emptiest first, at most ``share`` of all stored bytes. What lives is
    counted per line in plain bytes: compression makes a pack look fuller than it is, never emptier.
    """
    alive: dict[str, int] = defaultdict(int)
    for line in lines:
        if line.pack is not None:
            alive[line.pack] += line.size
    half_dead = sorted(
        (Decimal(alive[place]) / size, place)
        for place, size in packs.items()
        if size and alive[place] < _HALF * size
    )
    room = share * sum(packs.values())
    chosen = []
    for _, place in half_dead:
        room -= alive[place]
        if room < 0:
            break
        chosen.append(place)
    return frozenset(chosen)


def is_refreshed(key: str, night: int, share: Decimal) -> bool:
    """Say whether an object's tags are read again in the night number ``night``.

    Each key has its turn once in every ``1 / share`` nights, whatever else happens.
    """
    if share <= 0:
        return False
    nights = max(1, int(1 / share))
    return zlib.crc32(sort_key(key)) % nights == night % nights


def unordered(number: int) -> ListingUnordered:
    """Say where a listing breaks its order; no key is named, for it may be personal data."""
    return ListingUnordered(
        f"object {number} of the listing breaks the order of keys",
        "a server that lists an object twice needs to be looked at",
    )


def _seconds(moment: str) -> int | None:
    try:
        return int(datetime.fromisoformat(moment).timestamp())
    except ValueError:
        return None

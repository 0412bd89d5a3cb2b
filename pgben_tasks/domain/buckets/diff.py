"""What a listing says beside the inventory before it, and what to make of that. Pure.

Everything here works on streams in the order of the keys, so that memory stays flat however many
objects there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, Protocol

from msgspec import Struct

from pgben_tasks.domain.buckets.inventory import Line, Listed, in_order
from pgben_tasks.errors import ListingUnordered

Why = Literal["new", "changed", "unreadable before", "unsettled", "pack avoided", "tags"]


class Placed(Protocol):
    """What a line says of an object's bytes."""

    @property
    def pack(self) -> str | None:
        """Where they lie."""

    @property
    def size(self) -> int:
        """How many they are."""


class Carried(Struct, frozen=True, gc=False):
    """The object is as it was: its line is taken over."""

    line: Line


class Wanted(Struct, frozen=True, gc=False):
    """The object is to be fetched, and why; ``line`` is its line before, where it had one.

    For "tags" it is as it was, but for those; "unsettled" looks as it was, and may not be so.
    """

    listed: Listed
    why: Why
    line: Line | None = None


class Gone(Struct, frozen=True, gc=False):
    """The object is no longer there."""

    line: Line


Change = Carried | Wanted | Gone


def compare(
    listing: Iterable[Listed],
    previous: Iterable[Line],
    *,
    previous_at: datetime | None,
    avoid: Container[str] = (),
) -> Iterator[Change]:
    """Join a listing with the inventory before it, key by key.

    ``previous_at`` is when the listing of that inventory began, None where there is none: what has
    a date that was not settled then is fetched anew. So are bytes in the packs ``avoid``. Raises
    ``ListingUnordered`` for the listing and ``ManifestInvalid`` for an inventory that is out of
    order.
    """
    settled = "" if previous_at is None else settled_before(previous_at)
    lines = in_order(previous)
    line = next(lines, None)
    last = ""
    for number, listed in enumerate(listing, start=1):
        key = listed.key
        if key <= last:
            raise unordered(number)
        last = key
        while line is not None and line.key < key:
            yield Gone(line)
            line = next(lines, None)
        if line is None or line.key != key:
            yield Wanted(listed, "new")
            continue
        yield _same_key(listed, line, settled, avoid)
        line = next(lines, None)
    while line is not None:
        yield Gone(line)
        line = next(lines, None)


def _same_key(listed: Listed, line: Line, settled: str, avoid: Container[str]) -> Change:
    if line.pack is None:
        return Wanted(listed, "unreadable before", line)
    if not line.is_of(listed):
        return Wanted(listed, "changed", line)
    # Comes before avoided packs: a line of theirs may stand when the object cannot be fetched.
    if line.modified is None or line.modified >= settled:
        return Wanted(listed, "unsettled", line)
    if line.pack in avoid:
        return Wanted(listed, "pack avoided", line)
    if listed.tags is not None and listed.tags != line.tags:
        return Wanted(listed, "tags", line)
    return Carried(line)


#: Clocks of a bucket's server and ours may differ by so much (doctor reports more).
_CLOCKS_APART: Final = timedelta(minutes=5)


def settled_before(listing_started: datetime) -> str:
    """Return the moment, in canonical form, before which dates tell objects from later versions.

    What was stored just before it was listed, or later, may have been fetched and stored again in
    one second, with the same bytes and other metadata. ``listing_started`` is by our clock, dates
    are by the server's; both are cut to whole seconds.
    """
    moment = listing_started.astimezone(UTC) - _CLOCKS_APART
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


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
        elif change.why == "tags":
            self.carried += 1
            self.known += 1
        else:
            self.known += 1
            self.changed += change.why == "changed"
            self.again += change.why != "changed"


def mass_change(totals: Totals, share: Decimal, *, expected: int = 0) -> str | None:
    """Return why a snapshot is suspect: documents are write-once, and too many changed or went.

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


#: A pack with less than this share of its bytes alive is emptied.
_VACATE_BELOW: Final = Decimal("0.5")
#: Bytes of a block of tar: a member has one for its header, and is filled up to whole ones.
_BLOCK: Final = 512
#: What a pack has beside its members, at most: the end of the tar, and what sealing adds.
_AROUND: Final = 4096


def vacating(
    lines: Iterable[Placed], packs: Mapping[str, int], *, share: Decimal
) -> frozenset[str]:
    """Choose the packs whose living objects are fetched anew, so that the packs can expire.

    ``packs`` are stored bytes by place, of everything that the inventory before refers to. Packs
    less than half alive, emptiest first, at most ``share`` of all stored bytes. What lives is
    counted per line in bytes of tar: compression makes a pack look fuller than it is, and nothing
    makes it look emptier, however small its objects are.
    """
    alive: dict[str, int] = defaultdict(int)
    for line in lines:
        if line.pack is not None:
            alive[line.pack] += _BLOCK + -(-line.size // _BLOCK) * _BLOCK
    half_alive = sorted(
        (Decimal(alive[place]) / size, place)
        for place, size in packs.items()
        if size and alive[place] + _AROUND < _VACATE_BELOW * size
    )
    room = share * sum(packs.values())
    chosen = []
    for _, place in half_alive:
        room -= alive[place]
        if room < 0:
            break
        chosen.append(place)
    return frozenset(chosen)


def unordered(number: int) -> ListingUnordered:
    """Return where a listing breaks its order; no key is named, for it may be personal data."""
    return ListingUnordered(
        f"object {number} of the listing breaks the order of keys",
        "a server that lists an object twice needs to be looked at",
    )


def listed_moment(listed: int | None, fetched: datetime) -> datetime:
    """Return when a fetched object was stored, so that the next listing says the same.

    ``listed`` is the date in the listing, in seconds since 1970; ``fetched`` came with the object.
    Servers may cut off parts of a second in one place and round them in the other: an object would
    be fetched anew each night. One that was stored again meanwhile has a later date in the next
    listing than in this one, so the listed date hides nothing.
    """
    if listed is None or abs(fetched.timestamp() - listed) > 1:
        return fetched
    return datetime.fromtimestamp(listed, UTC)

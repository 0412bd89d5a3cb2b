"""A shard: a part of the objects that a snapshot fetches, bounded in count and bytes. Pure.

A copy that is larger than one shard is shared between workers. The owner of a shard reads the list
of its objects from the repository and stores there what it copied, part by part, so that another
worker can go on where one was killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from pgben_tasks.domain.documents import Pack, StoredFile
from pgben_tasks.domain.values import Document, Size

#: Packs of the shard ``n`` are numbered from ``n * PACKS_EACH + 1``.
PACKS_EACH: Final = 100_000
#: How many numbers each owner of a shard has for its packs, apart from those of earlier owners, who
#: may not know yet that they lost it: more than a shard has objects. The seventeenth begins again.
_EACH_CLAIM: Final = PACKS_EACH // 16
#: How many shards there are at most: a pack's number has nine digits.
_MOST_SHARDS: Final = 9_000


class Part(Document):
    """Lines of the inventory that are in the repository, in a file sealed like an inventory.

    ``packs`` hold bytes of theirs and were named by no part before. The bytes of other lines lie
    in packs that are known already, or there are none.
    """

    file: StoredFile
    packs: tuple[Pack, ...] = ()


class Shard(Document):
    """One shard as the ledger has it: the objects to copy, and which of them are stored."""

    n: Size
    objects: Size
    bytes: Size
    wanted: StoredFile
    parts: tuple[Part, ...] = ()
    #: How often it was taken: the fence of the one who has it.
    claim: Size = 0


@dataclass(slots=True)
class Counts:
    """How many objects were fetched, had vanished or could not be read."""

    fetched: int = 0
    vanished: int = 0
    failed: int = 0

    def add(self, other: Counts) -> None:
        """Add what another shard came to."""
        self.fetched += other.fetched
        self.vanished += other.vanished
        self.failed += other.failed


class Sized(Protocol):
    """Something with bytes."""

    @property
    def size(self) -> int:
        """Its bytes."""


_S = TypeVar("_S", bound=Sized)


def part_numbers(shard: Shard) -> range:
    """Return the numbers of the parts that the present claim stores."""
    first = shard.claim % 16 * _EACH_CLAIM + 1
    return range(first, first + _EACH_CLAIM)


def pack_numbers(shard: Shard) -> range:
    """Return the numbers of the packs that the present claim stores."""
    before = shard.n * PACKS_EACH
    parts = part_numbers(shard)
    return range(before + parts.start, before + parts.stop)


def shard_bytes(total: int, *, least: int) -> int:
    """Return how many bytes a shard holds, so that there are never too many shards."""
    return max(least, -(-total // _MOST_SHARDS))


def divided(wanted: Iterable[_S], *, objects: int, size: int) -> Iterator[list[_S]]:
    """Yield lists for shards, in order: at most ``objects`` and about ``size`` bytes each.

    One object that is larger makes a shard of its own.
    """
    shard: list[_S] = []
    filled = 0
    for one in wanted:
        if shard and (len(shard) >= objects or filled + one.size > size):
            yield shard
            shard, filled = [], 0
        shard.append(one)
        filled += one.size
    if shard:
        yield shard

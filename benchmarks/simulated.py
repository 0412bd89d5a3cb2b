"""A bucket that is only computed, for sizes that no test server would hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from pgben_tasks.ports import FetchedObject, ListedObject
from pgben_tasks.ports.buckets import ObjectFacts
from tests.support.memory_bucket import MemoryBucket

_CHUNK: Final = bytes(1024 * 1024)
_STORED: Final = datetime(2026, 1, 1, tzinfo=UTC)


class SimulatedBucket(MemoryBucket):
    """``number`` small objects, and one of zeros with ``large`` bytes where that is not nothing.

    After ``overwrite`` six of ten objects in the first tenth are others, so that packs are half
    unused, and the listing is out of order, so that it has to be sorted.
    """

    def __init__(self, name: str, *, number: int, large: int) -> None:
        """Compute nothing yet."""
        super().__init__(name)
        self._number = number
        self._large = large
        self._night = 0

    def overwrite(self) -> None:
        """Change what the next night reads."""
        self._night += 1

    def list(self, prefix: str = "") -> Iterator[ListedObject]:
        """Return every object; pairs change places after the first night."""
        return (listed for listed in self._all() if listed.key.startswith(prefix))

    def _all(self) -> Iterator[ListedObject]:
        for at in range(self._number):
            number = at ^ 1 if self._night and at ^ 1 < self._number else at
            data = self._data(number)
            yield ListedObject(f"documents/{number:09}", _etag(data), len(data), _STORED)
        if self._large:
            yield ListedObject("zeros", "zeros", self._large, _STORED)

    @contextmanager
    def fetch(self, key: str) -> Iterator[FetchedObject]:
        """Compute one object."""
        if key == "zeros":
            facts = ObjectFacts(etag=key, size=self._large, modified=_STORED, tag_count=0)
            yield FetchedObject(facts=facts, chunks=self._zeros())
            return
        data = self._data(int(key.rpartition("/")[2]))
        facts = ObjectFacts(
            etag=_etag(data),
            size=len(data),
            modified=_STORED,
            headers={"content-type": "application/pdf"},
            metadata={"encryption-iv": data[:12].hex(), "original-hash": data[:32].hex()},
            tag_count=0,
        )
        yield FetchedObject(facts=facts, chunks=iter((data,)))

    def tags(self, _key: str) -> dict[str, str]:
        """Return no tags."""
        return {}

    def _data(self, number: int) -> bytes:
        changed = number < self._number // 10 and number % 10 < 6  # noqa: PLR2004 - six of ten
        return hashlib.sha512(b"%d %d" % (number, self._night if changed else 0)).digest()

    def _zeros(self) -> Iterator[bytes]:
        for at in range(0, self._large, len(_CHUNK)):
            yield _CHUNK[: self._large - at]


def _etag(data: bytes) -> str:
    return data[:16].hex()

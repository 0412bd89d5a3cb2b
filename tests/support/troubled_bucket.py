"""A bucket in memory that can be made to fail, and what snapshots of it must hold."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from pgben_tasks.domain.documents import Manifest
from pgben_tasks.ports import FetchedObject, ListedObject
from tests.support.bucketshop import BucketShop
from tests.support.memory_bucket import MemoryBucket

KEYS = [
    "cidadao/solicitacoes/1/rg/frente.jpg",
    "/lead",
    "a",
    "a/b",
    "a//b",
    "trail/",
    "x+y %41&=?.txt",
    "linha\nnova",
    "./ponto/../ponto",
    " ",
    "e\u0301",
    "\u00e9",
    "\U0001f4c4",
    "k" * 1024,
]


class TroubledBucket(MemoryBucket):
    """A bucket whose fetches can be counted and made to fail."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        # What is stored minutes before a listing is fetched once more by the snapshot after it.
        self.ago = timedelta(hours=1)
        self.fetched: list[str] = []
        self.broken: dict[str, Exception] = {}
        #: For each key, what its first fetches raise.
        self.passing: dict[str, list[Exception]] = {}
        self.awaited: threading.Event | None = None
        self.listed_later = timedelta(0)
        self.lists_tags = False
        #: For each fetch that finds an object just stored, what happens when it is over.
        self.just_stored: list[Callable[[], None]] = []

    def list(self, prefix: str = "") -> Iterator[ListedObject]:
        for one in super().list(prefix):
            moment = one.modified + self.listed_later
            tags = dict(self._objects[one.key].tags) if self.lists_tags else None
            yield ListedObject(one.key, one.etag, one.size, moment, tags)

    @contextmanager
    def fetch(self, key: str) -> Iterator[FetchedObject]:
        self.fetched.append(key)
        if self.passing.get(key):
            raise self.passing[key].pop()
        if key in self.broken:
            raise self.broken[key]
        if self.awaited is not None and key != "!first":
            assert self.awaited.wait(60)
        then = self.just_stored.pop() if self.just_stored else None
        with super().fetch(key) as got:
            yield replace(got, facts=replace(got.facts, just_stored=then is not None))
        if then is not None:
            then()


def fill(shop: BucketShop, count: int = 40) -> dict[str, bytes]:
    """Store objects under nasty keys and many plain ones."""
    objects = {key: f"documento {key!r}".encode() * 3 for key in KEYS}
    objects |= {f"doc/{number:05}": secrets.token_bytes(200 + number) for number in range(count)}
    objects["vazio"] = b""
    objects["grande.txt"] = b"0123456789" * 900_000
    for key, data in objects.items():
        shop.put(key, data)
    return objects


def require_whole(shop: BucketShop, manifest: Manifest, objects: dict[str, bytes]) -> None:
    entries = shop.entries(manifest)
    assert set(entries) == set(objects)
    assert list(entries) == sorted(entries, key=str.encode)
    for key, data in objects.items():
        assert shop.content(manifest, entries[key]) == data

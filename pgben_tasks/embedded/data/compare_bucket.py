"""Judge a bucket of documents: whether it is what it was, and every document opens.

The comparison lists and fetches for itself, decrypts with each object's own metadata, and asks the
database; it uses nothing of what pgben counted or wrote down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pgben_tasks.embedded.bucket_client import BucketClient, StoredObject
from pgben_tasks.embedded.data.documents import Cipher, Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """How many objects there are, how many open, and how many are what the database knows."""

    objects: int
    open: int
    as_in_database: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Keys that are missing, that are too many, and that carry something else than before."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    differing: tuple[str, ...]

    @property
    def all(self) -> int:
        """How many keys are not as they were."""
        return len(self.missing) + len(self.extra) + len(self.differing)


def contents(client: BucketClient) -> dict[str, StoredObject]:
    """Fetch every object with everything it carries."""
    return {key: client.get(key) for key in client.listed()}


def difference(before: Mapping[str, StoredObject], now: Mapping[str, StoredObject]) -> Difference:
    """Compare two states of a bucket: bytes, headers, metadata and tags of every key."""
    both = before.keys() & now.keys()
    return Difference(
        missing=tuple(sorted(before.keys() - now.keys())),
        extra=tuple(sorted(now.keys() - before.keys())),
        differing=tuple(sorted(key for key in both if before[key] != now[key])),
    )


def opened(found: Mapping[str, StoredObject], cipher: Cipher, known: Mapping[str, Known]) -> Opened:
    """Decrypt every object, and hold it against what the database knows of it."""
    digests = {key: cipher.opens(stored) for key, stored in found.items()}
    return Opened(
        objects=len(found),
        open=sum(digest is not None for digest in digests.values()),
        as_in_database=sum(
            key in found and known[key] == Known(digests[key] or "", len(found[key].data))
            for key in known
        ),
    )

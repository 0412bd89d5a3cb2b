"""A house with a protected bucket, and what end-to-end tests of buckets share."""

from __future__ import annotations

import random

from pgben_tasks.domain.target import Target
from pgben_tasks.embedded.stack import PROTECTED_BUCKET
from pgben_tasks.ports import Bucket
from tests.end_to_end.house import House

BUCKET = Target("bucket", PROTECTED_BUCKET)


class BucketHouse(House):
    """A house with a bucket on a server of its own."""

    protected = True


def fill(bucket: Bucket, count: int, *, sizes: tuple[int, int] = (1_000, 9_000)) -> None:
    """Store documents as the platform does: metadata of their encryption, some with tags."""
    chance = random.Random(7)
    for number in range(count):
        data = chance.randbytes(chance.randrange(*sizes))
        bucket.put(
            f"cidadão {number:03}/solicitações/rg+{number}.jpg",
            iter([data]),
            size=len(data),
            headers={"content-type": "image/jpeg"},
            metadata={"iv": f"{number:032x}", "hash": f"{number:064x}", "encrypted": "true"},
            tags={"setor": "assistência social"} if number % 3 == 0 else {},
        )

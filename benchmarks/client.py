"""What one request of the buckets' client costs in processor time, with one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.s3.errors import BUCKET_HINTS
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.embedded.s3 import EmbeddedS3

_BUCKET: Final = "pgben-client"
_REQUESTS: Final = 1000
_DATA: Final = bytes(10_000)


def measure() -> dict[str, float]:
    """Return milliseconds of this process's processor time per request, and per listed key."""
    with EmbeddedS3.start() as server:
        server.make_bucket(_BUCKET)
        bucket = S3Bucket(
            S3Location(
                hints=BUCKET_HINTS,
                endpoint=server.endpoint,
                bucket=_BUCKET,
                access_key=server.access_key,
                secret_key=server.secret_key,
            )
        )

        def put(number: int) -> None:
            bucket.put(
                f"{number:05}", iter([_DATA]), size=len(_DATA), headers={}, metadata={}, tags={}
            )

        def get(number: int) -> None:
            with bucket.fetch(f"{number:05}") as got:
                for _ in got.chunks:
                    pass

        found = {"PUT of 10 KB": _each(put), "GET of 10 KB": _each(get)}
        found["HEAD"] = _each(lambda number: bucket.head(f"{number:05}"))
        began = time.process_time()
        listed = sum(1 for _ in bucket.list())
        found["listed key"] = (time.process_time() - began) * 1000 / listed
    return found


def _each(request: Callable[[int], object]) -> float:
    began = time.process_time()
    for number in range(_REQUESTS):
        request(number)
    return (time.process_time() - began) * 1000 / _REQUESTS

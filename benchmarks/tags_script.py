"""What a user would write to keep the tags of a bucket: list it, ask for each object's, print them.

Run by ``benchmarks.tags``; the server and its keys come by the environment.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from minio import Minio

#: As many as pgben asks at a time by default (PGBEN_COPY_CONCURRENCY).
_AT_ONCE: Final = 16


def main() -> None:
    """Print one JSON line for each object: its key and its tags."""
    bucket = sys.argv[1]
    environment = os.environ  # noqa: TID251 - a program of its own, not pgben's
    client = Minio(
        environment["ENDPOINT"].removeprefix("http://"),
        access_key=environment["ACCESS_KEY"],
        secret_key=environment["SECRET_KEY"],
        secure=False,
        region="us-east-1",
    )

    def tags_of(key: str) -> tuple[str, dict[str, str]]:
        return key, dict(client.get_object_tags(bucket, key) or {})

    keys = (one.object_name or "" for one in client.list_objects(bucket, recursive=True))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for line in pool.map(tags_of, keys):
            print(json.dumps(line))


if __name__ == "__main__":
    main()

"""A client of one bucket on an embedded server: what the demo's platform and its judge use.

It shares nothing with pgben's own adapters, so that what it finds proves something about them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from urllib.parse import quote, urlencode

import urllib3
from minio import Minio
from minio.commonconfig import Tags

from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import CommandFailed

METADATA: Final = "x-amz-meta-"
_TIMEOUT_SECONDS: Final = 10.0
_VALID: Final = timedelta(hours=1)
#: What an application gives an object beside its metadata, and gets back.
_HEADERS: Final = ("content-type", "content-disposition", "cache-control")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object with everything it carries; values of headers are their bytes as latin-1."""

    data: bytes = field(repr=False)
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: Mapping[str, str]


class BucketClient:
    """Stores and fetches whole objects of one bucket."""

    def __init__(self, server: EmbeddedS3, bucket: str) -> None:
        """Name the bucket; it must exist."""
        self.bucket = bucket
        self._client: Minio = server.client()
        self._http = urllib3.PoolManager(timeout=_TIMEOUT_SECONDS, retries=False)

    def listed(self) -> Iterator[str]:
        """List every key."""
        for listed in self._client.list_objects(self.bucket, recursive=True):
            if listed.object_name is not None:
                yield listed.object_name

    def get(self, key: str) -> StoredObject:
        """Fetch an object with all that it carries."""
        answer = self._client.get_object(self.bucket, key)
        try:
            data = answer.read()
            headers = {name.lower(): value for name, value in answer.headers.items()}
        finally:
            answer.close()
            answer.release_conn()
        return StoredObject(
            data=data,
            headers={name: headers[name] for name in _HEADERS if name in headers},
            metadata={
                name.removeprefix(METADATA): value
                for name, value in headers.items()
                if name.startswith(METADATA)
            },
            tags=dict(self._client.get_object_tags(self.bucket, key) or {}),
        )

    def put(self, key: str, stored: StoredObject) -> None:
        """Store an object.

        Not by minio-py, which takes no metadata beyond ASCII: browsers and servers send UTF-8.
        """
        headers = {
            **stored.headers,
            **{f"{METADATA}{name}": value for name, value in stored.metadata.items()},
        }
        if stored.tags:
            headers["x-amz-tagging"] = urlencode(stored.tags, quote_via=quote, safe="")
        url = self._client.presigned_put_object(self.bucket, key, expires=_VALID)
        answer = self._http.request("PUT", url, body=stored.data, headers=headers)
        if answer.status != 200:  # noqa: PLR2004 - HTTP's word for done
            raise CommandFailed(
                f"the embedded S3 server did not store an object: status {answer.status}",
                "its log is in the stack's folder",
            )

    def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object."""
        wanted = Tags.new_object_tags()
        wanted.update(tags)
        self._client.set_object_tags(self.bucket, key, wanted)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._client.remove_object(self.bucket, key)

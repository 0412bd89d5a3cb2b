"""What obstore cannot ask of an S3 server: its clock, and the uploads that killed writers left.

minio-py can list unfinished uploads, but only by a private call which sends an empty delimiter,
whereupon rclone names none, and which loses the marker of the second page.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import urllib3

from pgben_tasks.adapters.s3.client import S3Request, S3Sender
from pgben_tasks.adapters.s3.errors import REPOSITORY
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.adapters.s3.xml import text_of
from pgben_tasks.errors import ConfigurationError, ObjectMissing
from pgben_tasks.ports import Unfinished

_LIMIT: Final = urllib3.Timeout(connect=5, read=30)
#: Small questions are asked by people who wait for the answer.
_PATIENCE: Final = timedelta(seconds=2)


def control_pool(location: S3Location) -> urllib3.PoolManager:
    """Make the connections for small requests to a repository's server."""
    return urllib3.PoolManager(
        timeout=_LIMIT,
        retries=urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504)),
        cert_reqs=ssl.CERT_REQUIRED,
        ca_certs=str(location.ca_file) if location.ca_file else None,
    )


class S3Control:
    """Small requests about a bucket; keys here are whole, with the repository's prefix."""

    def __init__(self, location: S3Location, *, page: int = 1000) -> None:
        """Prepare; the server is not asked yet. A listing's answers have ``page`` uploads each."""
        self._page = page
        self._sender = S3Sender(
            location,
            side=REPOSITORY,
            store=f"s3://{location.bucket}",
            patience=min(location.patience, _PATIENCE),
        )

    def now(self) -> datetime:
        """Return the server's clock, to the second: every answer is dated."""
        # A listing of nothing needs no right that the other requests do not need.
        query = {"list-type": "2", "max-keys": "1", "prefix": "none/", "delimiter": "/"}
        answer = self._sender.send(S3Request(method="GET", query=query))
        try:
            return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
        except (KeyError, ValueError) as exc:
            raise ConfigurationError(
                f"'{self._sender.store}' does not tell its time",
                "look at what stands between here and the server: its answers have no Date header",
            ) from exc

    def uploads(self, prefix: str) -> Iterator[Unfinished]:
        """Yield the unfinished uploads under keys that begin with ``prefix``."""
        marker: dict[str, str] = {}
        while True:
            query = {"uploads": "", "prefix": prefix, "max-uploads": str(self._page), **marker}
            try:
                page = self._sender.xml(
                    S3Request(method="GET", query=query), "ListMultipartUploadsResult"
                )
            except ObjectMissing:
                # So says rclone, NoSuchUpload, of a bucket that never had one.
                return
            for found in page.iterfind("Upload"):
                yield Unfinished(
                    text_of(found, "Key"),
                    text_of(found, "UploadId"),
                    datetime.fromisoformat(text_of(found, "Initiated")).astimezone(UTC),
                )
            following = {
                "key-marker": text_of(page, "NextKeyMarker"),
                "upload-id-marker": text_of(page, "NextUploadIdMarker"),
            }
            if text_of(page, "IsTruncated") != "true" or following == marker:
                return
            marker = following

    def abort(self, upload: Unfinished) -> None:
        """Give an upload up; one that is not there is no error."""
        try:
            query = {"uploadId": upload.upload}
            self._sender.send(S3Request(method="DELETE", key=upload.key, query=query))
        except ObjectMissing:
            return

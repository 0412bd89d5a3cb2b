"""What obstore cannot ask of an S3 server: its clock, and the uploads that killed writers left.

Requests are signed by minio-py's signer and sent by urllib3. minio-py can list unfinished uploads,
but only by a private call which sends an empty delimiter, whereupon rclone names none, and which
loses the marker of the second page.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

import urllib3
from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3

from pgben_tasks.adapters.s3_errors import by_answer, told
from pgben_tasks.errors import ConfigurationError, ObjectMissing, StoreUnavailable
from pgben_tasks.ports import Unfinished

if TYPE_CHECKING:
    from pgben_tasks.adapters.s3_store import S3Location

_LIMIT: Final = urllib3.Timeout(connect=5, read=30)
_NOTHING: Final = sha256(b"").hexdigest()
_SUCCESS: Final = range(200, 300)


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
        self._where = location
        self._page = page
        self._store = f"s3://{location.bucket}"
        self._pool = control_pool(location)

    def now(self) -> datetime:
        """Give the server's clock, to the second: every answer is dated."""
        # A listing of nothing needs no right that the other requests do not need.
        answer = self._send(
            "GET", query={"list-type": "2", "max-keys": "1", "prefix": "none/", "delimiter": "/"}
        )
        try:
            return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
        except (KeyError, ValueError) as exc:
            raise ConfigurationError(
                f"'{self._store}' does not tell its time",
                "look at what stands between here and the server: its answers have no Date header",
            ) from exc

    def uploads(self, prefix: str) -> Iterator[Unfinished]:
        """Give the unfinished uploads under keys that begin with ``prefix``."""
        marker: dict[str, str] = {}
        while True:
            query = {"uploads": "", "prefix": prefix, "max-uploads": str(self._page), **marker}
            try:
                page = self._xml(self._send("GET", query=query), prefix)
            except ObjectMissing:
                # So says rclone, NoSuchUpload, of a bucket that never had one.
                return
            for found in page.iterfind("{*}Upload"):
                yield Unfinished(
                    _text(found, "Key"),
                    _text(found, "UploadId"),
                    datetime.fromisoformat(_text(found, "Initiated")).astimezone(UTC),
                )
            following = {
                "key-marker": _text(page, "NextKeyMarker"),
                "upload-id-marker": _text(page, "NextUploadIdMarker"),
            }
            if _text(page, "IsTruncated") != "true" or following == marker:
                return
            marker = following

    def abort(self, upload: Unfinished) -> None:
        """Give an upload up; one that is not there is no error."""
        try:
            self._send("DELETE", upload.key, query={"uploadId": upload.upload})
        except ObjectMissing:
            return

    def _send(
        self, method: str, key: str = "", *, query: dict[str, str]
    ) -> urllib3.BaseHTTPResponse:
        path = quote(f"/{self._where.bucket}/{key}".rstrip("/"), safe="/-_.~")
        pairs = sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in query.items())
        line = "&".join(f"{name}={value}" for name, value in pairs)
        url = urlsplit(f"{self._where.endpoint.rstrip('/')}{path}?{line}")
        date = datetime.now(UTC)
        signed = sign_v4_s3(
            method=method,
            url=url,
            region=self._where.region,
            headers={
                "Host": url.netloc,
                "x-amz-content-sha256": _NOTHING,
                "x-amz-date": f"{date:%Y%m%dT%H%M%SZ}",
            },
            credentials=Credentials(self._where.access_key, self._where.secret_key),
            content_sha256=_NOTHING,
            date=date,
        )
        headers = {name: str(value) for name, value in signed.items()}
        try:
            answer = self._pool.request(method, url.geturl(), headers=headers)
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            raise told(exc, key or self._where.bucket, store=self._store) from exc
        if answer.status not in _SUCCESS:
            body = answer.data.decode(errors="replace")
            raise by_answer(answer.status, body, key or self._where.bucket, store=self._store)
        return answer

    def _xml(self, answer: urllib3.BaseHTTPResponse, what: str) -> ET.Element:
        try:
            return ET.fromstring(answer.data)  # noqa: S314 - our own repository's server
        except ET.ParseError as exc:
            raise StoreUnavailable(
                f"'{self._store}' does not answer as it should for '{what}'",
                "check that the server runs and can be reached from here",
            ) from exc


def _text(element: ET.Element, name: str) -> str:
    return (element.findtext(f"{{*}}{name}") or "").strip()

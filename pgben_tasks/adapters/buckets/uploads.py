"""Uploads in parts, which one request cannot carry; abandoned when they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as ET

from pgben_tasks.adapters.buckets.tagging import ask_to_store
from pgben_tasks.adapters.s3.client import S3Request, S3Sender
from pgben_tasks.adapters.s3.xml import text_of
from pgben_tasks.errors import IntegrityError, ObjectMissing, PgbenError
from pgben_tasks.ports.buckets import Uploads

_MEBIBYTE: Final = 1024 * 1024
#: S3 allows 10,000 parts of an upload.
_MOST_PARTS: Final = 9_000

#: Stores part ``number`` of the upload and returns its etag as the server worded it.
Part = Callable[[str, int], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Where one request ends and parts begin, in bytes.

    Up to ``single`` an object is stored by one request. Parts have at least ``part``; each is held
    in memory, once.
    """

    single: int = 16 * _MEBIBYTE
    part: int = 8 * _MEBIBYTE


def part_size(size: int, smallest: int) -> int:
    """Return the size of the parts of an object, few enough for S3."""
    return max(smallest, -(-size // _MOST_PARTS))


def blocks(key: str, chunks: Iterator[bytes], *, size: int, block: int) -> Iterator[bytes]:
    """Yield ``size`` bytes in blocks of one size, the last one shorter; one if there are none.

    Raises ``IntegrityError`` before the last block when the bytes are not exactly as many.
    """
    buffer = bytearray()
    given = 0
    for chunk in chunks:
        buffer += chunk
        if given + len(buffer) > size:
            raise IntegrityError(
                f"'{key}' has more bytes than the {size} that were announced",
                "nothing was stored",
            )
        # One block stays back: it is given when the source has ended as it should.
        while len(buffer) > block:
            yield bytes(memoryview(buffer)[:block])
            given += block
            del buffer[:block]
    if given + len(buffer) != size:
        raise IntegrityError(
            f"'{key}' has {given + len(buffer)} bytes, {size} were announced", "nothing was stored"
        )
    yield bytes(buffer)


def in_parts(
    sender: S3Sender,
    key: str,
    headers: Mapping[str, str],
    parts: Iterator[Part],
    *,
    before_end: Callable[[], None] | None = None,
    uploads: Uploads | None = None,
) -> str:
    """Make an object of parts; return its etag. Whatever fails, no part is left behind.

    ``before_end`` is called when all parts are stored, before the object comes to be there;
    ``uploads`` notes that the upload began, and when nothing of it is left. Raises
    ``StoreUnavailable`` where the server has lost the upload meanwhile: another one may last.
    """
    begun = S3Request(method="POST", key=key, query={"uploads": ""}, headers=headers)
    # The second root is rclone's.
    roots = ("InitiateMultipartUploadResult", "InitiateMultipartUpload")
    document = sender.document(begun, ask_to_store(sender, begun), *roots)
    upload = text_of(document, "UploadId")
    if not upload:
        raise sender.unexpected_answer(key)
    with ExitStack() as undo:
        undo.callback(_abort, sender, key, upload, uploads)
        if uploads is not None:
            uploads.begun(key, upload)
        with _upload_lasts(sender, key):
            etags = [store(upload, number) for number, store in enumerate(parts, 1)]
            ended = S3Request(
                method="POST",
                key=key,
                query={"uploadId": upload},
                headers={"content-type": "application/xml"},
                body=_completion(etags),
                # An answer that was lost cannot be asked for again: the upload is gone.
                repeat=False,
                before=before_end,
            )
            etag = text_of(sender.xml(ended, "CompleteMultipartUploadResult"), "ETag").strip('"')
        undo.pop_all()
    if uploads is not None:
        uploads.ended(key, upload)
    return etag


def uploaded(sender: S3Sender, key: str, data: bytes) -> Part:
    """Store bytes as a part."""

    def store(upload: str, number: int) -> str:
        query = {"partNumber": str(number), "uploadId": upload}
        answer = sender.send(S3Request(method="PUT", key=key, query=query, body=data))
        return answer.headers.get("etag", "")

    return store


def _completion(etags: list[str]) -> bytes:
    root = ET.Element("CompleteMultipartUpload")
    for number, etag in enumerate(etags, 1):
        part = ET.SubElement(root, "Part")
        ET.SubElement(part, "PartNumber").text = str(number)
        ET.SubElement(part, "ETag").text = etag
    return bytes(ET.tostring(root, encoding="utf-8"))


@contextmanager
def _upload_lasts(sender: S3Sender, key: str) -> Iterator[None]:
    """Raise what was lost of an upload as trouble of the server: nothing is said of the key."""
    try:
        yield
    except ObjectMissing as exc:
        raise sender.unexpected_answer(key) from exc


def _abort(sender: S3Sender, key: str, upload: str, uploads: Uploads | None) -> None:
    # What made the upload fail is the news; parts that stay are found as an unfinished upload.
    with suppress(PgbenError):
        sender.abandon_upload(key, upload)
        if uploads is not None:
            uploads.ended(key, upload)

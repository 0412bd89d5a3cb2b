"""The bytes of an object on their way; where a connection is cut they are taken up again.

The client of small objects fetches them whole and anew. A large one would begin again and again
on a network that cuts connections, and never come to its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import monotonic, sleep
from typing import Final

import urllib3

from pgben_tasks.adapters.buckets.headers import facts_of
from pgben_tasks.adapters.s3.client import FIRST_PAUSE, LONGEST_PAUSE, S3Request, S3Sender
from pgben_tasks.errors import PgbenError, TransientError
from pgben_tasks.ports.buckets import ObjectFacts

_CHUNK: Final = 1024 * 1024
_PARTIAL: Final = 206
_READING_ERRORS: Final = (urllib3.exceptions.HTTPError, OSError)


class Body:
    """The bytes of one object, from the answer that began with them."""

    def __init__(self, sender: S3Sender, key: str, answer: urllib3.BaseHTTPResponse) -> None:
        """Read from ``answer``, a streamed one; call ``close`` when no more is wanted."""
        self._sender = sender
        self._key = key
        self._answer = answer
        self._given = 0
        try:
            self.facts = facts_in(sender, key, headers_in(answer))
        except PgbenError:
            answer.close()
            raise

    def close(self) -> None:
        """End the connection, unless its answer was read to its end: it went back then."""
        self._answer.close()

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes; a connection that is cut is followed by another.

        Raises ``StoreUnavailable`` when no byte came for as long as the sender is patient, and when
        the object is another one meanwhile.
        """
        moved, pause = monotonic(), FIRST_PAUSE
        while True:
            try:
                while chunk := self._read(_CHUNK):
                    self._given += len(chunk)
                    yield chunk
                    moved, pause = monotonic(), FIRST_PAUSE
            except _READING_ERRORS as exc:
                error = self._sender.as_public_error(exc, self._key)
                spent = monotonic() + pause - moved > self._sender.patience
                if spent or not isinstance(error, TransientError):
                    raise error from exc
            else:
                return
            self.close()
            sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            self._resume()

    def _read(self, most: int) -> bytes:
        """Read what has come, which is not lost when the connection is cut right behind it."""
        if not isinstance(self._answer, urllib3.HTTPResponse):
            return self._answer.read(most)
        return self._answer.read1(most) or b""

    def _resume(self) -> None:
        """Ask for the bytes that are missing, of this very version of the object."""
        if self.facts.just_stored:
            # Another one, stored in the same second, might look the same.
            raise self._sender.unexpected_answer(self._key)
        span = {"range": f"bytes={self._given}-"}
        request = S3Request(method="GET", key=self._key, headers=span, stream=True)
        self._answer = self._sender.send(request)
        headers = headers_in(self._answer)
        partial = self._answer.status == _PARTIAL
        began = self._given if partial else 0
        facts = facts_in(self._sender, self._key, headers)
        same = (facts.etag, facts.modified, facts.version) == (
            self.facts.etag,
            self.facts.modified,
            self.facts.version,
        )
        if not same or facts.size != self.facts.size - began or not _begins_at(headers, began):
            raise self._sender.unexpected_answer(self._key)
        if not partial:
            self._skip(self._given)

    def _skip(self, size: int) -> None:
        """Read again what was given already, of a server that knows no ranges."""
        try:
            while size and (chunk := self._read(min(size, _CHUNK))):
                size -= len(chunk)
        except _READING_ERRORS as exc:
            raise self._sender.as_public_error(exc, self._key) from exc


def headers_in(answer: urllib3.BaseHTTPResponse) -> dict[str, str]:
    """Return the headers of an answer, by their names in lower case."""
    return {name.lower(): value for name, value in answer.headers.itermerged()}


def facts_in(sender: S3Sender, key: str, headers: Mapping[str, str]) -> ObjectFacts:
    """Read what an answer says of an object; ``StoreUnavailable`` where it does not say it."""
    try:
        return facts_of(headers)
    except (KeyError, ValueError) as exc:
        raise sender.unexpected_answer(key) from exc


def _begins_at(headers: Mapping[str, str], start: int) -> bool:
    """Return whether an answer has the bytes from ``start`` on."""
    return headers.get("content-range", "bytes 0-").startswith(f"bytes {start}-")

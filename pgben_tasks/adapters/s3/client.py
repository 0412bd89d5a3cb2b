"""Signed requests to an S3 server, byte for byte as they are meant, repeated while it is away.

urllib3's pool sends them: its manager would take dot segments out of a path. Nothing here
decompresses, follows redirections or knows what a request means.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Protocol
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET
from xml.parsers.expat import ExpatError

import urllib3

from pgben_tasks.adapters.s3.errors import Side, by_answer, code_of, told
from pgben_tasks.adapters.s3.location import Addressing
from pgben_tasks.adapters.s3.signing import S3Signer, quoted_path, quoted_query
from pgben_tasks.adapters.s3.whole_get import WholeAnswer, WholeGet
from pgben_tasks.adapters.s3.xml import read_xml
from pgben_tasks.errors import ConfigurationError, PgbenError, StoreUnavailable, TransientError

_CONNECT_SECONDS: Final = 5.0
#: Seconds of silence; a server that copies a large object takes its time.
_SILENCE_SECONDS: Final = 300.0
_CONNECTIONS: Final = 32
_SUCCESS: Final = range(200, 300)
_LATER: Final = frozenset({429, 500, 502, 503, 504})
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0


class S3Place(Protocol):
    """Where a bucket is, and the credentials for it."""

    @property
    def endpoint(self) -> str:
        """``http[s]://host[:port]``."""
        ...

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        ...

    @property
    def access_key(self) -> str:
        """Who asks."""
        ...

    @property
    def secret_key(self) -> str:
        """What signs."""
        ...

    @property
    def region(self) -> str:
        """The region that signatures name."""
        ...

    @property
    def ca_file(self) -> Path | None:
        """The authority of the server's certificate; None for the system's."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Request:
    """One request; header names are lower case, a value's characters are its bytes (latin-1).

    ``repeat`` is False for what must not be asked twice. ``before`` is called each time before it
    is sent, and may forbid that by raising. ``stream`` leaves the answer's body on the connection,
    for the caller to read and to close.
    """

    method: str
    key: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    repeat: bool = True
    before: Callable[[], None] | None = None
    stream: bool = False


class S3Sender:
    """Send requests about one bucket; safe to use from several threads."""

    def __init__(
        self,
        place: S3Place,
        *,
        side: Side,
        store: str,
        patience: timedelta,
        addressing: Addressing = "path",
    ) -> None:
        """Prepare; the server is not asked yet. ``store`` names the bucket in sentences."""
        parts = urlsplit(place.endpoint)
        self.bucket = place.bucket
        self.store = store
        self.side = side
        self._patience = patience.total_seconds()
        self._signer = S3Signer(place.access_key, place.secret_key, place.region)
        virtual = addressing == "virtual"
        self._host = f"{place.bucket}.{parts.netloc}" if virtual else parts.netloc
        self._root = parts.path.rstrip("/") + ("" if virtual else f"/{place.bucket}")
        self._scheme = parts.scheme
        self._whole = WholeGet(
            ca_file=place.ca_file, connect_limit=_CONNECT_SECONDS, silence_limit=_SILENCE_SECONDS
        )
        self._pool = urllib3.connection_from_url(
            f"{parts.scheme}://{self._host}",
            maxsize=_CONNECTIONS,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_SILENCE_SECONDS),
            retries=False,
            **({"ssl_context": self._trust(place.ca_file)} if parts.scheme == "https" else {}),
        )

    def send(self, request: S3Request) -> urllib3.BaseHTTPResponse:
        """Return the answer to a request; raises our own error where it is not a success."""
        answer = self.ask(request)
        if not succeeded(answer):
            raise self.error(request, answer)
        return answer

    def ask(self, request: S3Request) -> urllib3.BaseHTTPResponse:
        """Return the answer to a request, whatever it says.

        One that cannot be read, or that says "later", is asked for again while patience lasts.
        """
        deadline = monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            last = not request.repeat or monotonic() + pause > deadline
            if request.before is not None:
                request.before()
            try:
                answer = self._once(request)
            except (urllib3.exceptions.HTTPError, OSError) as exc:
                error = self.told(exc, request.key)
                if last or not isinstance(error, TransientError):
                    raise error from exc
            else:
                if last or answer.status not in _LATER:
                    return answer
                # What was left on the connection would be taken for the next answer's.
                answer.close()
            sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def error(self, request: S3Request, answer: urllib3.BaseHTTPResponse) -> PgbenError:
        """Tell an answer that is an error in our own words."""
        what = request.key or self.bucket
        return by_answer(answer.status, body_of(answer), what, store=self.store, side=self.side)

    def told(self, exc: Exception, key: str) -> PgbenError:
        """Tell a failure of the connection in our own words."""
        return told(exc, key or self.bucket, store=self.store, side=self.side)

    def nonsense(self, key: str) -> StoreUnavailable:
        """Make the error for an answer that cannot be what the server meant to say."""
        return StoreUnavailable(
            f"'{self.store}' does not answer as it should for '{key or self.bucket}'",
            "check that the server runs and can be reached from here",
        )

    def xml(self, request: S3Request, *roots: str) -> ET.Element:
        """Send a request that is answered by a document, with one of these roots."""
        return self.document(request, self.ask(request), *roots)

    def document(
        self, request: S3Request, answer: urllib3.BaseHTTPResponse, *roots: str
    ) -> ET.Element:
        """Read the document of an answer, which has one of these roots.

        A success whose body tells an error, as copies end that took long, is an error.
        """
        if not succeeded(answer):
            raise self.error(request, answer)
        try:
            document = read_xml(answer.data)
        except ExpatError as exc:
            raise self.nonsense(request.key) from exc
        if document.tag == "Error":
            raise self.error(request, answer)
        if document.tag not in roots:
            raise self.nonsense(request.key)
        return document

    def source(self, key: str) -> str:
        """Name an object of this bucket as the source of a copy."""
        return quoted_path(f"/{self.bucket}/{key}")

    def get_whole(self, key: str) -> WholeAnswer | None:
        """Fetch an object that fits into memory; None where another way must be gone."""
        target, headers = self._signed(S3Request(method="GET", key=key))
        return self._whole.ask(f"{self._scheme}://{self._host}{target}", headers)

    def _once(self, request: S3Request) -> urllib3.BaseHTTPResponse:
        target, headers = self._signed(request)
        return self._pool.urlopen(
            request.method,
            target,
            body=request.body if request.method in {"PUT", "POST"} else None,
            headers=headers,
            preload_content=not request.stream,
            decode_content=False,
            redirect=False,
        )

    def _signed(self, request: S3Request) -> tuple[str, dict[str, str]]:
        """Return path and query of a request, and its headers with the signature."""
        target = self._root + (f"/{quoted_path(request.key)}" if request.key else "")
        target = target or "/"
        if request.query:
            target += f"?{quoted_query(request.query)}"
        headers = self._signer.signed(
            request.method,
            target,
            {**request.headers, "host": self._host},
            body=request.body,
            date=datetime.now(UTC),
        )
        return target, headers

    def _trust(self, ca_file: Path | None) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        except OSError as exc:
            raise ConfigurationError(
                f"the CA file '{ca_file}' of '{self.store}' cannot be read",
                f"correct {self.side.ca_file}, or the file's content, owner and mode",
            ) from exc


def succeeded(answer: urllib3.BaseHTTPResponse) -> bool:
    """Return whether a server did what it was asked for."""
    return answer.status in _SUCCESS


def body_of(answer: urllib3.BaseHTTPResponse) -> str:
    """Return the body of an answer that is an error, as text; its connection is free then."""
    try:
        return answer.data.decode(errors="replace")
    except (urllib3.exceptions.HTTPError, OSError):
        # Its status has to do.
        return ""


def error_code(answer: urllib3.BaseHTTPResponse) -> str:
    """Return the code by which a server explains an error; empty when it gives none."""
    return code_of(body_of(answer))

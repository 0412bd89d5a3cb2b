"""Signed requests to an S3 server, byte for byte as they are meant, repeated while it is away.

urllib3's pool sends them, whose manager would take dot segments out of a path, or libcurl. Nothing
here decompresses, follows redirections or knows what a request means.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path
from time import monotonic, sleep
from typing import Final
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET
from xml.parsers.expat import ExpatError

import pycurl
import urllib3

from pgben_tasks.adapters.s3.errors import code_in, codes_of, error_for
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.adapters.s3.signing import S3Signer, quoted_path, quoted_query
from pgben_tasks.adapters.s3.xml import read_xml
from pgben_tasks.errors import ObjectMissing, PgbenError, TransientError

_CONNECT_SECONDS: Final = 5.0
#: Seconds of silence; a server that joins the parts of a large object takes its time.
_SILENCE_SECONDS: Final = 300.0
_CONNECTIONS: Final = 32
_SUCCESS: Final = range(200, 300)
_LATER: Final = frozenset({429, 500, 502, 503, 504})
#: Seconds before what failed is asked for again; each pause is twice the one before.
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 5.0
#: The bodies of larger answers are streamed by urllib3.
LARGEST_WHOLE: Final = 4 * 1024 * 1024
_BUFFER: Final = 128 * 1024


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

    def __init__(self, location: S3Location, *, store: str, patience: timedelta) -> None:
        """Prepare; the server is not asked yet. ``store`` names the bucket in sentences."""
        parts = urlsplit(location.endpoint)
        self.bucket = location.bucket
        self.store = store
        #: Seconds for which a request is repeated while the server does not answer.
        self.patience = patience.total_seconds()
        self._hints = location.hints
        self._signer = S3Signer(location.access_key, location.secret_key, location.region)
        virtual = location.addressing == "virtual"
        self._host = f"{location.bucket}.{parts.netloc}" if virtual else parts.netloc
        self._root = parts.path.rstrip("/") + ("" if virtual else f"/{location.bucket}")
        self._scheme = parts.scheme
        self._curl = CurlRequests(
            ca_file=location.ca_file, connect_limit=_CONNECT_SECONDS, silence_limit=_SILENCE_SECONDS
        )
        self._pool = urllib3.connection_from_url(
            f"{parts.scheme}://{self._host}",
            maxsize=_CONNECTIONS,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_SILENCE_SECONDS),
            retries=False,
            **({"ssl_context": location.trusted_authorities()} if location.secure else {}),
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
        deadline = monotonic() + self.patience
        pause = FIRST_PAUSE
        while True:
            last = not request.repeat or monotonic() + pause > deadline
            if request.before is not None:
                request.before()
            try:
                answer = self._once(request)
                if request.stream and not succeeded(answer):
                    # What it says of an error is short, and cut off it would mean another one.
                    _ = answer.data
            except (urllib3.exceptions.HTTPError, OSError) as exc:
                error = self.as_public_error(exc, request.key)
                if last or not isinstance(error, TransientError):
                    raise error from exc
            else:
                if last or answer.status not in _LATER:
                    return answer
                # What was left on the connection would be taken for the next answer's.
                answer.close()
            sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def error(self, request: S3Request, answer: urllib3.BaseHTTPResponse) -> PgbenError:
        """Return our error for an answer that is one: by its code, else by its status."""
        return self.error_for((error_code(answer), str(answer.status)), request.key)

    def error_for(self, codes: Iterable[str], key: str) -> PgbenError:
        """Return our error for codes and statuses of S3; ``key`` is empty for the bucket."""
        return error_for(codes, key or self.bucket, store=self.store, hints=self._hints)

    def as_public_error(self, exc: Exception, key: str) -> PgbenError:
        """Return our error for a connection that failed."""
        return self.error_for(codes_of(exc), key)

    def unexpected_answer(self, key: str) -> PgbenError:
        """Return the error for an answer that cannot be what the server meant to say."""
        return self.error_for((), key)

    def xml(self, request: S3Request, *roots: str) -> ET.Element:
        """Send a request that is answered by a document, with one of these roots."""
        return self.document(request, self.ask(request), *roots)

    def document(
        self, request: S3Request, answer: urllib3.BaseHTTPResponse, *roots: str
    ) -> ET.Element:
        """Read the document of an answer, which has one of these roots.

        A success whose body is an error, as uploads in parts end that took long, is an error.
        """
        if not succeeded(answer):
            raise self.error(request, answer)
        try:
            document = read_xml(answer.data)
        except ExpatError as exc:
            raise self.unexpected_answer(request.key) from exc
        if document.tag == "Error":
            raise self.error(request, answer)
        if document.tag not in roots:
            raise self.unexpected_answer(request.key)
        return document

    def abandon_upload(self, key: str, upload: str) -> None:
        """Remove the parts of an unfinished upload; one that is not there is no error."""
        with suppress(ObjectMissing):
            self.send(S3Request(method="DELETE", key=key, query={"uploadId": upload}))

    def get_whole(self, key: str) -> WholeAnswer | None:
        """Fetch an object that fits into memory; None where another way must be gone."""
        target, headers = self._signed(S3Request(method="GET", key=key))
        return self._curl.get(f"{self._scheme}://{self._host}{target}", headers)

    def put_whole(self, request: S3Request) -> WholeAnswer | None:
        """Store an object; None where it is not known to be stored and ``ask`` is to be tried."""
        if request.before is not None:
            if not request.body:
                # Without a body to rewind libcurl would send it again by itself, unasked.
                return None
            request.before()
        target, headers = self._signed(request)
        return self._curl.put(f"{self._scheme}://{self._host}{target}", headers, request.body)

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


def succeeded(answer: urllib3.BaseHTTPResponse) -> bool:
    """Return whether a server did what it was asked for."""
    return answer.status in _SUCCESS


def error_code(answer: urllib3.BaseHTTPResponse) -> str:
    """Return the code by which a server explains an error; empty when it gives none.

    The answer's connection is free then.
    """
    try:
        return code_in(answer.data.decode(errors="replace"))
    except (urllib3.exceptions.HTTPError, OSError):
        # Its status has to do.
        return ""


def date_of(answer: urllib3.BaseHTTPResponse) -> datetime | None:
    """Return the server's clock as an answer is dated, to the second; None where it is not."""
    try:
        return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """The headers of an answer (lower case, latin-1) and its raw body."""

    headers: Mapping[str, str]
    body: bytes


class CurlRequests:
    """The two requests that are made for every object, by libcurl, over connections of each thread.

    Nearly all of a bucket's objects fit into memory, and a request over urllib3 costs twice the
    processor time, much of it in the standard library's reader of headers. Only what goes well ends
    here: whatever is unusual (an error, an answer that breaks off, a large object) is asked for
    again by ``S3Sender``, which knows what to make of it.
    """

    def __init__(self, *, ca_file: Path | None, connect_limit: float, silence_limit: float) -> None:
        """Prepare; nothing is opened yet."""
        paths = ssl.get_default_verify_paths()
        self._ca_file = str(ca_file) if ca_file else paths.cafile
        self._ca_path = None if ca_file else paths.capath
        self._connect_limit = connect_limit
        self._silence_limit = silence_limit
        self._here = threading.local()

    def get(self, url: str, headers: Mapping[str, str]) -> WholeAnswer | None:
        """Send a GET; None when anything but a whole, small, successful answer comes."""
        curl = self._curl()
        curl.setopt(pycurl.HTTPGET, 1)
        answer = self._perform(curl, url, [_line(*header) for header in headers.items()])
        if answer is None or answer.headers.get("content-length") != str(len(answer.body)):
            return None
        return answer

    def put(self, url: str, headers: Mapping[str, str], body: bytes) -> WholeAnswer | None:
        """Send a PUT; None when anything but a whole, successful answer comes."""
        if any(value.isspace() for value in headers.values()):
            # Such a header would be left out.
            return None
        curl = self._curl()
        curl.setopt(pycurl.UPLOAD, 1)
        curl.setopt(pycurl.INFILESIZE_LARGE, len(body))
        curl.setopt(pycurl.READDATA, BytesIO(body))
        # The server is not asked first whether it would take the body.
        sent = [*(_line(*header) for header in headers.items()), b"expect:"]
        try:
            return self._perform(curl, url, sent)
        finally:
            # The object would be held until the next one.
            curl.setopt(pycurl.READDATA, BytesIO())

    def _perform(self, curl: pycurl.Curl, url: str, sent: list[bytes]) -> WholeAnswer | None:
        lines: list[bytes] = []
        chunks: list[bytes] = []
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.HTTPHEADER, sent)
        curl.setopt(pycurl.HEADERFUNCTION, lines.append)
        curl.setopt(pycurl.WRITEFUNCTION, chunks.append)
        try:
            curl.perform()
        except pycurl.error:
            return None
        if curl.getinfo(pycurl.RESPONSE_CODE) not in _SUCCESS:
            return None
        return WholeAnswer(_headers(lines), b"".join(chunks))

    def _curl(self) -> pycurl.Curl:
        made: pycurl.Curl | None = getattr(self._here, "curl", None)
        if made is None:
            made = self._here.curl = pycurl.Curl()
            made.setopt(pycurl.NOSIGNAL, 1)
            made.setopt(pycurl.PATH_AS_IS, 1)
            # As the other client: no proxy of the environment, no redirection, no second protocol.
            made.setopt(pycurl.PROXY, "")
            made.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
            made.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
            made.setopt(pycurl.CONNECTTIMEOUT_MS, round(self._connect_limit * 1000))
            made.setopt(pycurl.LOW_SPEED_LIMIT, 1)
            made.setopt(pycurl.LOW_SPEED_TIME, round(self._silence_limit))
            made.setopt(pycurl.BUFFERSIZE, _BUFFER)
            made.setopt(pycurl.MAXFILESIZE_LARGE, LARGEST_WHOLE)
            if self._ca_file:
                made.setopt(pycurl.CAINFO, self._ca_file)
            if self._ca_path:
                made.setopt(pycurl.CAPATH, self._ca_path)
        return made


def _line(name: str, value: str) -> bytes:
    """Return a header as libcurl wants it: one without a value would be left out."""
    return (f"{name}: {value}" if value else f"{name};").encode("latin-1")


def _headers(lines: list[bytes]) -> dict[str, str]:
    """Read header lines; those of several answers, or of one name, are joined."""
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            name, value = name.lower(), value.strip(" \t\r\n")
            found[name] = f"{found[name]}, {value}" if name in found else value
        elif line.startswith(b"HTTP/"):
            # An answer before the last one, such as "100 Continue".
            found.clear()
    return found

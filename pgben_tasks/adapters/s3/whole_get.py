"""Fetch an object that fits into memory, by libcurl: nearly all of a bucket's objects do.

A GET over urllib3 costs nearly twice the processor time, much of it in the standard library's
reader of headers. Only what goes well ends here: whatever is unusual (an error, an answer that
breaks off, a large object) is asked for again by the client that knows what to make of it.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pycurl

#: Larger bodies are streamed by the other client.
LARGEST: Final = 4 * 1024 * 1024
_OK: Final = 200
_BUFFER: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """The headers of an answer (lower case, latin-1) and its raw body."""

    headers: Mapping[str, str]
    body: bytes


class WholeGet:
    """GET requests over connections that each thread keeps."""

    def __init__(self, *, ca_file: Path | None, connect_limit: float, silence_limit: float) -> None:
        """Prepare; nothing is opened yet."""
        paths = ssl.get_default_verify_paths()
        self._ca_file = str(ca_file) if ca_file else paths.cafile
        self._ca_path = None if ca_file else paths.capath
        self._connect_limit = connect_limit
        self._silence_limit = silence_limit
        self._here = threading.local()

    def ask(self, url: str, headers: Mapping[str, str]) -> WholeAnswer | None:
        """Send a GET; None when anything but a whole, small, successful answer comes."""
        curl = self._curl()
        lines: list[bytes] = []
        chunks: list[bytes] = []
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()])
        curl.setopt(pycurl.HEADERFUNCTION, lines.append)
        curl.setopt(pycurl.WRITEFUNCTION, chunks.append)
        try:
            curl.perform()
        except pycurl.error:
            return None
        if curl.getinfo(pycurl.RESPONSE_CODE) != _OK:
            return None
        answer = WholeAnswer(_headers(lines), b"".join(chunks))
        told = answer.headers.get("content-length")
        return answer if told == str(len(answer.body)) else None

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
            made.setopt(pycurl.MAXFILESIZE_LARGE, LARGEST)
            if self._ca_file:
                made.setopt(pycurl.CAINFO, self._ca_file)
            if self._ca_path:
                made.setopt(pycurl.CAPATH, self._ca_path)
        return made


def _headers(lines: list[bytes]) -> dict[str, str]:
    """Read header lines; those of several answers, or of one name, are not told apart further."""
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

"""What stands between pgben and an S3 server in tests: it passes requests on, or answers itself."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

#: Given method and target of a request: the status of an empty answer, None to pass it on.
OwnAnswer = Callable[[str, str], int | None]

_HOP = frozenset({"transfer-encoding", "connection", "content-length"})


class _Between(http.server.BaseHTTPRequestHandler):
    """Passes on to ``server`` what ``own`` does not answer."""

    protocol_version = "HTTP/1.1"
    server_address: str
    own: OwnAnswer

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        target = self.requestline.split(" ")[1]
        status = self.own(self.command, target)
        if status is None:
            self._pass_on(target, body)
            return
        self.send_response_only(status)
        self._end(status, "0", b"")

    def _pass_on(self, target: str, body: bytes) -> None:
        server = http.client.HTTPConnection(self.server_address, timeout=30)
        server.putrequest(self.command, target, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.raw_items():
            server.putheader(name, value)
        server.endheaders(body)
        answer = server.getresponse()
        data = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        size = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self._end(answer.status, size or str(len(data)), data)
        server.close()

    def _end(self, status: int, size: str, data: bytes) -> None:
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815  # the library's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def answering(endpoint: str, own: OwnAnswer) -> Iterator[str]:
    """Yield the address of a proxy before ``endpoint``, which must check no signatures."""
    facts = {"server_address": urlsplit(endpoint).netloc, "own": staticmethod(own)}
    handler = type("Between", (_Between,), facts)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(timeout=10)

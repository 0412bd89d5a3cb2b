"""What stands between pgben and an S3 server in tests: it passes requests on, or answers itself."""

from __future__ import annotations

import http.client
import http.server
import random
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
        """Log no request."""


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


class Cutting:
    """A network that cuts a share of the connections while a request or its answer is on its way.

    Of every ten exchanges as many as the share says are drawn in which the connection ends, and
    for each after how many bytes: few as likely as many. It knows nothing of HTTP.
    """

    def __init__(self, endpoint: str, *, share: float, seed: int) -> None:
        """Stand before ``endpoint``; nothing is listened to yet."""
        host, _, port = urlsplit(endpoint).netloc.partition(":")
        self._server = (host, int(port))
        self._drawn_of_ten = round(10 * share)
        self._chance = random.Random(seed)
        self._ahead: list[bool] = []
        self._lock = threading.Lock()
        #: How many exchanges there were, and how many of them were cut.
        self.exchanges = self.cut = 0

    @contextmanager
    def open(self) -> Iterator[str]:
        """Yield the address of the proxy."""
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
            thread = threading.Thread(target=self._accept, args=(listening,), daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                listening.shutdown(socket.SHUT_RDWR)
                thread.join(timeout=10)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _connection(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self._server) as server:
            left = self._drawn()
            answered = False
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return
                    if one is client and answered:
                        if left is not None:
                            break
                        left = self._drawn()
                    answered = one is server
                    other = client if one is server else server
                    if left is not None and len(data) > left:
                        other.sendall(data[:left])
                        break
                    left = None if left is None else left - len(data)
                    other.sendall(data)
                else:
                    continue
                break
            with self._lock:
                self.cut += 1
            for one in (client, server):
                # A reset, not an orderly end.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _drawn(self) -> int | None:
        """Return after how many bytes an exchange is cut; None for one that is not."""
        with self._lock:
            self.exchanges += 1
            if not self._ahead:
                self._ahead = [number < self._drawn_of_ten for number in range(10)]
                self._chance.shuffle(self._ahead)
            if not self._ahead.pop():
                return None
            return int(10 ** self._chance.uniform(0, 6))

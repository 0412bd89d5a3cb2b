"""The browser of the tests shows a page that this machine serves, as somebody sees it."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.support.browser import chromium, visit
from tests.support.needs import needs

PAGE = """\
<!doctype html><title>before</title><p id="language">{language}</p><p id="width"></p>
<script>width.textContent = innerWidth; document.title = "after"</script>
"""


class Handler(BaseHTTPRequestHandler):
    """Answers every request with what it was asked in."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        language = self.headers.get("Accept-Language", "")
        self.wfile.write(PAGE.format(language=language).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        """Write no log."""


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@needs("chromium-headless-shell")
def test_a_page_is_shown_in_the_language_and_width_of_the_visitor(address: str) -> None:
    with chromium() as browser:
        with visit(browser, language="pt-BR") as someone:
            page = someone.new_page()
            page.goto(address)
            assert page.title() == "after"
            assert page.inner_text("#language").startswith("pt-BR")
        with visit(browser, language="en-US", width=360) as someone:
            page = someone.new_page()
            page.goto(address)
            assert page.inner_text("#language").startswith("en-US")
            assert page.inner_text("#width") == "360"
        with visit(browser, javascript=False) as someone:
            page = someone.new_page()
            page.goto(address)
            assert page.title() == "before"

"""A real browser for tests of pages: Debian's Chromium without windows, driven by Playwright.

Nothing is downloaded, and the browser asks no address but those that a test opens. Tests that use
it are marked ``@needs("chromium-headless-shell")``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, BrowserContext, sync_playwright

#: It also runs as root, and stays silent: it looks for no updates, no settings of an account, and
#: makes no connection that a page did not ask for.
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Milliseconds that anything on a page may take: nothing waits for a person.
TIMEOUT: Final = 15_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser without a window; it and its processes end with the block."""
    program = shutil.which("chromium-headless-shell")
    if program is None:
        message = "there is no chromium-headless-shell: mark the test with needs()"
        raise FileNotFoundError(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, headless=True, args=[*ARGUMENTS], timeout=60_000
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(
    browser: Browser,
    *,
    language: str = "pt-BR",
    width: int = 1280,
    height: int = 800,
    javascript: bool = True,
) -> Iterator[BrowserContext]:
    """Yield a visit of somebody new, without cookies, whose ``new_page()`` opens pages.

    ``language`` is what the browser asks for in ``Accept-Language``; a phone is 360 wide.
    """
    context = browser.new_context(
        locale=language,
        viewport={"width": width, "height": height},
        java_script_enabled=javascript,
        timezone_id="America/Fortaleza",
    )
    context.set_default_timeout(TIMEOUT)
    try:
        yield context
    finally:
        context.close()

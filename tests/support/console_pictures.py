"""Takes the pictures of the console for docs/: `make pictures`, then look at each of them.

A real installation with two months of nights, one of which failed and one of which is missing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import chromium, visit
from tests.support.console import PASSWORDS, LiveConsole, start_console
from tests.support.deployment import BUCKET, DATABASE, TARGET, Deployment, papers

FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"
_NIGHTLY: Final = {
    "PGBEN_SCHEDULE_POSTGRES": "0 2 * * *",
    "PGBEN_SCHEDULE_BUCKETS": "0 3 * * *",
    "PGBEN_SCHEDULE_VERIFY": "0 8 * * 1",
}
_NIGHTS: Final = 57
#: How many nights ago one failed for good, one is missing, and one is suspect.
_FAILED, _MISSING, _SUSPECT = 23, 40, 11
_PHONE: Final = 390
_DESKTOP: Final = 1100
#: Of these, other pages than the first one as well.
_ALL_PAGES: Final = {("pt-BR", _DESKTOP), ("en-US", _PHONE)}


@contextmanager
def installation() -> Iterator[tuple[Deployment, LiveConsole]]:
    """Yield an installation with a past, and its console."""
    with tempfile.TemporaryDirectory() as name, papers(Path(name), 60, megabytes=8) as deployment:
        deployment.start("all", name="worker", changed=_NIGHTLY)
        deployment.start("beat", name="beat")
        assert deployment.pgben("backup", "--all").code == 0
        assert deployment.pgben("verify", "--level", "full").code == 0
        assert deployment.pgben("restore", "--all").code == 0
        assert deployment.pgben("restore", DATABASE, "--in-place", "--confirm", DATABASE).code == 0
        assert deployment.pgben("restore", DATABASE, "--into", DATABASE).code == 3
        _write_nights(deployment)
        assert deployment.pgben("report", "--mail").code == 0
        yield deployment, start_console(deployment, changed=_NIGHTLY)


def _write_nights(deployment: Deployment) -> None:
    """Write the jobs of past windows as workers would have left them."""
    schedules = {str(TARGET): 2, str(BUCKET): 3}
    zone = deployment.work.zone
    today = deployment.work.database.now().astimezone(zone).date()
    with deployment.work.database.transaction() as cursor:
        for back in range(_NIGHTS):
            for target, hour in schedules.items():
                day = today - timedelta(days=back)
                window = datetime(day.year, day.month, day.day, hour, tzinfo=zone)
                if back == _MISSING or window > deployment.work.database.now():
                    continue
                failed = back == _FAILED and target == str(TARGET)
                suspect = '{"suspect": "40 % fewer rows"}' if back == _SUSPECT else "{}"
                cursor.execute(
                    "INSERT INTO job (key, kind, target, window_at, request, requested_by, state,"
                    " result, created_at, started_at, ended_at)"
                    " VALUES (%s, 'backup', %s, %s, '{}', 'schedule', %s, %s, %s, %s, %s)",
                    (
                        str(uuid4()),
                        target,
                        window,
                        "failed" if failed else "succeeded",
                        suspect,
                        window,
                        window,
                        window + timedelta(minutes=4),
                    ),
                )


def take(browser: Browser, console: LiveConsole, job: UUID, language: str, width: int) -> None:
    """Take the pictures in one language and one width; ``job`` restored in place."""
    tag = f"{language[:2]}-{'phone' if width == _PHONE else 'desktop'}"
    with visit(browser, language=language, width=width, height=760) as context:
        page = context.new_page()
        page.goto(f"{console.url}/pgben")
        page.locator("#name").fill("ana")
        page.locator("#password").fill(PASSWORDS["ana"])
        page.locator("main button").click()
        expect(page.locator(".cards")).to_be_visible(timeout=60_000)
        _save(page, f"overview-{tag}")
        page.goto(f"{console.url}/pgben/report")
        _save(page, f"console-report-{tag}")
        if (language, width) not in _ALL_PAGES:
            return
        page.goto(f"{console.url}/pgben/do/restore?target={TARGET}&in_place=true")
        _save(page, f"restore-{tag}")
        page.goto(f"{console.url}/pgben/jobs/{job}")
        _save(page, f"job-{tag}")


def _save(page: Page, name: str) -> None:
    page.screenshot(path=FOLDER / f"{name}.png", full_page=True)


def main() -> None:
    """Take all of them."""
    FOLDER.mkdir(exist_ok=True)
    with installation() as (deployment, console), chromium() as browser:
        (swap,) = deployment.work.swaps.done()
        for language in ("pt-BR", "en-US"):
            for width in (_DESKTOP, _PHONE):
                take(browser, console, swap.job, language, width)


if __name__ == "__main__":
    main()

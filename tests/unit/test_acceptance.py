"""The page of the platform's acceptance tests: it names every one, and only tests that exist."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pgben_tasks.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "acceptance.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (BKP-\d\d) \| .+ \| (.+) \|$", PAGE, re.MULTILINE))
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def test_the_page_has_each_of_the_twelve() -> None:
    assert list(ROWS) == [f"BKP-{number:02}" for number in range(1, 13)]
    shown = ("`tests/", "**not yet**", "the same two")
    assert [name for name, text in ROWS.items() if not any(word in text for word in shown)] == []


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_the_page_names_exists(file: str, name: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", text, re.MULTILINE)


def test_backups_and_verification_are_due_when_the_platform_says() -> None:
    settings = Settings.load({})
    sunday = datetime(2026, 11, 22, 15, tzinfo=UTC)
    local = {
        kind: f"{settings.schedule(kind).next(sunday).astimezone(settings.zone):%A %H:%M}"
        for kind in ("postgres", "bucket", "verify")
    }
    assert local == {
        "postgres": "Monday 02:00",
        "bucket": "Monday 03:00",
        "verify": "Monday 08:00",
    }
    a_day_later = settings.schedule("verify").next(datetime(2026, 11, 23, 15, tzinfo=UTC))
    assert (a_day_later.date() - sunday.date()).days == 8

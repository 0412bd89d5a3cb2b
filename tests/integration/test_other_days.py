"""A sample of the tests that read the date, on another day; `make test-days` runs them all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.needs import needs
from tests.support.other_days import DATED, ROOT, clock, environment, run

pytestmark = pytest.mark.unmeasured

LOOK = """
import os, pathlib, threading, time
began = time.monotonic()
threading.Event().wait(0.05)
time.sleep(0.05)
assert 0.1 <= time.monotonic() - began < 30
path = pathlib.Path("file")
path.write_text("")
assert abs(path.stat().st_mtime - time.time()) < 60
os.utime(path, (5, 5))
assert path.stat().st_mtime == 5
print(int(time.time()))
"""


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    with clock() as made:
        yield made


@needs("cc")
def test_clocks_and_files_are_ahead_and_waits_last_as_long_as_ever(
    library: Path, tmp_path: Path
) -> None:
    ahead = timedelta(days=40)
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        env=environment(library, ahead),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    shown = datetime.fromtimestamp(int(done.stdout), UTC)
    assert abs(shown - ahead - datetime.now(UTC)) < timedelta(minutes=2)


@needs("cc")
def test_ticks_and_prunes_hold_in_the_last_hour_of_a_year(library: Path) -> None:
    now = datetime.now(UTC)
    # In Fortaleza it is still the old year.
    end = datetime(now.year + 1, 1, 1, 2, 30, tzinfo=UTC)
    ran = run(
        library,
        end - now,
        *(name for name in DATED if name.endswith(("test_tasks.py", "test_prune_operations.py"))),
        *("-k", "tick or window or sweep or silence or own_clock"),
    )
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout


def test_every_dated_file_is_there() -> None:
    assert [name for name in DATED if not (ROOT / name).exists()] == []

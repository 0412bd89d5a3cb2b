"""Run the tests that read the date or the time of day on other days: ``make test-days DAYS=40``.

The programs and servers of a run get a clock that is ahead of the machine's (clock_ahead.c). By
hand: ``python -m tests.support.other_days 1-40 tests/integration/test_tasks.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = Path(__file__).with_name("clock_ahead.c")
PYTEST: Final = (
    *(sys.executable, "-m", "pytest", "-q"),
    *("--show-capture=no", "-p", "no:cacheprovider"),
)
#: The files whose tests read the date: of the catalog, the store or the machine.
DATED: Final = (
    "tests/contract/test_directory_store.py",
    "tests/integration/test_alarms.py",
    "tests/integration/test_catalog_database.py",
    "tests/integration/test_doctor.py",
    "tests/integration/test_ledger.py",
    "tests/integration/test_prune_operations.py",
    "tests/integration/test_recovery.py",
    "tests/integration/test_sixty_nights.py",
    "tests/integration/test_sweep_operations.py",
    "tests/integration/test_tasks.py",
    "tests/unit/test_retention.py",
    "tests/unit/test_windows.py",
)


@contextmanager
def clock() -> Iterator[Path]:
    """Compile the clock that is preloaded; servers of another account can read it, too."""
    with tempfile.TemporaryDirectory(prefix="pgben-clock-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        library = folder / "clock_ahead.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"],
            check=True,
            timeout=60,
        )
        yield library


def environment(library: Path, ahead: timedelta) -> dict[str, str]:
    """Return the environment of programs whose clock is ``ahead`` of the machine's."""
    seconds = str(int(ahead.total_seconds()))
    return {**os.environ, "LD_PRELOAD": str(library), "CLOCK_AHEAD": seconds}


def run(library: Path, ahead: timedelta, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests with that clock."""
    return subprocess.run(
        [*PYTEST, *arguments],
        cwd=ROOT,
        env=environment(library, ahead),
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )


def main(days: str, *files: str) -> int:
    """Run the dated tests on each of the days ``first-last`` from today; 1 when one is red.

    Each day begins 36 minutes later than the one before, so that forty of them see every hour.
    """
    first, _, last = days.partition("-")
    red = 0
    with clock() as library:
        for day in range(int(first), int(last or first) + 1):
            now = datetime.now(UTC)
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
            moment = midnight + timedelta(days=day, minutes=36 * day % (24 * 60))
            ahead = moment - now
            ran = run(library, ahead, *(files or DATED))
            said = ran.stdout.splitlines()
            sys.stdout.write(f"{moment:%a %Y-%m-%d %H:%M}  {said[-1]}\n")
            sys.stdout.flush()
            if ran.returncode:
                red += 1
                sys.stdout.write(ran.stdout + ran.stderr)
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Claims about tests that need a system tool: skipped by default, a failure when required."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import REQUIRE, missing, required

ROOT = Path(__file__).parents[2]
ABSENT = "a-tool-that-nobody-has"
TESTS = f"""
from tests.support.needs import needs

@needs("{ABSENT}")
def test_with_a_tool():
    pass

def test_without():
    pass
"""


def test_absent_tools_are_named() -> None:
    assert missing(("sh", ABSENT)) == [ABSENT]
    assert missing(("sh",), path="") == ["sh"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("", []), ("all", ["age", "zstd"]), ("zstd", ["zstd"]), ("age, zstd", ["age", "zstd"])],
)
def test_required_tools_are_those_of_the_setting(wanted: str, found: list[str]) -> None:
    assert required(["age", "zstd"], {REQUIRE: wanted}) == found
    assert required([], {REQUIRE: wanted}) == []


@pytest.mark.parametrize(
    ("wanted", "status", "line"),
    [
        ("", 0, f"not run, needs {ABSENT}:"),
        ("all", 1, f"needs {ABSENT}, which this run requires: `make system-tools`"),
    ],
)
def test_the_closing_table_tells_what_was_not_run(
    tmp_path: Path, wanted: str, status: int, line: str
) -> None:
    # A tree of its own with the real conftest: what is claimed is what every run does.
    tests = tmp_path / "tests"
    for folder in ("unit", "support"):
        (tests / folder).mkdir(parents=True)
    support = ("__init__.py", "needs.py", "durations.py", "durations.json")
    for name in ("__init__.py", *(f"support/{one}" for one in support)):
        (tests / name).write_bytes((ROOT / "tests" / name).read_bytes())
    conftest = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    kept = re.sub(r"^pytest_plugins = \[.*?\]$", "", conftest, flags=re.DOTALL | re.MULTILINE)
    (tests / "conftest.py").write_text(kept, encoding="utf-8")
    (tests / "unit" / "test_some.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--import-mode=importlib"],
        cwd=tmp_path,
        env={**os.environ, REQUIRE: wanted},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert line in done.stdout
    assert "unit               1" in done.stdout

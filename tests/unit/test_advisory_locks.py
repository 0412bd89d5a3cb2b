"""Advisory locks of the catalog with fixed numbers: each number stands for one thing."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pgben_tasks

PACKAGE = Path(pgben_tasks.__file__).parent


def test_no_two_things_are_guarded_by_the_same_number() -> None:
    found: dict[int, set[str]] = defaultdict(set)
    for path in (*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.sql")):
        for number in re.findall(r"\b7_?290_?114_?4\d\d\b", path.read_text(encoding="utf-8")):
            found[int(number.replace("_", ""))].add(path.name)
    assert len(found) > 3
    assert {number: files for number, files in found.items() if len(files) > 1} == {}

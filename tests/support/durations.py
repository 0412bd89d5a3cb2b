"""Start the longest files first: the order in which the files of the tests begin.

With ``--dist loadfile`` a long file that begins last is all that a run still waits for.
``python -m tests.support.durations REPORT`` writes the table anew from the JUnit report of a run
(``make test ARGS=--junitxml=REPORT``).
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Final

#: Seconds by file, from a run of everything; only their order matters.
TABLE: Final = Path(__file__).with_name("durations.json")


def by_length(files: list[str], seconds: dict[str, float]) -> list[str]:
    """Return the files, the longest first; those that were never measured begin."""
    return sorted(files, key=lambda name: (-seconds.get(name, float("inf")), name))


def measured(report: str) -> dict[str, float]:
    """Return the seconds of each file of a JUnit report."""
    total: Counter[str] = Counter()
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314 - a report of our own
        file = case.attrib["classname"].replace(".", "/") + ".py"
        total[file] += float(case.attrib["time"])  # type: ignore[assignment]  # a Counter adds any
    return {name: round(value, 1) for name, value in total.most_common()}


def read_table() -> dict[str, float]:
    """Return the measured seconds by file."""
    found: dict[str, float] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    TABLE.write_text(
        json.dumps(measured(Path(sys.argv[1]).read_text(encoding="utf-8")), indent=1) + "\n",
        encoding="utf-8",
    )

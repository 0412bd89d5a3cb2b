"""The order in which the files of the tests begin."""

from __future__ import annotations

from tests.support.durations import by_length, measured


def test_the_longest_file_begins_and_one_that_was_never_measured_before_it() -> None:
    files = ["tests/a.py", "tests/b.py", "tests/new.py"]
    order = by_length(files, {"tests/a.py": 1.0, "tests/b.py": 2.0, "tests/gone.py": 9.0})
    assert order == ["tests/new.py", "tests/b.py", "tests/a.py"]


def test_a_report_gives_the_seconds_of_each_file() -> None:
    report = (
        '<testsuites><testsuite><testcase classname="tests.unit.test_a" name="x" time="0.25"/>'
        '<testcase classname="tests.unit.test_b" name="y" time="2"/>'
        '<testcase classname="tests.unit.test_a" name="z" time="0.5"/></testsuite></testsuites>'
    )
    assert measured(report) == {"tests/unit/test_b.py": 2.0, "tests/unit/test_a.py": 0.8}

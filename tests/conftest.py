"""What every test shares: tiers by folder, tools that may be absent, the closing table."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from tests.support.durations import by_length, read_table
from tests.support.needs import missing, required

pytest_plugins = [
    "tests.support.fixtures_embedded",
    "tests.support.fixtures_postgres",
    "tests.support.fixtures_installation",
]

TIERS = ("unit", "contract", "integration", "end_to_end")
HERE = Path(__file__).parent
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the tests' own folders are made below it
ROOM_IN_MEMORY = 6 * 2**30

# Two shared cores stall now and then: a deadline per example would only measure that.
hypothesis_settings.register_profile("pgben", deadline=None, print_blob=True)
hypothesis_settings.load_profile("pgben")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let ``make interruptions`` choose how many moments are tried."""
    parser.addoption("--interruptions", type=int, default=0, metavar="N")


def pytest_configure() -> None:
    """Let Ctrl-C and a hangup work in the programs under test.

    A shell that starts this run in the background has the first ignored, nohup the second, and
    that is inherited; a handler is not.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    if "TMPDIR" not in os.environ and memory_has_room():
        os.environ["TMPDIR"] = tempfile.tempdir = str(IN_MEMORY)


def memory_has_room() -> bool:
    """Return whether temporary files can lie in memory: all of them are, on the whole, under 3 GiB.

    A database is 300 files, and the tests make some 1,500 databases. Where a new file costs 0.8 ms
    of processor time, as on ext4 on the machine that this was measured on, that is a third of the
    run; in memory it costs 0.006 ms.
    """
    try:
        there = os.statvfs(IN_MEMORY)
        memory = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return False
    available = re.search(r"^MemAvailable: +(\d+) kB$", memory, re.MULTILINE)
    half = int(available[1]) * 1024 // 2 if available else 0
    room = min(there.f_bavail * there.f_frsize, half)
    usable = os.access(IN_MEMORY, os.W_OK) and not there.f_flag & os.ST_NOEXEC
    return usable and room >= ROOM_IN_MEMORY


def tier_of(path: Path) -> str:
    """Name the tier of a test file: the folder it lies in."""
    return path.relative_to(HERE).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier, so that ``-m unit`` chooses one; put the longest files first.

    The tests of a file stay in their order.
    """
    for item in items:
        if item.path.is_relative_to(HERE):
            tier = tier_of(item.path)
            if tier not in TIERS:
                raise pytest.UsageError(f"{item.path} lies in none of the tiers: {TIERS}")
            item.add_marker(tier)
    files = dict.fromkeys(file_of(item) for item in items)
    place = {name: number for number, name in enumerate(by_length(list(files), read_table()))}
    items.sort(key=lambda item: place[file_of(item)])


def file_of(item: pytest.Item) -> str:
    """Return the path of a test's file as node ids begin with it."""
    return item.nodeid.partition("::")[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Do not measure a test with the mark ``unmeasured``, nor what it starts."""
    with unmeasured() if item.get_closest_marker("unmeasured") else nullcontext():
        return (yield)


@contextmanager
def unmeasured() -> Iterator[None]:
    """Let coverage rest, where it runs at all: it makes Python take almost twice as long."""
    coverage = sys.modules.get("coverage")
    running = coverage.Coverage.current() if coverage is not None else None
    if running is None:
        yield
        return
    settings = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("COVERAGE")}
    running.stop()
    try:
        yield
    finally:
        running.start()
        os.environ.update(settings)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a test whose tools are absent."""
    absent = missing(tuple(tool for mark in item.iter_markers("needs") for tool in mark.args))
    if required(absent):
        pytest.fail(
            f"needs {', '.join(absent)}, which this run requires: `make system-tools`",
            pytrace=False,
        )
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of workers and beats with a test that failed, while they are there."""
    report = yield
    deployment = sys.modules.get("tests.support.deployment")
    if report.failed and deployment is not None:
        report.sections += deployment.logs()
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Close with a table: what ran in each tier, and what was not run for want of a tool."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: dict[str, float] = defaultdict(float)
    not_run: dict[str, list[str]] = defaultdict(list)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            tier = report.nodeid.removeprefix("tests/").partition("/")[0]
            counts[tier][outcome] += 1
            if outcome == "skipped":
                reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else ""
                not_run[reason.removeprefix("Skipped: ")].append(report.nodeid)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                tier = report.nodeid.removeprefix("tests/").partition("/")[0]
                seconds[tier] += report.duration
    write = terminalreporter.write_line
    terminalreporter.section("tiers")
    write(f"{'tier':<12}{'passed':>8}{'failed':>8}{'not run':>9}{'seconds':>9}")
    for tier in TIERS:
        count = counts[tier]
        failed = count["failed"] + count["error"]
        write(
            f"{tier:<12}{count['passed']:>8}{failed:>8}{count['skipped']:>9}{seconds[tier]:>9.1f}"
        )
    for reason, tests in sorted(not_run.items()):
        write(f"not run, {reason}:")
        for test in tests:
            write(f"  {test}")

"""Listings sorted by files: the order, the bound of memory, and that nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from pgben_tasks.errors import ListingUnordered, SpoolFull, StoreUnavailable
from pgben_tasks.files.sort import ExternalSort
from pgben_tasks.operations.snapshot_files import sorted_listing
from pgben_tasks.ports.buckets import ListedObject
from tests.support.samples import START

ROOT = Path(__file__).parents[2]


def listed(*keys: str) -> list[ListedObject]:
    return [ListedObject(key, f"e-{key!r}", len(key), START) for key in keys]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
        unique=True,
        max_size=40,
    ),
    run=st.integers(1, 9),
)
def test_any_listing_comes_back_whole_and_in_order(
    tmp_path: Path, keys: list[str], run: int
) -> None:
    with sorted_listing(listed(*keys), tmp_path, run=run) as found:
        assert list(found) == listed(*sorted(keys, key=str.encode))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keys", ["aab", "aba", "abcda"])
@pytest.mark.parametrize("run", [1, 2, 9])
def test_a_key_that_comes_twice_is_an_error(tmp_path: Path, keys: str, run: int) -> None:
    with (
        pytest.raises(ListingUnordered, match="object 2 "),
        sorted_listing(listed(*keys), tmp_path, run=run) as found,
    ):
        list(found)
    assert list(tmp_path.iterdir()) == []


def test_the_files_are_private_and_their_names_say_nothing(tmp_path: Path) -> None:
    with sorted_listing(listed("secret", "name"), tmp_path, run=1) as found:
        (place,) = tmp_path.iterdir()
        assert place.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}
        assert not any("secret" in path.name for path in place.iterdir())
        assert len(list(found)) == 2


def test_a_listing_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[ListedObject]:
        yield from listed("b", "a")
        raise StoreUnavailable("the server went away")

    with pytest.raises(StoreUnavailable), sorted_listing(broken(), tmp_path, run=1):
        pytest.fail("a part of a listing was given as the whole")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_gives_up_leaves_nothing(tmp_path: Path) -> None:
    with sorted_listing(listed(*"dcba"), tmp_path) as found:
        next(found)
    assert list(tmp_path.iterdir()) == []


_SORT = """
import resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from pgben_tasks.files.sort import ExternalSort
from pgben_tasks.operations.snapshot_files import sorted_listing
from pgben_tasks.errors import SpoolFull
from pgben_tasks.ports.buckets import ListedObject
at = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
number = int(sys.argv[2])
listing = (ListedObject(f"{one * 7919 % number:0100}", "e", one, at) for one in range(number))
with sorted_listing(listing, Path(sys.argv[1]), run=2000) as found:
    assert sum(1 for _ in found) == number
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def memory(folder: Path, number: int) -> int:
    """Return the most memory, in KiB, that sorting so many objects takes."""
    done = subprocess.run(
        [sys.executable, "-c", _SORT, folder, str(number)],
        stdout=subprocess.PIPE,
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    return int(done.stdout)


def test_memory_does_not_grow_with_the_listing(tmp_path: Path) -> None:
    # 100,000 objects held at once would be 40 MB.
    assert memory(tmp_path, 100_000) - memory(tmp_path, 4_000) < 12 * 1024


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    script = _SORT.replace(
        "at = ",
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\nat = ",
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path, "4000"],
        stderr=subprocess.PIPE,
        check=False,
        cwd=ROOT,
        timeout=120,
    )
    assert SpoolFull.__name__.encode() in done.stderr
    assert list(tmp_path.iterdir()) == []


def _read_numbers(path: Path) -> Generator[int, None, None]:
    with path.open("rb") as file:
        yield from map(int, file)


def test_more_runs_than_may_be_open_are_merged_in_rounds(tmp_path: Path) -> None:
    numbers: ExternalSort[int] = ExternalSort(
        key=lambda number: number, encode=b"%d\n".__mod__, read=_read_numbers
    )
    opened = len(list(Path("/proc/self/fd").iterdir()))
    found = numbers.sort((n * 7919 % 1_000 for n in range(1_000)), tmp_path, run=2)
    assert len(list(tmp_path.iterdir())) == 500
    assert next(found) == 0
    assert len(list(Path("/proc/self/fd").iterdir())) - opened <= 128
    assert list(found) == list(range(1, 1_000))

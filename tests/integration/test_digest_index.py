"""An index of digests: right from several threads, private, flat, gone at the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pgben_tasks.adapters.packs.digest_index import SqliteDigestIndex
from pgben_tasks.errors import PermanentError, SpoolFull
from tests.support.samples import sha256

PLACE = "20200101T050000Z-abcdef/7.tar.age"


def digest(number: int) -> str:
    return sha256(str(number).encode())


def test_what_was_filled_in_is_found_and_nothing_else(tmp_path: Path) -> None:
    with closing(SqliteDigestIndex(tmp_path / "known")) as index:
        index.fill((digest(number), f"{number % 7}") for number in range(20_000))
        with ThreadPoolExecutor(8) as threads:
            places = list(threads.map(index.place, map(digest, range(30_000))))
    assert places == [f"{number % 7}" for number in range(20_000)] + [None] * 10_000


def test_the_first_place_of_a_digest_counts(tmp_path: Path) -> None:
    with closing(SqliteDigestIndex(tmp_path / "known")) as index:
        index.fill([(digest(1), "first"), (digest(1), "second")])
        index.fill([(digest(1), "third")])
        assert index.take(digest(1), "fourth") == "first"


def test_what_can_be_read_again_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    reads: list[int] = []

    def known() -> list[tuple[str, str]]:
        reads.append(len(reads))
        return [(digest(number), f"{number}") for number in range(1_000)]

    with closing(SqliteDigestIndex(tmp_path / "known")) as index:
        index.fill_from(known)
        assert [index.take(digest(number), "new") for number in range(1_000, 1_100)] == [None] * 100
        assert index.take(digest(1_000), "again") == "new"
        assert reads == [0]
        with ThreadPoolExecutor(8) as threads:
            places = list(threads.map(index.place, map(digest, range(1_000))))
        assert places == [f"{number}" for number in range(1_000)]
        assert reads == [0, 1]
        index.fill_from(known)
        assert index.place(digest(1_050)) == "new"
        assert index.place(digest(7)) == "7"


def test_new_digests_beside_many_known_ones_make_nothing_be_written(tmp_path: Path) -> None:
    def known() -> Iterator[tuple[str, str]]:
        return ((digest(number), PLACE) for number in range(200_000))

    file = tmp_path / "known"
    with closing(SqliteDigestIndex(file)) as index:
        index.fill_from(known)
        assert not any(index.place(digest(number)) for number in range(200_000, 220_000))
        assert file.stat().st_size < 100_000
        assert index.place(digest(199_999)) == PLACE
        assert file.stat().st_size > 1_000_000


def test_one_thread_alone_takes_a_digest(tmp_path: Path) -> None:
    with closing(SqliteDigestIndex(tmp_path / "known")) as index, ThreadPoolExecutor(16) as threads:
        taken = list(threads.map(lambda n: index.take(digest(n % 50), str(n)), range(1_600)))
    assert taken.count(None) == 50


def test_its_file_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "known"
    file.write_bytes(b"left by a dead run")
    index = SqliteDigestIndex(file)
    index.fill([(digest(1), PLACE)])
    assert [one.name for one in tmp_path.iterdir()] == ["known"]
    assert file.stat().st_mode & 0o777 == 0o600
    index.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PermanentError, match="cannot be used"):
        index.place(digest(1))


def test_no_room_for_it_is_said_so(tmp_path: Path) -> None:
    with closing(SqliteDigestIndex(tmp_path / "known")) as index:
        # SQLite says the same of a full disk.
        index._database.execute("PRAGMA max_page_count=50")
        with pytest.raises(SpoolFull, match="no room"):
            index.fill((digest(number), PLACE) for number in range(20_000))


_MEMORY = """
import sys
from pathlib import Path
from pgben_tasks.adapters.packs.digest_index import SqliteDigestIndex
from tests.integration.test_digest_index import PLACE, digest
from tests.support.objectpacks import peak_memory
index = SqliteDigestIndex(Path(sys.argv[1]))
index.fill((digest(number), PLACE) for number in range(1_000))
before = peak_memory()
index.fill((digest(number), PLACE) for number in range(300_000))
print(peak_memory() - before)
"""


def run(script: str, file: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, file],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    return done.stdout


def test_memory_does_not_grow_with_its_entries(tmp_path: Path) -> None:
    assert int(run(_MEMORY, tmp_path / "known")) < 20

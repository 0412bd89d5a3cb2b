"""What is particular to a directory: modes, unfinished files, links, full and closed disks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.errors import ConfigurationError, IntegrityError, ObjectExists


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def store(root: Path) -> DirectoryObjectStore:
    made = DirectoryObjectStore(root)
    made.make_root()
    return made


def test_a_missing_root_is_never_made_on_the_way(root: Path, tmp_path: Path) -> None:
    store = DirectoryObjectStore(root)
    file = tmp_path / "file"
    file.touch()
    calls = (
        lambda: store.put("a", b""),
        lambda: store.put_file("a", file),
        lambda: store.get("a", limit=1),
        lambda: store.head("a"),
        lambda: list(store.stream("a")),
        lambda: list(store.list("")),
        lambda: store.delete("a"),
        store.now,
        lambda: list(store.unfinished("")),
    )
    for call in calls:
        with pytest.raises(ConfigurationError, match="does not exist"):
            call()
    assert not root.exists()


def test_nobody_else_can_read_what_is_stored(store: DirectoryObjectStore, root: Path) -> None:
    store.put("a/b/c", b"")
    modes = {path.stat().st_mode & 0o777 for path in root.rglob("*") if path.is_file()}
    folders = {path.stat().st_mode & 0o777 for path in root.rglob("*") if path.is_dir()}
    assert modes == {0o600}
    assert folders == {0o700}


def test_unfinished_files_are_never_listed_and_leave_no_trace(
    store: DirectoryObjectStore, root: Path, tmp_path: Path
) -> None:
    seen: list[list[str]] = []
    file = tmp_path / "file"
    file.write_bytes(bytes(3 * 1024 * 1024))
    store.put_file(
        "a/b", file, advance=lambda _: seen.append([stored.key for stored in store.list("")])
    )
    assert seen == [[], [], []]
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["b"]


def test_old_unfinished_files_are_removed_young_ones_stay(root: Path) -> None:
    workspace = root / ".unfinished"
    workspace.mkdir(parents=True)
    for name in ("old", "young"):
        (workspace / name).touch()
    month_ago = time.time() - 30 * 24 * 3600
    os.utime(workspace / "old", (month_ago, month_ago))
    DirectoryObjectStore(root).put("a", b"")
    assert [path.name for path in workspace.iterdir()] == ["young"]


def test_a_symbolic_link_is_not_followed(
    store: DirectoryObjectStore, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    (root / "a").symlink_to(outside)
    with pytest.raises(IntegrityError, match="symbolic link"):
        store.get("a", limit=100)
    with pytest.raises(IntegrityError, match="symbolic link"):
        list(store.stream("a"))
    with pytest.raises(ObjectExists):
        store.put("a", b"")
    assert outside.read_bytes() == b"secret"


def test_names_that_pgben_never_makes_are_listed_too(
    store: DirectoryObjectStore, root: Path
) -> None:
    (root / "a").mkdir()
    Path(f"{root}/a/b c").touch()
    Path(os.fsdecode(bytes(root) + b"/a/\xff")).touch()
    assert [stored.key for stored in store.list("a/")] == ["a/\\xff", "a/b c"]


def test_a_place_that_refuses_writing_is_a_wrong_setting() -> None:
    # Nobody can make folders there, root neither.
    store = DirectoryObjectStore(Path("/sys"))
    with pytest.raises(ConfigurationError, match="cannot be used"):
        store.put("pgben-test/a", b"")


_WRITE_WITHOUT_ROOM = """
import resource, sys
from pathlib import Path
from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.errors import PermanentError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
store = DirectoryObjectStore(Path(sys.argv[1]))
try:
    store.put_file("packs/a", Path(sys.argv[2]))
except PermanentError as exc:
    assert "no room left" in exc.sentence, exc
else:
    raise SystemExit("it was stored")
"""


def test_a_full_disk_is_said_so_and_nothing_half_done_stays(
    store: DirectoryObjectStore, root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(3 * 1024 * 1024))
    subprocess.run(
        [sys.executable, "-c", _WRITE_WITHOUT_ROOM, root, file],
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert not list(files_below(root))


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())

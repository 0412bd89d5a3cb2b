"""What every object store promises, asked of the fake, a directory and two real S3 servers."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.adapters.s3.administration import ensure_bucket
from pgben_tasks.adapters.s3.errors import REPOSITORY_HINTS
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.adapters.stores.s3 import S3ObjectStore
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import IntegrityError, ObjectExists, ObjectMissing, PermanentError
from pgben_tasks.ports import ObjectStore, Unfinished
from tests.support.memory_store import MemoryObjectStore

MEBIBYTE = 1024 * 1024
UNSAFE = (
    "",
    "/",
    "/absolute",
    "..",
    "../up",
    "a/../b",
    "a//b",
    "a/./b",
    "a/",
    ".hidden",
    "a/.unfinished",
    "a\\b",
    "a b",
    "a\nb",
    "a\0b",
    "é",
    "a" * 201,
)


def s3_location(server: EmbeddedS3, **fields: object) -> S3Location:
    values: dict[str, object] = {
        "endpoint": server.endpoint,
        "bucket": "pgben-backups",
        "prefix": f"test-{secrets.token_hex(6)}/inner",
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "patience": timedelta(seconds=5),
    }
    return S3Location(hints=REPOSITORY_HINTS, **(values | fields))  # type: ignore[arg-type]  # test values by name


@pytest.fixture(params=["memory", "directory", "rclone", "ministack"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "memory":
        return MemoryObjectStore()
    if request.param == "directory":
        directory = DirectoryObjectStore(tmp_path / "repository")
        directory.make_root()
        return directory
    name = "repository_s3" if request.param == "rclone" else "protected_s3"
    location = s3_location(request.getfixturevalue(name))
    ensure_bucket(location)
    return S3ObjectStore(location)


def keys(store: ObjectStore, prefix: str) -> list[str]:
    return [stored.key for stored in store.list(prefix)]


def test_only_a_store_on_a_volume_says_how_full_that_is(store: ObjectStore) -> None:
    found = store.volume()
    if not isinstance(store, DirectoryObjectStore):
        assert found is None
        return
    assert found is not None
    assert found.free is not None
    before = found.used
    store.put("a/large", bytes(64 * MEBIBYTE))
    after = store.volume()
    # Others write to that volume as well, and not so much within a moment.
    assert after is not None
    assert after.used - before > 32 * MEBIBYTE


def test_what_was_put_is_got(store: ObjectStore) -> None:
    store.put("a/b/c.json", b"content")
    assert store.get("a/b/c.json", limit=7) == b"content"
    assert b"".join(store.stream("a/b/c.json")) == b"content"


def test_empty_objects_are_objects(store: ObjectStore, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    store.put("a/put", b"")
    store.put_file("a/file", empty)
    assert store.get("a/put", limit=0) == b""
    assert list(store.stream("a/file")) == []
    assert store.head("a/file").size == 0


def test_put_never_replaces(store: ObjectStore) -> None:
    store.put("a", b"first")
    with pytest.raises(ObjectExists):
        store.put("a", b"second")
    assert store.get("a", limit=100) == b"first"


def test_put_file_replaces_what_an_earlier_try_left(store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in (b"first, longer", b"second"):
        file.write_bytes(content)
        store.put_file("packs/a", file)
    assert store.get("packs/a", limit=100) == b"second"


@pytest.mark.parametrize("size", [1, MEBIBYTE, 17 * MEBIBYTE + 3])
def test_put_file_streams_files_of_any_size_and_counts_them(
    store: ObjectStore, tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    file = tmp_path / "file"
    file.write_bytes(content)
    counted: list[int] = []
    store.put_file("packs/big", file, advance=counted.append)
    assert sum(counted) == size
    assert store.head("packs/big").size == size
    chunks = list(store.stream("packs/big"))
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) < 8 * MEBIBYTE


def test_an_error_while_counting_stores_nothing(store: ObjectStore, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(_: int) -> None:
        raise StoppedError

    file = tmp_path / "file"
    file.write_bytes(bytes(20 * MEBIBYTE))
    if not isinstance(store, MemoryObjectStore):
        with pytest.raises(StoppedError):
            store.put_file("packs/a", file, advance=stop)
        assert keys(store, "") == []


def test_get_refuses_more_than_its_limit(store: ObjectStore) -> None:
    store.put("a", b"12345")
    with pytest.raises(IntegrityError):
        store.get("a", limit=4)


@pytest.mark.parametrize("key", ["none", "a/none", "a/b/none"])
def test_what_is_not_there_is_missing(store: ObjectStore, key: str) -> None:
    store.put("a/b/c", b"")
    asks: list[Callable[[], object]] = [
        lambda: store.get(key, limit=1),
        lambda: store.head(key),
        lambda: list(store.stream(key)),
    ]
    for ask in asks:
        with pytest.raises(ObjectMissing):
            ask()


def test_a_folder_is_no_object(store: ObjectStore) -> None:
    store.put("a/b/c", b"")
    with pytest.raises(ObjectMissing):
        store.head("a/b")
    with pytest.raises(ObjectMissing):
        store.get("a/b", limit=1)


def test_listing_gives_every_key_that_begins_so_in_order(store: ObjectStore) -> None:
    for key in ("b/2", "a/1/x", "a/10/x", "a/1.x", "ab/1", "a-b/1"):
        store.put(key, key.encode())
    assert keys(store, "") == sorted(["b/2", "a/1/x", "a/10/x", "a/1.x", "ab/1", "a-b/1"])
    assert keys(store, "a/") == ["a/1.x", "a/1/x", "a/10/x"]
    assert keys(store, "a/1") == ["a/1.x", "a/1/x", "a/10/x"]
    assert keys(store, "a") == ["a-b/1", "a/1.x", "a/1/x", "a/10/x", "ab/1"]
    assert keys(store, "none/") == []
    assert [stored.size for stored in store.list("b/")] == [3]


def test_moments_are_aware_and_recent(store: ObjectStore) -> None:
    store.put("a", b"")
    for stored in (store.head("a"), next(store.list(""))):
        assert abs(stored.modified - datetime.now(UTC)) < timedelta(minutes=1)


def test_its_own_clock_is_the_one_that_dates_objects(store: ObjectStore) -> None:
    before = store.now()
    store.put("a", b"")
    after = store.now()
    # S3 tells whole seconds.
    second = timedelta(seconds=1)
    assert before.tzinfo is not None
    assert before - second <= store.head("a").modified <= after + second
    assert keys(store, "") == ["a"]
    assert list(store.unfinished("")) == []


_KILLED = """
import os, sys
from datetime import timedelta
from pathlib import Path
from tests.contract.test_object_store import opened
store = opened(sys.argv[1])
counted = []
def advance(amount):
    counted.append(amount)
    if sum(counted) >= int(sys.argv[4]):
        os._exit(9)
store.put_file(sys.argv[2], Path(sys.argv[3]), advance=advance)
"""


def opened(where: str) -> ObjectStore:
    """Open a store by what ``place`` gives, in another process."""
    kind, *fields = json.loads(where)
    if kind == "directory":
        return DirectoryObjectStore(Path(*fields))
    return S3ObjectStore(S3Location(hints=REPOSITORY_HINTS, **dict(fields)))


def place(store: ObjectStore) -> str:
    """Return where a store is."""
    if isinstance(store, DirectoryObjectStore):
        return json.dumps(["directory", str(store._root)])
    assert isinstance(store, S3ObjectStore)
    names = ("endpoint", "bucket", "prefix", "access_key", "secret_key")
    return json.dumps(["s3", *((name, getattr(store._where, name)) for name in names)])


def kill_a_writer(store: ObjectStore, key: str, folder: Path) -> None:
    """Let a process die while it uploads a file of 40 MiB under this key."""
    file = folder / "large"
    file.write_bytes(os.urandom(40 * MEBIBYTE))
    arguments = [place(store), key, str(file), str(36 * MEBIBYTE)]
    died = subprocess.run(
        [sys.executable, "-c", _KILLED, *arguments],
        cwd=Path(__file__).parents[2],
        timeout=60,
        check=False,
    )
    assert died.returncode == 9


def test_what_a_killed_writer_left_is_found_and_given_up(
    store: ObjectStore, tmp_path: Path
) -> None:
    if isinstance(store, MemoryObjectStore):
        assert list(store.unfinished("packs/")) == []
        store.abort(Unfinished("packs/a", "none", store.now()))
        return
    for key in ("packs/postgres/a/1.tar.age", "packs/postgres/b/1.tar.age"):
        kill_a_writer(store, key, tmp_path)
    assert keys(store, "") == []
    first, second = store.unfinished("packs/postgres/")
    assert [first.key, second.key] == ["packs/postgres/a/1.tar.age", "packs/postgres/b/1.tar.age"]
    assert list(store.unfinished("packs/postgres/b/")) == [second]
    assert list(store.unfinished("backups/")) == []
    assert abs(store.now() - first.touched) < timedelta(minutes=1)
    for _ in range(2):
        store.abort(first)
    assert list(store.unfinished("")) == [second]
    store.put(first.key, b"another try")
    store.abort(second)
    assert list(store.unfinished("")) == []
    assert keys(store, "") == [first.key]


def test_delete_removes_and_may_be_repeated(store: ObjectStore) -> None:
    store.put("a/b", b"")
    store.put("a/c", b"")
    store.delete("a/b")
    store.delete("a/b")
    assert keys(store, "") == ["a/c"]
    store.put("a/b", b"again")


@pytest.mark.parametrize("key", UNSAFE)
def test_unsafe_keys_reach_no_store(store: ObjectStore, tmp_path: Path, key: str) -> None:
    file = tmp_path / "file"
    file.touch()
    asks: list[Callable[[], object]] = [
        lambda: store.put(key, b""),
        lambda: store.put_file(key, file),
        lambda: store.get(key, limit=1),
        lambda: store.head(key),
        lambda: list(store.stream(key)),
        lambda: store.delete(key),
    ]
    for ask in asks:
        with pytest.raises(PermanentError, match="none that pgben makes"):
            ask()
    if key and key != "a/":
        with pytest.raises(PermanentError):
            store.list(key)
        with pytest.raises(PermanentError):
            store.unfinished(key)


def test_it_names_itself(store: ObjectStore) -> None:
    assert ":" in store.describe()


_KEY = st.sampled_from(["a", "b/a", "b/b", "c/d/e", "c/d/f"])
_STEP = st.tuples(st.sampled_from(["put", "delete"]), _KEY, st.binary(max_size=4))


@given(steps=st.lists(_STEP, max_size=20))
def test_the_fake_behaves_like_a_directory(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bytes]]
) -> None:
    directory = DirectoryObjectStore(tmp_path_factory.mktemp("model"))
    stores = (MemoryObjectStore(), directory)
    for step, key, data in steps:
        told = []
        for store in stores:
            try:
                if step == "put":
                    store.put(key, data)
                else:
                    store.delete(key)
                told.append("done")
            except ObjectExists:
                told.append("exists")
        assert told[0] == told[1]
    contents = [[(o.key, store.get(o.key, limit=9)) for o in store.list("")] for store in stores]
    assert contents[0] == contents[1]

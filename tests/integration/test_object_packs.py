"""Packs of objects: written by many threads, sealed and opened by real children, read by hand."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings, strategies as st

from pgben_tasks.adapters.packs.object_writer import MOST_MEMBERS, SMALL, shrinks
from pgben_tasks.adapters.packs.sealing import tar_header
from pgben_tasks.domain.documents import Pack, StoredFile
from pgben_tasks.errors import (
    ConfigurationError,
    DecryptionFailed,
    DigestMismatch,
    IntegrityError,
    SpoolFull,
    StoreUnavailable,
    TransientError,
)
from pgben_tasks.ports import ObjectPackWriter
from tests.integration.test_packs import ask_child, children_of, entry, tar_of
from tests.support.needs import needs
from tests.support.objectpacks import PACK_SIZE, TARGET, Packing, ignore
from tests.support.samples import BACKUP, sha256

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def sealing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packing]:
    with Packing.open(tmp_path_factory.mktemp("sealing")) as packing:
        yield packing


@pytest.fixture(scope="module")
def clear(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packing]:
    with Packing.open(tmp_path_factory.mktemp("clear"), sealed=False) as packing:
        yield packing


@pytest.fixture
def packing(sealing: Packing, tmp_path: Path) -> Packing:
    return sealing.at(tmp_path / "packing")


@pytest.fixture
def plain(clear: Packing, tmp_path: Path) -> Packing:
    return clear.at(tmp_path / "plain")


def pieces(data: bytes, size: int = 300_000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def add(writer: ObjectPackWriter, data: bytes) -> str:
    kept = writer.add(pieces(data), size=len(data))
    assert (kept.sha256, kept.size) == (sha256(data), len(data))
    return kept.place


@pytest.mark.parametrize("make", [os.urandom, bytes], ids=["random", "zeros"])
@pytest.mark.parametrize(
    "size",
    [0, 1, 511, 512, 513, 60_000, SMALL, SMALL + 1, PACK_SIZE, PACK_SIZE + 1],
)
def test_an_object_of_any_size_comes_back(
    packing: Packing, make: Callable[[int], bytes], size: int
) -> None:
    data = make(size)
    with packing.writer() as writer:
        place = add(writer, data)
    assert packing.listed() == {sha256(data): size}
    assert packing.content(place, sha256(data)) == data
    assert list(packing.spool.iterdir()) == []


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    objects=st.lists(st.binary(max_size=3000) | st.just(bytes(5000)), max_size=12),
    pack_size=st.integers(1, 20_000),
)
def test_any_objects_come_back(
    sealing: Packing,
    tmp_path_factory: pytest.TempPathFactory,
    objects: list[bytes],
    pack_size: int,
) -> None:
    packing = sealing.at(tmp_path_factory.mktemp("any"))
    with packing.writer(pack_size=pack_size) as writer:
        places = [add(writer, data) for data in objects]
    assert packing.listed() == {sha256(data): len(data) for data in objects}
    for place, data in zip(places, objects, strict=True):
        assert packing.content(place, sha256(data)) == data


def test_small_objects_share_packs_up_to_their_size(plain: Packing) -> None:
    rng = random.Random(1)
    with plain.writer(pack_size=100_000) as writer:
        for _ in range(60):
            add(writer, rng.randbytes(9_000))
    sizes = [pack.size for pack, _ in plain.stored.values()]
    assert len(sizes) == 6
    assert max(sizes) <= 100_000 + 1024
    assert sorted(plain.stored) == [f"{BACKUP}/{number}.tar" for number in range(1, 7)]


def test_so_many_tiny_objects_share_a_pack(plain: Packing) -> None:
    objects = [b"%d" % number for number in range(MOST_MEMBERS + 1)]
    with plain.writer(pack_size=100 * 1024 * 1024) as writer:
        for data in objects:
            writer.add(iter([data]), size=len(data))
    assert plain.listed() == {sha256(data): len(data) for data in objects}
    assert len(plain.stored) == 2


def test_equal_bytes_are_stored_once(packing: Packing) -> None:
    large = os.urandom(SMALL + 5)
    with packing.writer() as writer:
        small = {add(writer, b"the same") for _ in range(3)}
        big = {add(writer, large) for _ in range(3)}
    assert len(small) == len(big) == 1
    assert packing.listed() == {sha256(b"the same"): 8, sha256(large): len(large)}
    # A copy spends no number.
    assert {place.split("/")[1].split(".")[0] for place in packing.stored} == {"1", "2"}


def test_bytes_that_an_earlier_snapshot_stored_are_not_stored_again(packing: Packing) -> None:
    small, large = b"known", os.urandom(SMALL + 1)
    earlier = "20200101T050000Z-abcdef/7.tar.age"
    with packing.writer(known=dict.fromkeys(map(sha256, (small, large)), earlier)) as writer:
        assert add(writer, small) == add(writer, large) == earlier
    assert packing.stored == {}
    assert list(packing.spool.iterdir()) == []


def test_what_does_not_compress_has_packs_of_its_own(packing: Packing) -> None:
    text, noise = b"certidao de nascimento " * 5_000, os.urandom(100_000)
    large_text, large_noise = b"0123456789" * 500_000, os.urandom(5_000_000)
    with packing.writer() as writer:
        for data in (text, large_text, b""):
            assert add(writer, data).endswith(".tar.zst.age")
        for data in (noise, large_noise):
            assert add(writer, data).endswith(".tar.age")
    sizes = {place: pack.size for place, (pack, _) in packing.stored.items()}
    assert sum(size for place, size in sizes.items() if ".zst" in place) < 30_000


def test_compressing_is_decided_by_trying_not_by_the_first_bytes() -> None:
    assert shrinks(b"%PDF-1.7 " + b"stream " * 1000)
    assert not shrinks(b"%PDF-1.7 " + os.urandom(7000))
    assert shrinks(zstandard.compress(b"small beside its header"))


def test_sixteen_threads_share_a_writer(packing: Packing) -> None:
    rng = random.Random(2)
    objects = [rng.randbytes(rng.randrange(1, 4_000)) * rng.randrange(1, 4) for _ in range(1_000)]
    objects += objects
    with packing.writer(pack_size=500_000) as writer, ThreadPoolExecutor(16) as threads:
        places = list(threads.map(lambda data: add(writer, data), objects))
    assert packing.listed() == {sha256(data): len(data) for data in objects}
    assert places[:1_000] == places[1_000:]
    where = {
        digest: place
        for place, (pack, file) in packing.stored.items()
        for digest in packing.codec.open_objects(pack, file, advance=ignore)
    }
    assert places == [where[sha256(data)] for data in objects]


def test_a_full_pack_waits_while_two_are_on_their_way(plain: Packing) -> None:
    release, begun = threading.Event(), threading.Semaphore(0)

    def store(pack: Pack, file: Path) -> None:
        begun.release()
        assert release.wait(60)
        plain.store(pack, file)

    with plain.writer(pack_size=10_000, store=store) as writer, ThreadPoolExecutor(1) as thread:
        adding = thread.submit(lambda: [add(writer, os.urandom(9_000)) for _ in range(5)])
        for _ in range(2):
            assert begun.acquire(timeout=60)
        # Two are being stored and a third is full: the fourth object waits.
        with pytest.raises(TimeoutError):
            adding.result(timeout=0.5)
        tars = list(plain.spool.glob("*.part"))
        assert len(tars) <= 1
        release.set()
        assert len(set(adding.result(timeout=60))) == 5
    assert len(plain.stored) == 5


def test_one_child_is_kept_after_many_packs_and_both_after_few(tmp_path: Path) -> None:
    before = set(children_of(os.getpid()))
    during: set[int] = set()
    with Packing.open(tmp_path) as packing:
        both = threading.Barrier(2)

        def store(pack: Pack, file: Path) -> None:
            both.wait(60)
            during.update(set(children_of(os.getpid())) - before)
            packing.store(pack, file)

        with packing.writer(store=store) as writer:
            # One that compresses and one that does not: two packs, sealed at a time.
            for data in (bytes(50_000), random.Random(1).randbytes(50_000)):
                writer.add(iter([data]), size=len(data))
        assert len(packing.stored) == len(during) == 2
        assert len(set(children_of(os.getpid())) - before) == 2
        many = packing.at(tmp_path / "many")
        with many.writer(pack_size=20_000) as writer:
            for number in range(12):
                writer.add(iter([random.Random(number).randbytes(15_000)]), size=15_000)
        assert len(set(children_of(os.getpid())) - before) == 1
        assert (len(packing.listed()), len(many.listed())) == (2, 12)


def test_a_store_that_fails_ends_adding_and_leaves_nothing(packing: Packing) -> None:
    def store(_pack: Pack, _file: Path) -> None:
        raise StoreUnavailable("the repository does not answer")

    def fill(writer: ObjectPackWriter) -> None:
        for _ in range(1_000):
            add(writer, os.urandom(20_000))

    def run() -> None:
        with (
            packing.writer(pack_size=50_000, store=store) as writer,
            ThreadPoolExecutor(4) as threads,
        ):
            for one in [threads.submit(fill, writer) for _ in range(4)]:
                with pytest.raises(StoreUnavailable):
                    one.result(timeout=60)
            with pytest.raises(StoreUnavailable):
                writer.check()

    with pytest.raises(StoreUnavailable, match="the repository"):
        run()
    assert list(packing.spool.iterdir()) == []


def test_a_store_that_fails_at_the_end_is_heard_of(packing: Packing) -> None:
    def store(_pack: Pack, _file: Path) -> None:
        raise StoreUnavailable("the repository does not answer")

    with pytest.raises(StoreUnavailable), packing.writer(store=store) as writer:
        add(writer, b"the only one")
    assert list(packing.spool.iterdir()) == []


def test_a_block_that_fails_stores_nothing_more(packing: Packing) -> None:
    def run() -> None:
        with packing.writer() as writer:
            add(writer, b"small")
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert packing.stored == {}
    assert list(packing.spool.iterdir()) == []


@pytest.mark.parametrize("size", [1_000, SMALL + 1_000])
@pytest.mark.parametrize("off", [-1, 1, 400_000])
def test_an_object_of_another_size_is_its_own_failure(
    packing: Packing, size: int, off: int
) -> None:
    with packing.writer() as writer:
        with pytest.raises(IntegrityError, match=f"should have {size} bytes"):
            writer.add(pieces(os.urandom(size + off)), size=size)
        writer.check()
        add(writer, b"the next one")
    assert packing.listed() == {sha256(b"the next one"): 12}


def test_an_object_that_breaks_off_is_its_own_failure(packing: Packing) -> None:
    def broken() -> Iterator[bytes]:
        yield os.urandom(5 * MIB)
        raise StoreUnavailable("the bucket went away")

    with packing.writer() as writer:
        with pytest.raises(StoreUnavailable, match="the bucket"):
            writer.add(broken(), size=6 * MIB)
        writer.check()
        assert list(packing.spool.iterdir()) == []
    assert packing.stored == {}


def test_room_is_asked_for_before_a_large_object_is_read(packing: Packing) -> None:
    asked: list[int] = []

    def require_room(needed: int) -> None:
        asked.append(needed)
        raise SpoolFull("no room")

    read: list[None] = []

    def untouched() -> Iterator[bytes]:
        read.append(None)
        yield b""

    def run() -> None:
        with packing.writer(require_room=require_room) as writer:
            add(writer, bytes(SMALL))
            assert asked == []
            writer.add(untouched(), size=SMALL + 1)

    with pytest.raises(SpoolFull):
        run()
    assert asked == [2 * (SMALL + 1)]
    assert read == []


def test_a_child_killed_while_it_seals_is_an_error_that_may_pass(tmp_path: Path) -> None:
    before = set(children_of(os.getpid()))
    with Packing.open(tmp_path, children=1) as packing:
        with packing.writer() as writer:
            add(writer, b"the child is there")

        def kill_when_it_works(stop: threading.Event) -> None:
            while not stop.wait(0.002):
                if any(packing.spool.glob(".*.tmp")):
                    for child in set(children_of(os.getpid())) - before:
                        os.kill(child, signal.SIGKILL)
                    return

        packing.spool.rmdir()
        packing.stored.clear()
        stop = threading.Event()
        watcher = threading.Thread(target=kill_when_it_works, args=(stop,))
        watcher.start()
        try:
            with pytest.raises(TransientError, match="status -9"), packing.writer() as writer:
                writer.add((bytes(MIB) for _ in range(400)), size=400 * MIB)
        finally:
            stop.set()
            watcher.join()
        assert packing.stored == {}
        assert list(packing.spool.iterdir()) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], check=False, timeout=60
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True, timeout=60)


@pytest.mark.parametrize("size", [400_000, 5 * MIB])
def test_a_full_spool_is_said_so_and_nothing_stays(
    sealing: Packing, tiny_disk: Path, size: int
) -> None:
    packing = sealing.at(tiny_disk)

    def store(_pack: Pack, _file: Path) -> None:
        """Leave it where it is."""

    def run() -> None:
        with packing.writer(store=store) as writer:
            for _ in range(20):
                add(writer, os.urandom(size))

    with pytest.raises(SpoolFull, match="no room"):
        run()
    assert list(packing.spool.iterdir()) == []


def test_a_child_whose_disk_is_full_says_so_and_nothing_stays(tmp_path: Path) -> None:
    tar = tmp_path / "spooled"
    data = os.urandom(512 * 1000)
    tar.write_bytes(tar_of_objects((sha256(data), data)))
    (tmp_path / "packs").mkdir()
    answers = ask_child(
        {
            "operation": "seal",
            "content": "objects",
            "source": str(tar),
            "destination": str(tmp_path / "packs" / "1.tar"),
            "compressed": False,
            "recipients": [],
        },
        file_limit=100_000,
    )
    assert answers[-1]["error"][0] == SpoolFull.__name__
    assert list((tmp_path / "packs").iterdir()) == []


def sealed_pack(packing: Packing, *objects: bytes) -> tuple[Pack, Path]:
    with packing.writer() as writer:
        for data in objects:
            add(writer, data)
    (stored,) = packing.stored.values()
    return stored


def described(pack: Pack, data: bytes) -> Pack:
    return pack.model_copy(update={"size": len(data), "sha256": sha256(data)})


def test_every_flipped_bit_and_every_truncation_is_found(packing: Packing, tmp_path: Path) -> None:
    pack, file = sealed_pack(packing, b"one", b"two")
    original = file.read_bytes()
    damaged, out = tmp_path / "damaged", tmp_path / "out"
    out.mkdir()
    for place in range(len(original)):
        changed = bytearray(original)
        changed[place] ^= 1 << (place % 8)
        for data in (bytes(changed), original[:place]):
            damaged.write_bytes(data)
            with pytest.raises(DigestMismatch, match=pack.path):
                packing.codec.open_objects(
                    pack, damaged, [sha256(b"one")], out / "it", advance=ignore
                )
    assert list(out.iterdir()) == []


def test_damage_that_a_forged_digest_covers_is_found_by_age_or_the_names(
    packing: Packing, tmp_path: Path
) -> None:
    pack, file = sealed_pack(packing, b"one", b"two")
    original = file.read_bytes()
    damaged, out = tmp_path / "damaged", tmp_path / "out"
    out.mkdir()
    for place in range(0, len(original), 3):
        changed = bytearray(original)
        changed[place] ^= 1
        for data in (bytes(changed), original[:place]):
            damaged.write_bytes(data)
            with pytest.raises((DecryptionFailed, DigestMismatch)):
                packing.codec.open_objects(
                    described(pack, data), damaged, [sha256(b"one")], out / "it", advance=ignore
                )
    assert list(out.iterdir()) == []


ONE, TWO = sha256(b"content"), sha256(b"another")


@pytest.mark.parametrize(
    "data",
    [
        tar_of(entry(TWO)),
        tar_of(entry(ONE), entry(TWO)),
        tar_of(entry(ONE), entry(ONE)),
        tar_of(entry(ONE), content=b"CONTENT"),
        tar_of(entry(ONE, size=6)),
        tar_of(entry(f"../{ONE}")),
        tar_of(entry(ONE, kind=tarfile.SYMTYPE, size=0, link="/etc/passwd")),
        tar_of(entry(ONE, kind=tarfile.DIRTYPE, size=0)),
        tar_of(entry(ONE))[:515],
        tar_of(),
        b"junk" * 512,
        b"",
    ],
    ids=[
        "name of other bytes",
        "second of other bytes",
        "twice",
        "other content",
        "shorter",
        "name above",
        "link",
        "folder",
        "cut",
        "nothing in it",
        "junk",
        "nothing",
    ],
)
@pytest.mark.parametrize("suffix", [".tar", ".tar.zst"])
def test_a_tar_that_is_no_pack_of_objects_is_refused(
    plain: Packing, tmp_path: Path, suffix: str, data: bytes
) -> None:
    path = f"packs/{TARGET}/{BACKUP}/1{suffix}"
    stored, out = tmp_path / "stored", tmp_path / "out"
    out.mkdir()
    stored.write_bytes(zstandard.compress(data) if ".zst" in suffix else data)
    pack = Pack(
        path=path, size=stored.stat().st_size, sha256=sha256(stored.read_bytes()), members=()
    )
    with pytest.raises(DigestMismatch):
        plain.codec.open_objects(pack, stored, [ONE], out / "it", advance=ignore)
    assert list(out.iterdir()) == []


def tar_of_objects(*objects: tuple[str, bytes]) -> bytes:
    members = (tar_header(name, len(data)) + data.ljust(512, b"\0") for name, data in objects)
    return b"".join(members) + bytes(1024)


WHOLE = tar_of_objects((ONE, b"content"), (TWO, b"another"))


@pytest.mark.parametrize(
    "data",
    [
        WHOLE.replace(b"another", b"ANOTHER"),
        tar_of_objects((TWO, b"content")),
        WHOLE[:512],
        WHOLE[:1024],
        WHOLE[:-1],
        WHOLE[:-1024],
        WHOLE + b"x",
        b"junk" * 512,
        b"",
    ],
    ids=["changed", "misnamed", "header", "member", "cut", "no end", "more", "junk", "nothing"],
)
@pytest.mark.parametrize("suffix", [".tar", ".tar.zst"])
def test_a_spool_that_changed_is_found_before_a_pack_is_sealed(
    plain: Packing, tmp_path: Path, suffix: str, data: bytes
) -> None:
    tar, sealed = tmp_path / "spooled", tmp_path / f"1{suffix}"
    path = f"packs/{TARGET}/{BACKUP}/1{suffix}"
    tar.write_bytes(WHOLE)
    pack = plain.codec.seal_pack(path, tar, sealed)
    assert (pack.size, pack.sha256) == (sealed.stat().st_size, sha256(sealed.read_bytes()))
    sealed.unlink()
    tar.write_bytes(data)
    with pytest.raises(DigestMismatch, match="spooled"):
        plain.codec.seal_pack(path, tar, sealed)
    assert [one for one in tmp_path.iterdir() if one.is_file()] == [tar]


def test_only_what_is_wanted_is_written_in_the_order_of_the_pack(
    packing: Packing, tmp_path: Path
) -> None:
    pack, file = sealed_pack(packing, b"one", b"two", b"three")
    out = tmp_path / "out"
    out.mkdir()
    wanted = [sha256(b"three"), sha256(b"one")]
    found = packing.codec.open_objects(pack, file, wanted, out / "it", advance=ignore)
    assert list(found.items()) == [(sha256(data), len(data)) for data in (b"one", b"two", b"three")]
    # One after another, as they lie in the pack.
    assert {one.name: one.read_bytes() for one in out.iterdir()} == {"it": b"onethree"}


def test_a_wanted_object_that_is_missing_is_said_and_nothing_is_written(
    packing: Packing, tmp_path: Path
) -> None:
    pack, file = sealed_pack(packing, b"one")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(IntegrityError, match=f"'{TWO}' is missing"):
        packing.codec.open_objects(pack, file, [sha256(b"one"), TWO], out / "it", advance=ignore)
    assert list(out.iterdir()) == []


def test_a_stop_while_a_pack_is_opened_leaves_no_file(packing: Packing, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(_amount: int) -> None:
        raise StoppedError

    pack, file = sealed_pack(packing, b"one")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(StoppedError):
        packing.codec.open_objects(pack, file, [sha256(b"one")], out / "it", advance=stop)
    assert [one for one in out.iterdir() if one.name.startswith(".")] == []


def test_without_an_identity_nothing_sealed_opens(packing: Packing, plain: Packing) -> None:
    pack, file = sealed_pack(packing, b"one")
    with pytest.raises(ConfigurationError, match="no identity is at hand") as caught:
        plain.codec.open_objects(pack, file, advance=ignore)
    assert caught.value.hint == "set PGBEN_AGE_IDENTITY_FILE to an identity that it is sealed to"
    inventory = StoredFile(path="inventory.jsonl.zst.age", size=1, sha256="0" * 64)
    with pytest.raises(ConfigurationError, match="no identity is at hand") as caught:
        plain.codec.open_inventory(inventory, file, file.with_name("lines"))
    assert caught.value.hint.startswith("set PGBEN_INVENTORY_IDENTITY_FILE")


@needs("tar")
@pytest.mark.parametrize("data", [b"text " * 9_000, os.urandom(50_000), b"big " * 1_500_000])
def test_a_pack_is_read_by_hand(plain: Packing, tmp_path: Path, data: bytes) -> None:
    pack, file = sealed_pack(plain, data)
    tar = tmp_path / "1.tar"
    opened = io.BytesIO()
    if pack.compressed:
        zstandard.ZstdDecompressor().copy_stream(io.BytesIO(file.read_bytes()), opened)
    else:
        opened.write(file.read_bytes())
    tar.write_bytes(opened.getvalue())
    listed = subprocess.run(
        ["tar", "-t", "-f", str(tar)], check=True, capture_output=True, text=True, timeout=60
    )
    assert listed.stdout.split() == [sha256(data)]
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-x", "-f", tar, "-C", tmp_path / "out"], check=True, timeout=60)
    assert (tmp_path / "out" / sha256(data)).read_bytes() == data


_FLAT = """
import os, sys
from pathlib import Path
from tests.integration.test_packs import children_of
from tests.support.objectpacks import Packing, peak_memory
MIB = 1024 * 1024
with Packing.open(Path(sys.argv[1]), children=1) as packing:
    with packing.writer() as writer:
        kept = writer.add((bytes(MIB) for _ in range(300)), size=300 * MIB)
    assert packing.listed() == {kept.sha256: 300 * MIB}
    (child,) = children_of(os.getpid())
    print(peak_memory(), peak_memory(child))
"""


def test_memory_does_not_grow_with_an_object(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FLAT, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    worker, child = map(int, done.stdout.split())
    assert worker < 150, f"the worker took {worker} MiB"
    assert child < 150, f"the child took {child} MiB"

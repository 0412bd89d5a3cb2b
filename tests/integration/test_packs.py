"""Packs made and opened by real child processes, and read by hand without this program."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyrage
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings, strategies as st

from pgben_tasks.adapters.keys import files as keys
from pgben_tasks.adapters.packs.codec import AgePackCodec
from pgben_tasks.adapters.packs.pool import PackPool
from pgben_tasks.adapters.packs.sealing import tar_header
from pgben_tasks.domain.documents import Member, Pack
from pgben_tasks.domain.packing import EarlyPlan, FinishedFile
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.errors import (
    ConfigurationError,
    DecryptionFailed,
    DigestMismatch,
    PermanentError,
    SpoolFull,
    TransientError,
)
from pgben_tasks.ports import PackCodec, PackPlan
from tests.support.needs import needs
from tests.support.samples import BACKUP, START, TARGET, member, sha256, write_members

SUFFIXES = (".tar", ".tar.zst", ".tar.age", ".tar.zst.age")
FILES = {"toc.dat": b"table of contents" * 9, "3001.dat.zst": os.urandom(1500), "empty": b""}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def identity_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keys.make_age_identity(tmp_path_factory.mktemp("keys") / "key.txt", now=START).path


@pytest.fixture(scope="module")
def identity(identity_file: Path) -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.from_str(identity_file.read_text().splitlines()[-1])


@pytest.fixture(scope="module")
def sealing(identity_file: Path, identity: pyrage.x25519.Identity) -> Iterator[AgePackCodec]:
    codec = AgePackCodec([str(identity.to_public())], identity_file=identity_file)
    yield codec
    codec.close()


@pytest.fixture(scope="module")
def clear() -> Iterator[AgePackCodec]:
    codec = AgePackCodec()
    yield codec
    codec.close()


@pytest.fixture
def codecs(sealing: AgePackCodec, clear: AgePackCodec) -> Callable[[str], AgePackCodec]:
    return lambda suffix: sealing if suffix.endswith(".age") else clear


def plan(members: tuple[Member, ...], suffix: str = ".tar.age") -> PackPlan:
    return PackPlan(path=f"packs/{TARGET}/{BACKUP}/1{suffix}", members=members)


def ignore(_: int) -> None:
    """Count nothing."""


def seal(
    codec: PackCodec, folder: Path, suffix: str = ".tar.age", files: dict[str, bytes] | None = None
) -> tuple[Pack, Path]:
    members = write_members(folder / "source", FILES if files is None else files)
    destination = folder / f"1{suffix}"
    return (
        codec.seal(plan(members, suffix), folder / "source", destination, advance=ignore),
        destination,
    )


def describe(pack: Pack, data: bytes) -> Pack:
    """Describe other stored bytes under the same path and with the same members."""
    return pack.model_copy(update={"size": len(data), "sha256": sha256(data)})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_sealed_opens_again(
    codecs: Callable[[str], AgePackCodec], tmp_path: Path, suffix: str
) -> None:
    codec = codecs(suffix)
    pack, sealed = seal(codec, tmp_path, suffix)
    assert (pack.size, pack.sha256) == (sealed.stat().st_size, sha256(sealed.read_bytes()))
    assert sealed.stat().st_mode & 0o777 == 0o600
    codec.open(pack, sealed, tmp_path / "out", advance=ignore)
    assert contents(tmp_path / "out") == FILES
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o600}
    codec.open(pack, sealed, None, advance=ignore)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        st.text(
            st.characters(categories=["L", "N", "P", "S"], exclude_characters="/\\"),
            min_size=1,
            max_size=80,
        ).filter(lambda name: name not in {".", ".."}),
        st.binary(max_size=2000) | st.just(bytes(512)) | st.just(b"x" * 513),
        min_size=1,
        max_size=8,
    ),
    suffix=st.sampled_from(SUFFIXES),
)
def test_any_files_come_back(
    codecs: Callable[[str], AgePackCodec],
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, bytes],
    suffix: str,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    codec = codecs(suffix)
    pack, sealed = seal(codec, folder, suffix, files)
    codec.open(pack, sealed, folder / "out", advance=ignore)
    assert contents(folder / "out") == files


def test_progress_counts_plain_bytes(sealing: AgePackCodec, tmp_path: Path) -> None:
    counted: list[int] = []
    files = {"a": bytes(5_000_000), "b": b"x"}
    members = write_members(tmp_path / "source", files)
    sealed = tmp_path / "1.tar.zst.age"
    pack = sealing.seal(
        plan(members, ".tar.zst.age"), tmp_path / "source", sealed, advance=counted.append
    )
    assert sum(counted) == 5_000_001
    sealing.open(pack, sealed, None, advance=counted.append)
    assert sum(counted) == 2 * 5_000_001


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pack_is_read_by_hand_in_plain_python(
    codecs: Callable[[str], AgePackCodec],
    identity: pyrage.x25519.Identity,
    tmp_path: Path,
    suffix: str,
) -> None:
    _, sealed = seal(codecs(suffix), tmp_path, suffix)
    data = sealed.read_bytes()
    if suffix.endswith(".age"):
        data = pyrage.decrypt(data, [identity])
    if ".zst" in suffix:
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {}
        for entry in tar:
            content = tar.extractfile(entry)
            assert content is not None
            found[entry.name] = content.read()
            assert (entry.mtime, entry.uid, entry.mode) == (0, 0, 0o600)
    assert found == FILES


@pytest.mark.parametrize(
    ("suffix", "command"),
    [
        pytest.param(".tar", 'tar -x -C "$2" < "$1"', marks=needs("tar")),
        pytest.param(".tar.zst", 'zstd -d < "$1" | tar -x -C "$2"', marks=needs("tar", "zstd")),
        pytest.param(".tar.age", 'age -d -i "$3" "$1" | tar -x -C "$2"', marks=needs("tar", "age")),
        pytest.param(
            ".tar.zst.age",
            'age -d -i "$3" "$1" | zstd -d | tar -x -C "$2"',
            marks=needs("tar", "age", "zstd"),
        ),
    ],
)
def test_a_pack_is_read_by_hand_with_the_tools_of_any_system(
    codecs: Callable[[str], AgePackCodec],
    identity_file: Path,
    tmp_path: Path,
    suffix: str,
    command: str,
) -> None:
    _, sealed = seal(codecs(suffix), tmp_path, suffix)
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, "-", sealed, tmp_path / "out", identity_file],
        check=True,
        timeout=60,
    )
    assert contents(tmp_path / "out") == FILES


def test_the_same_members_make_the_same_tar(clear: AgePackCodec, tmp_path: Path) -> None:
    one, two = (seal(clear, tmp_path / name, ".tar.zst")[0] for name in ("one", "two"))
    assert one == two


def test_a_member_above_8_gib_has_a_header_that_every_tar_reads() -> None:
    header = tar_header("large", 9 * 1024**3)
    assert len(header) == tarfile.BLOCKSIZE
    read = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (read.name, read.size) == ("large", 9 * 1024**3)


def test_every_flipped_bit_and_every_truncation_of_a_sealed_pack_is_found(
    sealing: AgePackCodec, tmp_path: Path
) -> None:
    pack, sealed = seal(sealing, tmp_path, ".tar.zst.age", {"a": b"content"})
    original = sealed.read_bytes()
    damaged = tmp_path / "damaged"
    out = tmp_path / "out"
    out.mkdir()
    for place in range(len(original)):
        changed = bytearray(original)
        changed[place] ^= 1 << (place % 8)
        for data in (bytes(changed), original[:place]):
            damaged.write_bytes(data)
            with pytest.raises(DigestMismatch, match=pack.path):
                sealing.open(pack, damaged, out, advance=ignore)
    assert list(out.iterdir()) == []


def test_damage_that_a_forged_digest_covers_is_found_by_age_or_the_members(
    sealing: AgePackCodec, tmp_path: Path
) -> None:
    pack, sealed = seal(sealing, tmp_path, ".tar.zst.age", {"a": b"content"})
    original = sealed.read_bytes()
    damaged = tmp_path / "damaged"
    out = tmp_path / "out"
    out.mkdir()
    for place in range(0, len(original), 3):
        changed = bytearray(original)
        changed[place] ^= 1
        for data in (bytes(changed), original[:place]):
            damaged.write_bytes(data)
            with pytest.raises((DecryptionFailed, DigestMismatch)):
                sealing.open(describe(pack, data), damaged, out, advance=ignore)
    assert list(out.iterdir()) == []


def tar_of(*entries: tarfile.TarInfo, content: bytes = b"content") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(content[: entry.size]))
    return stream.getvalue()


def entry(
    name: str, *, kind: bytes = tarfile.REGTYPE, size: int = 7, link: str = ""
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname = kind, size, link
    return made


@pytest.mark.parametrize(
    "data",
    [
        tar_of(entry("a"), entry("b")),
        tar_of(entry("a"), entry("a")),
        tar_of(),
        tar_of(entry("b")),
        tar_of(entry("../a")),
        tar_of(entry("/a")),
        tar_of(entry("a/a")),
        tar_of(entry("a", size=6)),
        tar_of(entry("a"), content=b"CONTENT"),
        tar_of(entry("a", kind=tarfile.SYMTYPE, size=0, link="/etc/passwd")),
        tar_of(entry("a", kind=tarfile.LNKTYPE, size=0, link="a")),
        tar_of(entry("a", kind=tarfile.DIRTYPE, size=0)),
        tar_of(entry("a", kind=tarfile.FIFOTYPE, size=0)),
        tar_of(entry("a"))[:515],
        b"junk" * 512,
        b"",
    ],
    ids=[
        "extra member",
        "member twice",
        "no member",
        "another name",
        "name above",
        "absolute name",
        "name below",
        "another size",
        "another content",
        "symbolic link",
        "hard link",
        "folder",
        "pipe",
        "cut in the content",
        "junk",
        "nothing",
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_tar_that_is_not_exactly_its_members_is_refused(
    codecs: Callable[[str], AgePackCodec],
    identity: pyrage.x25519.Identity,
    tmp_path: Path,
    suffix: str,
    data: bytes,
) -> None:
    if ".zst" in suffix:
        data = zstandard.compress(data)
    if suffix.endswith(".age"):
        data = pyrage.encrypt(data, [identity.to_public()])
    stored = tmp_path / "stored"
    stored.write_bytes(data)
    members = (member("a", b"content"),)
    pack = Pack(
        path=plan(members, suffix).path, size=len(data), sha256=sha256(data), members=members
    )
    out = tmp_path / "out"
    with pytest.raises(DigestMismatch):
        codecs(suffix).open(pack, stored, out, advance=ignore)
    assert list(out.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "stored"]


def test_another_identity_does_not_open_and_says_so(sealing: AgePackCodec, tmp_path: Path) -> None:
    pack, sealed = seal(sealing, tmp_path)
    other = keys.make_age_identity(tmp_path / "other.txt", now=START)
    stranger = AgePackCodec(identity_file=other.path)
    try:
        with pytest.raises(DecryptionFailed, match="sealed to other keys") as raised:
            stranger.open(pack, sealed, None, advance=ignore)
        assert "recipients" in raised.value.hint
    finally:
        stranger.close()


def test_without_an_identity_nothing_sealed_opens(
    clear: AgePackCodec, sealing: AgePackCodec, tmp_path: Path
) -> None:
    pack, sealed = seal(sealing, tmp_path)
    assert sealing.can_open(sealing.recipients)
    assert not sealing.can_open((str(pyrage.x25519.Identity.generate().to_public()),))
    assert not clear.can_open(sealing.recipients)
    assert clear.can_open(())
    with pytest.raises(ConfigurationError, match="no identity is at hand"):
        clear.open(pack, sealed, None, advance=ignore)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"CONTENT"),
        lambda path: path.write_bytes(b"content!"),
        lambda path: path.write_bytes(b"conten"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), subprocess.run(["mkfifo", path], check=True, timeout=20)),
    ],
    ids=["content", "longer", "shorter", "gone", "link", "folder", "pipe"],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_member_that_changed_since_its_digest_stops_the_pack(
    codecs: Callable[[str], AgePackCodec],
    tmp_path: Path,
    suffix: str,
    change: Callable[[Path], object],
) -> None:
    members = write_members(tmp_path / "source", {"a": b"content"})
    change(tmp_path / "source" / "a")
    (tmp_path / "packs").mkdir()
    with pytest.raises(PermanentError):
        codecs(suffix).seal(
            plan(members, suffix),
            tmp_path / "source",
            tmp_path / "packs" / "pack",
            advance=ignore,
        )
    assert list((tmp_path / "packs").iterdir()) == []


def test_a_changed_member_is_told_as_a_wrong_digest(sealing: AgePackCodec, tmp_path: Path) -> None:
    members = write_members(tmp_path / "source", {"a": b"content"})
    (tmp_path / "source" / "a").write_bytes(b"CONTENT")
    with pytest.raises(DigestMismatch, match="source/a"):
        sealing.seal(plan(members), tmp_path / "source", tmp_path / "pack", advance=ignore)


@pytest.mark.parametrize("suffix", [".tar", ".tar.age"])
def test_a_name_that_lies_about_sealing_is_refused(
    clear: AgePackCodec, sealing: AgePackCodec, tmp_path: Path, suffix: str
) -> None:
    members = write_members(tmp_path / "source", {"a": b"content"})
    wrong = clear if suffix == ".tar.age" else sealing
    with pytest.raises(ConfigurationError):
        wrong.seal(plan(members, suffix), tmp_path / "source", tmp_path / "pack", advance=ignore)
    assert not (tmp_path / "pack").exists()


def test_an_error_while_counting_ends_the_child_and_leaves_nothing(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(_: int) -> None:
        raise StoppedError

    codec = AgePackCodec(pool=PackPool(1))
    try:
        members = write_members(tmp_path / "source", {"a": bytes(1000)})
        (tmp_path / "packs").mkdir()
        for _ in range(2):
            with pytest.raises(StoppedError):
                codec.seal(
                    plan(members, ".tar"),
                    tmp_path / "source",
                    tmp_path / "packs" / "pack",
                    advance=stop,
                )
            assert list((tmp_path / "packs").iterdir()) == []
        pack, sealed = seal(codec, tmp_path, ".tar")
        codec.open(pack, sealed, None, advance=ignore)
    finally:
        codec.close()


def test_packs_are_made_side_by_side_from_any_thread(sealing: AgePackCodec, tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda number: seal(sealing, tmp_path / str(number)), range(12)))
    for pack, sealed in made:
        sealing.open(pack, sealed, None, advance=ignore)


def test_a_child_that_is_killed_is_replaced(tmp_path: Path) -> None:
    codec = AgePackCodec(pool=PackPool(1))
    try:
        before = set(children_of(os.getpid()))
        seal(codec, tmp_path / "one", ".tar")
        (child,) = set(children_of(os.getpid())) - before
        os.kill(child, signal.SIGKILL)
        assert wait_until(lambda: child not in children_of(os.getpid()), seconds=20)
        seal(codec, tmp_path / "two", ".tar")
    finally:
        codec.close()
    assert wait_until(lambda: set(children_of(os.getpid())) == before, seconds=20)


def test_a_child_killed_at_work_is_an_error_that_may_pass(tmp_path: Path) -> None:
    codec = AgePackCodec(pool=PackPool(1))
    try:
        before = set(children_of(os.getpid()))

        def kill(_: int) -> None:
            for child in set(children_of(os.getpid())) - before:
                os.kill(child, signal.SIGKILL)

        (tmp_path / "source").mkdir()
        with (tmp_path / "source" / "large").open("wb") as file:
            file.truncate(2 * 1024**3)
        members = (Member(name="large", size=2 * 1024**3, sha256="0" * 64),)
        (tmp_path / "packs").mkdir()
        with pytest.raises(TransientError, match="status -9"):
            codec.seal(
                plan(members, ".tar"),
                tmp_path / "source",
                tmp_path / "packs" / "pack",
                advance=kill,
            )
        assert list((tmp_path / "packs").iterdir()) == []
    finally:
        codec.close()


_PARENT = """
import sys, threading
from pathlib import Path
from pgben_tasks.adapters.packs.pool import PackPool
from pgben_tasks.adapters.packs.codec import AgePackCodec
from tests.integration.test_packs import seal
import os
from tests.integration.test_packs import children_of
codec = AgePackCodec(pool=PackPool(1))
# From a thread that ends at once: the child must not end with it.
thread = threading.Thread(target=seal, args=(codec, Path(sys.argv[1]) / "one", ".tar"))
thread.start()
thread.join()
children = children_of(os.getpid())
seal(codec, Path(sys.argv[1]) / "two", ".tar")
assert children_of(os.getpid()) == children
print("sealed", flush=True)
sys.stdin.read()
"""


def test_children_outlive_the_asking_thread_and_die_with_their_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"sealed\n"
        children = children_of(parent.pid)
        assert len(children) == 1
        parent.kill()
        parent.wait(timeout=20)
        assert wait_until(
            lambda: not any(Path(f"/proc/{child}").exists() for child in children), seconds=20
        )
    finally:
        parent.kill()
        parent.communicate(timeout=20)


def ask_child(request: dict[str, object], *, file_limit: int | None = None) -> list[dict[str, Any]]:
    """Ask a child of our own, which may write files of ``file_limit`` bytes only."""

    def limit() -> None:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    done = subprocess.run(
        [sys.executable, "-m", "pgben_tasks.adapters.packs.child", str(os.getpid())],
        input=json.dumps(request).encode() + b"\n",
        stdout=subprocess.PIPE,
        check=False,
        timeout=60,
        cwd=ROOT,
        preexec_fn=limit,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("recipients", [False, True])
def test_a_full_disk_is_said_so_and_nothing_stays(
    identity: pyrage.x25519.Identity, tmp_path: Path, recipients: bool
) -> None:
    content = os.urandom(3_000_000)
    (one,) = write_members(tmp_path / "source", {"a": content})
    (tmp_path / "packs").mkdir()
    answers = ask_child(
        {
            "operation": "seal",
            "content": "files",
            "members": [(one.name, one.size, one.sha256)],
            "source": str(tmp_path / "source"),
            "destination": str(tmp_path / "packs" / "pack"),
            "compressed": False,
            "recipients": [str(identity.to_public())] if recipients else [],
        },
        file_limit=100_000,
    )
    kind, sentence, hint = answers[-1]["error"]
    assert kind == SpoolFull.__name__
    assert str(tmp_path / "packs") in sentence
    assert hint
    assert list((tmp_path / "packs").iterdir()) == []


def test_a_full_disk_while_opening_is_said_so_and_nothing_stays(
    clear: AgePackCodec, tmp_path: Path
) -> None:
    pack, sealed = seal(clear, tmp_path, ".tar", {"a": bytes(200_000), "b": b"small"})
    answers = ask_child(
        {
            "operation": "open",
            "content": "files",
            "path": pack.path,
            "size": pack.size,
            "sha256": pack.sha256,
            "members": [(one.name, one.size, one.sha256) for one in pack.members],
            "stored": str(sealed),
            "destination": str(tmp_path / "out"),
            "compressed": False,
            "identities": [],
        },
        file_limit=100_000,
    )
    assert answers[-1]["error"][0] == SpoolFull.__name__
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unforeseen_fault_in_the_child_is_an_answer() -> None:
    answers = ask_child({"operation": "none"})
    assert answers[-1]["error"][0] == PermanentError.__name__


def test_a_child_of_another_parent_ends_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pgben_tasks.adapters.packs.child", "1"],
        input=b'{"operation": "none"}\n',
        capture_output=True,
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.stdout == b""


def test_no_secret_is_in_arguments_environment_or_errors(
    identity: pyrage.x25519.Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGBEN_DB_PASS", "canary-of-the-environment")
    path = tmp_path / "key.txt"
    path.write_text(f"{identity}\n")
    path.chmod(0o600)
    codec = AgePackCodec([str(identity.to_public())], identity_file=path, pool=PackPool(1))
    secret = str(identity)[20:40]
    try:
        before = set(children_of(os.getpid()))
        pack, sealed = seal(codec, tmp_path)
        codec.open(pack, sealed, None, advance=ignore)
        (child,) = set(children_of(os.getpid())) - before
        for name in ("cmdline", "environ"):
            text = Path(f"/proc/{child}/{name}").read_text()
            assert secret not in text
            assert "canary" not in text
        path.write_text(f"{identity}x\n")
        with pytest.raises(ConfigurationError, match="line 1") as raised:
            codec.open(pack, sealed, None, advance=ignore)
        assert secret not in "".join(traceback.format_exception(raised.value))
    finally:
        codec.close()


def test_the_calling_process_keeps_breathing_while_a_pack_is_sealed(
    sealing: AgePackCodec, tmp_path: Path
) -> None:
    content = os.urandom(64 * 1024 * 1024)
    members = write_members(tmp_path / "source", {"a": content})
    longest = 0.0
    with ThreadPoolExecutor(1) as threads:
        sealed = threads.submit(
            sealing.seal, plan(members), tmp_path / "source", tmp_path / "pack", advance=ignore
        )
        last = time.monotonic()
        while not sealed.done():
            threading.Event().wait(0.005)
            longest = max(longest, time.monotonic() - last)
            last = time.monotonic()
        assert sealed.result(timeout=60).size > len(content)
    # pyrage would hold the interpreter for the whole pack; other work on the machine stalls us
    # for much less than this.
    assert longest < 1.0


def test_recipients_are_those_given(sealing: AgePackCodec, clear: AgePackCodec) -> None:
    assert len(sealing.recipients) == 1
    assert clear.recipients == ()
    with pytest.raises(ConfigurationError, match="is a secret key"):
        AgePackCodec([str(pyrage.x25519.Identity.generate())])


def test_each_of_several_recipients_opens_a_pack(tmp_path: Path) -> None:
    pairs = [
        keys.make_age_identity(tmp_path / name, now=START) for name in ("operations", "escrow")
    ]
    codec = AgePackCodec([pair.public for pair in pairs])
    try:
        pack, sealed = seal(codec, tmp_path)
    finally:
        codec.close()
    for pair in pairs:
        reader = AgePackCodec(identity_file=pair.path, pool=PackPool(1))
        try:
            reader.open(pack, sealed, None, advance=ignore)
        finally:
            reader.close()


def test_a_retried_opening_replaces_what_is_there(sealing: AgePackCodec, tmp_path: Path) -> None:
    pack, sealed = seal(sealing, tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "toc.dat").write_bytes(b"half")
    sealing.open(pack, sealed, out, advance=ignore)
    assert contents(out) == FILES


def test_members_have_their_planned_digests(sealing: AgePackCodec, tmp_path: Path) -> None:
    pack, _ = seal(sealing, tmp_path)
    assert {one.name: one.sha256 for one in pack.members} == {
        name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()
    }


# Files whose digests are taken while they are sealed


def early_plan(suffix: str, **sizes: int) -> EarlyPlan:
    files = tuple(FinishedFile(name=name, size=size) for name, size in sizes.items())
    return EarlyPlan(path=f"packs/{TARGET}/{BACKUP}/1{suffix}", files=files)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_early_pack_tells_the_digests_of_what_it_holds(
    codecs: Callable[[str], AgePackCodec], tmp_path: Path, suffix: str
) -> None:
    contents_sealed = {"a": os.urandom(3_000_000), "b": b""}
    members = write_members(tmp_path / "source", contents_sealed)
    codec = codecs(suffix)
    plan_of_files = early_plan(suffix, a=3_000_000, b=0)

    pack = codec.seal_early(plan_of_files, tmp_path / "source", tmp_path / "pack", advance=ignore)

    assert pack.members == members
    assert pack == describe(pack, (tmp_path / "pack").read_bytes())
    codec.open(pack, tmp_path / "pack", tmp_path / "opened", advance=ignore)
    assert contents(tmp_path / "opened") == contents_sealed


@pytest.mark.parametrize("planned", [6, 8])
def test_a_file_that_is_not_as_long_as_planned_makes_no_early_pack(
    clear: AgePackCodec, tmp_path: Path, planned: int
) -> None:
    write_members(tmp_path / "source", {"a": b"content"})
    with pytest.raises(DigestMismatch, match="is not the file"):
        clear.seal_early(
            early_plan(".tar", a=planned), tmp_path / "source", tmp_path / "pack", advance=ignore
        )
    assert not (tmp_path / "pack").exists()

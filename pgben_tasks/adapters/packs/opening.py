"""Opening, as a stream: age to zstd to tar to files. In the child process only, so light.

``decrypt_io`` pushes, a tar reader pulls; a pipe and a thread stand between them.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyrage
import zstandard

from pgben_tasks.adapters.packs.streams import CHUNK, Advance, HashingWriter, MemberFacts
from pgben_tasks.errors import DecryptionFailed, DigestMismatch


@contextmanager
def opened(sealed: BinaryIO, identities: Sequence[Any], path: str) -> Iterator[BinaryIO]:
    """Yield the decrypted bytes of ``sealed`` as a reader.

    Leaving the block well reads to the end, so that the whole file was authenticated; raises
    ``DecryptionFailed`` when it does not open.
    """
    read_end, write_end = os.pipe()
    failures: list[BaseException] = []

    def decrypt() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            writer = HashingWriter(pipe.write)
            try:
                pyrage.decrypt_io(sealed, writer, identities)
            except (pyrage.DecryptError, OSError) as exc:
                # A closed pipe means that the reader gave up first; its reason counts.
                if not isinstance(writer.failure, BrokenPipeError):
                    failures.append(exc)

    thread = threading.Thread(target=decrypt, name="age", daemon=True)
    thread.start()
    plain = os.fdopen(read_end, "rb", buffering=CHUNK)
    try:
        try:
            yield plain
            while plain.read(CHUNK):
                pass
        finally:
            plain.close()
            thread.join()
    except Exception:
        # What was read wrongly was read wrongly because it did not decrypt.
        if failures:
            raise _not_opened(path, failures[0]) from failures[0]
        raise
    if failures:
        raise _not_opened(path, failures[0]) from failures[0]


def _not_opened(path: str, failure: BaseException) -> DecryptionFailed:
    if "No matching keys" in str(failure):
        return DecryptionFailed(
            f"'{path}' is sealed to other keys than the identity at hand",
            "use the identity that belongs to one of the recipients in the backup's manifest",
        )
    return DecryptionFailed(
        f"'{path}' does not decrypt although its digest is right",
        "it was damaged before it was stored; use another backup of the target",
    )


@contextmanager
def decompressed(plain: BinaryIO) -> Iterator[BinaryIO]:
    """Yield the bytes inside one zstd frame as a reader."""
    with zstandard.ZstdDecompressor().stream_reader(
        plain, read_size=CHUNK, read_across_frames=False, closefd=False
    ) as reader:
        yield reader
        # Reading to the end checks the frame's own checksum.
        while reader.read(CHUNK):
            pass


def take_members(
    plain: BinaryIO,
    members: Sequence[MemberFacts],
    destination: Path | None,
    *,
    path: str,
    advance: Advance,
) -> None:
    """Check a tar against ``members`` exactly and write them to ``destination``, if given.

    Each is written under its ``unfinished`` name, for the caller to rename or remove. Raises
    ``DigestMismatch``.
    """
    wanted = {name: (size, digest) for name, size, digest in members}
    with whole_tar(plain, path) as tar:
        for entry in tar:
            facts = wanted.pop(entry.name, None)
            if facts is None or not entry.isreg() or entry.size != facts[0]:
                raise unlike(path, f"'{entry.name}' is not a file its manifest lists so")
            content = tar.extractfile(entry)
            if content is None:
                raise unlike(path, f"'{entry.name}' has no content")
            target = None if destination is None else unfinished(destination, entry.name)
            if copy_member(content, target, advance) != facts[1]:
                raise unlike(path, f"'{entry.name}' has another digest")
    if wanted:
        raise unlike(path, f"'{min(wanted)}' is missing")


@contextmanager
def whole_tar(plain: BinaryIO, path: str) -> Iterator[tarfile.TarFile]:
    """Yield the tar that ``plain`` is; reading what is no whole one raises ``DigestMismatch``."""
    try:
        with tarfile.open(
            fileobj=plain, mode="r|", encoding="utf-8", errors="surrogateescape"
        ) as tar:
            yield tar
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as exc:
        raise unlike(path, "it is no whole tar") from exc


def unfinished(destination: Path, name: str) -> Path:
    """Name a member's file until the whole pack has proved itself."""
    return destination / f".{hashlib.sha256(name.encode()).hexdigest()}.tmp"


def copy_member(content: Any, target: Path | None, advance: Advance) -> str:
    """Read a member, write it to ``target`` if given; gives the SHA-256 of its bytes."""
    found = hashlib.sha256()
    if target is None:
        while chunk := content.read(CHUNK):
            found.update(chunk)
            advance(len(chunk))
        return found.hexdigest()
    with suppress(FileNotFoundError):
        target.unlink()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        while chunk := content.read(CHUNK):
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
            found.update(chunk)
            advance(len(chunk))
    return found.hexdigest()


def unlike(path: str, why: str) -> DigestMismatch:
    """Say that what a file holds is not what was signed for it."""
    return DigestMismatch(
        f"the content of '{path}' is not what its manifest says: {why}",
        "the pack was made wrongly or replaced; use another backup of the target",
    )

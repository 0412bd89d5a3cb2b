"""Opening, as a stream: age to zstd to content. In the child process only, so light.

``decrypt_io`` pushes, a reader pulls; a pipe and a thread stand between them. What is read is
written under ``unfinished`` names, which the caller renames, or removes after a failure.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyrage
import zstandard

from pgben_tasks.adapters.keys.age import load_identities
from pgben_tasks.adapters.packs.streams import (
    CHUNK,
    Advance,
    HashingWriter,
    MemberFacts,
    unfinished,
)
from pgben_tasks.errors import DecryptionFailed, DigestMismatch

#: The files that were begun, with the names that they take when all was checked.
Begun = dict[Path, Path]


@contextmanager
def plain_bytes(
    stored: BinaryIO, path: str, *, identities: Sequence[Path], compressed: bool
) -> Iterator[BinaryIO]:
    """Yield the plain bytes of ``stored`` as a reader.

    Leaving the block well reads to the end. Raises ``DecryptionFailed``, ``ConfigurationError``.
    """
    with ExitStack() as layers:
        plain = stored
        if identities:
            keys = [one for file in identities for one in load_identities(file)]
            plain = layers.enter_context(_decrypted(plain, keys, path))
        if compressed:
            plain = layers.enter_context(_decompressed(plain))
        yield plain


@contextmanager
def _decrypted(sealed: BinaryIO, identities: Sequence[Any], path: str) -> Iterator[BinaryIO]:
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
def _decompressed(plain: BinaryIO) -> Iterator[BinaryIO]:
    """Yield the bytes inside one zstd frame as a reader."""
    with zstandard.ZstdDecompressor().stream_reader(
        plain, read_size=CHUNK, read_across_frames=False, closefd=False
    ) as reader:
        yield reader
        # Reading to the end checks the frame's own checksum.
        while reader.read(CHUNK):
            pass


def take_files(
    plain: BinaryIO,
    members: Sequence[MemberFacts],
    destination: Path | None,
    begun: Begun,
    *,
    path: str,
    advance: Advance,
) -> None:
    """Check a tar against ``members`` exactly and write them below ``destination``, if given.

    Raises ``DigestMismatch``.
    """
    missing = {name: (size, digest) for name, size, digest in members}
    with _whole_tar(plain, path) as tar:
        for entry in tar:
            facts = missing.pop(entry.name, None)
            if facts is None or not entry.isreg() or entry.size != facts[0]:
                raise _unlike(path, f"'{entry.name}' is not a file its manifest lists so")
            content = tar.extractfile(entry)
            if content is None:
                raise _unlike(path, f"'{entry.name}' has no content")
            if destination is None:
                digest = _copy_member(content, None, advance)
            else:
                with _new_file(_begin(destination, entry.name, begun)) as file:
                    digest = _copy_member(content, file, advance)
            if digest != facts[1]:
                raise _unlike(path, f"'{entry.name}' has another digest")
    if missing:
        raise _unlike(path, f"'{min(missing)}' is missing")


def take_objects(
    plain: BinaryIO,
    wanted: Sequence[str],
    destination: Path | None,
    begun: Begun,
    *,
    path: str,
    advance: Advance,
) -> dict[str, int]:
    """Check a tar of objects; returns digests and sizes, in its order.

    Every member is named like the digest of its bytes. Those of the wanted ones are written one
    after another to the file ``destination``, if given: a file for each would cost more than all
    the rest. Raises ``DigestMismatch``.
    """
    missing = set(wanted)
    members: dict[str, int] = {}
    with ExitStack() as stack:
        file = None
        if destination is not None:
            target = _begin(destination.parent, destination.name, begun)
            file = stack.enter_context(_new_file(target))
        tar = stack.enter_context(_whole_tar(plain, path))
        for entry in tar:
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise _unlike(path, "it holds something that is no object")
            into = file if entry.name in missing else None
            missing.discard(entry.name)
            if _copy_member(content, into, advance) != entry.name:
                raise _unlike(path, f"'{entry.name[:64]}' has another digest")
            if entry.name in members:
                raise _unlike(path, f"'{entry.name}' is in it twice")
            members[entry.name] = entry.size
    if missing:
        raise _unlike(path, f"'{min(missing)}' is missing")
    return members


def take_lines(plain: BinaryIO, writer: HashingWriter, *, path: str, advance: Advance) -> None:
    """Pass plain bytes on to ``writer``; ``DigestMismatch`` when they are no whole zstd frame."""
    try:
        while chunk := plain.read(CHUNK):
            writer.write(chunk)
            advance(len(chunk))
    except zstandard.ZstdError as exc:
        raise _unlike(path, "it is no whole zstd frame") from exc


def _begin(destination: Path, name: str, begun: Begun) -> Path:
    target = unfinished(destination, name)
    begun[target] = destination / name
    return target


@contextmanager
def _whole_tar(plain: BinaryIO, path: str) -> Iterator[tarfile.TarFile]:
    """Yield the tar that ``plain`` is; reading what is no whole one raises ``DigestMismatch``."""
    try:
        with tarfile.open(
            fileobj=plain, mode="r|", encoding="utf-8", errors="surrogateescape"
        ) as tar:
            yield tar
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as exc:
        raise _unlike(path, "it is no whole tar") from exc


def _new_file(target: Path) -> BinaryIO:
    """Make a file in the place of one that may be there, and open it to write."""
    with suppress(FileNotFoundError):
        target.unlink()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    return os.fdopen(descriptor, "wb", buffering=CHUNK)


def _copy_member(content: Any, file: BinaryIO | None, advance: Advance) -> str:
    """Read a member, write it to ``file`` if given; returns the SHA-256 of its bytes."""
    found = hashlib.sha256()
    while chunk := content.read(CHUNK):
        if file is not None:
            file.write(chunk)
        found.update(chunk)
        advance(len(chunk))
    return found.hexdigest()


def _unlike(path: str, why: str) -> DigestMismatch:
    """Return the error for content that is not what was signed."""
    return DigestMismatch(
        f"the content of '{path}' is not what its manifest says: {why}",
        "the pack was made wrongly or replaced; use another backup of the target",
    )

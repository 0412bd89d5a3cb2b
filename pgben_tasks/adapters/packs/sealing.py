"""Sealing, as a stream: content to zstd to age. In the child process only, so light.

Everything is pulled: ``encrypt_io`` reads from a generator of bytes, so no pack is ever held. Each
kind of content is one such generator; what it learns of the bytes on their way it leaves in
``facts``.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyrage
import zstandard

from pgben_tasks.adapters.packs.streams import (
    CHUNK,
    Advance,
    HashingWriter,
    MemberFacts,
    PlannedFacts,
)
from pgben_tasks.errors import DigestMismatch

_BLOCK: Final = tarfile.BLOCKSIZE
_ZSTD_LEVEL: Final = 3


def tar_header(name: str, size: int) -> bytes:
    """Return a header that depends on nothing but its arguments.

    GNU form, because every tar reads its sizes above 8 GiB, also those that know no PAX headers.
    """
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o600
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def tar_of_files(
    members: Sequence[PlannedFacts], source: Path, advance: Advance, facts: dict[str, Any]
) -> Generator[bytes]:
    """Yield the tar of ``members``, read from ``source``; ``DigestMismatch`` when one differs.

    ``facts`` gets the members with the digests of the bytes that went into the tar.
    """
    taken: list[MemberFacts] = []
    for name, size, planned in members:
        yield tar_header(name, size)
        digest = yield from _planned_bytes(source / name, size, planned, advance)
        taken.append((name, size, digest))
        yield bytes(-size % _BLOCK)
    yield bytes(2 * _BLOCK)
    facts["members"] = taken


def lines_of(source: Path, advance: Advance, facts: dict[str, Any]) -> Generator[bytes]:
    """Yield the bytes of one file; ``facts`` gets their digest as ``plain``."""
    digest = hashlib.sha256()
    with source.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            yield chunk
            advance(len(chunk))
    facts["plain"] = digest.hexdigest()


def tar_of_objects(source: Path, advance: Advance) -> Generator[bytes]:
    """Yield the bytes of a tar of objects; ``DigestMismatch`` when it is not what was written.

    Each object is checked against its name, which is its digest.
    """
    end = bytes(2 * _BLOCK)
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb", buffering=CHUNK) as file:
        while any(header := file.read(_BLOCK)):
            yield header
            yield from _object(file, header, source, advance)
        # One block of zeros was read; the other one is all that may follow.
        if header + file.read() != end:
            raise _changed(source)
        yield end


def _object(file: BinaryIO, header: bytes, path: Path, advance: Advance) -> Iterator[bytes]:
    try:
        entry = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeError) as exc:
        raise _changed(path) from exc
    digest = hashlib.sha256()
    left = entry.size
    while left:
        chunk = file.read(min(left, CHUNK))
        if not chunk:
            raise _changed(path)
        left -= len(chunk)
        digest.update(chunk)
        yield chunk
        advance(len(chunk))
    if digest.hexdigest() != entry.name:
        raise _changed(path)
    yield file.read(-entry.size % _BLOCK)


def _planned_bytes(
    path: Path, size: int, digest: str | None, advance: Advance
) -> Generator[bytes, None, str]:
    found = hashlib.sha256()
    left = size
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _changed(path)
        while chunk := file.read(CHUNK):
            if len(chunk) > left:
                raise _changed(path)
            left -= len(chunk)
            found.update(chunk)
            yield chunk
            advance(len(chunk))
    if left or digest not in {None, found.hexdigest()}:
        raise _changed(path)
    return found.hexdigest()


def _changed(path: Path) -> DigestMismatch:
    """Return the error for a file of the spool that is not the one that was written there."""
    return DigestMismatch(
        f"'{path}' is not the file whose digest was taken",
        "something changed the spool while the backup ran; start the backup again",
    )


def compressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield one zstd frame of ``chunks``."""
    frame = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()
    for chunk in chunks:
        if packed := frame.compress(chunk):
            yield packed
    yield frame.flush()


class _Pulled:
    """A reader over chunks that remembers why it failed: pyrage keeps only the error's text."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.failure: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            while not self._rest:
                self._rest = memoryview(next(self._chunks))
        except StopIteration:
            return b""
        except BaseException as exc:
            self.failure = exc
            raise
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)


def seal_into(chunks: Iterator[bytes], writer: HashingWriter, recipients: Sequence[str]) -> None:
    """Write ``chunks`` to ``writer``, encrypted to ``recipients`` when there are any."""
    if not recipients:
        for chunk in chunks:
            writer.write(chunk)
        return
    reader = _Pulled(chunks)
    keys = [pyrage.x25519.Recipient.from_str(recipient) for recipient in recipients]
    try:
        pyrage.encrypt_io(reader, writer, keys)
    except Exception:
        for failure in (reader.failure, writer.failure):
            if failure is not None:
                raise failure from None
        raise

"""Packs of objects, written while objects arrive from several threads, sealed in the background.

An open pack is a plain tar in the spool. A small object is appended once its digest is known, for
that is its name; a large one gets a tar of its own, whose header is written last, so that nothing
is ever held in memory whole.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import zstandard

from pgben_tasks.adapters.digest_index import SqliteDigestIndex
from pgben_tasks.adapters.pack_sealing import tar_header
from pgben_tasks.domain.documents import Pack
from pgben_tasks.domain.packing import TAR_BLOCK
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import IntegrityError
from pgben_tasks.ports import DigestIndex, Kept, ObjectCodec

_SMALL: Final = 4 * 1024 * 1024
_SAMPLE: Final = 64 * 1024
#: What does not get smaller than this share is stored as it is.
_WORTH: Final = 0.95
_IN_FLIGHT: Final = 2


class _Tar:
    """One open tar file."""

    def __init__(self, file: Path, number: int, *, compressed: bool) -> None:
        self.file = file
        self.number = number
        self.compressed = compressed
        self._stream: BinaryIO = file.open("xb", buffering=1024 * 1024)
        file.chmod(0o600)
        self.size = 0

    def append(self, name: str, data: bytes) -> None:
        """Add a member whole."""
        self._write(tar_header(name, len(data)))
        self._write(data)
        self._write(bytes(-len(data) % TAR_BLOCK))

    def append_stream(self, chunks: Iterator[bytes], size: int) -> str:
        """Add the only member from a stream; gives its digest, which becomes its name."""
        digest = hashlib.sha256()
        self._write(bytes(TAR_BLOCK))
        left = size
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
            self._write(chunk)
        if left:
            raise _wrong_size(size)
        self._write(bytes(-size % TAR_BLOCK))
        self._stream.seek(0)
        self._stream.write(tar_header(digest.hexdigest(), size))
        self._stream.seek(0, 2)
        return digest.hexdigest()

    def finish(self) -> None:
        """Write the end."""
        with self._stream:
            self._write(bytes(2 * TAR_BLOCK))

    def abandon(self) -> None:
        """Remove it."""
        self._stream.close()
        self.file.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self.size += len(data)


class SpoolPackWriter:
    """An ``ObjectPackWriter`` that keeps what it works on in ``folder``."""

    def __init__(
        self,
        folder: Path,
        *,
        codec: ObjectCodec,
        known: DigestIndex,
        target: Target,
        backup: BackupId,
        first: int,
        pack_size: int,
        store: Callable[[Pack, Path], None],
    ) -> None:
        """Begin with the pack number ``first``; ``store`` gets each pack that is sealed."""
        self._folder = folder
        self._codec = codec
        self._known = known
        self._target = target
        self._backup = backup
        self._next = first
        self._pack_size = pack_size
        self._store = store
        self._lock = threading.Lock()
        self._open: dict[bool, _Tar] = {}
        self._room = threading.BoundedSemaphore(_IN_FLIGHT)
        self._sealing = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="seal")
        self._begun: list[Future[None]] = []
        self._failed = threading.Event()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Seal and store the rest; give everything up when the block failed."""
        with self._lock:
            rest = list(self._open.values())
            self._open.clear()
        if error is None:
            for tar in rest:
                self._close(tar)
        else:
            for tar in rest:
                tar.abandon()
        self._sealing.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            self.check()

    def add(self, chunks: Iterator[bytes], *, size: int) -> Kept:
        """Take one object of ``size`` bytes; see ``ObjectPackWriter.add``."""
        self.check()
        return self._add_small(chunks, size) if size <= _SMALL else self._add_large(chunks, size)

    def _add_small(self, chunks: Iterator[bytes], size: int) -> Kept:
        data = b"".join(chunks)
        if len(data) != size:
            raise _wrong_size(size)
        digest = hashlib.sha256(data).hexdigest()
        compressed = _shrinks(data)
        full = None
        with self._lock:
            place = self._known.place(digest)
            if place is None:
                tar = self._open.get(compressed) or self._begin(compressed=compressed)
                self._open[compressed] = tar
                tar.append(digest, data)
                place = self._place(tar)
                self._known.take(digest, place)
                if tar.size >= self._pack_size:
                    full = self._open.pop(compressed)
        if full is not None:
            self._close(full)
        return Kept(sha256=digest, size=size, place=place)

    def _add_large(self, chunks: Iterator[bytes], size: int) -> Kept:
        first = next(chunks, b"")
        with self._lock:
            tar = self._begin(compressed=_shrinks(first))
        try:
            digest = tar.append_stream(_joined(first, chunks), size)
        except BaseException:
            tar.abandon()
            raise
        place = self._known.take(digest, self._place(tar))
        if place is not None:
            tar.abandon()
            return Kept(sha256=digest, size=size, place=place)
        self._close(tar)
        return Kept(sha256=digest, size=size, place=self._place(tar))

    def _begin(self, *, compressed: bool) -> _Tar:
        number, self._next = self._next, self._next + 1
        return _Tar(self._folder / f"{number}.part", number, compressed=compressed)

    def _name(self, tar: _Tar) -> str:
        zst = ".zst" if tar.compressed else ""
        return f"{tar.number}.tar{zst}{'.age' if self._codec.sealed else ''}"

    def _place(self, tar: _Tar) -> str:
        return f"{self._backup}/{self._name(tar)}"

    def _close(self, tar: _Tar) -> None:
        """Seal and store a pack in the background; waits while two are on their way."""
        tar.finish()
        self._room.acquire()
        self._begun.append(self._sealing.submit(self._seal, tar))

    def _seal(self, tar: _Tar) -> None:
        destination = self._folder / self._name(tar)
        try:
            if self._failed.is_set():
                return
            sealed = self._codec.seal_pack(tar.file, destination, compressed=tar.compressed)
            tar.file.unlink()
            path = f"packs/{self._target}/{self._place(tar)}"
            pack = Pack(path=path, size=sealed.size, sha256=sealed.sha256, members=())
            self._store(pack, destination)
        except BaseException:
            # The next add, or the end, raises what this future holds.
            self._failed.set()
            raise
        finally:
            self._room.release()
            destination.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise what went wrong in the background, if anything did."""
        if self._failed.is_set():
            for one in self._begun:
                if one.done() and not one.cancelled():
                    one.result()


class SpoolPacks:
    """Makes writers and indexes (``ports.ObjectPacks``)."""

    def __init__(self, codec: ObjectCodec, *, pack_size: int) -> None:
        """Seal with ``codec``; small objects share packs of about ``pack_size`` bytes of tar."""
        self._codec = codec
        self._pack_size = pack_size

    def index(self, file: Path) -> DigestIndex:
        """Begin an index of digests in ``file``."""
        return SqliteDigestIndex(file)

    def writer(
        self,
        folder: Path,
        *,
        known: DigestIndex,
        target: Target,
        backup: BackupId,
        first: int,
        store: Callable[[Pack, Path], None],
    ) -> SpoolPackWriter:
        """Write packs numbered from ``first``."""
        return SpoolPackWriter(
            folder,
            codec=self._codec,
            known=known,
            target=target,
            backup=backup,
            first=first,
            pack_size=self._pack_size,
            store=store,
        )


def _shrinks(data: bytes) -> bool:
    """Say whether compressing is worth it, by trying it on the beginning."""
    sample = data[:_SAMPLE]
    packed = len(zstandard.ZstdCompressor(level=1).compress(sample))
    return packed < _WORTH * len(sample)


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _wrong_size(size: int) -> IntegrityError:
    return IntegrityError(
        f"an object that should have {size} bytes gave another number",
        "the server does not send what it says; look at it",
    )

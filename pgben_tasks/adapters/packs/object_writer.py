"""Packs of objects, written while objects arrive from several threads, sealed in the background.

An open pack is a plain tar in the spool. A small object is appended once its digest is known, for
that is its name; a large one gets a tar of its own, whose header is written last, so that nothing
is ever held in memory whole. What compresses and what does not go to different packs.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import zstandard

from pgben_tasks.adapters.packs.digest_index import SqliteDigestIndex
from pgben_tasks.adapters.packs.open_packs import GrowingTar, OpenPack, PackSeries
from pgben_tasks.adapters.packs.sealing import tar_header
from pgben_tasks.domain.documents import Pack
from pgben_tasks.domain.packing import TAR_BLOCK, padded
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import IntegrityError, PermanentError, SpoolFull
from pgben_tasks.files.durable import NO_ROOM
from pgben_tasks.ports import DigestIndex, Kept, ObjectCodec

#: Objects of up to so many bytes share packs, and are held in memory until they have a digest.
SMALL: Final = 4 * 1024 * 1024
#: So many objects share a pack at most: until it is stored their lines are held in memory.
MOST_MEMBERS: Final = 4096
#: How many full packs are sealed and stored at a time; whoever fills another one waits.
_IN_FLIGHT: Final = 2
#: After more packs than these the spare children are ended, for their memory; most nights have
#: fewer, and are as quick as their children are warm.
_KEEP_CHILDREN_UNTIL: Final = 8

#: How many bytes of an object's beginning tell whether it compresses.
SAMPLE: Final = 64 * 1024
#: What does not get smaller than this share is stored as it is.
_WORTH: Final = 0.95
_SAMPLE_LEVEL: Final = 1


class SpoolPacks:
    """Makes writers and indexes (``ports.ObjectPacks``)."""

    def __init__(self, codec: ObjectCodec, *, pack_size: int) -> None:
        """Seal with ``codec``; small objects share packs of at most ``pack_size`` bytes of tar."""
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
        require_room: Callable[[int], None],
    ) -> SpoolPackWriter:
        """Write packs numbered from ``first``."""
        series = PackSeries(
            folder, target=target, backup=backup, first=first, sealed=self._codec.sealed
        )
        return SpoolPackWriter(
            series,
            codec=self._codec,
            known=known,
            pack_size=self._pack_size,
            store=store,
            require_room=require_room,
        )


class SpoolPackWriter:
    """An ``ObjectPackWriter`` whose packs are those of one ``PackSeries``."""

    def __init__(
        self,
        series: PackSeries,
        *,
        codec: ObjectCodec,
        known: DigestIndex,
        pack_size: int,
        store: Callable[[Pack, Path], None],
        require_room: Callable[[int], None],
    ) -> None:
        """Begin; see ``ObjectPacks.writer``."""
        self._series = series
        self._codec = codec
        self._known = known
        self._pack_size = pack_size
        self._store = store
        self._require_room = require_room
        #: Guards all below; whoever waits for a pack to be stored waits for it.
        self._state = threading.Condition()
        self._open: dict[bool, OpenPack] = {}
        self._in_flight = 0
        self._sent = 0
        self._failure: BaseException | None = None
        self._background = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="seal")

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
        if error is not None:
            self._fail(error)
        try:
            self._send_rest()
        finally:
            self._background.shutdown(wait=True)
            if self._sent > _KEEP_CHILDREN_UNTIL:
                self._codec.end_spare_children()
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise what went wrong with a pack; see ``ObjectPackWriter.check``."""
        if self._failure is not None:
            raise self._failure

    def add(self, chunks: Iterator[bytes], *, size: int) -> Kept:
        """Add one object of ``size`` bytes; see ``ObjectPackWriter.add``."""
        self.check()
        digest, place = (self._small if size <= SMALL else self._large)(chunks, size)
        return Kept(sha256=digest, size=size, place=place)

    def _small(self, chunks: Iterator[bytes], size: int) -> tuple[str, str]:
        data = list(exactly(chunks, size))
        digest = digest_of(data)
        with self._own_errors():
            place = self._known.place(digest)
        if place is not None:
            return digest, place
        compressed = shrinks(beginning(data))
        header = tar_header(digest, size)
        with self._state, self._own_errors():
            pack = self._pack_with_room(TAR_BLOCK + padded(size), compressed=compressed)
            place = self._known.take(digest, pack.place)
            if place is None:
                pack.tar.append(header, data)
        return digest, place or pack.place

    def _large(self, chunks: Iterator[bytes], size: int) -> tuple[str, str]:
        # Its tar, and beside it, for a while, its sealed form.
        with self._own_errors():
            self._require_room(2 * size)
            with self._state:
                tar = self._series.new_tar()
        try:
            digest, sample = self._stream(tar, chunks, size)
            with self._state, self._own_errors():
                self._await_slot()
                place = self._known.place(digest)
                if place is None:
                    pack = self._series.numbered(tar, compressed=shrinks(sample))
                    place = pack.place
                    self._known.take(digest, place)
                    self._send(pack)
                    return digest, place
        except BaseException:
            tar.remove()
            raise
        tar.remove()
        return digest, place

    def _stream(self, tar: GrowingTar, chunks: Iterator[bytes], size: int) -> tuple[str, bytes]:
        """Write the only member of ``tar``; returns its digest and its beginning."""
        digest, sample = hashlib.sha256(), b""
        with self._own_errors():
            tar.begin_member()
        for chunk in exactly(chunks, size):
            self.check()
            digest.update(chunk)
            sample += chunk[: SAMPLE - len(sample)]
            with self._own_errors():
                tar.write(chunk)
        with self._own_errors():
            tar.end_member(tar_header(digest.hexdigest(), size))
        return digest.hexdigest(), sample

    def _pack_with_room(self, needed: int, *, compressed: bool) -> OpenPack:
        while True:
            self.check()
            pack = self._open.get(compressed)
            if pack is None:
                pack = self._series.numbered(self._series.new_tar(), compressed=compressed)
                self._open[compressed] = pack
            fits = pack.tar.size + needed <= self._pack_size and pack.tar.members < MOST_MEMBERS
            if fits or not pack.tar.size:
                return pack
            if self._in_flight < _IN_FLIGHT:
                self._send(self._open.pop(compressed))
            else:
                self._state.wait()

    def _await_slot(self) -> None:
        self._state.wait_for(lambda: self._in_flight < _IN_FLIGHT or self._failure is not None)
        self.check()

    def _send_rest(self) -> None:
        """Seal and store the open packs; after a failure they are only removed."""
        with self._state:
            for pack in self._open.values():
                self._send(pack)
            self._open.clear()

    def _send(self, pack: OpenPack) -> None:
        self._in_flight += 1
        self._sent += 1
        self._background.submit(self._seal_and_store, pack)

    def _seal_and_store(self, pack: OpenPack) -> None:
        sealed = pack.sealed_file
        try:
            self.check()
            if pack.tar.size:
                with self._own_errors():
                    pack.tar.end()
                made = self._codec.seal_pack(pack.path, pack.tar.path, sealed)
                pack.tar.remove()
                self.check()
                self._store(made, sealed)
        except BaseException as exc:  # noqa: BLE001 - the next add, or the end, raises it
            self._fail(exc)
        finally:
            with suppress(OSError):
                pack.tar.remove()
                sealed.unlink(missing_ok=True)
            with self._state:
                self._in_flight -= 1
                self._state.notify_all()

    def _fail(self, failure: BaseException) -> None:
        """Keep the first failure; from now on no pack is made or stored."""
        with self._state:
            self._failure = self._failure or failure
            self._state.notify_all()

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Fail the whole copy with what fails here: it concerns a pack, not one object."""
        try:
            try:
                yield
            except OSError as exc:
                raise self._explained(exc) from exc
        except BaseException as exc:
            self._fail(exc)
            raise

    def _explained(self, exc: OSError) -> PermanentError:
        folder = self._series.folder
        if exc.errno in NO_ROOM:
            return SpoolFull(f"'{folder}' has no room left", "free or add space there, then retry")
        return PermanentError(
            f"'{folder}' cannot be written: {exc.strerror}", "look at the spool's disk"
        )


class _Compressors(threading.local):
    """A compressor for each thread: it is costly to make, and not to be shared."""

    def __init__(self) -> None:
        self.one = zstandard.ZstdCompressor(level=_SAMPLE_LEVEL)


_COMPRESSORS: Final = _Compressors()


def shrinks(sample: bytes) -> bool:
    """Return whether compressing is worth it, by trying it on an object's beginning.

    What is shorter than its own header in the tar shrinks with that.
    """
    return len(sample) < TAR_BLOCK or (
        len(_COMPRESSORS.one.compress(sample)) < _WORTH * len(sample)
    )


def beginning(chunks: Iterable[bytes]) -> bytes:
    """Return the first ``SAMPLE`` bytes of ``chunks``."""
    sample = b""
    for chunk in chunks:
        sample += chunk[: SAMPLE - len(sample)]
        if len(sample) == SAMPLE:
            break
    return sample


def exactly(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield ``chunks``; ``IntegrityError`` as soon as they cannot be ``size`` bytes any more."""
    left = size
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise _wrong_size(size, "more")
        yield chunk
    if left:
        raise _wrong_size(size, f"{left} fewer")


def digest_of(chunks: Iterable[bytes]) -> str:
    """Return the SHA-256 of ``chunks``."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _wrong_size(size: int, instead: str) -> IntegrityError:
    return IntegrityError(
        f"an object that should have {size} bytes has {instead}",
        "it changed while it was fetched, or the server does not send what it says; look at it",
    )

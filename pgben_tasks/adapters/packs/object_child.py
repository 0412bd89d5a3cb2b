"""What the pack child does for buckets: whole files sealed and opened, objects taken from packs.

In the child process only (``pack_child``), so light.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from pgben_tasks.adapters.keys.age import load_identities
from pgben_tasks.adapters.packs.opening import (
    copy_member,
    decompressed,
    opened,
    unfinished,
    unlike,
    whole_tar,
)
from pgben_tasks.adapters.packs.sealing import changed, compressed, seal_into
from pgben_tasks.adapters.packs.streams import CHUNK, Advance, HashingWriter
from pgben_tasks.domain.packing import TAR_BLOCK, padded
from pgben_tasks.files.durable import durable_file


def seal_file(request: dict[str, Any], advance: Advance) -> dict[str, Any]:
    """Compress and seal one file; gives size and digest of what is stored, and of what was read."""
    plain = hashlib.sha256()
    with durable_file(Path(request["destination"])) as file:
        writer = HashingWriter(file.write)
        chunks = _chunks(Path(request["source"]), plain, advance)
        if request["compressed"]:
            chunks = compressed(chunks)
        seal_into(chunks, writer, request["recipients"])
    return {"size": writer.size, "sha256": writer.hexdigest(), "plain": plain.hexdigest()}


def seal_objects(request: dict[str, Any], advance: Advance) -> dict[str, Any]:
    """Seal a tar of objects, each of which is checked against its name on the way."""
    with (
        durable_file(Path(request["destination"])) as file,
        # A tar that a failure left open would take room for as long as this process lives.
        closing(_object_tar(Path(request["source"]), advance)) as objects,
    ):
        writer = HashingWriter(file.write)
        chunks = compressed(objects) if request["compressed"] else objects
        seal_into(chunks, writer, request["recipients"])
    return {"size": writer.size, "sha256": writer.hexdigest()}


def open_file(request: dict[str, Any], advance: Advance) -> dict[str, Any]:
    """Open one file whose stored bytes were checked; gives the digest of its plain bytes."""
    with (
        Path(request["stored"]).open("rb") as stored,
        durable_file(Path(request["destination"])) as file,
    ):
        writer = HashingWriter(file.write)
        with _plain(stored, request) as plain:
            try:
                while chunk := plain.read(CHUNK):
                    writer.write(chunk)
                    advance(len(chunk))
            except zstandard.ZstdError as exc:
                raise unlike(request["path"], "it is no whole zstd frame") from exc
    return {"size": writer.size, "sha256": writer.hexdigest()}


def open_objects(request: dict[str, Any], advance: Advance) -> dict[str, Any]:
    """Check a pack whose stored bytes were checked, and write the wanted objects as files.

    Every member is named like the digest of its bytes. The others are read, checked, not written.
    The files take their names when the whole pack has proved itself; whoever asked removes what a
    failure leaves under other names.
    """
    destination = Path(request["destination"]) if request["destination"] else None
    missing = set(request["wanted"])
    members: dict[str, int] = {}
    taken: dict[Path, Path] = {}
    with (
        Path(request["stored"]).open("rb") as stored,
        _plain(stored, request) as plain,
        whole_tar(plain, request["path"]) as tar,
    ):
        for entry in tar:
            target = None
            if destination is not None and entry.name in missing:
                missing.remove(entry.name)
                target = unfinished(destination, entry.name)
                taken[target] = destination / entry.name
            _take(tar, entry, target, request["path"], advance)
            if entry.name in members:
                raise unlike(request["path"], f"'{entry.name}' is in it twice")
            members[entry.name] = entry.size
    if missing:
        raise unlike(request["path"], f"'{min(missing)}' is missing")
    for target, final in taken.items():
        target.replace(final)
    return {"members": list(members.items())}


def _take(
    tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path | None, path: str, advance: Advance
) -> None:
    content = tar.extractfile(entry) if entry.isreg() else None
    if content is None:
        raise unlike(path, "it holds something that is no object")
    if copy_member(content, target, advance) != entry.name:
        raise unlike(path, f"'{entry.name[:64]}' has another digest")


@contextmanager
def _plain(stored: BinaryIO, request: dict[str, Any]) -> Iterator[BinaryIO]:
    with ExitStack() as layers:
        plain: BinaryIO = stored
        if request["identities"]:
            files = map(Path, request["identities"])
            identities = [one for file in files for one in load_identities(file)]
            plain = layers.enter_context(opened(plain, identities, request["path"]))
        if request["compressed"]:
            plain = layers.enter_context(decompressed(plain))
        yield plain


def _chunks(path: Path, digest: Any, advance: Advance) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            yield chunk
            advance(len(chunk))


def _object_tar(path: Path, advance: Advance) -> Generator[bytes, None, None]:
    """Yield the bytes of a tar of objects; ``DigestMismatch`` when it is not what was written."""
    end = bytes(2 * TAR_BLOCK)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb", buffering=CHUNK) as file:
        while any(header := file.read(TAR_BLOCK)):
            yield header
            yield from _object(file, header, path, advance)
        # One block of zeros was read; the other one is all that may follow.
        if header + file.read() != end:
            raise changed(path)
        yield end


def _object(file: BinaryIO, header: bytes, path: Path, advance: Advance) -> Iterator[bytes]:
    try:
        entry = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeError) as exc:
        raise changed(path) from exc
    digest = hashlib.sha256()
    left = entry.size
    while left:
        chunk = file.read(min(left, CHUNK))
        if not chunk:
            raise changed(path)
        left -= len(chunk)
        digest.update(chunk)
        yield chunk
        advance(len(chunk))
    if digest.hexdigest() != entry.name:
        raise changed(path)
    yield file.read(padded(entry.size) - entry.size)

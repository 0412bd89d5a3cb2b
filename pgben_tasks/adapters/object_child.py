"""What the pack child does for buckets: whole files sealed and opened, objects taken from packs.

In the child process only (``pack_child``), so light.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from pgben_tasks.adapters.age import load_identities
from pgben_tasks.adapters.durable import durable_file
from pgben_tasks.adapters.pack_opening import copy_member, decompressed, opened
from pgben_tasks.adapters.pack_sealing import compressed, seal_into
from pgben_tasks.adapters.pack_streams import CHUNK, Advance, HashingWriter
from pgben_tasks.errors import DigestMismatch


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
                raise _unlike(request["path"], "it is no whole zstd frame") from exc
    return {"size": writer.size, "sha256": writer.hexdigest()}


def open_objects(request: dict[str, Any], advance: Advance) -> dict[str, Any]:
    """Check a pack whose stored bytes were checked, and write the wanted objects as files.

    Every member is named like the digest of its bytes. The others are read, checked, not written.
    """
    destination = Path(request["destination"]) if request["destination"] else None
    wanted = set(request["wanted"])
    members: list[tuple[str, int]] = []
    with Path(request["stored"]).open("rb") as stored, _plain(stored, request) as plain:
        try:
            with tarfile.open(fileobj=plain, mode="r|") as tar:
                for entry in tar:
                    target = destination / entry.name if entry.name in wanted else None  # type: ignore[operator]  # what is wanted has a destination
                    _take(tar, entry, target, request["path"], advance)
                    wanted.discard(entry.name)
                    members.append((entry.name, entry.size))
        except (tarfile.TarError, zstandard.ZstdError, EOFError) as exc:
            raise _unlike(request["path"], "it is no whole tar") from exc
    if wanted:
        raise _unlike(request["path"], f"'{min(wanted)}' is missing")
    return {"members": members}


def _take(
    tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path | None, path: str, advance: Advance
) -> None:
    content = tar.extractfile(entry) if entry.isreg() else None
    if content is None:
        raise _unlike(path, "it holds something that is no object")
    if copy_member(content, target, advance) != entry.name:
        if target is not None:
            target.unlink()
        raise _unlike(path, f"'{entry.name[:64]}' has another digest")


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


def _unlike(path: str, why: str) -> DigestMismatch:
    return DigestMismatch(
        f"the content of '{path}' is not what it should be: {why}",
        "the file was made wrongly or replaced; use another backup of the target",
    )

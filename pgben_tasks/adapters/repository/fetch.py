"""Write the sealed bytes of a stored file to a file, checked on the way. Nothing is opened here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from pgben_tasks.domain.documents import StoredFile
from pgben_tasks.errors import DigestMismatch, PermanentError, SpoolFull
from pgben_tasks.files.durable import NO_ROOM, durable_file


def fetch_checked(
    chunks: Iterable[bytes],
    pack: StoredFile,
    destination: Path,
    *,
    advance: Callable[[int], None] = lambda _size: None,
) -> None:
    """Write ``chunks`` to ``destination``, whole or not at all, if they are the pack's bytes.

    ``advance`` counts stored bytes. Raises ``DigestMismatch`` and ``SpoolFull``.
    """
    digest = hashlib.sha256()
    size = 0
    try:
        with durable_file(destination) as file:
            for chunk in chunks:
                size += len(chunk)
                if size > pack.size:
                    raise _unlike(pack, f"is longer than {pack.size} bytes")
                file.write(chunk)
                digest.update(chunk)
                advance(len(chunk))
            if size != pack.size:
                raise _unlike(pack, f"is {size} bytes long, not {pack.size}")
            if digest.hexdigest() != pack.sha256:
                raise _unlike(
                    pack,
                    f"has the digest {digest.hexdigest()[:16]}…, "
                    f"the manifest says {pack.sha256[:16]}…",
                )
    except OSError as exc:
        if exc.errno in NO_ROOM:
            raise SpoolFull(
                f"'{destination.parent}' has no room for '{pack.path}'",
                "free or add space there, then retry",
            ) from exc
        raise PermanentError(
            f"'{destination}' cannot be written: {exc.strerror}", "look at the spool's disk"
        ) from exc


def _unlike(pack: StoredFile, how: str) -> DigestMismatch:
    return DigestMismatch(
        f"'{pack.path}' {how}",
        "the stored file was changed or damaged; verify the target and restore it from the copy",
    )

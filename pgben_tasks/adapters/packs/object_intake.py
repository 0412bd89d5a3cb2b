"""What is decided about one object's bytes on their way into a pack. No file is touched here."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from typing import Final

import zstandard

from pgben_tasks.domain.packing import TAR_BLOCK
from pgben_tasks.errors import IntegrityError

#: So much of an object's beginning tells whether it compresses, in bytes.
SAMPLE: Final = 64 * 1024
#: What does not get smaller than this share is stored as it is.
_WORTH: Final = 0.95
_SAMPLE_LEVEL: Final = 1


class _Compressors(threading.local):
    """A compressor for each thread: it is dear to make, and not to be shared."""

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

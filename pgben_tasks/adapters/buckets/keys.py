"""Which keys can be asked for at all. No requests here."""

from __future__ import annotations

from typing import Final

from pgben_tasks.errors import ObjectRefused

MAX_KEY_BYTES: Final = 1024


def require_key(key: str) -> str:
    """Return the key back; raises ``ObjectRefused`` for one that no object can have.

    An empty one would mean the bucket itself, in a deletion too.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError as exc:
        raise ObjectRefused(f"{key!r} is not a key of an object: it is not UTF-8") from exc
    if not 0 < size <= MAX_KEY_BYTES:
        raise ObjectRefused(
            f"'{key}' is not a key of an object", f"keys have 1 to {MAX_KEY_BYTES} bytes"
        )
    return key

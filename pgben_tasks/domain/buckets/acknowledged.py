"""Single keys that somebody acknowledged as lost, in signed statements. Pure.

Statements are stored in the clear and keys may be personal data, so a key stands there by its
SHA-256 only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from pgben_tasks.domain.documents import Verification

_REASON: Final = re.compile(r"key sha256:([0-9a-f]{64})")
_TELLING: Final = frozenset({"acknowledged_keys", "acknowledgement"})


def digest_of(key: str) -> str:
    """Return the name of a key in statements."""
    return hashlib.sha256(key.encode()).hexdigest()


def reasons_of(digests: Iterable[str]) -> tuple[str, ...]:
    """Return the reasons of a statement that name the keys it is about."""
    return tuple(f"key sha256:{digest}" for digest in sorted(digests))


def keys_in(statements: Iterable[Verification]) -> frozenset[str]:
    """Return the digests of all keys that statements acknowledge."""
    return frozenset(
        found[1]
        for one in statements
        if one.kind in _TELLING
        for reason in one.reasons
        if (found := _REASON.fullmatch(reason))
    )

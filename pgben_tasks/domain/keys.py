"""Which keys every store takes. Light, because settings ask it too."""

from __future__ import annotations

import re
from typing import Final

from pgben_tasks.errors import PermanentError

#: The one rule for keys that every store checks, although keys are made from checked names: a key
#: that breaks it never reaches a file system or a server.
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_MAX_SEGMENT: Final = 200


def check_key(key: str) -> str:
    """Return ``key`` when every segment is safe; raise ``PermanentError`` otherwise."""
    if not all(_SEGMENT.fullmatch(part) and len(part) <= _MAX_SEGMENT for part in key.split("/")):
        raise PermanentError(
            f"the key {key[:200]!r} is none that pgben makes",
            "keys are '/'-joined names of letters, digits, '_', '-' and '.'",
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` when it is empty or begins safe keys; raise ``PermanentError`` else."""
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix

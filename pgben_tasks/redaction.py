"""What a secret looks like, and how text is shown without it.

Used wherever text reaches people: logs, error messages, ``pgben config``. Pure, light to import.
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "••••"

#: Words of a snake-case name, and longer ones wherever they stand.
_NAME: Final = re.compile(
    r"(?:^|[_.-])(?:pass|pw|pwd|secret|token|identity|identities|credentials?|auth|cookie|dsn)"
    r"(?:$|[_.-])|password|passwd|passphrase|secret_?key|access_?key|private_?key|api_?key"
    r"|authorization",
    re.IGNORECASE,
)

_AGE_KEY: Final = re.compile(r"AGE-SECRET-KEY-[0-9A-Z-]*", re.IGNORECASE)

#: From the first colon of the user information to the last at sign of the word: a password may
#: itself hold at signs and slashes, and hiding too much does no harm.
_URL_PASSWORD: Final = re.compile(r"(?P<user>\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)\S*@", re.IGNORECASE)
_ASSIGNMENT: Final = re.compile(
    r"(?P<name>\b(?:pgpassword|password|passwd|secret(?:_?key)?|token|access_?key)\s*[=:]\s*)"
    r"(?:'[^']*'|\"[^\"]*\"|[^\s,;&'\"]+)",
    re.IGNORECASE,
)


def names_a_secret(name: str) -> bool:
    """Return whether a field of this name must not be shown."""
    return _NAME.search(name) is not None


def redact(text: str) -> str:
    """Hide what looks like a secret inside ``text``: keys of age, passwords in URLs and options."""
    text = _AGE_KEY.sub(HIDDEN, text)
    text = _URL_PASSWORD.sub(rf"\g<user>{HIDDEN}@", text)
    return _ASSIGNMENT.sub(rf"\g<name>{HIDDEN}", text)

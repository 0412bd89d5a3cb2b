"""Public keys of age, checked to the last letter without a library of cryptography (BIP 173)."""

from __future__ import annotations

import re
from functools import reduce
from typing import Final

_PREFIX: Final = "age"
_SHAPE: Final = re.compile(r"age1[0-9a-z]+")
#: The letters of bech32 in the order of their values; a `1` separates the prefix from them.
_LETTERS: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
#: The 32 bytes of an X25519 key in letters of 5 bits, and the letters of the checksum.
_KEY_LETTERS: Final = 52
_CHECKSUM_LETTERS: Final = 6
#: What the last letter of a key has beyond its 256 bits, which must be zero.
_PADDING: Final = 0b1111


def check_recipients(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values when each is a public X25519 key of age; raise ``ValueError`` else.

    The message repeats none of them, since one may be a secret in the wrong place.
    """
    if any("AGE-SECRET-KEY-" in value.upper() for value in values):
        message = (
            "holds a secret key, which must never be here: put the public key ('age1…') in its "
            "place, and treat the secret key as known to others"
        )
        raise ValueError(message)
    for number, value in enumerate(values, start=1):
        # A second `1` names a plugin: those keys can be sealed to by the plugin alone.
        if not _SHAPE.fullmatch(value) or value.count("1") > 1:
            message = "must be public keys of age ('age1…'), separated by commas"
            raise ValueError(message)
        if not _is_key(value):
            raise ValueError(
                f"has a mistyped public key, number {number} of {len(values)}: copy it anew, as "
                "`pgben init` printed it"
            )
    return values


def _is_key(text: str) -> bool:
    letters = text.removeprefix(f"{_PREFIX}1")
    data = [_LETTERS.find(letter) for letter in letters]
    return (
        len(data) == _KEY_LETTERS + _CHECKSUM_LETTERS
        and min(data) >= 0
        and not data[_KEY_LETTERS - 1] & _PADDING
        and _remainder([*_expanded_prefix(), *data]) == 1
    )


def _expanded_prefix() -> tuple[int, ...]:
    codes = _PREFIX.encode()
    return (*(code >> 5 for code in codes), 0, *(code & 31 for code in codes))


def _remainder(values: list[int]) -> int:
    """Divide by the polynomial of bech32's checksum; 1 remains of a text that was copied right."""

    def step(remainder: int, value: int) -> int:
        top = remainder >> 25
        mixed = (remainder & 0x1FFFFFF) << 5 ^ value
        return mixed ^ reduce(
            lambda sum_, bit: sum_ ^ (_GENERATORS[bit] if top >> bit & 1 else 0), range(5), 0
        )

    return reduce(step, values, 1)

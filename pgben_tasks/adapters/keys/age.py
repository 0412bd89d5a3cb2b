"""age keys: who a pack is sealed to, and who opens it. Light, because the pack child imports it.

Nothing here ever repeats a key that may be secret, neither in an error nor in a log.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pyrage

from pgben_tasks.adapters.keys.secrets import read_secret
from pgben_tasks.errors import ConfigurationError

SECRET_PREFIX: Final = "AGE-SECRET-KEY-"  # noqa: S105  # what secrets begin with, not one
_PUBLIC_PREFIX: Final = "age1"


def parse_recipients(values: Iterable[str]) -> tuple[str, ...]:
    """Return the recipients, each checked, each once, in the order given.

    Raises ``ConfigurationError`` for anything but public X25519 keys (``age1…``); a value that
    is not shaped like one is not repeated, since it may be a secret.
    """
    recipients: list[str] = []
    for position, value in enumerate(values, start=1):
        recipient = value.strip()
        if SECRET_PREFIX in recipient.upper():
            raise ConfigurationError(
                f"recipient {position} is a secret key; it is not shown here",
                "give the public key (age1…) and replace the secret one: it may be in logs now",
            )
        try:
            pyrage.x25519.Recipient.from_str(recipient)
        except pyrage.RecipientError as exc:
            shown = f" '{recipient}'" if recipient.startswith(_PUBLIC_PREFIX) else ""
            raise ConfigurationError(
                f"recipient {position}{shown} is not a public age key",
                "public keys begin with 'age1'; `pgben init` prints them on the recovery card",
            ) from exc
        if recipient not in recipients:
            recipients.append(recipient)
    return tuple(recipients)


def load_identities(path: Path) -> list[pyrage.x25519.Identity]:
    """Read an identity file as ``age-keygen`` writes it: comments, one secret key a line.

    Raises ``ConfigurationError`` when it is absent, open to others, or holds anything else.
    """
    return parse_identities(read_secret(path, what="identity file"), str(path))


def parse_identities(text: str, name: str) -> list[pyrage.x25519.Identity]:
    """Read the text of the identity file ``name``; errors never repeat it.

    Raises ``ConfigurationError`` when it holds anything but identities and comments.
    """
    identities = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            identities.append(pyrage.x25519.Identity.from_str(line))
        except pyrage.IdentityError:
            # The vendor's error is dropped on purpose: it may repeat the line.
            raise ConfigurationError(
                f"line {number} of the identity file '{name}' is not an age identity",
                f"identities begin with '{SECRET_PREFIX}'; comments begin with '#'",
            ) from None
    if not identities:
        raise ConfigurationError(
            f"the identity file '{name}' holds no identity",
            f"it needs a line that begins with '{SECRET_PREFIX}'",
        )
    return identities


def public_keys(path: Path) -> tuple[str, ...]:
    """Return the public keys of the identities in a file: what may open what they seal."""
    return public_halves(load_identities(path))


def public_halves(identities: Iterable[pyrage.x25519.Identity]) -> tuple[str, ...]:
    """Return the public keys of identities."""
    return tuple(str(identity.to_public()) for identity in identities)

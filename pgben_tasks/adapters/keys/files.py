"""Making the key files of an installation. Nothing here replaces a file that exists."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyrage
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pgben_tasks.adapters.keys.signatures import fingerprint
from pgben_tasks.domain.documents import TrustedKey, TrustedKeys
from pgben_tasks.errors import ConfigurationError, RequestRefused
from pgben_tasks.files.durable import FOLDER_MODE, NO_ROOM, durable_file
from pgben_tasks.ports import SigningRole


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeKeyPair:
    """What may be shown of a new age identity: where it is and its public key."""

    path: Path
    public: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyPair:
    """What may be shown of a new signing key: where it is and the public half."""

    path: Path
    public: bytes

    @property
    def fingerprint(self) -> str:
        """The SHA-256 (hex) of the public key, for the recovery card."""
        return fingerprint(self.public)


def make_age_identity(path: Path, *, now: datetime) -> AgeKeyPair:
    """Make an age identity file (0600) in the form that ``age-keygen`` writes."""
    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    write_new_file(path, f"# created: {now.isoformat()}\n# public key: {public}\n{identity}\n")
    return AgeKeyPair(path=path, public=public)


def make_signing_key(path: Path) -> SigningKeyPair:
    """Make an Ed25519 key file (PKCS8 PEM, 0600)."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_new_file(path, pem.decode("ascii"))
    return SigningKeyPair(path=path, public=key.public_key().public_bytes_raw())


def trusted_key(name: str, roles: Sequence[SigningRole], public: bytes) -> TrustedKey:
    """Describe a public key for the trusted keys file."""
    return TrustedKey(
        name=name,
        roles=tuple(roles),
        public=base64.b64encode(public).decode("ascii"),
        fingerprint=fingerprint(public),
    )


def write_trusted_keys(path: Path, keys: Sequence[TrustedKey]) -> None:
    """Write the trusted keys file; it holds nothing secret, but decides what is believed."""
    content = TrustedKeys(keys=tuple(keys)).model_dump(mode="json")
    write_new_file(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def write_new_file(path: Path, text: str) -> None:
    """Write a new text file, mode 0600, whole or not at all.

    Raises ``RequestRefused`` when the file exists and ``ConfigurationError`` when it cannot be
    written.
    """
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with durable_file(path, replace=False) as file:
            file.write(text.encode())
    except FileExistsError as exc:
        raise RequestRefused(
            f"'{path}' exists already and is not replaced",
            "move it away first if it is really no longer needed: backups sealed to a lost key "
            "cannot be opened",
        ) from exc
    except OSError as exc:
        reason = "no room left" if exc.errno in NO_ROOM else os.strerror(exc.errno or 0)
        raise ConfigurationError(
            f"'{path}' cannot be written: {reason}", "choose another folder, or its owner and mode"
        ) from exc

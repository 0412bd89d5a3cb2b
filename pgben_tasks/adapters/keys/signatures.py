"""Ed25519 signatures over documents: who may sign what, and whose signatures are believed.

A signature covers a prefix with the document's kind, repository and path besides its bytes, so a
document that was moved elsewhere is forged. Sealing lives in ``age`` and ``adapters.packs``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import ValidationError

from pgben_tasks.adapters.keys.secrets import read_secret, read_trusted
from pgben_tasks.domain.documents import Signature, TrustedKey, TrustedKeys
from pgben_tasks.domain.faults import of_document
from pgben_tasks.errors import ConfigurationError, SignatureInvalid
from pgben_tasks.ports import SigningRole

DocumentKind = Literal["manifest", "verification", "audit", "recovery-point"]

_DOMAIN: Final = "pgben-signature-v1"
_KEY_BYTES: Final = 32


class Signer:
    """A private signing key. Its roles are those that the trusted keys file gives it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Sign with ``key``, which no method returns."""
        self._key = key
        self.fingerprint = fingerprint(key.public_key().public_bytes_raw())

    @classmethod
    def load(cls, path: Path) -> Signer:
        """Read an unencrypted PKCS8 PEM file; raise ``ConfigurationError`` when it is none."""
        pem = read_secret(path, what="signing key file")
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError) as exc:
            raise ConfigurationError(
                f"the signing key file '{path}' is not an unencrypted private key in PEM form",
                "name the key that `pgben init` made, signing-key.pem or that of the role",
            ) from exc
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationError(
                f"the signing key file '{path}' holds no Ed25519 key",
                "name the key that `pgben init` made, signing-key.pem or that of the role",
            )
        return cls(key)

    def sign(
        self, data: bytes, *, role: SigningRole, kind: DocumentKind, repository: str, path: str
    ) -> Signature:
        """Sign a document as it will stand under ``path`` of ``repository``."""
        payload = signing_payload(data, role=role, kind=kind, repository=repository, path=path)
        value = base64.b64encode(self._key.sign(payload)).decode("ascii")
        return Signature(role=role, key=self.fingerprint, signature=value)


class Trust:
    """The public keys that are believed, by role."""

    def __init__(self, keys: TrustedKeys) -> None:
        """Check every key; raise ``ConfigurationError`` for one that is malformed or doubled."""
        self._keys: dict[str, tuple[TrustedKey, Ed25519PublicKey]] = {}
        for key in keys.keys:
            raw = _raw_public(key)
            if key.fingerprint in self._keys:
                raise _untrustworthy(f"the key '{key.name}' is listed twice")
            self._keys[key.fingerprint] = (key, Ed25519PublicKey.from_public_bytes(raw))

    @classmethod
    def load(cls, path: Path) -> Trust:
        """Read the trusted keys file; raise ``ConfigurationError`` for any fault in it."""
        text = read_trusted(path, what="trusted keys file")
        try:
            raw = json.loads(text, object_pairs_hook=_without_doubles)
            keys = TrustedKeys.model_validate_json(json.dumps(raw))
        except ValidationError as exc:
            first = exc.errors(include_input=False, include_url=False)[0]
            raise _untrustworthy(f"'{path}': {of_document(first)}") from exc
        except (ValueError, RecursionError) as exc:
            raise _untrustworthy(f"'{path}' is not JSON") from exc
        return cls(keys)

    @property
    def keys(self) -> tuple[TrustedKey, ...]:
        """Every key that is believed."""
        return tuple(key for key, _ in self._keys.values())

    def roles(self, key_fingerprint: str) -> frozenset[SigningRole]:
        """Return the roles of a key; none for one that is not trusted."""
        found = self._keys.get(key_fingerprint)
        return frozenset(found[0].roles) if found else frozenset()

    def check(
        self,
        data: bytes,
        signature: Signature,
        *,
        roles: tuple[SigningRole, ...],
        kind: DocumentKind,
        repository: str,
        path: str,
    ) -> None:
        """Raise ``SignatureInvalid`` unless a trusted key signed ``data`` in one of ``roles``."""
        found = self._keys.get(signature.key)
        if found is None:
            raise SignatureInvalid(
                f"'{path}' is signed by the key {signature.key[:16]}…, which is not trusted",
                "compare the key with the recovery card before adding it to the trusted keys file",
            )
        key, public = found
        if signature.role not in key.roles:
            raise SignatureInvalid(
                f"'{path}' is signed as '{signature.role}' by the key '{key.name}', which may not",
                "the trusted keys file gives the roles of every key",
            )
        if signature.role not in roles:
            raise SignatureInvalid(
                f"'{path}' is signed as '{signature.role}', which may not sign such a document",
                "find out who wrote it; treat the backup as forged",
            )
        payload = signing_payload(
            data, role=signature.role, kind=kind, repository=repository, path=path
        )
        try:
            public.verify(base64.b64decode(signature.signature), payload)
        except InvalidSignature as exc:
            raise SignatureInvalid(
                f"the signature of '{path}' does not fit its bytes",
                "the document was changed, damaged or moved; restore it from the copy",
            ) from exc


def fingerprint(raw: bytes) -> str:
    """Return the SHA-256 (hex) of a raw public key: what people compare."""
    return hashlib.sha256(raw).hexdigest()


def signing_payload(
    data: bytes, *, role: SigningRole, kind: DocumentKind, repository: str, path: str
) -> bytes:
    """Return the bytes that a signature covers: five lines that say what this is, then ``data``."""
    lines = (_DOMAIN, kind, repository, path, role)
    if any("\n" in line for line in lines):
        # Two different documents could otherwise have one payload.
        raise SignatureInvalid(
            "a repository id or path with a line break cannot be signed",
            "the repository was not made by pgben",
        )
    return "".join(f"{line}\n" for line in lines).encode() + data


def _raw_public(key: TrustedKey) -> bytes:
    try:
        raw = base64.b64decode(key.public, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise _untrustworthy(f"the key '{key.name}' is not base64") from exc
    if len(raw) != _KEY_BYTES:
        raise _untrustworthy(f"the key '{key.name}' is {len(raw)} bytes long, not {_KEY_BYTES}")
    if fingerprint(raw) != key.fingerprint:
        raise _untrustworthy(f"the fingerprint of the key '{key.name}' does not fit it")
    return raw


def _untrustworthy(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the trusted keys file is not valid: {what}",
        "take the file that `pgben init` wrote; docs/format.md describes it",
    )


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a name stands twice in one object"
        raise ValueError(message)
    return found

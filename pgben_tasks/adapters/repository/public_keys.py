"""The public keys of an installation in its repository: stored once, believed by fingerprint only.

Whoever can write to a repository can store such a document there. Nothing in daily work takes keys
from one: what counts are the trusted keys of the settings. Where those are lost, the fingerprint
that a person types from the recovery card decides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from pgben_tasks.adapters.keys.age import parse_recipients
from pgben_tasks.adapters.keys.signatures import Trust
from pgben_tasks.adapters.repository.card import read_card
from pgben_tasks.adapters.repository.documents import put_once
from pgben_tasks.domain import layout
from pgben_tasks.domain.documents import PublicKeys, TrustedKey
from pgben_tasks.errors import (
    ConfigurationError,
    DigestMismatch,
    IntegrityError,
    ManifestInvalid,
    ObjectMissing,
)
from pgben_tasks.ports import ObjectStore

#: Hundreds of keys take less, in bytes.
LIMIT: Final = 64 * 1024
_DIGITS: Final = 64
_HEX_DIGIT: Final = re.compile("[0-9a-f]")


def describe_public_keys(
    repository: str, trusted: Iterable[TrustedKey], recipients: Mapping[str, str]
) -> PublicKeys:
    """Return the document of these keys; the same keys in any order give the same bytes."""
    sorted_roles = (
        key.model_copy(update={"roles": tuple(sorted(set(key.roles)))}) for key in trusted
    )
    return PublicKeys(
        repository=repository,
        keys=tuple(sorted(sorted_roles, key=lambda key: key.fingerprint)),
        recipients=dict(recipients),
    )


def store_public_keys(store: ObjectStore, document: PublicKeys) -> bool:
    """Store a document of public keys unless it is there; return whether it was stored now.

    Nothing is ever replaced. Raises ``DigestMismatch`` when something else stands in its place.
    """
    path = layout.public_keys_path(document.fingerprint)
    try:
        _read(store, path)
    except ObjectMissing:
        put_once(store, path, document.encode())
        _read(store, path)
        return True
    return False


def is_unchanged(store: ObjectStore, path: str) -> bool:
    """Return whether a document of public keys has the bytes that its name says."""
    try:
        _read(store, path)
    except IntegrityError:
        return False
    return True


def trusted_from_repository(store: ObjectStore, fingerprint: str) -> PublicKeys:
    """Return the public keys with this fingerprint, which comes from the recovery card.

    Space and upper case in ``fingerprint`` mean nothing. All of the document is believed or
    nothing: raises ``ConfigurationError`` when the fingerprint is none, the store holds no
    repository or none with these keys; ``IntegrityError`` when the document is damaged, has
    another fingerprint, does not follow the format, or belongs to another repository.
    """
    typed = _parse_fingerprint(fingerprint)
    card = read_card(store)
    path = layout.public_keys_path(typed)
    try:
        data = _read(store, path)
    except ObjectMissing as exc:
        raise ConfigurationError(
            f"'{store.describe()}' has no public keys with the fingerprint '{typed[:8]}…'",
            "compare every group with the newest recovery card; one that shows no such fingerprint "
            "was printed before the keys were stored, and trusted-keys.json is needed",
        ) from exc
    document = PublicKeys.decode(data, where=path)
    try:
        Trust(document.trusted)
        parse_recipients(document.recipients.values())
    except ConfigurationError as exc:
        raise ManifestInvalid(
            f"'{path}' is not valid: it holds a key that is none",
            "use the trusted-keys.json that was kept elsewhere",
        ) from exc
    if document.repository != card.repository:
        raise IntegrityError(
            f"'{path}' belongs to the repository '{document.repository}', and "
            f"'{layout.REPOSITORY_CARD}' says '{card.repository}'",
            "the recovery card has the right id; one of the two files was brought here from "
            "another repository",
        )
    return document


def _parse_fingerprint(text: str) -> str:
    """Return a typed fingerprint as it is written in names."""
    typed = "".join(text.split()).lower()
    digits = len(_HEX_DIGIT.findall(typed))
    if (digits, len(typed)) != (_DIGITS, _DIGITS):
        raise ConfigurationError(
            f"a fingerprint has {_DIGITS} digits from 0 to 9 and a to f; what was given has "
            f"{digits} of them and {len(typed) - digits} other characters",
            "type all 16 groups of the recovery card, one after the other",
        )
    return typed


def _read(store: ObjectStore, path: str) -> bytes:
    """Return the bytes of the document at ``path``, which names their digest."""
    try:
        data = store.get(path, limit=LIMIT)
    except IntegrityError as exc:
        raise _changed(path) from exc
    if layout.public_keys_path(hashlib.sha256(data).hexdigest()) != path:
        raise _changed(path)
    return data


def _changed(path: str) -> DigestMismatch:
    return DigestMismatch(
        f"'{path}' is not the document that its name says",
        "it was changed or damaged, so none of its keys is believed: restore it from the copy of "
        "the repository, or remove it and run `pgben init` where the keys are",
    )

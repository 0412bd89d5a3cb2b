"""The public keys in a repository: believed whole, by the fingerprint that a person types."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.adapters.keys.files import trusted_key
from pgben_tasks.adapters.keys.signatures import Trust
from pgben_tasks.adapters.repository.public_keys import (
    LIMIT,
    describe_public_keys,
    store_public_keys,
    trusted_from_repository,
)
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.domain.documents import PublicKeys, RepositoryCard, TrustedKey
from pgben_tasks.domain.values import canonical
from pgben_tasks.errors import ConfigurationError, DigestMismatch, IntegrityError, ManifestInvalid
from pgben_tasks.setup.recovery_card import grouped
from tests.support import samples
from tests.support.memory_store import MemoryObjectStore
from tests.support.samples import REPOSITORY, START

RECIPIENTS = {"operations": samples.RECIPIENT}


def keys_of(*names: str) -> list[TrustedKey]:
    """Return a key for each name, with other roles from one to the next."""
    roles = [samples.ALL_ROLES, ("verify", "backup")]
    return [
        trusted_key(name, roles[number % 2], hashlib.sha256(name.encode()).digest())
        for number, name in enumerate(names)
    ]


def document(**fields: Any) -> PublicKeys:
    described = describe_public_keys(REPOSITORY, keys_of("all", "of before"), RECIPIENTS)
    return described.model_copy(update=fields)


@pytest.fixture
def store() -> MemoryObjectStore:
    """Return a store with a repository and its public keys."""
    return a_store()


def a_store() -> MemoryObjectStore:
    made = MemoryObjectStore()
    _, trust = samples.keyring()
    StoreRepository.create(made, REPOSITORY, START, signer=None, trust=trust)
    store_public_keys(made, document())
    return made


def put_under_its_fingerprint(store: MemoryObjectStore, data: bytes) -> str:
    """Store what somebody took for public keys; return the fingerprint that leads there."""
    fingerprint = samples.sha256(data)
    store.put(f"keys/{fingerprint}.json", data)
    return fingerprint


def test_the_same_keys_have_one_fingerprint_which_is_the_digest_of_the_file() -> None:
    keys = keys_of("one", "two", "three")
    first = describe_public_keys(REPOSITORY, keys, {"operations": "age1a", "escrow": "age1b"})
    turned = [
        key.model_copy(update={"roles": tuple(reversed(key.roles))}) for key in reversed(keys)
    ]
    again = describe_public_keys(REPOSITORY, turned, {"escrow": "age1b", "operations": "age1a"})
    assert again.encode() == first.encode()
    assert first.fingerprint == hashlib.sha256(first.encode()).hexdigest()
    others = (
        describe_public_keys("another-repository", keys, first.recipients),
        describe_public_keys(REPOSITORY, keys[1:], first.recipients),
        describe_public_keys(REPOSITORY, keys, {"operations": "age1a"}),
    )
    assert len({one.fingerprint for one in (first, *others)}) == 4


@pytest.mark.parametrize(
    "typed",
    [
        str,
        str.upper,
        lambda text: grouped(text, 4),
        lambda text: f"\t{grouped(text, 4).upper()} \n",
        lambda text: "\n".join((text[:32], text[32:])),
    ],
)
def test_a_fingerprint_is_believed_as_people_type_it(
    store: MemoryObjectStore, typed: Callable[[str], str]
) -> None:
    wanted = document()
    found = trusted_from_repository(store, typed(wanted.fingerprint))
    assert found == wanted
    assert found.recipients == RECIPIENTS
    trust = Trust(found.trusted)
    for key in keys_of("all", "of before"):
        assert trust.roles(key.fingerprint) == set(key.roles)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "has 0 of them and 0 other characters"),
        ("0" * 63, "has 63 of them and 0 other characters"),
        ("0" * 65, "has 65 of them and 0 other characters"),
        ("O" + "0" * 63, "has 63 of them and 1 other characters"),
        ("../" + "0" * 64, "has 64 of them and 3 other characters"),
        ("²" + "0" * 63, "has 63 of them and 1 other characters"),
    ],
)
def test_what_is_no_fingerprint_is_said_so(store: MemoryObjectStore, typed: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as raised:
        trusted_from_repository(store, typed)
    assert "16 groups" in raised.value.hint


@given(place=st.integers(0, 63), digit=st.sampled_from("0123456789abcdef"))
def test_any_mistyped_digit_leads_to_no_keys(place: int, digit: str) -> None:
    right = document().fingerprint
    typed = right[:place] + digit + right[place + 1 :]
    if typed == right:
        assert trusted_from_repository(a_store(), typed) == document()
        return
    with pytest.raises(ConfigurationError, match="no public keys with the fingerprint") as raised:
        trusted_from_repository(a_store(), typed)
    assert "recovery card" in raised.value.hint


def test_without_a_repository_there_is_nothing_to_believe() -> None:
    with pytest.raises(ConfigurationError, match="there is no repository at"):
        trusted_from_repository(MemoryObjectStore(), document().fingerprint)


@given(place=st.integers(0, len(document().encode()) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(place: int, bit: int) -> None:
    store, wanted = a_store(), document()
    path = f"keys/{wanted.fingerprint}.json"
    data = wanted.encode()
    store.delete(path)
    store.put(path, data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
    with pytest.raises(DigestMismatch, match="not the document that its name says") as raised:
        trusted_from_repository(store, wanted.fingerprint)
    assert "none of its keys is believed" in raised.value.hint


def test_a_document_that_is_too_large_is_not_read(store: MemoryObjectStore) -> None:
    roomy = {f"{number}": samples.RECIPIENT for number in range(LIMIT // 60)}
    typed = put_under_its_fingerprint(store, document(recipients=roomy).encode())
    with pytest.raises(DigestMismatch, match="not the document that its name says"):
        trusted_from_repository(store, typed)


def changed(**fields: Any) -> bytes:
    return canonical(document().values() | fields)


def changed_key(**fields: Any) -> bytes:
    first, *rest = document().values()["keys"]
    return changed(keys=[first | fields, *rest])


SECRET = "AGE-SECRET-KEY-1" + "Q" * 58


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is not JSON"),
        (b"[]\n", "not a JSON object"),
        (json.dumps(document().values()).encode(), "not in canonical form"),
        (changed(format=2), "its format is 2"),
        (changed(more=1), "more is not known"),
        (changed(keys=[]), "keys must not be empty"),
        (changed(recipients=None), "recipients must be a set"),
        (changed_key(more=1), "is not known"),
        (changed_key(roles=["owner"]), "roles"),
        (changed_key(public="AAAA"), "holds a key that is none"),
        (changed_key(fingerprint="0" * 64), "holds a key that is none"),
        (changed(keys=[document().values()["keys"][0]] * 2), "holds a key that is none"),
        (changed(recipients={"operations": "age1x"}), "holds a key that is none"),
        (changed(recipients={"operations": SECRET}), "holds a key that is none"),
    ],
)
def test_a_faulty_document_is_refused_although_its_fingerprint_is_right(
    store: MemoryObjectStore, data: bytes, why: str
) -> None:
    typed = put_under_its_fingerprint(store, data)
    with pytest.raises(ManifestInvalid, match=why) as raised:
        trusted_from_repository(store, typed)
    assert SECRET not in str(raised.value)


def test_the_keys_of_another_repository_are_refused(store: MemoryObjectStore) -> None:
    wanted = document()
    store.delete("repository.json")
    store.put("repository.json", RepositoryCard(repository="another-one", created=START).encode())
    with pytest.raises(IntegrityError, match="belongs to the repository") as raised:
        trusted_from_repository(store, wanted.fingerprint)
    assert "the recovery card has the right id" in raised.value.hint


def test_nothing_in_the_place_of_public_keys_is_replaced(store: MemoryObjectStore) -> None:
    wanted = document()
    path = f"keys/{wanted.fingerprint}.json"
    assert not store_public_keys(store, wanted)
    store.delete(path)
    store.put(path, b"something else")
    with pytest.raises(DigestMismatch, match="not the document that its name says") as raised:
        store_public_keys(store, wanted)
    assert "`pgben init`" in raised.value.hint
    assert store.get(path, limit=LIMIT) == b"something else"

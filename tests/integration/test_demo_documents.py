"""The demo's documents: they are what the database knows, and no change of them goes unseen."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from pgben_tasks.embedded.data import documents
from pgben_tasks.embedded.data.compare import (
    Opened,
    bucket_contents,
    bucket_difference,
    open_documents,
)
from pgben_tasks.embedded.data.documents import (
    RANSOM_NOTE,
    BucketClient,
    Cipher,
    DocumentSummary,
    Known,
    StoredObject,
    known,
)
from pgben_tasks.embedded.data.fill import fill
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.s3 import EmbeddedS3


@dataclass(frozen=True)
class Filled:
    client: BucketClient
    cipher: Cipher
    summary: DocumentSummary
    known: dict[str, Known]
    before: dict[str, StoredObject]


@pytest.fixture
def filled(protected_s3: EmbeddedS3, postgres: EmbeddedPostgres, fresh_database: str) -> Filled:
    fill(postgres.dsn(), database=fresh_database, megabytes=1)
    client = BucketClient(protected_s3, f"documents-{secrets.token_hex(6)}")
    protected_s3.make_bucket(client.bucket)
    cipher = Cipher()
    summary = documents.store(
        postgres.dsn(), database=fresh_database, client=client, cipher=cipher, most=40
    )
    before = bucket_contents(client)
    rows = known(postgres.dsn(), fresh_database, sorted(before))
    return Filled(client, cipher, summary, rows, before)


def test_every_document_opens_and_is_what_the_database_knows(filled: Filled) -> None:
    found, summary = filled.before, filled.summary
    objects = len(found)
    assert (summary.objects, summary.documents) == (objects, len(filled.known))
    assert 0 < summary.documents < objects
    thumbnails = sorted(found.keys() - filled.known.keys())
    assert all(key.startswith("thumbnails/") for key in thumbnails)
    assert all("/solicitacoes/" in key for key in filled.known)
    assert open_documents(found, filled.cipher, filled.known) == Opened(
        objects=objects, open=objects, as_in_database=summary.documents
    )
    assert open_documents(found, Cipher(), filled.known).open == 0
    assert len({stored.metadata["iv"] for stored in found.values()}) == objects
    assert any(not stored.metadata["original-name"].isascii() for stored in found.values())
    assert {bool(stored.tags) for stored in found.values()} == {True, False}


CHANGES: dict[str, Callable[[StoredObject], StoredObject]] = {
    "a byte": lambda one: replace(one, data=bytes([one.data[0] ^ 1]) + one.data[1:]),
    "a header": lambda one: replace(one, headers={**one.headers, "cache-control": "public"}),
    "metadata": lambda one: replace(one, metadata={**one.metadata, "iv": "00" * 12}),
    "no metadata": lambda one: replace(one, metadata={}),
    "another hash": lambda one: replace(one, metadata={**one.metadata, "hash": "00" * 32}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_one_change_is_seen(filled: Filled, what: str) -> None:
    key = sorted(filled.known)[3]
    filled.client.put(key, CHANGES[what](filled.before[key]))

    now = bucket_contents(filled.client)
    found = bucket_difference(filled.before, now)
    assert (found.missing, found.extra, found.differing) == ((), (), (key,))
    lost = int(what != "a header")
    count = open_documents(now, filled.cipher, filled.known)
    assert count.open == len(filled.before) - lost
    assert count.as_in_database == len(filled.known) - lost


def test_the_damage_is_found_object_for_object(filled: Filled) -> None:
    done = documents.damage(filled.client)

    now = bucket_contents(filled.client)
    found = bucket_difference(filled.before, now)
    assert found.extra == (RANSOM_NOTE,)
    assert len(found.missing) == done.deleted > 0
    assert len(found.differing) == done.overwritten + done.retagged
    assert done.overwritten > 1
    count = open_documents(now, filled.cipher, filled.known)
    assert count.open == len(filled.before) - done.deleted - done.overwritten
    assert count.as_in_database < len(filled.known)

"""Claims about acknowledged keys: named by their digests, in statements of two kinds only."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from pgben_tasks.contracts import MOST_KEYS, AcknowledgeRequest
from pgben_tasks.domain.buckets.acknowledged import digest_of, keys_in, reasons_of
from pgben_tasks.domain.documents import StatementKind, Verification
from pgben_tasks.errors import RequestRefused

BUCKET = "bucket/documentos"
BACKUP = "20261123T050000Z-1f0c9a"


def statement(kind: StatementKind, *reasons: str) -> Verification:
    return Verification(
        repository="r",
        target=BUCKET,
        backup=BACKUP,
        id="20261124T050000Z-1f0c9a",
        kind=kind,
        job="j",
        at=datetime(2026, 11, 24, tzinfo=UTC),
        opened=False,
        packs_checked=0,
        bytes_read=0,
        manifest=None,
        findings=(),
        reasons=reasons,
    )


def test_keys_are_found_by_their_digests_in_acknowledgements_only() -> None:
    lost, other = digest_of("a/\u00e9"), digest_of("b")
    assert lost == hashlib.sha256("a/\u00e9".encode()).hexdigest()
    told = [
        statement("acknowledged_keys", "acknowledged by ana", *reasons_of([lost])),
        statement("acknowledgement", *reasons_of([other])),
        statement("hold", *reasons_of([digest_of("c")])),
    ]
    assert keys_in(told) == {lost, other}


def test_a_reason_that_only_looks_like_a_key_is_none() -> None:
    near = (f"key sha256:{'a' * 63}", f"the key sha256:{'a' * 64}", f"key sha256:{'a' * 64} x")
    assert keys_in([statement("acknowledged_keys", *near)]) == set()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"backup": BACKUP, "keys": ["a" * 64]},
        {"keys": ["a key in the clear"]},
        {"target": "postgres/pgben", "keys": ["a" * 64]},
        {"keys": [f"{number:064x}" for number in range(MOST_KEYS + 1)]},
    ],
)
def test_one_backup_or_digests_of_keys_of_a_bucket_can_be_acknowledged(
    fields: dict[str, Any],
) -> None:
    with pytest.raises(RequestRefused):
        AcknowledgeRequest.parse({"target": BUCKET, **fields})

"""Lists for services: pages that end in time, and nothing in them that a request says of people."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.listing import PAGE_BYTES, impersonal, page
from pgben_tasks.redaction import HIDDEN


@given(st.integers(0, 30), st.integers(1, 10))
def test_pages_have_every_document_once(count: int, limit: int) -> None:
    documents = [{"n": number} for number in range(count)]
    seen: list[dict[str, int]] = []
    while True:
        found, more = page(documents[len(seen) :], limit)
        assert len(found) <= limit
        seen += found
        if not more:
            break
        assert len(found) == limit
    assert seen == documents


def test_a_page_of_large_documents_ends_early_and_is_never_empty() -> None:
    large = [{"text": "x" * PAGE_BYTES, "n": number} for number in range(3)]
    assert page(large, 200) == (large[:1], True)
    assert page(large[:1], 200) == (large[:1], False)
    half = [{"text": "x" * (PAGE_BYTES // 2 - 100)}] * 3
    assert page(half, 200) == (half[:2], True)


def test_a_job_that_names_nobody_is_shown_as_it_is() -> None:
    document = {"error": {"sentence": "'docs' is no bucket"}, "result": {"objects": 3}}
    assert impersonal(document, {"target": "bucket/docs", "keys": [], "prefix": ""}) == document


def test_a_short_prefix_is_hidden_between_quotes_and_breaks_no_word() -> None:
    document = {"error": {"sentence": "no object of 'docs' begins with 'o'"}}
    shown = impersonal(document, {"prefix": "o"})
    assert shown["error"]["sentence"] == f"no object of 'docs' begins with '{HIDDEN}'"


@given(
    st.lists(st.text("abc/ã'\\", min_size=4, max_size=30), min_size=1, max_size=4),
    st.text("xyz", min_size=4, max_size=30),
)
def test_no_key_and_no_reason_stays_anywhere(keys: list[str], reason: str) -> None:
    request = {"keys": keys, "reason": reason, "prefix": keys[0][:4]}
    said = [f"1: {key}, 2: {key!r}, 3: {reason}" for key in keys]
    shown = impersonal({"error": {"sentence": said[0]}, "result": {"some": said, "n": 1}}, request)
    for text in (shown["error"]["sentence"], *shown["result"]["some"]):
        assert [secret for secret in (*keys, reason) if secret in text] == []
    assert shown["result"]["n"] == 1
    json.dumps(shown)


@pytest.mark.parametrize("prefix", ["2026-1", "state", "rest", "sentence", "bucket/"])
def test_what_is_no_prose_stays_as_it_is(prefix: str) -> None:
    """Such a prefix is an ordinary one; moments, ids and names of fields are no mention of it."""
    document = {
        "job": "3f0c9a2b-1111-4222-8333-444444444444",
        "kind": "restore",
        "target": "bucket/docs",
        "state": "failed",
        "created_at": "2026-12-01T04:06:21Z",
        "error": {"sentence": f"no object below '{prefix}'", "hint": ""},
        "result": {
            "snapshot_time": "2026-12-01T04:06:21+00:00",
            "backup": "20261201T040621Z-ab12cd",
        },
    }
    shown = impersonal(document, {"prefix": prefix})
    assert shown == {**document, "error": {"sentence": "no object below '••••'", "hint": ""}}

"""Requests to S3 are signed as minio-py signs them, and also where it cannot."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import urlsplit
from xml.parsers.expat import ExpatError

import pytest
from hypothesis import given, strategies as st
from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3

from pgben_tasks.adapters.s3.signing import S3Signer, quoted_path, quoted_query
from pgben_tasks.adapters.s3.xml import read_xml

SIGNER = S3Signer("key", "canary-ooph4Pai", "sa-east-1")
DATE = datetime(2026, 11, 25, 2, 0, tzinfo=UTC)
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@given(
    key=KEYS, query=st.dictionaries(st.sampled_from(["a", "b-c", "uploads"]), PLAIN), value=PLAIN
)
def test_a_request_in_ascii_is_signed_as_by_minio_py(
    key: str, query: dict[str, str], value: str
) -> None:
    target = f"/bucket/{quoted_path(key)}"
    if query:
        target += f"?{quoted_query(query)}"
    headers = {"host": "s3.example:9000", "x-amz-meta-name": value, "content-type": "a/b"}
    ours = SIGNER.signed("PUT", target, headers, body=b"body", date=DATE)
    digest = sha256(b"body").hexdigest()
    theirs = sign_v4_s3(
        method="PUT",
        url=urlsplit(f"https://s3.example:9000{target}"),
        region="sa-east-1",
        headers={**headers, "x-amz-content-sha256": digest, "x-amz-date": "20261125T020000Z"},
        credentials=Credentials("key", "canary-ooph4Pai"),
        content_sha256=digest,
        date=DATE,
    )
    assert ours["authorization"] == theirs["Authorization"]


def test_metadata_is_signed_as_the_bytes_that_are_sent() -> None:
    def signed(value: str) -> str:
        headers = {"host": "s3.example", "x-amz-meta-name": value}
        return SIGNER.signed("PUT", "/b/a", headers, body=b"", date=DATE)["authorization"]

    assert len({signed(value) for value in ("ç", "Ã§", "c")}) == 3


def test_the_secret_is_not_shown() -> None:
    SIGNER.signed("GET", "/", {"host": "s3.example"}, body=b"", date=DATE)
    assert "canary" not in repr(SIGNER)


def test_quoting_leaves_dots_and_slashes_where_they_are() -> None:
    assert quoted_path("/lead//a/../b/./ +%\n") == "/lead//a/../b/./%20%2B%25%0A"


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>',
        b"<!DOCTYPE a><a/>",
        b"<a><b></a>",
        b"<a>",
        b"",
        b"<html>",
    ],
)
def test_answers_with_document_types_or_without_an_end_are_refused(body: bytes) -> None:
    with pytest.raises(ExpatError):
        read_xml(body)


def test_names_lose_their_namespaces() -> None:
    assert read_xml(b'<x:a xmlns:x="urn:x"><x:b>1</x:b></x:a>').findtext("b") == "1"

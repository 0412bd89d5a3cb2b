"""What protected buckets decide without a server: blocks of bytes, headers, sizes of parts."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.adapters.buckets.headers import (
    facts_of,
    headers_of,
    require_key,
    tags_header,
)
from pgben_tasks.adapters.buckets.uploads import blocks, part_size
from pgben_tasks.errors import IntegrityError, PermanentError

CHUNKS = st.lists(st.binary(max_size=20), max_size=10)
MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("date", "just_stored"),
    [
        ("Mon, 23 Nov 2026 05:00:00 GMT", True),
        ("Mon, 23 Nov 2026 04:59:57 GMT", True),
        ("Mon, 23 Nov 2026 05:00:01 GMT", False),
        ("Mon, 23 Nov 2026 04:00:00 GMT", False),
        ("", False),
        ("now", False),
        (None, False),
    ],
)
def test_an_object_is_just_stored_by_the_servers_own_clock(
    date: str | None, just_stored: bool
) -> None:
    headers = {"etag": "e", "content-length": "1", "last-modified": "Mon, 23 Nov 2026 05:00:00 GMT"}
    if date is not None:
        headers["date"] = date
    assert facts_of(headers).just_stored == just_stored


@given(chunks=CHUNKS, block=st.integers(1, 30))
def test_blocks_are_the_bytes_and_all_but_the_last_are_whole(
    chunks: list[bytes], block: int
) -> None:
    data = b"".join(chunks)
    given_blocks = list(blocks("a", iter(chunks), size=len(data), block=block))
    assert b"".join(given_blocks) == data
    assert {len(one) for one in given_blocks[:-1]} <= {block}
    assert len(given_blocks[-1]) <= block
    assert len(given_blocks) == max(1, -(-len(data) // block))


@given(chunks=CHUNKS, block=st.integers(1, 30), wrong=st.integers(-5, 5).filter(bool))
def test_the_last_block_is_never_given_when_the_bytes_are_not_as_many_as_announced(
    chunks: list[bytes], block: int, wrong: int
) -> None:
    data = b"".join(chunks)
    size = max(0, len(data) + wrong)
    if size == len(data):
        return
    taken: list[bytes] = []
    with pytest.raises(IntegrityError, match="announced"):
        taken.extend(blocks("a", iter(chunks), size=size, block=block))
    assert sum(len(one) for one in taken) < max(1, min(size, len(data)))


def test_parts_are_few_enough_for_the_largest_object() -> None:
    largest = 5 * 1024**2 * MEBIBYTE
    assert part_size(largest, 8 * MEBIBYTE) * 9_000 >= largest
    assert part_size(1, 8 * MEBIBYTE) == 8 * MEBIBYTE


@given(value=st.binary(max_size=50).map(lambda data: data.decode("latin-1")))
def test_any_bytes_but_line_breaks_and_nul_are_metadata(value: str) -> None:
    if set(value) & set("\r\n\0"):
        with pytest.raises(PermanentError, match="cannot be stored with the header"):
            headers_of("a", {}, {"name": value})
    else:
        assert headers_of("a", {}, {"name": value}) == {"x-amz-meta-name": value}


@given(tags=st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9), max_size=10))
def test_tags_survive_their_header(tags: dict[str, str]) -> None:
    value = tags_header(tags)
    assert value.isascii()
    assert dict(parse_qsl(value, keep_blank_values=True)) == tags


def test_facts_are_what_the_headers_say() -> None:
    facts = facts_of(
        {
            "etag": '"e-2"',
            "content-length": "12",
            "last-modified": "Mon, 23 Nov 2026 05:00:00 GMT",
            "content-type": "a/b",
            "expires": "0",
            "date": "Mon, 23 Nov 2026 05:00:01 GMT",
            "x-amz-meta-iv": "=",
            "x-amz-version-id": "v",
            "x-amz-tagging-count": "3",
        }
    )
    assert (facts.etag, facts.size, facts.version, facts.tag_count) == ("e-2", 12, "v", 3)
    assert facts.modified.isoformat() == "2026-11-23T05:00:00+00:00"
    assert facts.headers == {"content-type": "a/b", "expires": "0"}
    assert facts.metadata == {"iv": "="}


@given(key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=250))
def test_a_key_is_never_changed(key: str) -> None:
    assert require_key(key) == key

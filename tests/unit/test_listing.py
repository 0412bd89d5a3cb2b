"""Pages of listings are read alike whether their objects are plain or need a parser of XML."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote_plus
from xml.parsers import expat
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.adapters.buckets.listing import READING_ERRORS, Page
from pgben_tasks.ports import ListedObject

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
WRITTEN = "2026-11-23T12:00:00.000Z"
FIELDS = {"Key": "a", "LastModified": WRITTEN, "ETag": '"e"', "Size": "3"}


def body(*objects: str, more: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult'
        f' xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{more}{"".join(objects)}'
        "</ListBucketResult>"
    ).encode()


def written(fields: dict[str, str], *, space: str = "") -> str:
    inner = space.join(f"<{name}>{text}</{name}>" for name, text in fields.items())
    return f"{space}<Contents>{space}{inner}{space}</Contents>{space}"


def listed(page: bytes) -> list[ListedObject]:
    return list(Page(page).objects())


PLAIN = ListedObject("a", "e", 3, NOON)
METADATA = "<content-type>a/b</content-type><X-Amz-Meta-Iv>&amp;</X-Amz-Meta-Iv>"


@pytest.mark.parametrize(
    "found",
    [
        written(FIELDS),
        written(FIELDS, space="\n  "),
        written({**FIELDS, "ETag": "&quot;e&quot;"}),
        written({**FIELDS, "ETag": "&#34;e&#34;"}),
        written({**FIELDS, "ETag": "e"}),
        written({**FIELDS, "StorageClass": "STANDARD", "Owner": ""}),
        written({"Key": "a", "LastModified": WRITTEN, "ETag": "e", "Checksum": "x", "Size": "3"}),
        # What follows is read as XML.
        written({"Size": "3", **FIELDS}),
        written({**FIELDS, "Owner": "<ID>x</ID><DisplayName>Key</DisplayName>"}),
        written({**FIELDS, "Key": "&#97;"}),
        written({**FIELDS, "Key": "<![CDATA[a]]>"}),
        written({**FIELDS, "Size": "3<!-- bytes -->"}),
        written(FIELDS).replace("Contents>", "s3:Contents>"),
    ],
)
def test_an_object_is_read_however_it_is_written(found: str) -> None:
    assert listed(body(found)) == [PLAIN]
    mixed = body(found, written({**FIELDS, "Key": "b"}), found)
    assert [one.key for one in listed(mixed)] == ["a", "b", "a"]


@pytest.mark.parametrize("more", [{"Owner": "<ID>x</ID>"}, {"StorageClass": "STANDARD"}, {}])
@pytest.mark.parametrize("space", ["", "\n  "])
def test_tags_are_read_where_a_server_tells_them(more: dict[str, str], space: str) -> None:
    def tags_of(fields: dict[str, str]) -> dict[str, str] | None:
        first, second = listed(body(written({**FIELDS, **more, **fields}, space=space) * 2))
        assert first == second
        return first.tags

    assert tags_of({}) is None
    assert tags_of({"UserMetadata": METADATA}) == {}
    told = {"UserMetadata": METADATA, "UserTags": "a=1&amp;b+c=%26&amp;d="}
    assert tags_of(told) == {"a": "1", "b c": "&", "d": ""}
    assert tags_of({**told, "Internal": "<K>1</K><M>0</M>"}) == {"a": "1", "b c": "&", "d": ""}


@pytest.mark.timeout(20)
def test_a_page_that_is_broken_or_odd_takes_no_longer() -> None:
    many = "".join(f"<A{number}>x</A{number}>" for number in range(20_000))
    with pytest.raises(READING_ERRORS):
        listed(body(written({**FIELDS, "Size": "3</Size>" + many + "<Size>"}) + " " * 200_000))
    assert listed(body(" " * 200_000 + written({"Size": "3", **FIELDS}) + many)) == [PLAIN]


@pytest.mark.parametrize(
    "found",
    [
        f"<!-- {written(FIELDS)} -->",
        f"<Name><![CDATA[{written(FIELDS)}]]></Name>",
    ],
)
def test_what_is_no_object_is_none(found: str) -> None:
    assert listed(body(found)) == []


@pytest.mark.parametrize(
    "broken",
    [
        body(written(FIELDS)).replace(b"</ListBucketResult>", b""),
        body(written({**FIELDS, "Size": "3</Size><Size>"})),
        body(written({**FIELDS, "Size": "many"})),
        body(written({**FIELDS, "LastModified": "noon"})),
        body(written({name: FIELDS[name] for name in ("Key", "LastModified", "ETag")})),
        body(written(FIELDS), more=""),
        body(written(FIELDS)).replace(b"ListBucketResult", b"Error"),
        body(written(FIELDS)).replace(b">a<", b">\xff<"),
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + body(written(FIELDS))[39:],
        written(FIELDS).encode(),
        b"",
    ],
)
def test_what_is_no_whole_answer_is_an_error(broken: bytes) -> None:
    with pytest.raises(READING_ERRORS):
        listed(broken)


@given(
    keys=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1)),
    quoted=st.booleans(),
    token=st.text("ab=&<", max_size=5),
)
def test_keys_and_tokens_come_through_whatever_they_are(
    keys: list[str], quoted: bool, token: str
) -> None:
    legal = all(ord(char) not in {0xFFFE, 0xFFFF} for key in keys for char in key)
    more = (
        f"{'<EncodingType>url</EncodingType>' if quoted else ''}<IsTruncated>true</IsTruncated>"
        f"<NextContinuationToken>{escape(token)}</NextContinuationToken>"
    )
    objects = [
        written({**FIELDS, "Key": quote_plus(key) if quoted else escape(key)}) for key in keys
    ]
    try:
        page = Page(body(*objects, more=more))
    except expat.ExpatError:
        # XML knows no such characters; that is why servers are asked to quote.
        assert not legal
        assert not quoted
        return
    assert [one.key for one in page.objects()] == keys
    assert (page.truncated, page.token) == (True, token)

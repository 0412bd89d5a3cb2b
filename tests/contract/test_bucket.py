"""What every protected bucket promises, asked of the fake and of three S3 servers."""

from __future__ import annotations

import gzip
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.buckets.headers import headers_of
from pgben_tasks.adapters.buckets.uploads import Sizes
from pgben_tasks.adapters.s3.client import LARGEST_WHOLE, S3Request
from pgben_tasks.domain.buckets.capture import BucketSettings
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import (
    ConfigurationError,
    IntegrityError,
    ObjectMissing,
    PermanentError,
    PgbenError,
)
from pgben_tasks.ports.buckets import Bucket, ObjectFacts
from tests.support.bucket_servers import KEYS, SERVERS, Trait, bucket_location, need, table
from tests.support.memory_bucket import MemoryBucket

MEBIBYTE = 1024 * 1024
REAL = [kind for kind in SERVERS if kind != "memory"]
HEADERS = {
    "cache-control": "private, max-age=0",
    "content-disposition": 'attachment; filename="a b.pdf"',
    "content-encoding": "gzip",
    "content-language": "pt-BR",
    "content-type": "application/pdf",
}
METADATA = {"iv": "c29tZSBpdg==", "original-name": "Relatorio  1.pdf", "empty": ""}
#: UTF-8 whose last byte looks like a space of Latin-1; Latin-1; and no text at all.
RAW = {
    "utf": "Relatório à".encode().decode("latin-1"),
    "latin": "Relatório ç",
    "bytes": "\xff\xfe\x85\xa0.",
}
TAGS = {f"tag {number}": f"value+{number}=/:ç" for number in range(10)}
SMALL = Sizes(single=MEBIBYTE, part=5 * MEBIBYTE)


@dataclass
class Place:
    """A made, empty bucket on one kind of server."""

    kind: str
    bucket: Bucket

    def put(self, key: str, data: bytes, **carried: dict[str, str]) -> str:
        return self.bucket.put(
            key,
            iter([data[:1], data[1:]]),
            size=len(data),
            headers=carried.get("headers", {}),
            metadata=carried.get("metadata", {}),
            tags=carried.get("tags", {}),
        )

    def get(self, key: str) -> tuple[bytes, ObjectFacts]:
        with self.bucket.fetch(key) as found:
            return b"".join(found.chunks), found.facts

    def keys(self, prefix: str = "") -> list[str]:
        return [found.key for found in self.bucket.list(prefix)]


@pytest.fixture(scope="module")
def moto_s3() -> Iterator[EmbeddedS3]:
    with EmbeddedS3.start(kind="moto") as server:
        yield server


def server_of(request: pytest.FixtureRequest, kind: str) -> EmbeddedS3:
    fixtures = {"rclone": "repository_s3", "ministack": "protected_s3", "moto": "moto_s3"}
    server = request.getfixturevalue(fixtures[kind])
    assert isinstance(server, EmbeddedS3)
    return server


@pytest.fixture(params=SERVERS)
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "memory":
        return Place("memory", MemoryBucket())
    bucket = S3Bucket(bucket_location(server_of(request, request.param)), page=7, sizes=SMALL)
    bucket.create()
    return Place(request.param, bucket)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest) -> tuple[str, EmbeddedS3]:
    return request.param, server_of(request, request.param)


def test_what_the_servers_can_do_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{table()}")  # noqa: T201  # the table is what this is for
    assert set(table().split()) >= set(SERVERS)


@pytest.mark.parametrize("name", KEYS)
def test_a_strange_key_makes_the_whole_round(place: Place, name: str) -> None:
    if name in SERVERS[place.kind].bad_keys:
        pytest.skip(f"{place.kind} does not keep the key with: {name}")
    key = KEYS[name]
    place.put(key, b"content", headers={"content-type": "a/b"})
    assert place.keys() == [key]
    assert place.keys(key) == [key]
    assert place.bucket.head(key).size == 7
    data, facts = place.get(key)
    assert data == b"content"
    assert facts == place.bucket.head(key)
    other = "other"
    place.put(other, b"content")
    place.bucket.delete(key)
    assert place.keys() == [other]
    with pytest.raises(ObjectMissing):
        place.bucket.head(key)
    place.put(key, b"again")
    assert place.get(key)[0] == b"again"


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=99))
def test_any_key_makes_the_whole_round(protected_s3: EmbeddedS3, key: str) -> None:
    bucket = S3Bucket(bucket_location(protected_s3))
    bucket.create()
    place = Place("ministack", bucket)
    place.put(key, b"content")
    assert place.keys() == [key]
    assert place.get(key)[0] == b"content"
    place.bucket.delete(key)
    assert place.keys() == []


def test_strange_keys_live_side_by_side(place: Place) -> None:
    good = [key for name, key in KEYS.items() if name not in SERVERS[place.kind].bad_keys]
    for number, key in enumerate(good):
        place.put(key, b"x" * number)
    found = {one.key: one.size for one in place.bucket.list()}
    assert found == {key: number for number, key in enumerate(good)}
    assert [place.get(key)[0] for key in good] == [b"x" * number for number in range(len(good))]


def test_a_key_lives_beside_keys_below_it(place: Place) -> None:
    need(place.kind, Trait.PREFIX_AND_KEY)
    for key in ("a", "a/", "a/b"):
        place.put(key, key.encode())
    assert place.keys() == ["a", "a/", "a/b"]
    assert [place.get(key)[0] for key in ("a", "a/", "a/b")] == [b"a", b"a/", b"a/b"]


@pytest.mark.parametrize("key", ["", "a" * 1025, "é" * 513, "\ud800"])
def test_what_no_object_can_be_called_is_refused(place: Place, key: str) -> None:
    place.put("kept", b"")
    for call in (place.bucket.head, place.bucket.delete, place.bucket.tags, place.get):
        with pytest.raises(PermanentError, match="is not a key of an object"):
            call(key)
    with pytest.raises(PermanentError, match="is not a key of an object"):
        place.put(key, b"")
    assert place.keys() == ["kept"]


def test_an_empty_object_is_an_object(place: Place) -> None:
    place.bucket.put("a", iter(()), size=0, headers={}, metadata={}, tags={})
    data, facts = place.get("a")
    assert (data, facts.size) == (b"", 0)
    assert [one.size for one in place.bucket.list()] == [0]


@pytest.mark.parametrize(
    "data",
    [gzip.compress(b"content", mtime=0), b"not compressed at all", b""],
    ids=["true", "mislabelled", "empty"],
)
def test_bytes_are_never_decompressed(place: Place, data: bytes) -> None:
    place.put("a", data, headers={"content-encoding": "gzip"})
    found, facts = place.get("a")
    assert found == data
    assert facts.headers["content-encoding"] == "gzip"


def test_headers_and_metadata_come_back(place: Place) -> None:
    place.put("a", b"content", headers=HEADERS, metadata=METADATA)
    facts = place.get("a")[1]
    assert facts.headers == HEADERS
    assert facts.metadata.keys() == METADATA.keys()
    # Two spaces count as one where headers are signed; not where they are kept.
    assert facts.metadata == METADATA
    assert facts.modified.tzinfo is not None
    assert facts.modified.microsecond == 0


def test_the_header_expires_comes_back(place: Place) -> None:
    need(place.kind, Trait.EXPIRES)
    expires = "Thu, 01 Jan 2032 00:00:00 GMT"
    place.put("a", b"", headers={"expires": expires})
    assert place.get("a")[1].headers["expires"] == expires


def test_metadata_comes_back_byte_for_byte(place: Place) -> None:
    need(place.kind, Trait.RAW_METADATA)
    long = "x" * 1600
    place.put("a", b"content", metadata={**RAW, "long": long})
    assert place.get("a")[1].metadata == {**RAW, "long": long}
    assert place.bucket.head("a").metadata == {**RAW, "long": long}


def test_an_etag_tells_contents_apart(place: Place) -> None:
    need(place.kind, Trait.ETAGS)
    etag = place.put("a", b"one")
    assert '"' not in etag
    assert [one.etag for one in place.bucket.list()] == [etag]
    assert place.bucket.head("a").etag == etag
    assert place.put("a", b"two") != etag


def test_tags_come_back_and_can_be_replaced(place: Place) -> None:
    need(place.kind, Trait.TAGS)
    place.put("a", b"content", tags=TAGS)
    assert place.bucket.tags("a") == TAGS
    assert place.get("a")[1].tag_count == 10
    place.bucket.put_tags("a", {"only": "one"})
    assert place.bucket.tags("a") == {"only": "one"}
    place.bucket.put_tags("a", {})
    assert place.bucket.tags("a") == {}
    assert not place.get("a")[1].tag_count


@pytest.mark.parametrize("place", REAL, indirect=True)
def test_small_objects_come_whole_and_all_else_another_way(place: Place) -> None:
    assert isinstance(place.bucket, S3Bucket)
    sender = place.bucket._sender
    place.put("small", b"content", metadata={"iv": "c29tZSBpdg=="})
    whole = sender.get_whole("small")
    assert whole is not None
    assert (whole.body, whole.headers["x-amz-meta-iv"]) == (b"content", "c29tZSBpdg==")
    place.put("empty", b"")
    empty = sender.get_whole("empty")
    assert empty is not None
    assert empty.body == b""
    large = bytes(LARGEST_WHOLE + 1)
    place.put("large", large)
    assert sender.get_whole("large") is None
    assert place.get("large")[0] == large
    assert sender.get_whole("missing") is None
    with pytest.raises(ObjectMissing):
        place.get("missing")


@pytest.mark.parametrize("place", REAL, indirect=True)
@pytest.mark.parametrize("content_type", [{}, {"content-type": "text/x-own"}])
def test_small_objects_are_stored_alike_by_both_clients(
    place: Place, content_type: dict[str, str]
) -> None:
    assert isinstance(place.bucket, S3Bucket)
    sender = place.bucket._sender
    metadata = {"iv": "c29tZSBpdg==", "nome": "Jo\u00c3\u00a3o  da Silva", "nada": ""}
    headers = headers_of("a", content_type, metadata)
    data = secrets.token_bytes(2 * MEBIBYTE)
    for body in (b"", b"content", data):
        request = S3Request(method="PUT", key="a", headers=headers, body=body)
        # In turn, over one connection of the thread.
        assert sender.put_whole(request) is not None
        one = place.get("a")
        assert sender.get_whole("a") is not None
        sender.send(request)
        other = place.get("a")
        assert one[0] == other[0] == body
        assert replace(one[1], modified=other[1].modified, version=None) == replace(
            other[1], version=None
        )
    # What may be forbidden, and has no body to rewind, libcurl would send again by itself.
    looked: list[None] = []
    asking = replace(request, body=b"", before=lambda: looked.append(None))
    assert sender.put_whole(asking) is None
    assert looked == []
    # A value that libcurl would leave out.
    blank = headers_of("a", content_type, {"blank": " "})
    assert sender.put_whole(replace(request, headers=blank)) is None
    place.put("a", b"content", metadata={"blank": " "})
    assert place.get("a")[1].metadata.get("blank", "").strip() == ""


def test_it_is_known_whether_a_server_keeps_tags(place: Place) -> None:
    place.put("a", b"content")
    assert place.bucket.keeps_tags("a") == (Trait.TAGS not in SERVERS[place.kind].lacks)
    with pytest.raises(ObjectMissing):
        place.bucket.keeps_tags("b")


def test_tags_too_long_for_a_header_are_stored_all_the_same(place: Place) -> None:
    need(place.kind, Trait.TAGS)
    tags = {f"tag {number}": "ç" * 200 for number in range(10)}
    place.put("a", b"content", tags=tags)
    assert place.bucket.tags("a") == tags


@pytest.mark.parametrize("size", [7, 11 * MEBIBYTE])
def test_tags_never_harm_the_bytes_even_where_a_server_knows_none(place: Place, size: int) -> None:
    data = secrets.token_bytes(size)
    place.put("a", data, tags={f"tag {number}": "ç" * 200 for number in range(10)})
    assert place.get("a")[0] == data


def test_an_object_without_tags_has_none(place: Place) -> None:
    need(place.kind, Trait.TAGS)
    place.put("a", b"")
    assert place.bucket.tags("a") == {}


def test_an_object_in_parts_comes_back_with_what_it_carries(place: Place) -> None:
    tags = {} if Trait.TAGS in SERVERS[place.kind].lacks else TAGS
    data = secrets.token_bytes(11 * MEBIBYTE)
    etag = place.put("a", data, headers=HEADERS, metadata=METADATA, tags=tags)
    found, facts = place.get("a")
    assert found == data
    assert (facts.headers, facts.metadata) == (HEADERS, METADATA)
    if Trait.ETAGS not in SERVERS[place.kind].lacks:
        assert facts.etag == etag
    if tags:
        assert place.bucket.tags("a") == tags


@pytest.mark.parametrize("announced", [0, 2, 4, 11 * MEBIBYTE])
def test_more_or_fewer_bytes_than_announced_store_nothing(place: Place, announced: int) -> None:
    given = b"abc" if announced < MEBIBYTE else bytes(announced + 1)
    for data in (given, given[: announced - 1] if announced > 3 else given):
        with pytest.raises(IntegrityError, match="announced"):
            place.bucket.put("a", iter([data]), size=announced, headers={}, metadata={}, tags={})
    assert place.keys() == []


@pytest.mark.parametrize("size", [3, 11 * MEBIBYTE])
def test_an_object_is_there_only_after_its_last_question_was_answered(
    place: Place, size: int
) -> None:
    place.put("a", b"before")
    given: list[int] = []
    seen: list[tuple[int, bytes]] = []

    def chunks() -> Iterator[bytes]:
        for chunk in (bytes(size - 1), b"x"):
            given.append(len(chunk))
            yield chunk

    def look() -> None:
        seen.append((sum(given), place.get("a")[0]))

    def forbid() -> None:
        look()
        raise LookupError

    def put(before_commit: Callable[[], None]) -> None:
        place.bucket.put(
            "a",
            chunks(),
            size=size,
            headers={},
            metadata={},
            tags={},
            before_commit=before_commit,
        )

    with pytest.raises(LookupError):
        put(forbid)
    assert place.get("a")[0] == b"before"
    assert place.keys() == ["a"]
    given.clear()
    put(look)
    assert place.bucket.head("a").size == size
    assert seen == [(size, b"before")] * 2


class Notes:
    """Notes uploads, and what has been there of the object when they ended."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.told: list[tuple[str, str, str, list[str]]] = []

    def begun(self, key: str, upload: str) -> None:
        self.told.append(("begun", key, upload, self.place.keys()))

    def ended(self, key: str, upload: str) -> None:
        self.told.append(("ended", key, upload, self.place.keys()))


@pytest.mark.parametrize("fails", [True, False])
def test_uploads_in_parts_are_told_of_and_no_others(place: Place, fails: bool) -> None:
    notes = Notes(place)

    def put(data: bytes) -> None:
        size = len(data) + fails
        with pytest.raises(IntegrityError) if fails else nullcontext():
            place.bucket.put(
                "a", iter([data]), size=size, headers={}, metadata={}, tags={}, uploads=notes
            )

    put(bytes(11 * MEBIBYTE))
    if place.kind == "memory":
        assert notes.told == []
    else:
        (begun, key, upload, before), (ended, *same, after) = notes.told
        assert (begun, ended, same) == ("begun", "ended", [key, upload])
        assert (before, after) == ([], [] if fails else ["a"])
    # One that has ended is not there to be given up.
    for _, key, upload, _ in notes.told:
        place.bucket.give_up(key, upload)
    notes.told.clear()
    put(b"a")
    assert notes.told == []


def test_a_source_that_fails_leaves_nothing_behind(place: Place) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(10 * MEBIBYTE)
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        place.bucket.put("a", broken(), size=11 * MEBIBYTE, headers={}, metadata={}, tags={})
    assert place.keys() == []


@pytest.mark.parametrize(
    ("headers", "metadata"),
    [
        ({"x-other": "1"}, {}),
        ({}, {"name": "two\nlines"}),
        ({}, {"Upper": "1"}),
        ({}, {"a b": "1"}),
        ({}, {"name": "€"}),
    ],
)
def test_what_no_header_can_say_is_refused(
    place: Place, headers: dict[str, str], metadata: dict[str, str]
) -> None:
    with pytest.raises(PermanentError, match="cannot be stored with the header"):
        place.put("a", b"", headers=headers, metadata=metadata)
    assert place.keys() == []


def test_a_listing_gives_every_page_in_order(place: Place) -> None:
    names = sorted(f"p/{number:04}" for number in range(50))
    for name in names:
        place.put(name, b"")
    place.put("q", b"")
    assert place.keys("p/") == names
    assert place.keys() == [*names, "q"]
    assert place.keys("none") == []


def test_a_thousand_keys_are_more_than_one_page(real: tuple[str, EmbeddedS3]) -> None:
    bucket = S3Bucket(bucket_location(real[1]))
    bucket.create()
    names = [f"{number:05}" for number in range(1005)]

    def put(name: str) -> None:
        bucket.put(name, iter(()), size=0, headers={}, metadata={}, tags={})

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, names))
    assert [one.key for one in bucket.list()] == names


def test_what_is_not_there_is_missing_and_deleting_it_is_no_error(place: Place) -> None:
    for call in (place.bucket.head, place.get):
        with pytest.raises(ObjectMissing):
            call("a")
    if Trait.TAGS not in SERVERS[place.kind].lacks:
        with pytest.raises(ObjectMissing):
            place.bucket.tags("a")
    place.bucket.delete("a")


def absent(request: pytest.FixtureRequest, kind: str) -> Bucket:
    if kind == "memory":
        return MemoryBucket(made=False)
    return S3Bucket(bucket_location(server_of(request, kind)))


@pytest.mark.parametrize("kind", SERVERS)
def test_a_missing_bucket_is_a_wrong_setting(request: pytest.FixtureRequest, kind: str) -> None:
    place = Place(kind, absent(request, kind))
    assert not place.bucket.exists()
    for call in (
        lambda: place.bucket.head("a"),
        lambda: place.get("a"),
        lambda: place.put("a", b""),
        lambda: place.bucket.delete("a"),
        place.keys,
        place.bucket.settings,
    ):
        with pytest.raises(ConfigurationError, match="does not exist"):
            call()
    place.bucket.create()
    assert place.bucket.exists()
    place.bucket.create()


def test_wrong_credentials_are_a_wrong_setting(real: tuple[str, EmbeddedS3]) -> None:
    need(real[0], Trait.CREDENTIALS)
    location = bucket_location(real[1])
    S3Bucket(location).create()
    secret = "canary-Eic0oSh5"
    place = Place(real[0], S3Bucket(replace(location, secret_key=secret)))
    assert secret not in repr(replace(location, secret_key=secret))
    for call in (
        lambda: place.bucket.head("a"),
        lambda: place.get("a"),
        lambda: place.put("a", b""),
        place.bucket.exists,
        place.bucket.create,
        place.keys,
        place.bucket.settings,
    ):
        with pytest.raises(ConfigurationError, match="refuses the credentials") as raised:
            call()
        assert "PGBEN_MINIO_SECRET_KEY" in raised.value.hint
        assert secret not in str(raised.value)


def test_settings_are_read_and_given_back(place: Place, request: pytest.FixtureRequest) -> None:
    need(place.kind, Trait.SETTINGS)
    empty = place.bucket.settings()
    assert (empty.versioning, empty.lifecycle, empty.policy) == ("off", None, None)
    assert (empty.tagging, empty.lock, empty.unknown) == (None, None, ())
    wanted = BucketSettings(
        versioning="enabled",
        lifecycle="<LifecycleConfiguration><Rule><ID>old</ID><Filter><Prefix>tmp/</Prefix></Filter>"
        "<Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>"
        "</LifecycleConfiguration>",
        policy='{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*",'
        f'"Action":"s3:GetObject","Resource":"arn:aws:s3:::{place.bucket.name}/secret/*"}}]}}',
        tagging="<Tagging><TagSet><Tag><Key>owner</Key><Value>pgben</Value></Tag></TagSet>"
        "</Tagging>",
        encryption="<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
        "<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
        "</ServerSideEncryptionConfiguration>",
    )
    assert place.bucket.apply(wanted) == ()
    found = place.bucket.settings()
    assert found.versioning == "enabled"
    assert "<Prefix>tmp/</Prefix>" in (found.lifecycle or "")
    assert found.policy == wanted.policy
    assert "<Value>pgben</Value>" in (found.tagging or "")
    assert "AES256" in (found.encryption or "")
    # What a server said is what another takes.
    other = absent(request, place.kind)
    other.create()
    assert other.apply(found.model_copy(update={"policy": None})) == ()
    if Trait.VERSIONS not in SERVERS[place.kind].lacks:
        place.put("a", b"")
        assert place.bucket.head("a").version


def test_a_server_without_settings_says_so(real: tuple[str, EmbeddedS3]) -> None:
    if Trait.SETTINGS not in SERVERS[real[0]].lacks:
        pytest.skip(f"{real[0]} has settings")
    bucket = S3Bucket(bucket_location(real[1]))
    bucket.create()
    found = bucket.settings()
    assert found.unknown == ("lifecycle", "policy", "tagging", "encryption", "lock")
    wanted = BucketSettings(versioning="enabled", policy="{}", tagging="<Tagging/>")
    assert bucket.apply(wanted) == ("versioning", "policy", "tagging")


def test_sixteen_threads_share_a_bucket(place: Place) -> None:
    def round_trip(number: int) -> bool:
        data = bytes([number % 256]) * 1000
        place.put(f"n/{number}", data)
        return place.get(f"n/{number}")[0] == data

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(round_trip, range(64)))
    assert len(place.keys()) == 64


def test_an_object_left_in_the_middle_does_no_harm(place: Place) -> None:
    place.put("a", bytes(3 * MEBIBYTE))
    with place.bucket.fetch("a") as found:
        next(iter(found.chunks))
    assert len(place.get("a")[0]) == 3 * MEBIBYTE


def test_sentences_name_bucket_and_server(place: Place) -> None:
    assert place.bucket.name in place.bucket.describe()
    with pytest.raises(PgbenError) as raised:
        place.bucket.head("a")
    assert place.bucket.describe() in raised.value.sentence

"""What a protected bucket makes of servers that break off, stammer, refuse or are not there."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.buckets.uploads import Sizes
from pgben_tasks.adapters.s3.errors import BUCKET_HINTS
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.domain.buckets.capture import BucketSettings
from pgben_tasks.errors import (
    ConfigurationError,
    ObjectMissing,
    ObjectRefused,
    PermanentError,
    PgbenError,
    StoreUnavailable,
)
from pgben_tasks.ports import Uploads
from pgben_tasks.runtime.places import bucket_at
from pgben_tasks.settings import Settings
from tests.contract.test_s3_store import private_tls  # noqa: F401  # a fixture

FACTS = {"ETag": '"e"', "Last-Modified": "Mon, 23 Nov 2026 05:00:00 GMT"}
ENTRY = (
    "<Contents><Key>{}</Key><ETag>&quot;e&quot;</ETag><Size>1</Size>"
    "<LastModified>2026-11-23T05:00:00.000Z</LastModified></Contents>"
)


@dataclass
class Answer:
    """One answer; of its body, ``sent`` bytes are sent, then the connection breaks."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None


@dataclass
class Script:
    """A server that answers as it was told: in turn, the last answer for ever."""

    location: S3Location
    answers: list[Answer] = field(default_factory=list)
    #: Method, target and Host of every request.
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    #: What signed each of them.
    signed: list[str] = field(default_factory=list)
    #: The body of every request.
    sent: list[bytes] = field(default_factory=list)

    def bucket(self, **fields: object) -> S3Bucket:
        sizes = Sizes(single=10, part=10)
        location = replace(self.location, **fields)  # type: ignore[arg-type]  # by name
        return S3Bucket(location, sizes=sizes)

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def script() -> Iterator[Script]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            told.sent.append(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            # The path lost its second slash, as a protection of that library.
            target = self.requestline.split(" ")[1]
            told.asked.append((self.command, target, self.headers["Host"]))
            told.signed.append(self.headers["Authorization"])
            answer = told.next()
            # Without that library's own name for a server.
            self.send_response_only(answer.status)
            self.send_header("Date", self.date_time_string())
            if "Transfer-Encoding" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.sent])
            self.close_connection = answer.sent is not None

        def __getattr__(self, name: str) -> Callable[[], None]:
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def log_message(self, *_: object) -> None:
            """Log no request."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told = Script(
            S3Location(
                hints=BUCKET_HINTS,
                endpoint=f"http://127.0.0.1:{server.server_port}",
                bucket="documents",
                access_key="key",
                secret_key="secret",
                patience=timedelta(milliseconds=200),
            )
        )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield told
        server.shutdown()
        thread.join(timeout=10)


def listing(*keys: str, token: str | None = None, truncated: bool = False) -> bytes:
    following = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    entries = "".join(ENTRY.format(key) for key in keys)
    return (
        f"<ListBucketResult><IsTruncated>{str(truncated).lower()}</IsTruncated>{entries}"
        f"{following}</ListBucketResult>"
    ).encode()


def error(status: int, code: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code></Error>".encode())


def put(
    bucket: S3Bucket,
    size: int = 0,
    *,
    before_commit: Callable[[], None] | None = None,
    uploads: Uploads | None = None,
) -> str:
    return bucket.put(
        "a",
        iter([bytes(size)]),
        size=size,
        headers={},
        metadata={},
        tags={},
        before_commit=before_commit,
        uploads=uploads,
    )


def test_a_body_that_breaks_off_is_never_taken_for_the_whole(script: Script) -> None:
    script.answers = [Answer(body=bytes(5_000_000), headers=FACTS, sent=2_000_000)]
    given: list[bytes] = []
    with script.bucket().fetch("a") as found, pytest.raises(StoreUnavailable):
        given.extend(found.chunks)
    assert found.facts.size == 5_000_000


LARGE = bytes(range(250)) * 20_000
#: Of that very object, from the byte on where the connection broke.
REST = Answer(206, LARGE[2_000_000:], {**FACTS, "Content-Range": "bytes 2000000-4999999/5000000"})


@pytest.mark.parametrize(
    "rest",
    [[REST], [Answer(body=LARGE, headers=FACTS)], [replace(REST, sent=0), Answer(503), REST]],
    ids=["the rest", "all of it again", "nothing at first"],
)
def test_a_body_that_breaks_off_is_taken_up_where_it_was(
    script: Script, rest: list[Answer]
) -> None:
    whole = Answer(body=LARGE, headers=FACTS, sent=2_000_000)
    # The client of small objects sees that it is a large one, and leaves it.
    script.answers = [whole, whole, *rest]
    with script.bucket(patience=timedelta(seconds=10)).fetch("a") as found:
        assert b"".join(found.chunks) == LARGE


@pytest.mark.parametrize(
    "rest",
    [
        replace(REST, headers={**REST.headers, "ETag": '"other"'}),
        replace(REST, headers={**REST.headers, "Last-Modified": "Mon, 23 Nov 2026 05:00:01 GMT"}),
        replace(REST, headers={**REST.headers, "Content-Range": "bytes 0-2999999/5000000"}),
        replace(REST, body=REST.body[1:]),
        error(416, "InvalidRange"),
    ],
)
def test_a_body_is_not_taken_up_with_bytes_of_another_object(script: Script, rest: Answer) -> None:
    whole = Answer(body=LARGE, headers=FACTS, sent=2_000_000)
    script.answers = [whole, whole, rest]
    with script.bucket().fetch("a") as found, pytest.raises(StoreUnavailable):
        list(found.chunks)


def test_an_error_that_breaks_off_is_not_taken_for_another_one(script: Script) -> None:
    """Without its code it would say that the object is not there."""
    none = error(404, "NoSuchTagSet")
    script.answers = [Answer(headers=FACTS), replace(none, sent=10), none]
    assert script.bucket().keeps_tags("a")


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"e"'},
        {**FACTS, "Last-Modified": "soon"},
        {"Last-Modified": FACTS["Last-Modified"]},
        {**FACTS, "Transfer-Encoding": "chunked"},
    ],
)
def test_an_object_without_its_facts_is_no_answer(script: Script, headers: dict[str, str]) -> None:
    script.answers = [Answer(headers=headers, sent=0)]
    with pytest.raises(StoreUnavailable, match="does not answer as it should"):
        script.bucket().head("a")


def test_a_listing_that_breaks_off_raises_after_whole_pages_only(script: Script) -> None:
    whole = listing("a", "b", token="t", truncated=True)
    script.answers = [Answer(body=whole), Answer(body=listing("c", "d"), sent=150)]
    found = script.bucket().list()
    assert [next(found).key, next(found).key] == ["a", "b"]
    with pytest.raises(StoreUnavailable):
        next(found)


def test_a_listing_that_broke_off_once_is_asked_for_again(script: Script) -> None:
    script.answers = [Answer(body=listing("a"), sent=150), Answer(body=listing("a"))]
    assert [one.key for one in script.bucket().list()] == ["a"]


@pytest.mark.parametrize(
    "body",
    [
        listing("a", truncated=True),
        listing("a", token="same", truncated=True),
        listing("a")[:-10],
        b"",
        b"<html/>",
        b"<ListBucketResult></ListBucketResult>",
        b"<!DOCTYPE x [<!ENTITY e 'a'>]>" + listing("&e;"),
        listing("a").replace(b"<Size>1</Size>", b""),
        listing("a").replace(b"<Size>1<", b"<Size>many<"),
        listing("a").replace(b"2026-11-23T", b"yesterday"),
        listing("%FF").replace(b"<IsT", b"<EncodingType>url</EncodingType><IsT"),
    ],
)
def test_a_listing_never_just_ends(script: Script, body: bytes) -> None:
    script.answers = [Answer(body=body)]
    with pytest.raises(StoreUnavailable, match="does not answer as it should"):
        list(script.bucket().list())


def test_keys_are_unquoted_only_when_the_server_quoted_them(script: Script) -> None:
    quoted = listing("a%2Bb+c%20d").replace(b"<IsT", b"<EncodingType>url</EncodingType><IsT")
    script.answers = [Answer(body=quoted), Answer(body=listing("a%2Bb+c"))]
    assert [one.key for one in script.bucket().list()] == ["a+b c d"]
    assert [one.key for one in script.bucket().list()] == ["a%2Bb+c"]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_server_that_says_later_is_asked_again(script: Script, status: int) -> None:
    script.answers = [Answer(status), Answer(status), Answer(headers=FACTS)]
    assert script.bucket(patience=timedelta(seconds=10)).head("a").etag == "e"
    assert len(script.asked) == 3


def test_patience_ends(script: Script) -> None:
    script.answers = [Answer(503)]
    for call in calls(script.bucket()):
        with pytest.raises(StoreUnavailable):
            call()


def calls(bucket: S3Bucket) -> list[Callable[[], object]]:
    return [
        bucket.exists,
        bucket.create,
        bucket.settings,
        lambda: list(bucket.list()),
        lambda: bucket.head("a"),
        lambda: bucket.fetch("a").__enter__(),
        lambda: bucket.tags("a"),
        lambda: bucket.put_tags("a", {"a": "b"}),
        lambda: bucket.delete("a"),
        lambda: put(bucket),
        lambda: put(bucket, 30),
    ]


def test_a_server_that_is_not_there_is_unavailable(script: Script) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{held.getsockname()[1]}"
        for call in calls(script.bucket(endpoint=endpoint)):
            with pytest.raises(StoreUnavailable):
                call()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDenied", ConfigurationError),
        ("NoSuchBucket", ConfigurationError),
        ("NoSuchKey", ObjectMissing),
        ("KeyTooLongError", ObjectRefused),
        ("XMinioStorageFull", PermanentError),
        ("RequestTimeout", StoreUnavailable),
    ],
)
def test_codes_mean_what_the_operator_must_do_about_the_bucket(
    script: Script, code: str, kind: type[PgbenError]
) -> None:
    script.answers = [error(400, code)]
    with pytest.raises(kind) as raised:
        put(script.bucket())
    assert type(raised.value) is kind
    assert "PGBEN_REPOSITORY" not in str(raised.value)
    assert "prune" not in str(raised.value)


@pytest.mark.parametrize("size", [0, 30])
def test_a_bare_404_to_storing_is_about_the_key_only_where_the_bucket_is_there(
    script: Script, size: int
) -> None:
    not_found, there = Answer(404, b"<html>404 Not Found</html>"), Answer()
    # What libcurl cannot store whole is sent once more by the client that reads errors.
    tries = 2 if size == 0 else 1
    script.answers = [not_found] * tries + [there]
    with pytest.raises(ObjectMissing):
        put(script.bucket(), size)
    assert script.asked[-1][:2] == ("HEAD", "/documents")
    script.answers = [not_found]
    with pytest.raises(ConfigurationError, match="the bucket of .* does not exist"):
        put(script.bucket(), size)


BEGUN = Answer(
    body=b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
)
PART = Answer(headers={"ETag": '"p"'})


@pytest.mark.parametrize(
    "answers",
    [
        [BEGUN, error(400, "EntityTooLarge")],
        [BEGUN, PART, PART, PART, error(400, "InvalidRequest")],
        [BEGUN, PART, PART, PART, Answer(body=b"<Error><Code>InternalError</Code></Error>")],
        [BEGUN, PART, PART, PART, Answer(body=b"<html/>")],
    ],
)
def test_an_upload_that_fails_is_abandoned(script: Script, answers: list[Answer]) -> None:
    script.answers = answers
    with pytest.raises(PgbenError):
        put(script.bucket(), 30)
    assert script.asked[-1][:2] == ("DELETE", "/documents/a?uploadId=u")


class Forbidden(Exception):
    """Somebody changed the object meanwhile."""


def refuse() -> None:
    raise Forbidden


def test_an_upload_that_is_forbidden_at_its_end_is_abandoned(script: Script) -> None:
    script.answers = [BEGUN, PART, PART, PART, Answer(204)]
    with pytest.raises(Forbidden):
        put(script.bucket(), 30, before_commit=refuse)
    methods = [method for method, *_ in script.asked]
    assert methods == ["POST", "PUT", "PUT", "PUT", "DELETE"]
    assert script.asked[-1][1] == "/documents/a?uploadId=u"


def test_an_upload_that_cannot_be_abandoned_stays_noted(script: Script) -> None:
    told: list[str] = []

    class Notes:
        def begun(self, key: str, upload: str) -> None:
            told.append(f"{key} {upload} after {len(script.asked)}")

        def ended(self, key: str, upload: str) -> None:
            told.append(f"{key} {upload} ended")

    script.answers = [BEGUN, error(400, "InvalidRequest"), Answer(503)]
    with pytest.raises(PermanentError):
        put(script.bucket(), 30, uploads=Notes())
    assert told == ["a u after 1"]
    script.answers = [error(404, "NoSuchUpload")]
    script.bucket().give_up("a", "u")
    script.answers = [Answer(503)]
    with pytest.raises(StoreUnavailable):
        script.bucket().give_up("a", "u")


def test_an_object_that_is_stored_again_is_asked_about_again(script: Script) -> None:
    """Seconds lie between two tries: whatever was there before may be another object."""
    script.answers = [Answer(503), Answer(503), PART]
    asked: list[int] = []
    bucket = script.bucket(patience=timedelta(seconds=10))
    put(bucket, before_commit=lambda: asked.append(len(script.asked)))
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("size", [0, 30])
@pytest.mark.parametrize("tag", ["short", "too long for a header" * 100])
def test_an_object_is_stored_without_its_tags_where_a_server_refuses_them(
    script: Script, size: int, tag: str
) -> None:
    ended = Answer(
        body=b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'
    )
    stored = [BEGUN, PART, PART, PART, ended] if size else [Answer(headers=FACTS)]
    refused = error(501, "NotImplemented")
    looked_at = [Answer(headers=FACTS), refused]
    script.answers = [refused, *stored, *looked_at] if tag == "short" else [*stored, *looked_at]
    script.answers.append(error(400, "TooMuchAsked"))
    bucket = script.bucket()
    data = iter([bytes(size)])
    etag = bucket.put("a", data, size=size, headers={}, metadata={}, tags={"a": tag})
    assert etag == "e"
    # Tags are never sent by a request of their own.
    assert ("PUT", "/documents/a?tagging=") not in [asked[:2] for asked in script.asked]


@pytest.mark.parametrize("parts", [0, 3])
def test_an_upload_that_the_server_lost_is_trouble_of_the_server(
    script: Script, parts: int
) -> None:
    script.answers = [BEGUN, *[PART] * parts, error(404, "NoSuchUpload")]
    with pytest.raises(StoreUnavailable):
        put(script.bucket(), 30)


TAGGED_OBJECT = Answer(
    body=b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
)
UNTAGGED_OBJECT = Answer(body=b"<Tagging><TagSet/></Tagging>")
TAGGING = "/documents/a?tagging="


@pytest.mark.parametrize("deleted", [Answer(204), error(405, "MethodNotAllowed")])
def test_tags_are_removed_by_an_empty_set_where_their_deletion_does_nothing(
    script: Script, deleted: Answer
) -> None:
    looks = [] if deleted.status == 405 else [TAGGED_OBJECT]
    script.answers = [deleted, *looks, Answer(200), UNTAGGED_OBJECT]
    script.bucket().put_tags("a", {})
    assert {target for _, target, _ in script.asked} == {TAGGING}
    methods = [method for method, *_ in script.asked]
    assert methods == ["DELETE", *("GET" for _ in looks), "PUT", "GET"]
    assert script.sent[-2] == b"<Tagging><TagSet /></Tagging>"


def test_tags_that_a_deletion_removed_are_not_replaced_by_an_empty_set(script: Script) -> None:
    script.answers = [Answer(204), UNTAGGED_OBJECT]
    script.bucket().put_tags("a", {})
    assert [method for method, *_ in script.asked] == ["DELETE", "GET"]


def test_tags_that_stay_whatever_is_done_are_no_success(script: Script) -> None:
    script.answers = [Answer(204), TAGGED_OBJECT, Answer(200), TAGGED_OBJECT]
    with pytest.raises(ObjectRefused, match="still has tags of 'a'"):
        script.bucket().put_tags("a", {})


def test_an_upload_without_a_name_is_no_answer(script: Script) -> None:
    script.answers = [Answer(body=b"<InitiateMultipartUploadResult/>")]
    with pytest.raises(StoreUnavailable):
        put(script.bucket(), 30)


def test_the_end_of_an_upload_is_not_asked_for_twice(script: Script) -> None:
    script.answers = [BEGUN, PART, PART, PART, Answer(503), Answer(204)]
    with pytest.raises(StoreUnavailable):
        put(script.bucket(), 30)
    assert [method for method, *_ in script.asked].count("POST") == 2


@pytest.mark.parametrize("key", ["a", "/a", "//a", "a/../b", ".", "a b"])
def test_a_bucket_can_be_named_by_the_host(
    script: Script, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = urlsplit(script.location.endpoint).port
    found = socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    script.answers = [Answer(status=204)]
    script.bucket(endpoint=f"http://s3.example:{port}", addressing="virtual").delete(key)
    quoted = key.replace(" ", "%20")
    assert script.asked == [("DELETE", f"/{quoted}", f"documents.s3.example:{port}")]


def test_settings_say_how_the_bucket_is_named_and_for_which_region_is_signed(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = urlsplit(script.location.endpoint).port
    found = socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    server = f"s3.example:{port}"
    keys = {f"PGBEN_MINIO_{which}_KEY": "x" for which in ("ACCESS", "SECRET")}
    plain = Settings.load({**keys, "PGBEN_MINIO_HOST": server})
    other = {"PGBEN_MINIO_ADDRESSING": "virtual", "PGBEN_MINIO_REGION": "sa-east-1"}
    changed = Settings.load({**keys, **other, "PGBEN_MINIO_HOST": server})
    script.answers = [Answer(status=204)]
    for settings in (plain, changed):
        bucket_at(settings, "documents").delete("a")
    assert script.asked == [
        ("DELETE", "/documents/a", server),
        ("DELETE", "/a", f"documents.{server}"),
    ]
    assert ["/us-east-1/s3/" in script.signed[0], "/sa-east-1/s3/" in script.signed[1]] == [
        True
    ] * 2


def test_settings_that_a_key_may_not_see_are_unknown(script: Script) -> None:
    versions = Answer(body=b"<VersioningConfiguration/>")
    script.answers = [versions, error(403, "AccessDenied")]
    found = script.bucket().settings()
    assert found.versioning == "off"
    assert found.unknown == ("lifecycle", "policy", "tagging", "encryption", "lock")
    script.answers = [versions, error(403, "SignatureDoesNotMatch")]
    with pytest.raises(ConfigurationError, match="refuses the credentials"):
        script.bucket().settings()


def test_a_server_that_answers_a_question_with_a_listing_is_asked_no_more(script: Script) -> None:
    listing = Answer(body=b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    script.answers = [Answer(body=b"<VersioningConfiguration/>"), listing]
    found = script.bucket().settings()
    assert found.unknown == ("lifecycle", "policy", "tagging", "encryption", "lock")
    assert len(script.asked) == 2
    script.answers = [listing]
    assert script.bucket().settings().unknown == ("versioning", *found.unknown)
    assert len(script.asked) == 3


MINIO = {"Server": "MinIO"}
TAGGED = listing("a").replace(
    b"</Contents>",
    b"<UserMetadata><content-type>a/b</content-type></UserMetadata>"
    b"<UserTags>k=v</UserTags></Contents>",
)


def test_a_server_that_lists_tags_is_asked_for_them(script: Script) -> None:
    script.answers = [Answer(body=listing("a"), headers=MINIO), Answer(body=TAGGED, headers=MINIO)]
    (found,) = script.bucket().list()
    assert found.tags == {"k": "v"}
    assert ["metadata=true" in target for _, target, _ in script.asked] == [False, True]


@pytest.mark.parametrize(
    "with_metadata",
    [
        Answer(body=TAGGED.replace(b"content-type", b"not a name"), headers=MINIO),
        Answer(403, b"<Error><Code>AccessDenied</Code></Error>"),
    ],
)
def test_a_listing_that_is_no_good_with_metadata_is_read_without(
    script: Script, with_metadata: Answer
) -> None:
    plain = Answer(body=listing("a"), headers=MINIO)
    script.answers = [plain, with_metadata, plain]
    (found,) = script.bucket().list()
    assert (found.key, found.tags) == ("a", None)
    assert len(script.asked) == 3


def test_settings_that_do_not_take_effect_are_named(script: Script) -> None:
    script.answers = [Answer(), Answer(body=b"<VersioningConfiguration/>")]
    assert script.bucket().apply(BucketSettings(versioning="enabled")) == ("versioning",)


OWNER = "<Tagging><TagSet><Tag><Key>owner</Key><Value>pgben</Value></Tag></TagSet></Tagging>"
POLICY = """{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Sid": "",
"Action": "s3:GetObject", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}"""
#: Servers make lists of single values, and give things another order.
REWORDED = """{"Statement": [{"Action": ["s3:GetObject"], "Principal": {"AWS": ["*"]},
"Condition": {"Bool": {"aws:SecureTransport": [false]}}, "Effect": "Deny"}],
"Version": "2012-10-17"}"""


@pytest.mark.parametrize(
    ("asked", "found", "refused"),
    [
        ({"tagging": OWNER}, OWNER.replace("pgben", "somebody else"), ("tagging",)),
        ({"tagging": OWNER}, "<Tagging><TagSet/></Tagging>", ("tagging",)),
        ({"policy": POLICY}, POLICY.replace("Deny", "Allow"), ("policy",)),
        (
            {"tagging": OWNER},
            OWNER.replace("<TagSet>", "<TagSet>\n<Tag><Key>a</Key><Value>b</Value></Tag>"),
            (),
        ),
        ({"policy": POLICY}, REWORDED, ()),
    ],
)
def test_a_setting_is_taken_when_what_was_asked_for_is_there(
    script: Script, asked: dict[str, str], found: str, refused: tuple[str, ...]
) -> None:
    script.answers = [Answer(), Answer(body=found.encode())]
    settings = BucketSettings.model_validate({"versioning": "off", **asked})
    assert script.bucket().apply(settings) == refused


#: A bare <Prefix>, an <And> and a limit of sizes, with the server's own spaces and order.
LIFECYCLE = """<?xml version="1.0" encoding="UTF-8"?>
<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Rule><Expiration><Days>1</Days></Expiration><ID>old</ID><Prefix>tmp/</Prefix>
 <Status>Enabled</Status></Rule>
<Rule><ID>and</ID><Filter><And><Prefix>logs/</Prefix><Tag><Key>keep</Key><Value>no</Value></Tag></And>
 </Filter><Status>Enabled</Status><Expiration><Days>30</Days></Expiration></Rule>
<Rule><ID>size</ID><Filter><ObjectSizeGreaterThan>1048576</ObjectSizeGreaterThan></Filter>
 <Status>Enabled</Status><Expiration><Days>7</Days></Expiration></Rule>
</LifecycleConfiguration>"""


def test_lifecycle_rules_are_written_byte_for_byte_as_a_server_worded_them(script: Script) -> None:
    unknown = Answer(status=501, body=b"<Error><Code>NotImplemented</Code></Error>")
    found = Answer(body=LIFECYCLE.encode())
    script.answers = [unknown, found, unknown]
    settings = script.bucket().settings()
    assert settings.lifecycle == LIFECYCLE
    script.answers = [Answer(), found]
    script.asked.clear()
    assert script.bucket().apply(settings) == ()
    assert script.asked[0][:2] == ("PUT", "/documents?lifecycle=")
    assert script.sent[-2] == LIFECYCLE.encode()


@pytest.mark.parametrize("endpoint", ["localhost:9000", "http://a:canary@host", "ftp://host", ""])
def test_an_endpoint_that_is_none_is_refused_without_being_shown(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="PGBEN_MINIO_HOST") as raised:
        S3Location(
            hints=BUCKET_HINTS, endpoint=endpoint, bucket="b", access_key="a", secret_key="s"
        )
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("name", ["", "a/b", "é"])
def test_a_name_that_no_bucket_has_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="PGBEN_BUCKETS"):
        S3Location(
            hints=BUCKET_HINTS, endpoint="http://h", bucket=name, access_key="a", secret_key="s"
        )


def test_a_private_ca_is_believed_only_when_it_is_named(
    private_tls: tuple[str, Path],  # noqa: F811  # the fixture
    script: Script,
    tmp_path: Path,
) -> None:
    endpoint, authority = private_tls
    with pytest.raises(ConfigurationError, match="PGBEN_MINIO_CA_FILE"):
        script.bucket(endpoint=endpoint).exists()
    with pytest.raises(ConfigurationError, match="PGBEN_MINIO_ACCESS_KEY"):
        script.bucket(endpoint=endpoint, ca_file=authority).exists()
    with pytest.raises(ConfigurationError, match="PGBEN_MINIO_CA_FILE"):
        script.bucket(endpoint=endpoint, ca_file=tmp_path / "none.pem")

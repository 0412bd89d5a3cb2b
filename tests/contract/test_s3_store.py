"""What is particular to S3: wrong settings, absent servers, and keys of other programs."""

from __future__ import annotations

import http.server
import secrets
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pgben_tasks.adapters.s3.administration import ensure_bucket
from pgben_tasks.adapters.s3.errors import REPOSITORY_HINTS, error_for
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.adapters.stores.s3 import S3ObjectStore
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import (
    ConfigurationError,
    ObjectExists,
    ObjectMissing,
    PermanentError,
    StoreUnavailable,
)
from pgben_tasks.ports import Unfinished
from tests.contract.test_object_store import MEBIBYTE, kill_a_writer, s3_location
from tests.support.between import answering

CANARY = "canary-Geh3im-geheim-geheim"


def every_call(store: S3ObjectStore, file: Path) -> list[Callable[[], object]]:
    return [
        lambda: store.put("a", b""),
        lambda: store.put_file("a", file),
        lambda: store.get("a", limit=1),
        lambda: store.head("a"),
        lambda: list(store.stream("a")),
        lambda: list(store.list("")),
        lambda: store.delete("a"),
    ]


def control_calls(store: S3ObjectStore) -> list[Callable[[], object]]:
    return [
        store.now,
        lambda: list(store.unfinished("")),
        lambda: store.abort(Unfinished("a", "none", datetime.now(UTC))),
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    return path


def test_a_wrong_secret_key_is_a_wrong_setting_and_is_never_shown(
    repository_s3: EmbeddedS3, file: Path
) -> None:
    ensure_bucket(s3_location(repository_s3))
    location = s3_location(repository_s3, secret_key=CANARY)
    store = S3ObjectStore(location)
    for call in [*every_call(store, file), *control_calls(store)]:
        with pytest.raises(ConfigurationError, match="refuses the credentials") as raised:
            call()
        assert CANARY not in "".join(traceback.format_exception(raised.value))
    with pytest.raises(ConfigurationError) as raised:
        ensure_bucket(location)
    assert CANARY not in "".join(traceback.format_exception(raised.value))
    assert CANARY not in repr(location)
    assert repository_s3.access_key not in repr(location)


def test_a_missing_bucket_is_a_wrong_setting(repository_s3: EmbeddedS3, file: Path) -> None:
    location = s3_location(repository_s3, bucket=f"none-{secrets.token_hex(6)}")
    for call in every_call(S3ObjectStore(location), file):
        with pytest.raises(ConfigurationError, match=r"bucket .* does not exist"):
            call()


def test_a_server_that_is_not_there_is_unavailable(file: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        location = S3Location(
            hints=REPOSITORY_HINTS,
            endpoint=f"http://127.0.0.1:{held.getsockname()[1]}",
            bucket="backups",
            access_key="key",
            secret_key=CANARY,
            patience=timedelta(milliseconds=100),
        )
        store = S3ObjectStore(location)
        for call in [*every_call(store, file), *control_calls(store)]:
            with pytest.raises(StoreUnavailable) as raised:
                call()
            assert CANARY not in "".join(traceback.format_exception(raised.value))
        with pytest.raises(StoreUnavailable):
            ensure_bucket(location)


def test_the_bucket_is_made_once(repository_s3: EmbeddedS3) -> None:
    location = s3_location(repository_s3, bucket=f"made-{secrets.token_hex(6)}")
    assert ensure_bucket(location)
    assert not ensure_bucket(location)
    S3ObjectStore(location).put("a", b"")


def test_prefixes_keep_repositories_apart(repository_s3: EmbeddedS3) -> None:
    one, other = (s3_location(repository_s3) for _ in range(2))
    ensure_bucket(one)
    S3ObjectStore(one).put("a", b"one")
    assert list(S3ObjectStore(other).list("")) == []
    with pytest.raises(ObjectMissing):
        S3ObjectStore(other).get("a", limit=9)


def test_a_server_that_honours_if_none_match_closes_the_gap(protected_s3: EmbeddedS3) -> None:
    location = s3_location(protected_s3)
    ensure_bucket(location)
    first, second = S3ObjectStore(location), S3ObjectStore(location)
    first.put("a", b"first")
    with pytest.raises(ObjectExists):
        second.put("a", b"second")


def test_the_environment_of_other_programs_changes_nothing(
    repository_s3: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_BUCKET": "other",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    location = s3_location(repository_s3)
    ensure_bucket(location)
    store = S3ObjectStore(location)
    store.put("a", b"content")
    assert [stored.key for stored in store.list("")] == ["a"]


def test_uploads_are_listed_page_by_page(protected_s3: EmbeddedS3, tmp_path: Path) -> None:
    location = s3_location(protected_s3)
    ensure_bucket(location)
    store = S3ObjectStore(location)
    for number in range(3):
        kill_a_writer(store, f"packs/{number}", tmp_path)
    for reader in (S3ObjectStore(location, page=1), store):
        assert [one.key for one in reader.unfinished("")] == ["packs/0", "packs/1", "packs/2"]
    assert [one.key for one in store.unfinished("packs/")] == ["packs/0", "packs/1", "packs/2"]


def test_an_upload_whose_end_lost_its_answer_may_be_tried_again(
    protected_s3: EmbeddedS3, tmp_path: Path
) -> None:
    location = s3_location(protected_s3)
    ensure_bucket(location)
    path = tmp_path / "large"
    path.write_bytes(bytes(17 * MEBIBYTE))

    def ended_before(method: str, target: str) -> int | None:
        return 404 if method in {"POST", "DELETE"} and "uploadId=" in target else None

    with answering(protected_s3.endpoint, ended_before) as endpoint:
        store = S3ObjectStore(replace(location, endpoint=endpoint))
        with pytest.raises(StoreUnavailable, match="lost the upload of 'packs/1'"):
            store.put_file("packs/1", path)
    store = S3ObjectStore(location)
    store.put_file("packs/1", path)
    assert store.head("packs/1").size == 17 * MEBIBYTE


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:9000", "ftp://host", "https://", f"http://user:{CANARY}@host:9000", ""],
)
def test_an_endpoint_that_is_none_is_refused_without_being_shown(endpoint: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        S3Location(
            hints=REPOSITORY_HINTS, endpoint=endpoint, bucket="b", access_key="a", secret_key="s"
        )
    assert CANARY not in str(raised.value)


class _Refusing(http.server.BaseHTTPRequestHandler):
    """An S3 server that knows nobody."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Log no request."""


class _Simple(http.server.BaseHTTPRequestHandler):
    """An S3 server that refuses conditional writes, as some do, and drops long answers."""

    objects: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if "If-None-Match" in self.headers:
            self.answer(501, b"<Error><Code>NotImplemented</Code></Error>")
        else:
            self.objects[self.path] = data
            self.answer(200, b"")

    def do_HEAD(self) -> None:
        data = self.objects.get(self.path)
        self.answer(404 if data is None else 200, data or b"", body=False)

    def do_GET(self) -> None:
        data = self.objects.get(self.path)
        if data is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self.answer(200, data, cut=len(data) > MEBIBYTE)

    def answer(self, status: int, data: bytes, *, body: bool = True, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", "Mon, 23 Nov 2026 05:00:00 GMT")
        self.send_header("ETag", '"x"')
        self.end_headers()
        if body:
            self.wfile.write(data[: MEBIBYTE if cut else None])
        self.close_connection = cut

    def log_message(self, *_: object) -> None:
        """Log no request."""


@pytest.fixture
def simple(request: pytest.FixtureRequest) -> Iterator[S3Location]:
    """Yield a repository on a server that knows little."""
    handler = getattr(request, "param", _Simple)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield S3Location(
            hints=REPOSITORY_HINTS,
            endpoint=f"http://127.0.0.1:{server.server_port}",
            bucket="backups",
            access_key="a",
            secret_key="s",
            patience=timedelta(milliseconds=300),
        )
        server.shutdown()
        thread.join(timeout=10)
        _Simple.objects.clear()


class _Timeless(_Simple):
    """An S3 server behind something that takes the date away."""

    def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002
        return "soon"

    def do_GET(self) -> None:
        self.answer(200, b"<ListBucketResult/>" if "list-type" in self.path else b"<html>")


@pytest.mark.parametrize("simple", [_Timeless], indirect=True)
def test_answers_without_a_date_or_without_sense_are_no_answers(simple: S3Location) -> None:
    store = S3ObjectStore(simple)
    with pytest.raises(ConfigurationError, match="does not tell its time"):
        store.now()
    with pytest.raises(StoreUnavailable, match="does not answer as it should"):
        store.unfinished("packs/")


def test_a_server_without_conditional_writes_serves_too(simple: S3Location) -> None:
    store = S3ObjectStore(simple)
    for key in ("a", "b"):
        store.put(key, b"first")
        with pytest.raises(ObjectExists):
            store.put(key, b"second")
        assert store.get(key, limit=9) == b"first"


def test_an_answer_that_keeps_breaking_off_is_never_taken_for_the_whole(
    simple: S3Location, tmp_path: Path
) -> None:
    store = S3ObjectStore(simple)
    large = tmp_path / "large"
    large.write_bytes(bytes(3 * MEBIBYTE))
    store.put_file("a", large)
    with pytest.raises(StoreUnavailable):
        list(store.stream("a"))
    with pytest.raises(StoreUnavailable):
        store.get("a", limit=4 * MEBIBYTE)


def private_certificates(folder: Path) -> tuple[Path, Path]:
    """Make a CA and a certificate for 127.0.0.1 signed by it; give the CA and the server's file."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("ca", "server")
    ]
    now = datetime.now(UTC)
    pem = []
    for number, (key, name) in enumerate(zip(keys, names, strict=True)):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(number + 1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=number == 0, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(keys[0], SHA256())
        )
        pem.append(certificate.public_bytes(Encoding.PEM))
    (folder / "ca.pem").write_bytes(pem[0])
    (folder / "server.pem").write_bytes(
        pem[1] + keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return folder / "ca.pem", folder / "server.pem"


@pytest.fixture
def private_tls(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the address of a TLS server and the only CA that vouches for it."""
    authority, certificate = private_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}", authority
        server.shutdown()
        thread.join(timeout=10)


def test_a_private_ca_is_believed_only_when_it_is_named(private_tls: tuple[str, Path]) -> None:
    endpoint, authority = private_tls
    location = S3Location(
        hints=REPOSITORY_HINTS,
        endpoint=endpoint,
        bucket="backups",
        access_key="a",
        secret_key="s",
        patience=timedelta(milliseconds=100),
    )
    with pytest.raises(ConfigurationError, match=r"certificate .* is not trusted"):
        S3ObjectStore(location).get("a", limit=1)
    with pytest.raises(ConfigurationError, match=r"certificate .* is not trusted"):
        ensure_bucket(location)
    named = replace(location, ca_file=authority)
    with pytest.raises(ConfigurationError, match="refuses the credentials"):
        S3ObjectStore(named).get("a", limit=1)
    with pytest.raises(ConfigurationError, match="refuses the credentials"):
        ensure_bucket(named)
    with pytest.raises(ConfigurationError, match="refuses the credentials"):
        S3ObjectStore(named).now()


def test_an_absent_or_empty_ca_file_is_a_wrong_setting(tmp_path: Path) -> None:
    rubbish = tmp_path / "ca.pem"
    for path in (tmp_path / "none.pem", rubbish):
        rubbish.write_text("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
        with pytest.raises(ConfigurationError):
            S3ObjectStore(
                S3Location(
                    hints=REPOSITORY_HINTS,
                    endpoint="https://127.0.0.1:1",
                    bucket="backups",
                    access_key="a",
                    secret_key="s",
                    ca_file=path,
                )
            )


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("AccessDenied", ConfigurationError),
        ("RequestTimeTooSkewed", ConfigurationError),
        ("XMinioStorageFull", PermanentError),
        ("507", PermanentError),
        ("SlowDown", StoreUnavailable),
        ("503", StoreUnavailable),
    ],
)
def test_codes_of_servers_mean_what_the_operator_must_do(code: str, error: type) -> None:
    assert type(error_for([code], "a", store="s3://b", hints=REPOSITORY_HINTS)) is error

"""Keys and signatures: who may sign what, and that no secret shows."""

from __future__ import annotations

import base64
import json
import traceback
from pathlib import Path
from typing import Any, get_args

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given, strategies as st

from pgben_tasks.adapters.keys import files as keys
from pgben_tasks.adapters.keys.age import load_identities, parse_recipients, public_keys
from pgben_tasks.adapters.keys.signatures import DocumentKind, Signer, Trust, signing_payload
from pgben_tasks.errors import ConfigurationError, RequestRefused, SignatureInvalid
from pgben_tasks.ports import SigningRole
from tests.support.samples import ALL_ROLES, START, keyring, signing_key

IDENTITY = pyrage.x25519.Identity.generate()
SECRET = str(IDENTITY)
PUBLIC = str(IDENTITY.to_public())
PLACE: dict[str, Any] = {"kind": "manifest", "repository": "repository", "path": "backups/a"}


def without_its_value(value: object) -> str:
    """Name a test's parameter; the keys here are new in every process, and names must not be."""
    return type(value).__name__


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def private_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def pem(key: Any, *, password: bytes | None = None) -> str:
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
    return text.decode()


def test_recipients_are_checked_and_each_is_kept_once() -> None:
    other = str(pyrage.x25519.Identity.generate().to_public())
    assert parse_recipients([PUBLIC, f" {other}\n", PUBLIC]) == (PUBLIC, other)
    assert parse_recipients([]) == ()


@pytest.mark.parametrize(
    "value", [SECRET, SECRET.lower(), f"  {SECRET} ", f"x{SECRET}"], ids=without_its_value
)
def test_a_secret_key_given_as_recipient_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ConfigurationError, match="recipient 2 is a secret key") as raised:
        parse_recipients([PUBLIC, value])
    assert SECRET[20:].lower() not in shown(raised.value).lower()


@pytest.mark.parametrize(
    "value",
    ["", "age1", PUBLIC[:-1], PUBLIC + "x", "hunter2", "ssh-rsa AA"],
    ids=without_its_value,
)
def test_what_is_no_recipient_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="not a public age key") as raised:
        parse_recipients([value])
    assert "hunter2" not in shown(raised.value)


def test_identity_files_may_hold_comments_and_several_identities(tmp_path: Path) -> None:
    other = pyrage.x25519.Identity.generate()
    path = private_file(tmp_path / "keys.txt", f"# created: today\n\n{SECRET}\n  {other}  \n#end")
    assert public_keys(path) == (PUBLIC, str(other.to_public()))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no identity"),
        ("# only a comment\n", "holds no identity"),
        (f"{SECRET}\n{SECRET[:-1]}x\n", "line 2"),
        (f"{PUBLIC}\n", "line 1"),
        (f"{SECRET[:40]}\n", "line 1"),
    ],
    ids=without_its_value,
)
def test_a_faulty_identity_file_is_refused_and_not_shown(
    tmp_path: Path, text: str, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why) as raised:
        load_identities(private_file(tmp_path / "keys.txt", text))
    assert SECRET[20:40] not in shown(raised.value)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o666])
def test_secret_files_open_to_others_are_refused(tmp_path: Path, mode: int) -> None:
    identity = private_file(tmp_path / "keys.txt", SECRET, mode)
    signing = private_file(tmp_path / "signing.pem", pem(signing_key()), mode)
    with pytest.raises(ConfigurationError, match="open to every user"):
        load_identities(identity)
    with pytest.raises(ConfigurationError, match="open to every user"):
        Signer.load(signing)


def test_secret_files_may_be_shared_with_a_group(tmp_path: Path) -> None:
    assert load_identities(private_file(tmp_path / "keys.txt", SECRET, 0o440))


@pytest.mark.parametrize("name", ["none", "folder", "binary", "huge"])
def test_what_is_no_key_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "binary").write_bytes(b"\xff\xfe" + SECRET.encode())
    (tmp_path / "huge").write_bytes(b"#" * (1024 * 1024 + 1))
    for path in tmp_path.iterdir():
        path.chmod(0o700)
    for load in (load_identities, Signer.load, Trust.load):
        with pytest.raises(ConfigurationError, match=name) as raised:
            load(tmp_path / name)
        assert SECRET not in shown(raised.value)


def test_a_new_age_identity_is_an_age_keygen_file(tmp_path: Path) -> None:
    pair = keys.make_age_identity(tmp_path / "new" / "content.txt", now=START)
    lines = pair.path.read_text().splitlines()
    assert lines[0] == "# created: 2026-11-23T05:00:00+00:00"
    assert lines[1] == f"# public key: {pair.public}"
    assert lines[2].startswith("AGE-SECRET-KEY-1")
    assert pair.path.stat().st_mode & 0o777 == 0o600
    assert public_keys(pair.path) == (pair.public,)
    assert lines[2] not in repr(pair)


def test_new_keys_never_replace_a_file(tmp_path: Path) -> None:
    path = private_file(tmp_path / "key", "precious")
    for make in (
        lambda: keys.make_age_identity(path, now=START),
        lambda: keys.make_signing_key(path),
        lambda: keys.write_trusted_keys(path, [keys.trusted_key("a", ["backup"], bytes(32))]),
    ):
        with pytest.raises(RequestRefused, match="exists already"):
            make()
    assert path.read_text() == "precious"
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_a_place_that_refuses_new_keys_is_a_wrong_setting() -> None:
    # Nobody can make files there, root neither.
    with pytest.raises(ConfigurationError, match="cannot be written"):
        keys.make_signing_key(Path("/sys/pgben-test/key.pem"))


def test_keys_made_by_init_sign_and_are_believed(tmp_path: Path) -> None:
    pair = keys.make_signing_key(tmp_path / "signing.pem")
    keys.write_trusted_keys(
        tmp_path / "trusted.json", [keys.trusted_key("backup worker", ["backup"], pair.public)]
    )
    signer, trust = Signer.load(pair.path), Trust.load(tmp_path / "trusted.json")
    assert signer.fingerprint == pair.fingerprint
    assert trust.roles(pair.fingerprint) == {"backup"}
    signature = signer.sign(b"data", role="backup", **PLACE)
    trust.check(b"data", signature, roles=("backup",), **PLACE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not an unencrypted private key"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not an unencrypted"),
        (pem(signing_key(), password=b"password"), "not an unencrypted"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "no Ed25519 key"),
    ],
)
def test_what_is_no_signing_key_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as raised:
        Signer.load(private_file(tmp_path / "signing.pem", text))
    body = "".join(text.splitlines()[1:-1])
    assert not body or body not in shown(raised.value)


@given(data=st.binary(max_size=100), other=st.binary(max_size=100))
def test_a_signature_fits_its_bytes_and_no_others(data: bytes, other: bytes) -> None:
    signer, trust = keyring()
    signature = signer.sign(data, role="backup", **PLACE)
    trust.check(data, signature, roles=("backup",), **PLACE)
    if other != data:
        with pytest.raises(SignatureInvalid, match="does not fit"):
            trust.check(other, signature, roles=("backup",), **PLACE)


@pytest.mark.parametrize(
    "elsewhere",
    [{"kind": "verification"}, {"repository": "other"}, {"path": "backups/b"}],
)
def test_a_signed_document_that_was_moved_is_forged(elsewhere: dict[str, str]) -> None:
    signer, trust = keyring()
    signature = signer.sign(b"data", role="backup", **PLACE)
    with pytest.raises(SignatureInvalid, match="does not fit"):
        trust.check(b"data", signature, roles=("backup",), **(PLACE | elsewhere))


def test_the_role_is_part_of_what_is_signed() -> None:
    signer, trust = keyring()
    signature = signer.sign(b"data", role="verify", **PLACE)
    claimed = signature.model_copy(update={"role": "backup"})
    with pytest.raises(SignatureInvalid, match="does not fit"):
        trust.check(b"data", claimed, roles=("backup",), **PLACE)


def test_a_role_that_the_key_does_not_have_is_not_believed() -> None:
    signer, trust = keyring(("verify",))
    signature = signer.sign(b"data", role="backup", **PLACE)
    with pytest.raises(SignatureInvalid, match="which may not"):
        trust.check(b"data", signature, roles=("backup",), **PLACE)


def test_a_role_that_may_not_sign_the_document_is_not_believed() -> None:
    signer, trust = keyring()
    signature = signer.sign(b"data", role="verify", **PLACE)
    with pytest.raises(SignatureInvalid, match="may not sign such"):
        trust.check(b"data", signature, roles=("backup",), **PLACE)


def test_an_unknown_key_is_not_believed() -> None:
    stranger, _ = keyring(seed=2)
    _, trust = keyring(seed=1)
    signature = stranger.sign(b"data", role="backup", **PLACE)
    with pytest.raises(SignatureInvalid, match="not trusted"):
        trust.check(b"data", signature, roles=("backup",), **PLACE)
    assert trust.roles(stranger.fingerprint) == frozenset()


def test_two_different_places_never_have_one_payload() -> None:
    payloads = {
        signing_payload(b"data", role=role, kind=kind, repository="r", path="p")
        for role in ALL_ROLES
        for kind in get_args(DocumentKind)
    }
    assert len(payloads) == len(ALL_ROLES) * len(get_args(DocumentKind))
    with pytest.raises(SignatureInvalid, match="line break"):
        signing_payload(b"", role="backup", kind="manifest", repository="r\nmanifest", path="p")


def trusted_line(**fields: Any) -> dict[str, Any]:
    line = keys.trusted_key("backup", ["backup"], signing_key().public_key().public_bytes_raw())
    return line.model_dump(mode="json") | fields


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "document"),
        ({"format": 1, "keys": []}, "keys"),
        ({"format": 2, "keys": [trusted_line()]}, "format"),
        ({"format": 1, "keys": [trusted_line()], "more": 1}, "more"),
        ({"format": 1, "keys": [trusted_line(more=1)]}, "more"),
        ({"format": 1, "keys": [trusted_line(roles=[])]}, "roles"),
        ({"format": 1, "keys": [trusted_line(roles=["owner"])]}, "roles"),
        ({"format": 1, "keys": [trusted_line(roles="backup")]}, "roles"),
        ({"format": 1, "keys": [trusted_line(public="?")]}, "not base64"),
        ({"format": 1, "keys": [trusted_line(public="AAAA")]}, "3 bytes long"),
        ({"format": 1, "keys": [trusted_line(fingerprint="0" * 64)]}, "does not fit"),
        ({"format": 1, "keys": [trusted_line(), trusted_line()]}, "listed twice"),
        ('{"format":1,"format":1,"keys":[]}', "not JSON"),
    ],
)
def test_a_faulty_trusted_keys_file_is_refused(tmp_path: Path, content: Any, why: str) -> None:
    path = tmp_path / "trusted.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ConfigurationError, match=why):
        Trust.load(path)


def test_a_trusted_keys_file_that_others_may_change_is_refused(tmp_path: Path) -> None:
    content = json.dumps({"format": 1, "keys": [trusted_line()]})
    with pytest.raises(ConfigurationError, match="open to every user"):
        Trust.load(private_file(tmp_path / "trusted.json", content, 0o666))
    trust = Trust.load(private_file(tmp_path / "trusted.json", content, 0o644))
    assert isinstance(trust, Trust)


def test_the_signer_shows_no_key() -> None:
    signer, _ = keyring()
    raw = signing_key().private_bytes_raw()
    text = repr(signer) + repr(vars(signer))
    assert raw.hex() not in text
    assert base64.b64encode(raw).decode() not in text


def test_all_roles_are_known() -> None:
    assert set(get_args(SigningRole)) == set(ALL_ROLES)

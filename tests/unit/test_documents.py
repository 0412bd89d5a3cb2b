"""The strict decoding of the format's documents."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from pgben_tasks.domain.documents import (
    AuditEntry,
    Finding,
    Manifest,
    Member,
    Pack,
    PostgresCapture,
    RepositoryCard,
    Signature,
    TableCount,
    Verification,
    pack_number,
)
from pgben_tasks.domain.layout import document_path, is_known, target_of
from pgben_tasks.domain.values import Document, canonical
from pgben_tasks.errors import ManifestInvalid
from tests.support import samples

ONE_OF_EACH: tuple[Document, ...] = (
    samples.manifest(),
    samples.verification(findings=(Finding(kind="damaged", path="packs/x", detail="é"),)),
    samples.audit_entry(),
    samples.pack(),
    samples.capture(),
    RepositoryCard(repository=samples.REPOSITORY, created=samples.START),
    Signature(role="backup", key="0" * 64, signature="A" * 86 + "=="),
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
size = st.integers(min_value=0, max_value=2**63)
digest = st.text("0123456789abcdef", min_size=64, max_size=64)
moment = st.datetimes(
    min_value=datetime.fromisoformat("2000-01-01"),
    max_value=datetime.fromisoformat("2100-01-01"),
    timezones=st.just(UTC),
)
tables = st.lists(st.builds(TableCount, schema_name=text, table=text, rows=size), max_size=4)
captures = st.builds(
    samples.capture,
    comment=st.none() | text,
    acl=st.none() | st.lists(text, max_size=3).map(tuple),
    owner=text,
    snapshot_time=moment,
    tables=tables.map(tuple),
)


@st.composite
def packs(draw: st.DrawFn) -> tuple[Pack, ...]:
    names = draw(
        st.lists(
            st.text("abc.-_0é ", min_size=1, max_size=8).filter(
                lambda name: name not in {".", ".."}
            ),
            min_size=1,
            max_size=6,
            unique=True,
        )
    )
    return tuple(
        Pack(
            path=f"packs/{samples.TARGET}/{samples.BACKUP}/{number}.tar.zst.age",
            size=draw(size),
            sha256=draw(digest),
            members=(Member(name=name, size=draw(size), sha256=draw(digest)),),
        )
        for number, name in enumerate(names, start=1)
    )


manifests = st.builds(
    samples.manifest,
    sequence=st.integers(min_value=1, max_value=2**40),
    started=st.just(samples.START),
    finished=moment.map(lambda at: max(at, samples.START)),
    tools=st.dictionaries(text, text, max_size=3),
    packs=packs(),
    previous=st.none() | digest,
    suspect=st.none() | text,
    postgres=captures,
)


def changed(document: Document, path: tuple[str | int, ...], value: Any) -> bytes:
    """Encode ``document`` with one value replaced, or removed when it is ``...``."""
    raw = document.model_dump(mode="json")
    place: Any = raw
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(raw, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode() + (
        b"\n"
    )


@pytest.mark.parametrize("document", ONE_OF_EACH, ids=lambda one: type(one).__name__)
def test_documents_come_back_from_their_bytes(document: Document) -> None:
    assert type(document).decode(document.encode(), where="x") == document


@given(document=manifests)
def test_any_manifest_comes_back_from_its_bytes(document: Manifest) -> None:
    data = document.encode()
    assert Manifest.decode(data, where="x") == document
    assert Manifest.decode(data, where="x").encode() == data


@given(junk=st.binary(max_size=200))
def test_junk_is_refused_and_never_crashes(junk: bytes) -> None:
    for kind in {type(document) for document in ONE_OF_EACH}:
        with pytest.raises(ManifestInvalid):
            kind.decode(junk, where="x")


@given(data=st.data())
def test_no_changed_byte_of_a_manifest_goes_unnoticed_as_another_form(data: st.DataObject) -> None:
    original = samples.manifest().encode()
    place = data.draw(st.integers(0, len(original) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != original[place]))
    found = original[:place] + bytes([other]) + original[place + 1 :]
    try:
        decoded = Manifest.decode(found, where="x")
    except ManifestInvalid:
        return
    assert decoded.encode() == found
    assert decoded != samples.manifest()


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("unknown",), 1, "unknown is not known"),
        (("postgres", "unknown"), 1, "postgres.unknown is not known"),
        (("packs", 0, "members", 0, "unknown"), 1, "unknown is not known"),
        (("job",), ..., "job is missing"),
        (("format",), ..., "its format is None"),
        (("format",), 2, "its format is 2"),
        (("format",), "1", "its format is '1'"),
        (("format",), True, ""),
        (("format",), 1.0, ""),
        (("sequence",), 0, "sequence"),
        (("sequence",), "1", "sequence"),
        (("sequence",), 1.0, ""),
        (("sequence",), True, "sequence"),
        (("packs", 0, "size"), -1, "size"),
        (("packs", 0, "size"), 1.5, "size"),
        (("packs", 0, "sha256"), "0" * 63, "sha256"),
        (("packs", 0, "sha256"), "A" * 64, "sha256"),
        (("packs", 0, "sha256"), "0" * 64 + "\n", "sha256"),
        (("packs",), [], "packs"),
        (("started",), 1_700_000_000, "started"),
        (("started",), "2026-11-23", ""),
        (("started",), "2026-11-23T05:00:00", "without a time zone"),
        (("started",), "2026-11-23T02:00:00-03:00", "canonical"),
        (("started",), "0001-01-01T00:00:00+23:59", "not in any year"),
        (("started",), "2026-11-24T05:00:00Z", "finished before it started"),
        (("target",), "postgres/../etc", "target"),
        (("target",), "postgres/other", "belongs to another target"),
        (("target",), "volume/pgben", "target"),
        (("backup",), "20261123T050000Z", "backup"),
        (("backup",), "20261399T050000Z-1f0c9a", "backup"),
        (("tools",), {"pg_dump": 17}, "tools"),
        (("postgres", "locale_provider"), "other", "locale_provider"),
        (("previous",), "", "previous"),
    ],
)
def test_what_does_not_follow_the_format_is_refused(
    path: tuple[str | int, ...], value: object, why: str
) -> None:
    with pytest.raises(ManifestInvalid, match=r"^'backups/x' is not valid: ") as raised:
        Manifest.decode(changed(samples.manifest(), path, value), where="backups/x")
    assert why in raised.value.sentence


@pytest.mark.parametrize(
    "path",
    [
        "packs/postgres/pgben/20261123T050000Z-1f0c9a/../1.tar",
        "packs/postgres/pgben/../1.tar",
        "packs/postgres/../20261123T050000Z-1f0c9a/1.tar",
        "/packs/postgres/pgben/20261123T050000Z-1f0c9a/1.tar",
        "backups/postgres/pgben/20261123T050000Z-1f0c9a/1.tar",
        "packs/postgres/pgben/20261123T050000Z-1f0c9a/manifest.json",
        "packs/postgres/pgben/20261123T050000Z-1f0c9a/0.tar",
        "packs/postgres/pgben/20261123T050000Z-1f0c9a/01.tar",
        "packs/postgres/pgben/20261123T050000Z-1f0c9a/1.tar\n",
        "packs/postgres/pgben/20261123T050000Z-1f0c9a/1.tar.age.zst",
        "packs/volume/pgben/20261123T050000Z-1f0c9a/1.tar",
        "packs/postgres/pgben/yesterday/1.tar",
        "",
    ],
)
def test_paths_outside_the_tree_are_refused(path: str) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.decode(changed(samples.manifest(), ("packs", 0, "path"), path), where="x")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc/passwd", "a\\b", "a\0b", "a\nb", "\x1b[2J", "é" * 128]
)
def test_unsafe_member_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        samples.member(name, b"")
    with pytest.raises(ManifestInvalid):
        Manifest.decode(
            changed(samples.manifest(), ("packs", 0, "members", 0, "name"), name), where="x"
        )


def test_a_pack_or_member_listed_twice_is_refused() -> None:
    one = samples.pack()
    for listed in (
        (one, one),
        (one, one.model_copy(update={"path": one.path.replace("/1.", "/2.")})),
    ):
        with pytest.raises(ValidationError, match="listed twice"):
            samples.manifest(packs=listed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"format":NaN}',
        b'{"format":' + b"9" * 5000 + b"}",
        b'{"created":"2026-11-23T05:00:00Z","format":1,"repository":"a","repository":"b"}\n',
        b'{"created":"2026-11-23T05:00:00Z","format":1,"repository":"\\ud800"}\n',
        b'{"format":1,"created":"2026-11-23T05:00:00Z","repository":"a"}\n',
        b'{"created":"2026-11-23T05:00:00Z","format":1,"repository":"a"}',
        b'{"created":"2026-11-23T05:00:00Z","format":1,"repository":"a"}\n\n',
        b'{"created":"2026-11-23T05:00:00Z", "format":1,"repository":"a"}\n',
        b'{"created":"2026-11-23T05:00:00Z","format":1,"repository":"\\u0061"}\n',
        b'\xef\xbb\xbf{"created":"2026-11-23T05:00:00Z","format":1,"repository":"a"}\n',
    ],
)
def test_bytes_that_are_not_canonical_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        RepositoryCard.decode(data, where="repository.json")


@pytest.mark.parametrize("value", [1.5, {"a": [1.0]}, [float("nan")]])
def test_the_format_has_no_floats(value: object) -> None:
    with pytest.raises(TypeError):
        canonical(value)


def test_canonical_bytes_are_sorted_and_readable() -> None:
    assert canonical({"b": "São", "a": [1, None]}) == '{"a":[1,null],"b":"São"}\n'.encode()


def test_moments_are_kept_in_utc() -> None:
    local = datetime(2026, 11, 23, 2, 0, tzinfo=timezone(timedelta(hours=-3)))
    assert samples.manifest(started=local).encode() == samples.manifest().encode()
    with pytest.raises(ValidationError):
        samples.manifest(started=datetime(2026, 11, 23, 5, 0))  # noqa: DTZ001  # naive on purpose


def test_documents_do_not_change() -> None:
    with pytest.raises(ValidationError):
        samples.manifest().job = "other"  # type: ignore[misc]  # what the test is about


@pytest.mark.parametrize(
    "identifier", ["20261123T05100\u0660Z-aaaaaa", "20261123T051000Z-aaaaaa/..", ""]
)
def test_ids_of_statements_are_safe_in_paths(identifier: str) -> None:
    with pytest.raises(ValidationError):
        samples.verification(id=identifier)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1.tar", 1),
        ("12.tar.zst.age", 12),
        ("0.tar", None),
        ("01.tar", None),
        ("1.tar.gz", None),
        ("1", None),
        ("\u0661.tar", None),
        ("9" * 5000 + ".tar", None),
        ("-1.tar", None),
    ],
)
def test_numbers_of_packs_are_read_from_their_names(name: str, number: int | None) -> None:
    assert pack_number(name) == number


@pytest.mark.parametrize(
    "document",
    [samples.manifest(), samples.verification(), samples.audit_entry()],
    ids=lambda one: type(one).__name__,
)
def test_every_signed_document_has_its_place(
    document: Manifest | Verification | AuditEntry,
) -> None:
    path = document_path(document)
    if isinstance(document, AuditEntry):
        assert path == "audit/2026/11/1.json"
    else:
        assert is_known(path, samples.TARGET)
        assert is_known(path + ".sig", samples.TARGET)
        assert not is_known(path + ".bak", samples.TARGET)


def test_targets_are_read_from_keys_and_nonsense_is_not() -> None:
    assert target_of(samples.pack().path) == samples.TARGET
    for key in ("packs/postgres/..", "packs/postgres/pgben/1.tar", "audit/2026/11/1.json", "x"):
        assert target_of(key) is None


def test_totals_are_those_of_all_packs() -> None:
    document = samples.manifest()
    assert (document.stored_bytes, document.plain_bytes) == (6, 3)
    assert [one.name for one in document.members] == ["toc.dat"]
    assert isinstance(document.postgres, PostgresCapture)
    assert document.postgres.rows == 3

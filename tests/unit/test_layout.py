"""Where things stand in the repository, and which keys the format does not know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from pgben_tasks.domain import layout
from pgben_tasks.domain.target import Target
from tests.support import samples
from tests.support.samples import BACKUP, TARGET

BUCKET = Target("bucket", "documents")


def test_prefixes_end_where_a_longer_name_would_begin() -> None:
    assert layout.backups_prefix(TARGET) == f"backups/{TARGET}/"
    assert layout.packs_prefix(TARGET) == f"packs/{TARGET}/"
    assert layout.verifications_prefix(TARGET) == f"verifications/{TARGET}/"
    assert layout.verifications_prefix(TARGET, BACKUP) == f"verifications/{TARGET}/{BACKUP}/"


def test_documents_stand_where_they_say() -> None:
    manifest = samples.manifest()
    path = f"backups/{manifest.target}/{manifest.backup}/manifest.json"
    assert layout.document_path(manifest) == path
    assert layout.signature_path(path) == f"{path}.sig"
    statement = samples.verification()
    assert layout.document_path(statement) == (
        f"verifications/{statement.target}/{statement.backup}/{statement.id}.json"
    )


def test_an_audit_entry_stands_under_its_month_in_utc() -> None:
    brazil = timezone(timedelta(hours=-3))
    entry = samples.audit_entry(at=datetime(2026, 12, 31, 22, 30, tzinfo=brazil).astimezone(UTC))
    assert layout.document_path(entry) == f"audit/2027/01/{entry.sequence}.json"


@pytest.mark.parametrize(
    ("key", "target"),
    [
        (f"backups/{TARGET}/{BACKUP}/manifest.json", TARGET),
        (f"packs/{TARGET}/{BACKUP}/1.tar", TARGET),
        (f"verifications/{TARGET}/{BACKUP}/x.json", None),
        (f"packs/{TARGET}/{BACKUP}", None),
        (f"packs/volume/x/{BACKUP}/1.tar", None),
    ],
)
def test_the_target_of_a_key(key: str, target: Target | None) -> None:
    assert layout.target_of(key) == target


@pytest.mark.parametrize(
    "key",
    [
        f"backups/{TARGET}/{BACKUP}/manifest.json.sig",
        f"packs/{TARGET}/{BACKUP}/manifest.json",
        f"backups/{TARGET}/{BACKUP}/below/manifest.json",
        f"backups/{TARGET}/yesterday/manifest.json",
    ],
)
def test_what_is_no_manifest_names_no_backup(key: str) -> None:
    assert layout.backup_of_manifest(key) is None


def test_a_manifest_names_its_backup() -> None:
    assert layout.backup_of_manifest(layout.manifest_path(TARGET, BACKUP)) == BACKUP


@pytest.mark.parametrize(
    "key",
    [
        f"backups/{TARGET}/{BACKUP}/manifest.json",
        f"backups/{TARGET}/{BACKUP}/manifest.json.sig",
        f"packs/{TARGET}/{BACKUP}/12.tar.zst.age",
        f"verifications/{TARGET}/{BACKUP}/{BACKUP}.json",
        f"verifications/{TARGET}/{BACKUP}/{BACKUP}.json.sig",
    ],
)
def test_keys_that_the_format_knows(key: str) -> None:
    assert layout.is_known(key, TARGET)
    assert not layout.is_known(key, BUCKET)


@pytest.mark.parametrize(
    "key",
    [
        f"backups/{TARGET}/{BACKUP}/inventory.jsonl.zst.age",
        f"backups/{TARGET}/{BACKUP}/notes.txt",
        f"backups/{TARGET}/yesterday/manifest.json",
        f"packs/{TARGET}/{BACKUP}/0.tar",
        f"packs/{TARGET}/{BACKUP}/1.zip",
        f"verifications/{TARGET}/{BACKUP}/{BACKUP}.txt",
        f"verifications/{TARGET}/{BACKUP}/latest.json",
        f"elsewhere/{TARGET}/{BACKUP}/manifest.json",
        f"packs/{TARGET}/1.tar",
    ],
)
def test_keys_that_the_format_does_not_know(key: str) -> None:
    assert not layout.is_known(key, TARGET)


def test_public_keys_stand_under_their_fingerprint() -> None:
    path = layout.public_keys_path("0a" * 32)
    assert path == f"keys/{'0a' * 32}.json"
    assert layout.public_keys_fingerprint(path) == "0a" * 32
    assert layout.has_place(path)
    others = (
        *(f"keys/{'0A' * 32}.json", f"keys/{'0a' * 31}.json", f"keys/{'0a' * 32}.json.sig"),
        *(f"keys/{'0a' * 32}", f"keys/inner/{'0a' * 32}.json", f"{'0a' * 32}.json", "keys.json"),
    )
    for key in others:
        assert layout.public_keys_fingerprint(key) is None
        assert not layout.has_place(key)


def test_only_a_bucket_has_an_inventory() -> None:
    assert layout.is_known(f"backups/{BUCKET}/{BACKUP}/inventory.jsonl.zst.age", BUCKET)

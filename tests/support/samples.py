"""Believable documents, members and keys for tests; every value can be changed by name."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pgben_tasks.adapters.keys.files import trusted_key
from pgben_tasks.adapters.keys.signatures import Signer, Trust
from pgben_tasks.domain.documents import (
    AuditEntry,
    Manifest,
    Member,
    Pack,
    PointMember,
    PostgresCapture,
    RecoveryPoint,
    TableCount,
    TrustedKeys,
    Verification,
)
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.ports import SigningRole

START = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
TARGET = Target("postgres", "pgben")
BACKUP = BackupId.make(START, "1f0c9a")
REPOSITORY = "0123456789abcdef"
#: A public key whose secret one is in tests/fixtures/upgrade.
RECIPIENT = "age1m48dl3fg07qglvtlnu3l4kl2yxjhzjupej4wqlac20wm79gze33sv6weyz"
ALL_ROLES: tuple[SigningRole, ...] = ("backup", "verify", "restore", "maintenance")


def sha256(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def member(name: str, data: bytes) -> Member:
    """Describe a file of these bytes."""
    return Member(name=name, size=len(data), sha256=sha256(data))


def write_members(folder: Path, files: dict[str, bytes]) -> tuple[Member, ...]:
    """Write files into ``folder`` and describe them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return tuple(member(name, data) for name, data in files.items())


def pack(data: bytes = b"sealed", *, path: str | None = None, **fields: Any) -> Pack:
    """Describe a stored pack of these sealed bytes."""
    return Pack(
        path=path or f"packs/{TARGET}/{BACKUP}/1.tar.age",
        size=len(data),
        sha256=sha256(data),
        members=fields.get("members", (member("toc.dat", b"toc"),)),
    )


def capture(**fields: Any) -> PostgresCapture:
    """Describe a small database."""
    values: dict[str, Any] = {
        "database": "pgben",
        "server_version": "17.10",
        "server_version_num": 170010,
        "encoding": "UTF8",
        "locale_provider": "libc",
        "collate": "C.UTF-8",
        "ctype": "C.UTF-8",
        "locale": None,
        "icu_rules": None,
        "collation_version": None,
        "owner": "postgres",
        "acl": None,
        "settings": (),
        "comment": "São João",
        "connection_limit": -1,
        "tablespace": "pg_default",
        "tablespaces": (),
        "extensions": (),
        "roles": ("postgres",),
        "large_objects": 0,
        "replication_slots": (),
        "subscriptions": (),
        "lsn": "0/1500000",
        "snapshot_time": START,
        "snapshot": "00000003-00000002-1",
        "dump_compression": "zstd:3",
        "database_bytes": 8_000_000,
        "tables": (TableCount(schema_name="public", table="cidadão", rows=3),),
    }
    return PostgresCapture(**(values | fields))


def manifest(**fields: Any) -> Manifest:
    """Describe a small backup."""
    values: dict[str, Any] = {
        "repository": REPOSITORY,
        "target": str(TARGET),
        "backup": str(BACKUP),
        "sequence": 1,
        "job": "7f8d",
        "started": START,
        "finished": START + timedelta(minutes=4),
        "tools": {"pg_dump": "17.10"},
        "packs": (pack(),),
        "previous": None,
        "recipients": (),
        "suspect": None,
        "postgres": capture(),
    }
    return Manifest(**(values | fields))


def verification(**fields: Any) -> Verification:
    """Describe a clean verification."""
    values: dict[str, Any] = {
        "repository": REPOSITORY,
        "target": str(TARGET),
        "backup": str(BACKUP),
        "id": "20261123T051000Z-aaaaaa",
        "kind": "quick",
        "job": "7f8d",
        "at": START + timedelta(minutes=10),
        "opened": False,
        "packs_checked": 1,
        "bytes_read": 6,
        "manifest": sha256(b"manifest"),
        "findings": (),
        "reasons": (),
    }
    return Verification(**(values | fields))


def audit_entry(**fields: Any) -> AuditEntry:
    """Describe one request."""
    values: dict[str, Any] = {
        "repository": REPOSITORY,
        "sequence": 1,
        "previous": None,
        "at": START,
        "who": "ana",
        "action": "backup",
        "target": str(TARGET),
        "backup": str(BACKUP),
        "job": "7f8d",
        "result": "succeeded",
        "detail": "",
    }
    return AuditEntry(**(values | fields))


def signing_key(seed: int = 1) -> Ed25519PrivateKey:
    """Return the same key for the same seed."""
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def keyring(roles: tuple[SigningRole, ...] = ALL_ROLES, *, seed: int = 1) -> tuple[Signer, Trust]:
    """Return a signer and the trust that believes it in ``roles``."""
    key = signing_key(seed)
    line = trusted_key("test", roles, key.public_key().public_bytes_raw())
    return Signer(key), Trust(TrustedKeys(keys=(line,)))


def point_member(target: str = str(TARGET), **fields: Any) -> PointMember:
    """Describe a member of a recovery point."""
    values: dict[str, Any] = {
        "target": target,
        "backup": str(BACKUP),
        "manifest": sha256(b"manifest"),
        "snapshot_time": START,
    }
    return PointMember(**{**values, **fields})


def recovery_point(**fields: Any) -> RecoveryPoint:
    """Join a database with a bucket that was listed an hour later."""
    listed = START + timedelta(hours=1)
    values: dict[str, Any] = {
        "repository": REPOSITORY,
        "id": str(BackupId.make(listed + timedelta(minutes=10), "0a0b0c")),
        "job": "1b0c6b0a-0000-4000-8000-000000000001",
        "settle": 300,
        "members": (
            point_member("bucket/documents", snapshot_time=listed),
            point_member(),
        ),
    }
    return RecoveryPoint(**{**values, **fields})

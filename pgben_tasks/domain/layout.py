"""Where each thing stands in the repository, and which keys the format does not know. Pure."""

from __future__ import annotations

import re
from typing import Final

from pgben_tasks.domain.documents import (
    AuditEntry,
    Manifest,
    RecoveryPoint,
    StoredFile,
    Verification,
    pack_number,
)
from pgben_tasks.domain.target import BackupId, Target, require_utc
from pgben_tasks.errors import ConfigurationError, ManifestInvalid

REPOSITORY_CARD: Final = "repository.json"
BACKUPS: Final = "backups/"
PACKS: Final = "packs/"
VERIFICATIONS: Final = "verifications/"
AUDIT: Final = "audit/"
#: Reports for people, each one file; the audit trail names their digests.
REPORT_FILES: Final = "audit/reports/"
POINTS: Final = "recovery-points/"
PUBLIC_KEYS: Final = "keys/"
#: What lies under each target has a folder of its own in each of these.
FOLDERS: Final = ("backups", "packs", "verifications")
SIGNATURE_SUFFIX: Final = ".sig"
_MANIFEST: Final = "manifest.json"
#: The file of lines beside a manifest, by the kind of its target: the inventory of a bucket, or
#: what rows of a database say of objects. Sealed, or in the clear where encryption is off.
_LINES: Final = {
    "bucket": ("inventory.jsonl.zst.age", "inventory.jsonl.zst"),
    "postgres": ("references.jsonl.zst.age", "references.jsonl.zst"),
}
_FAULTS: Final = re.compile(r"(.+)\.faults\.jsonl\.zst(?:\.age)?")
#: What a shard of a copy is to hold, and what of it is stored.
_SHARD_FILE: Final = re.compile(
    r"shard-[1-9][0-9]{0,3}-(?:wanted|[1-9][0-9]{0,8})\.jsonl\.zst(?:\.age)?", re.ASCII
)
#: Parts of ``<folder>/<target kind>/<target name>/<backup>/<file>``.
_PARTS: Final = 5
_PUBLIC_KEYS: Final = re.compile(r"keys/([0-9a-f]{64})\.json", re.ASCII)
_AUDIT_ENTRY: Final = re.compile(r"audit/[0-9]{4}/[0-9]{2}/([1-9][0-9]{0,17})\.json", re.ASCII)


def backups_prefix(target: Target) -> str:
    """Return what all keys of a target's manifests begin with."""
    return f"{BACKUPS}{target}/"


def packs_prefix(target: Target) -> str:
    """Return what all keys of a target's packs begin with."""
    return f"{PACKS}{target}/"


def verifications_prefix(target: Target, backup: BackupId | None = None) -> str:
    """Return what all keys of statements about a target, or one backup of it, begin with."""
    prefix = f"{VERIFICATIONS}{target}/"
    return prefix if backup is None else f"{prefix}{backup}/"


def prefixes(target: Target) -> tuple[str, str, str]:
    """Return what all keys of a target begin with, in each of ``FOLDERS``."""
    return backups_prefix(target), packs_prefix(target), verifications_prefix(target)


def manifest_path(target: Target, backup: BackupId) -> str:
    """Return the key of a backup's manifest."""
    return f"{backups_prefix(target)}{backup}/{_MANIFEST}"


def inventory_path(target: Target, backup: BackupId, *, sealed: bool) -> str:
    """Return the key of a snapshot's inventory, or of a database's references."""
    return f"{backups_prefix(target)}{backup}/{_LINES[target.kind][0 if sealed else 1]}"


def is_inventory(key: str) -> bool:
    """Return whether a key is that of an inventory, or of references."""
    return any(key.rpartition("/")[2] in names for names in _LINES.values())


def shard_path(
    target: Target, backup: BackupId, shard: int, part: int | None, *, sealed: bool
) -> str:
    """Return the key of what a shard is to hold, or with ``part`` of a part that it stored."""
    what = "wanted" if part is None else str(part)
    suffix = ".age" if sealed else ""
    return f"{backups_prefix(target)}{backup}/shard-{shard}-{what}.jsonl.zst{suffix}"


def is_shard_file(key: str) -> bool:
    """Return whether a key is that of a shard's file."""
    return _SHARD_FILE.fullmatch(key.rpartition("/")[2]) is not None


def shard_part(key: str, shard: int) -> int | None:
    """Return which part of ``shard`` a key is, or None when it is none of it."""
    name = key.rpartition("/")[2]
    number = name.removeprefix(f"shard-{shard}-").partition(".")[0]
    return int(number) if is_shard_file(key) and number.isdecimal() else None


def inventory_of(manifest: Manifest) -> StoredFile:
    """Return the stored inventory of a snapshot, or references, as the manifest describes them."""
    if manifest.references is not None:
        return StoredFile(
            path=inventory_path(manifest.target_name, manifest.backup_id, sealed=manifest.sealed),
            size=manifest.references.size,
            sha256=manifest.references.sha256,
        )
    if manifest.bucket is None:
        raise ManifestInvalid(f"'{manifest.target}' is no bucket", "name a snapshot of a bucket")
    return StoredFile(
        path=inventory_path(manifest.target_name, manifest.backup_id, sealed=manifest.sealed),
        size=manifest.bucket.inventory_size,
        sha256=manifest.bucket.inventory,
    )


def signature_path(path: str) -> str:
    """Return the key of the signature of the document at ``path``."""
    return path + SIGNATURE_SUFFIX


def signed_document(key: str) -> str | None:
    """Return the key of the document that the signature at ``key`` belongs to; None for others."""
    return key.removesuffix(SIGNATURE_SUFFIX) if key.endswith(SIGNATURE_SUFFIX) else None


def point_path(point: BackupId | str) -> str:
    """Return the key of a recovery point."""
    return f"{POINTS}{point}.json"


def point_of(key: str) -> BackupId | None:
    """Return which recovery point a key is the document of, or None when it is no point's."""
    stem = key.removeprefix(POINTS).removesuffix(".json")
    return _backup_id(stem) if key == f"{POINTS}{stem}.json" else None


def faults_path(point: BackupId | str, *, sealed: bool) -> str:
    """Return the key of the list of faults that a point's cross-check found."""
    return f"{POINTS}{point}.faults.jsonl.zst{'.age' if sealed else ''}"


def faults_of(point: RecoveryPoint, *, sealed: bool) -> StoredFile | None:
    """Return the stored list of faults as a point describes it; None where there is none."""
    found = point.check and point.check.faults
    if not found:
        return None
    path = faults_path(point.id, sealed=sealed)
    return StoredFile(path=path, size=found.size, sha256=found.sha256)


def _is_faults(key: str) -> bool:
    match = _FAULTS.fullmatch(key.removeprefix(POINTS)) if key.startswith(POINTS) else None
    return match is not None and _backup_id(match[1]) is not None


def report_path(report: BackupId | str) -> str:
    """Return the key of the file of a report."""
    return f"{REPORT_FILES}{report}.html"


def is_report(key: str) -> bool:
    """Return whether a key is that of a report's file."""
    stem = key.removeprefix(REPORT_FILES).removesuffix(".html")
    return key == report_path(stem) and _backup_id(stem) is not None


def public_keys_path(fingerprint: str) -> str:
    """Return the key of the document of public keys with this fingerprint."""
    return f"{PUBLIC_KEYS}{fingerprint}.json"


def public_keys_fingerprint(key: str) -> str | None:
    """Return the fingerprint that a key of public keys names, or None when it is no such key."""
    match = _PUBLIC_KEYS.fullmatch(key)
    return match[1] if match else None


def document_path(document: Manifest | Verification | AuditEntry | RecoveryPoint) -> str:
    """Return the key of a signed document, from what it says of itself.

    An audit entry stands under the year and month of its moment in UTC.
    """
    if isinstance(document, Manifest):
        return manifest_path(document.target_name, document.backup_id)
    if isinstance(document, Verification):
        return f"{VERIFICATIONS}{document.target}/{document.backup}/{document.id}.json"
    if isinstance(document, RecoveryPoint):
        return point_path(document.id)
    at = require_utc(document.at)
    return f"{AUDIT}{at:%Y}/{at:%m}/{document.sequence}.json"


def target_of(key: str) -> Target | None:
    """Return which target a key below ``backups/`` or ``packs/`` belongs to, if to any."""
    return _target_below(key, (BACKUPS, PACKS))


def target_of_statement(key: str) -> Target | None:
    """Return which target a key below ``verifications/`` belongs to, if to any."""
    return _target_below(key, (VERIFICATIONS,))


def backup_of_manifest(key: str) -> BackupId | None:
    """Return which backup a key is the manifest of, or None when it is no manifest's."""
    parts = key.split("/")
    if len(parts) != _PARTS or f"{parts[0]}/" != BACKUPS or parts[4] != _MANIFEST:
        return None
    return _backup_id(parts[3])


def audit_sequence(key: str) -> int | None:
    """Return which number a key is the audit entry of, or None when it is no entry's."""
    match = _AUDIT_ENTRY.fullmatch(key)
    return int(match[1]) if match else None


def is_known(key: str, target: Target) -> bool:
    """Return whether the format knows ``key`` below the folders of ``target``."""
    parts = key.split("/")
    if len(parts) != _PARTS or f"{parts[1]}/{parts[2]}" != str(target):
        return False
    if _backup_id(parts[3]) is None:
        return False
    name = parts[4]
    if parts[0] == "packs":
        return pack_number(name) is not None
    if parts[0] == "backups":
        known = {_MANIFEST, signature_path(_MANIFEST)}
        known |= set(_LINES[target.kind])
        return name in known or (target.kind == "bucket" and is_shard_file(key))
    if parts[0] == "verifications":
        stem = name.removesuffix(SIGNATURE_SUFFIX)
        return stem.endswith(".json") and _backup_id(stem.removesuffix(".json")) is not None
    return False


def has_place(key: str) -> bool:
    """Return whether the format knows ``key`` anywhere in a repository."""
    document = key.removesuffix(SIGNATURE_SUFFIX)
    if key == REPOSITORY_CARD or audit_sequence(document) is not None:
        return True
    if point_of(document) is not None or _is_faults(key):
        return True
    if public_keys_fingerprint(key) is not None or is_report(key):
        return True
    parts = key.split("/")
    try:
        return len(parts) == _PARTS and is_known(key, Target.parse(f"{parts[1]}/{parts[2]}"))
    except ConfigurationError:
        return False


def capture_of(key: str) -> BackupId:
    """Return which capture a key that ``is_known`` belongs to."""
    return BackupId.parse(key.split("/")[3])


def _target_below(key: str, folders: tuple[str, ...]) -> Target | None:
    parts = key.split("/")
    if len(parts) != _PARTS or f"{parts[0]}/" not in folders:
        return None
    try:
        return Target.parse(f"{parts[1]}/{parts[2]}")
    except ConfigurationError:
        return None


def _backup_id(text: str) -> BackupId | None:
    try:
        return BackupId.parse(text)
    except ConfigurationError:
        return None

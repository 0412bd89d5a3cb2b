"""The signed documents of the repository format, version 1.

docs/format.md describes every field for readers without this program; ``values`` says how they are
written and read.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import (
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from pgben_tasks.domain.buckets.capture import BucketCapture
from pgben_tasks.domain.restorability import Archive, Compression
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.domain.values import (
    BackupIdText,
    Digest,
    Document,
    MemberName,
    Moment,
    Size,
    SparseDocument,
    TargetText,
    backup_id_text,
    target_text,
)
from pgben_tasks.errors import ManifestInvalid

#: From which revision on documents are read that older versions refuse. Workers publish the one
#: they read; what is newer is written only while every worker that was seen within a day reads it.
CHAINED_STATEMENTS: Final = 2
RECOVERY_POINTS: Final = 3
PUBLIC_KEYS: Final = 4
#: Files of reports beside the audit trail; older versions call them foreign.
REPORTS: Final = 5
#: The statement `release`.
RELEASES: Final = 6
REVISION: Final = RELEASES

#: What a key may sign as: the worker of which kind holds it.
SigningRole = Literal["backup", "verify", "restore", "maintenance"]

#: ``packs/<kind>/<name>/<backup>/<file>``
_PACK_PATH_PARTS = 5
_PACK_NAME = re.compile(r"([1-9][0-9]{0,8})\.tar(\.zst)?(\.age)?", re.ASCII)


class Member(Document):
    """One file inside a pack: its name, plain size (bytes) and plain SHA-256."""

    name: MemberName
    size: Size
    sha256: Digest


class StoredFile(Document):
    """One stored file: its path in the repository, stored size (bytes), SHA-256 of stored bytes."""

    path: str
    size: Size
    sha256: Digest


class Pack(StoredFile):
    """A stored file that holds members. Those of a bucket's packs stand in the inventory only."""

    members: tuple[Member, ...]

    @field_validator("path")
    @classmethod
    def _inside_the_tree(cls, path: str) -> str:
        parts = path.split("/")
        if (
            len(parts) != _PACK_PATH_PARTS
            or parts[0] != "packs"
            or any(p in {"", ".", ".."} for p in parts)
        ):
            message = "the path lies outside 'packs/<target>/<backup>/'"
            raise ValueError(message)
        target_text(f"{parts[1]}/{parts[2]}")
        backup_id_text(parts[3])
        if pack_number(parts[4]) is None:
            message = "the file's name is not '<n>.tar[.zst][.age]'"
            raise ValueError(message)
        return path

    @property
    def sealed(self) -> bool:
        """Whether the stored bytes are encrypted with age."""
        return self.path.endswith(".age")

    @property
    def compressed(self) -> bool:
        """Whether the tar inside is one zstd stream."""
        return ".tar.zst" in self.path


def pack_number(file_name: str) -> int | None:
    """Return ``<n>`` (from 1) of ``<n>.tar[.zst][.age]``; None for a name of another form."""
    match = _PACK_NAME.fullmatch(file_name)
    return int(match[1]) if match else None


class TableCount(Document):
    """How many rows one table had in the dump's own snapshot. ``sequence`` order is by name."""

    schema_name: str
    table: str
    rows: Size


class Setting(Document):
    """``ALTER DATABASE … SET``: ``role`` is empty for all roles."""

    role: str
    name: str
    value: str


class Extension(Document):
    """An installed extension and its version."""

    name: str
    version: str


class PostgresCapture(Document):
    """All that ``pg_dump -Fd`` does not keep of a database, and what proves a restore complete."""

    database: str
    server_version: str
    server_version_num: int
    encoding: str
    locale_provider: Literal["libc", "icu", "builtin"]
    collate: str
    ctype: str
    locale: str | None
    icu_rules: str | None
    collation_version: str | None
    owner: str
    acl: tuple[str, ...] | None
    settings: tuple[Setting, ...]
    comment: str | None
    connection_limit: int
    tablespace: str
    tablespaces: tuple[str, ...]
    extensions: tuple[Extension, ...]
    roles: tuple[str, ...]
    large_objects: Size
    replication_slots: tuple[str, ...]
    subscriptions: tuple[str, ...]
    lsn: str
    snapshot_time: Moment
    snapshot: str
    dump_compression: Compression
    database_bytes: Size
    tables: tuple[TableCount, ...]

    @property
    def rows(self) -> int:
        """All rows of all tables."""
        return sum(table.rows for table in self.tables)


class StoredLines(Document):
    """A stored file of lines: stored size and SHA-256, SHA-256 of the plain lines, how many."""

    size: Size
    sha256: Digest
    lines: Digest
    count: Size


class StoredReferences(StoredLines):
    """What rows say of objects, and the names of the references that were read."""

    names: tuple[str, ...]


class Manifest(SparseDocument):
    """The signed description of one backup; a backup exists exactly when this does.

    It holds ``postgres`` or ``bucket``, as its target is; the other is left out of its bytes.
    ``references`` is what rows of a database say of objects, where that was read.
    """

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"postgres", "bucket", "references"})

    format: Literal[1] = 1
    repository: str
    target: TargetText
    backup: BackupIdText
    sequence: Annotated[int, Field(ge=1)]
    job: str
    started: Moment
    finished: Moment
    tools: dict[str, str]
    packs: tuple[Pack, ...]
    previous: Digest | None
    recipients: tuple[str, ...]
    suspect: str | None
    postgres: PostgresCapture | None = None
    bucket: BucketCapture | None = None
    references: StoredReferences | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.references is not None and self.postgres is None:
            message = "a bucket has no references"
            raise ValueError(message)
        kinds = {"postgres": self.postgres, "bucket": self.bucket}
        if [kind for kind, capture in kinds.items() if capture is not None] != [
            self.target_name.kind
        ]:
            message = "it describes another kind of target than its own"
            raise ValueError(message)
        if self.postgres is not None and not self.packs:
            message = "a dump without packs"
            raise ValueError(message)
        numbers = [pack.path for pack in self.packs]
        if len(set(numbers)) != len(numbers):
            message = "a pack is listed twice"
            raise ValueError(message)
        for pack in self.packs:
            if not pack.path.startswith(f"packs/{self.target}/"):
                message = f"the pack '{pack.path}' belongs to another target"
                raise ValueError(message)
        names = [member.name for pack in self.packs for member in pack.members]
        if len(set(names)) != len(names):
            message = "a member is listed twice"
            raise ValueError(message)
        if self.finished < self.started:
            message = "it finished before it started"
            raise ValueError(message)
        return self

    @property
    def digest(self) -> str:
        """The SHA-256 of its bytes."""
        return hashlib.sha256(self.encode()).hexdigest()

    @property
    def has_lines(self) -> bool:
        """Whether a file of lines belongs to it: the inventory of a bucket, or references."""
        return self.bucket is not None or self.references is not None

    @property
    def target_name(self) -> Target:
        """The target as a value."""
        return Target.parse(self.target)

    @property
    def backup_id(self) -> BackupId:
        """The backup's id as a value."""
        return BackupId.parse(self.backup)

    @property
    def unreadable(self) -> int:
        """How many objects of a bucket could not be kept."""
        return 0 if self.bucket is None else self.bucket.unreadable

    @property
    def database(self) -> PostgresCapture:
        """What a backup of a database captured; ``ManifestInvalid`` for a snapshot of a bucket."""
        if self.postgres is None:
            raise ManifestInvalid(
                f"'{self.target}' is no database", "name a backup of a database instead"
            )
        return self.postgres

    @property
    def archive(self) -> Archive:
        """What decides which clients can restore the dump; ``ManifestInvalid`` for a snapshot."""
        capture = self.database
        return Archive.from_versions(
            self.tools.get("pg_dump", ""), capture.server_version_num, capture.dump_compression
        )

    @property
    def snapshot_time(self) -> datetime:
        """The moment whose data the backup holds; of a bucket, when its listing began."""
        return self.bucket.listing_started if self.bucket else self.database.snapshot_time

    @property
    def sealed(self) -> bool:
        """Whether the backup is encrypted."""
        return bool(self.recipients)

    @property
    def rows(self) -> int | None:
        """Rows of a database; None for a bucket."""
        return None if self.postgres is None else self.postgres.rows

    @property
    def tables(self) -> int | None:
        """Tables of a database; None for a bucket."""
        return None if self.postgres is None else len(self.postgres.tables)

    @property
    def objects(self) -> int | None:
        """Objects of a bucket; None for a database."""
        return None if self.bucket is None else self.bucket.objects

    @property
    def own_packs(self) -> tuple[Pack, ...]:
        """The packs that this capture wrote; the others are inherited."""
        own = f"packs/{self.target}/{self.backup}/"
        return tuple(pack for pack in self.packs if pack.path.startswith(own))

    @property
    def stored_bytes(self) -> int:
        """Bytes of all packs as stored, inherited ones included."""
        return sum(pack.size for pack in self.packs)

    @property
    def new_bytes(self) -> int:
        """Bytes that this capture added to the repository: its own packs, and files of lines."""
        lines = self.bucket.inventory_size if self.bucket else 0
        lines += self.references.size if self.references else 0
        return lines + sum(pack.size for pack in self.own_packs)

    @property
    def plain_bytes(self) -> int:
        """Bytes of all members before sealing."""
        return sum(member.size for pack in self.packs for member in pack.members)

    @property
    def members(self) -> tuple[Member, ...]:
        """All members of all packs."""
        return tuple(member for pack in self.packs for member in pack.members)


FindingKind = Literal[
    "missing", "truncated", "damaged", "swapped", "forged", "invalid", "extra", "unreadable"
]


class Finding(Document):
    """One thing that is wrong, where, and how it shows."""

    kind: FindingKind
    path: str
    detail: str


StatementKind = Literal[
    "readback",
    "quick",
    "full",
    "drill",
    "acknowledgement",
    "acknowledged_keys",
    "hold",
    "release",
    "prune",
]


class Verification(SparseDocument):
    """A signed statement about one backup: a verification, or a decision of an operator.

    ``kind`` says which: ``readback`` (by the backup's own record step), ``quick``, ``full``,
    ``drill``; ``acknowledgement`` (of a suspect or incomplete backup), ``acknowledged_keys`` (of
    single keys, for the snapshots to come), ``hold`` (retention keeps it, see ``holds``),
    ``release`` (no longer), ``prune`` (retention removed it).

    ``needs`` is what this site lacks to restore the backup; it is left out of the bytes where
    nothing is missing or known to be. ``number``, ``previous`` and ``earlier`` make the statements
    about a backup a chain (``statements``).
    """

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"needs", "number", "previous", "earlier"})

    format: Literal[1] = 1
    repository: str
    target: TargetText
    backup: BackupIdText
    id: Annotated[str, StringConstraints(pattern=r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}$")]
    kind: StatementKind
    job: str
    at: Moment
    opened: bool
    packs_checked: Size
    bytes_read: Size
    manifest: Digest | None
    findings: tuple[Finding, ...]
    reasons: tuple[str, ...]
    needs: str | None = None
    number: Annotated[int, Field(ge=1)] | None = None
    previous: Digest | None = None
    earlier: tuple[Digest, ...] | None = None


class AuditEntry(SparseDocument):
    """Who asked for what, when, with which result; each names the digest of the one before.

    ``statement`` is the digest of the statement that the entry is about, if of one.
    """

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"statement"})

    format: Literal[1] = 1
    repository: str
    sequence: Annotated[int, Field(ge=1)]
    previous: Digest | None
    at: Moment
    who: str
    action: str
    target: str
    backup: str
    job: str
    result: str
    detail: str
    statement: Digest | None = None


class PointMember(Document):
    """One backup of a recovery point: the digest of its manifest, the moment of its data."""

    target: TargetText
    backup: BackupIdText
    manifest: Digest
    snapshot_time: Moment


class CrossCheck(Document):
    """How many rows and objects were compared, and how many faults of each kind there were.

    ``recoverable`` of the missing objects are in older snapshots. ``faults`` is the stored list,
    left out where there are none.
    """

    references: Size
    objects: Size
    missing: Size
    unreadable: Size
    size: Size
    hash: Size
    metadata: Size
    orphan: Size
    recoverable: Size
    faults: StoredLines | None

    @property
    def rows(self) -> int:
        """How many faults are of rows: an object that no row names harms nobody."""
        return self.missing + self.unreadable + self.size + self.hash + self.metadata


class RecoveryPoint(SparseDocument):
    """A backup of every database and, per bucket, the first snapshot listed long enough after.

    Written once, when it is complete. ``settle`` is how long after the data of the databases the
    listings had to begin at least (seconds): objects may be on their way when their rows are there.
    ``check`` is what the comparison of rows and objects found, where references were read.
    """

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"check"})

    format: Literal[1] = 1
    repository: str
    id: BackupIdText
    job: str
    settle: Size
    members: tuple[PointMember, ...]
    check: CrossCheck | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        targets = [Target.parse(one.target) for one in self.members]
        if targets != sorted(set(targets)):
            message = "its members are not sorted by target, or one is named twice"
            raise ValueError(message)
        if {target.kind for target in targets} != {"postgres", "bucket"}:
            message = "it joins no database with a bucket"
            raise ValueError(message)
        earliest = self.moment + timedelta(seconds=self.settle)
        listings = [one for one in self.members if Target.parse(one.target).kind == "bucket"]
        if any(one.snapshot_time < earliest for one in listings):
            message = "the listing of a bucket began too early"
            raise ValueError(message)
        return self

    @property
    def moment(self) -> datetime:
        """The moment whose data it holds: that of its databases, the latest of several."""
        return max(
            one.snapshot_time for one in self.members if Target.parse(one.target).kind == "postgres"
        )


class RepositoryCard(Document):
    """``repository.json``: a hint for people and tools, never an anchor of trust."""

    format: Literal[1] = 1
    repository: str
    created: Moment


class TrustedKey(Document):
    """A public signing key (base64): its name for people, and the roles that it may sign in."""

    name: str = Field(min_length=1, max_length=100)
    roles: tuple[SigningRole, ...] = Field(min_length=1)
    public: str
    fingerprint: str


class TrustedKeys(Document):
    """The content of the trusted keys file."""

    format: Literal[1] = 1
    keys: tuple[TrustedKey, ...] = Field(min_length=1)


class PublicKeys(Document):
    """The public keys of an installation, beside its backups: believed by its fingerprint only.

    ``recipients`` are public age keys by their purpose. Its fingerprint is the SHA-256 of its
    bytes, which stand under that name.
    """

    format: Literal[1] = 1
    repository: str
    keys: tuple[TrustedKey, ...] = Field(min_length=1)
    recipients: dict[str, str]

    @property
    def trusted(self) -> TrustedKeys:
        """The signing keys as the trusted keys file has them."""
        return TrustedKeys(keys=self.keys)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of this document's bytes: what the recovery card prints."""
        return hashlib.sha256(self.encode()).hexdigest()


class Signature(Document):
    """The content of a ``.sig`` file: who signed, in which role, and the signature (base64)."""

    format: Literal[1] = 1
    role: SigningRole
    key: Digest
    signature: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{86}==$")]

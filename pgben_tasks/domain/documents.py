"""The signed documents of the repository format, version 1, and their strict decoding.

Documents are canonical JSON: UTF-8, sorted keys, no floats, no insignificant space, one newline
at the end. Decoding never guesses: whatever does not follow the format is ``ManifestInvalid``.
docs/format.md describes every field for readers without this program.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import ConfigurationError, ManifestInvalid

FORMAT_VERSION = 1

#: What file systems allow; a pack must be opened by plain ``tar``.
MAX_FILE_NAME_BYTES = 255

#: ``packs/<kind>/<name>/<backup>/<file>``
_PACK_PATH_PARTS = 5
_PACK_NAME = re.compile(r"([1-9][0-9]{0,8})\.tar(\.zst)?(\.age)?", re.ASCII)


def _target(value: str) -> str:
    try:
        return str(Target.parse(value))
    except ConfigurationError as exc:
        raise ValueError(exc.sentence) from exc


def _backup_id(value: str) -> str:
    try:
        return str(BackupId.parse(value))
    except ConfigurationError as exc:
        raise ValueError(exc.sentence) from exc


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        message = "a moment without a time zone"
        raise ValueError(message)
    try:
        return value.astimezone(UTC)
    except OverflowError as exc:
        message = "a moment that is not in any year of UTC"
        raise ValueError(message) from exc


def _member_name(value: str) -> str:
    if value in {"", ".", ".."} or "/" in value or "\\" in value or "\0" in value:
        message = "a member's name must be one plain file name"
        raise ValueError(message)
    if not value.isprintable() or len(value.encode()) > MAX_FILE_NAME_BYTES:
        message = f"a member's name must be printable and at most {MAX_FILE_NAME_BYTES} bytes long"
        raise ValueError(message)
    return value


Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[datetime, AfterValidator(_utc)]
Size = Annotated[int, Field(ge=0)]
TargetText = Annotated[str, AfterValidator(_target)]
BackupIdText = Annotated[str, AfterValidator(_backup_id)]
MemberName = Annotated[str, AfterValidator(_member_name)]


class Document(BaseModel):
    """A value of the format: immutable, strict, without unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def encode(self) -> bytes:
        """Give the canonical bytes of this document."""
        return canonical(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes, *, where: str) -> Self:
        """Read canonical bytes; ``where`` names them in the error.

        Raises ``ManifestInvalid`` for anything that is not exactly one document of this kind.
        """
        return _decode(cls, data, where)


_D = TypeVar("_D", bound=Document)


def canonical(value: Any) -> bytes:
    """Encode a JSON value canonically: sorted keys, UTF-8, no floats, a newline at the end."""
    _refuse_floats(value)
    text = json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return text.encode() + b"\n"


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        message = "the format has no floats"
        raise TypeError(message)
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)


def _decode(kind: type[_D], data: bytes, where: str) -> _D:
    hint = "the stored document was changed, damaged or written by a newer pgben; verify the target"

    def refuse(why: str) -> NoReturn:
        raise ManifestInvalid(f"'{where}' is not valid: {why}", hint)

    try:
        raw = json.loads(data.decode())
    except (ValueError, RecursionError):
        refuse("it is not JSON in UTF-8")
    if not isinstance(raw, dict):
        refuse("it is not a JSON object")
    version = raw.get("format")
    if "format" in kind.model_fields and version != FORMAT_VERSION:
        refuse(f"its format is {version!r}, this pgben reads {FORMAT_VERSION}")
    try:
        document = kind.model_validate_json(data)
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        refuse(f"{place}: {first['msg']}")
    if document.encode() != data:
        refuse("its bytes are not in canonical form")
    return document


class Member(Document):
    """One file inside a pack: its name, plain size (bytes) and plain SHA-256."""

    name: MemberName
    size: Size
    sha256: Digest


class Pack(Document):
    """One stored file: its path in the repository, stored size (bytes), SHA-256 of stored bytes."""

    path: str
    size: Size
    sha256: Digest
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
        _target(f"{parts[1]}/{parts[2]}")
        _backup_id(parts[3])
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
    """Give ``<n>`` (from 1) of ``<n>.tar[.zst][.age]``, or None when the name has another form."""
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
    dump_compression: Literal["zstd:3", "none"]
    database_bytes: Size
    tables: tuple[TableCount, ...]

    @property
    def rows(self) -> int:
        """All rows of all tables."""
        return sum(table.rows for table in self.tables)


class Manifest(Document):
    """The signed description of one backup; a backup exists exactly when this does."""

    format: Literal[1] = 1
    repository: str
    target: TargetText
    backup: BackupIdText
    sequence: Annotated[int, Field(ge=1)]
    job: str
    started: Moment
    finished: Moment
    tools: dict[str, str]
    packs: Annotated[tuple[Pack, ...], Field(min_length=1)]
    previous: Digest | None
    recipients: tuple[str, ...]
    suspect: str | None
    postgres: PostgresCapture

    @model_validator(mode="after")
    def _consistent(self) -> Self:
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
    def target_name(self) -> Target:
        """The target as a value."""
        return Target.parse(self.target)

    @property
    def backup_id(self) -> BackupId:
        """The backup's id as a value."""
        return BackupId.parse(self.backup)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all packs as stored."""
        return sum(pack.size for pack in self.packs)

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


StatementKind = Literal["readback", "quick", "full", "drill", "acknowledgement", "hold", "prune"]


class Verification(Document):
    """A signed statement about one backup: a verification, or a decision of an operator.

    ``kind`` says which: ``readback`` (by the backup's own record step), ``quick``, ``full``,
    ``drill``; ``acknowledgement`` (of a suspect backup), ``hold`` (never prune), ``prune``
    (retention removed it).
    """

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


class AuditEntry(Document):
    """Who asked for what, when, with which result; each names the digest of the one before."""

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


class RepositoryCard(Document):
    """``repository.json``: a hint for people and tools, never an anchor of trust."""

    format: Literal[1] = 1
    repository: str
    created: Moment


class Signature(Document):
    """The content of a ``.sig`` file: who signed, in which role, and the signature (base64)."""

    format: Literal[1] = 1
    role: Literal["backup", "verify", "restore", "maintenance"]
    key: Digest
    signature: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{86}==$")]

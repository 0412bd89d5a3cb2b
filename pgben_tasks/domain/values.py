"""How documents of the format are written and read strictly, and the kinds of values they hold.

Documents are canonical JSON: UTF-8, sorted keys, no floats, no insignificant space, one newline
at the end. Decoding never guesses: whatever does not follow the format is ``ManifestInvalid``.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, NoReturn, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
)

from pgben_tasks.domain.faults import of_document
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import ConfigurationError, ManifestInvalid

FORMAT_VERSION = 1

#: What file systems allow; a pack must be opened by plain ``tar``.
MAX_FILE_NAME_BYTES = 255


def target_text(value: str) -> str:
    """Return a target's text; ``ValueError`` for one that is none."""
    try:
        return str(Target.parse(value))
    except ConfigurationError as exc:
        raise ValueError(exc.sentence) from exc


def backup_id_text(value: str) -> str:
    """Return a backup id's text; ``ValueError`` for one that is none."""
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
TargetText = Annotated[str, AfterValidator(target_text)]
BackupIdText = Annotated[str, AfterValidator(backup_id_text)]
MemberName = Annotated[str, AfterValidator(_member_name)]


class Document(BaseModel):
    """A value of the format: immutable, strict, without unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def encode(self) -> bytes:
        """Return the canonical bytes of this document."""
        return canonical(self.values())

    def values(self) -> dict[str, Any]:
        """Return the JSON values that are written."""
        return self.model_dump(mode="json")

    @classmethod
    def decode(cls, data: bytes, *, where: str) -> Self:
        """Read canonical bytes; ``where`` names them in the error.

        Raises ``ManifestInvalid`` for anything that is not exactly one document of this kind.
        """
        return _decode(cls, data, where)


class SparseDocument(Document):
    """A document some of whose fields are left out of its bytes when they are None."""

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        for name in self.LEFT_OUT:
            if values[name] is None:
                del values[name]
        return values


_D = TypeVar("_D", bound=Document)


def canonical(value: Any) -> bytes:
    """Return a JSON value's canonical bytes: sorted keys, UTF-8, no floats, a final newline."""
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
        refuse(of_document(first))
    if document.encode() != data:
        refuse("its bytes are not in canonical form")
    return document

"""One object of a snapshot, as a line of the inventory: whole, or what a comparison reads. Pure.

An inventory is JSON lines in the order of the keys' UTF-8 bytes, as listings are: Python orders
texts alike, for UTF-8 keeps the order of code points. Lines are canonical: sorted names, no
insignificant space, nothing that is empty. docs/format.md describes every field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Final, Protocol, Self

from msgspec import DecodeError, Struct
from msgspec.json import Decoder
from pydantic import AfterValidator, StringConstraints, ValidationError, model_validator

from pgben_tasks.domain.faults import of_document
from pgben_tasks.domain.values import Digest, Document, Moment, Size
from pgben_tasks.errors import ManifestInvalid

#: What S3 allows, in bytes of UTF-8.
LONGEST_KEY = 1024


def _key(value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError as exc:
        message = "a key must be UTF-8"
        raise ValueError(message) from exc
    if not 1 <= size <= LONGEST_KEY:
        message = f"a key has 1 to {LONGEST_KEY} bytes"
        raise ValueError(message)
    return value


Key = Annotated[str, AfterValidator(_key)]
#: A pack below ``packs/<target>/``: ``<backup id>/<n>.tar[.zst][.age]``.
PackPlace = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}/[1-9][0-9]{0,8}\.tar(\.zst)?(\.age)?$"
    ),
]


class Entry(Document):
    """One object: what the listing said, what it carries, and where its bytes lie.

    Fields are in the order of their names, which is the canonical one. ``error`` says why the
    object could not be read; then it has no digest and no place. The member inside the pack is
    named like the digest. ``tags_at`` is when the tags were read. Header values are latin-1 (see
    ``ports.ObjectFacts``).
    """

    error: str | None = None
    etag: str
    headers: dict[str, str] = {}  # noqa: RUF012 - pydantic gives each its own
    key: Key
    metadata: dict[str, str] = {}  # noqa: RUF012 - pydantic gives each its own
    modified: Moment
    pack: PackPlace | None = None
    sha256: Digest | None = None
    size: Size
    tags: dict[str, str] = {}  # noqa: RUF012 - pydantic gives each its own
    tags_at: Moment | None = None
    version: str | None = None

    @model_validator(mode="after")
    def _placed_or_failed(self) -> Self:
        placed = self.sha256 is not None and self.pack is not None
        if placed == (self.error is not None) or (self.sha256 is None) != (self.pack is None):
            message = "an object has a digest and a place, or an error"
            raise ValueError(message)
        return self

    @property
    def readable(self) -> bool:
        """Whether the object's bytes were kept."""
        return self.error is None

    def line(self) -> bytes:
        """Return the canonical line, with its newline."""
        for mapping in (self.headers, self.metadata, self.tags):
            if list(mapping) != sorted(mapping):
                return self._sorted().line()
        return self.model_dump_json(exclude_defaults=True).encode() + b"\n"

    def _sorted(self) -> Self:
        return self.model_copy(
            update={
                name: dict(sorted(getattr(self, name).items()))
                for name in ("headers", "metadata", "tags")
            }
        )


def parse_line(line: bytes, *, where: str) -> Entry:
    """Read one line strictly; ``ManifestInvalid`` for anything that is not canonical."""
    try:
        entry = Entry.model_validate_json(line)
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        raise _invalid(where, of_document(first, whole="line")) from None
    if entry.line() != line:
        raise _invalid(where, "a line is not in canonical form")
    return entry


def _invalid(where: str, why: str) -> ManifestInvalid:
    return ManifestInvalid(
        f"'{where}' is not valid: {why}",
        "the stored inventory was changed, damaged or written by a newer pgben; verify the target",
    )


class Listed(Protocol):
    """What a listing says of one object."""

    @property
    def key(self) -> str:
        """Its key."""

    @property
    def etag(self) -> str:
        """Its etag, without quotes."""

    @property
    def size(self) -> int:
        """Its bytes."""

    @property
    def modified(self) -> datetime:
        """When it was stored."""

    @property
    def tags(self) -> Mapping[str, str] | None:
        """Its tags, where the listing says them."""


class Line(Struct, gc=False):
    """A line of an inventory that is carried over as it is; only what decides is read of it.

    Inventories are read by the million lines, and this is fifteen times as fast as an ``Entry``.
    """

    key: str
    etag: str | None = None
    #: When it was stored, in canonical form, which sorts by time.
    modified: str | None = None
    #: Where the object's bytes lie.
    pack: str | None = None
    #: The digest of its bytes.
    sha256: str | None = None
    #: Its bytes.
    size: int = 0
    tags: dict[str, str] = {}
    #: When its tags were read, in canonical form, which sorts by time.
    tags_at: str | None = None
    #: The line itself, and the file in which it stands, whatever the line says.
    raw: bytes = b""
    where: str = ""

    def entry(self) -> Entry:
        """Read the whole line strictly."""
        return parse_line(self.raw, where=self.where)

    def is_of(self, listed: Listed) -> bool:
        """Return whether the listing shows the very object that this line describes."""
        return (
            self.etag == listed.etag
            and self.size == listed.size
            and self.modified is not None
            and _seconds(self.modified) == int(listed.modified.timestamp())
        )

    def says_the_same(self, other: Line) -> bool:
        """Return whether both lines agree in everything but when the tags were read.

        Lines are canonical, so their bytes decide: most objects of two snapshots are alike, and
        this is fifty times as fast as to compare them as entries.
        """
        return self.raw == other.raw or self._but_tags_at() == other._but_tags_at()

    def _but_tags_at(self) -> tuple[bytes, bytes]:
        """Return what stands before and after the moment at which the tags were read.

        Quotes within a text are escaped, and a tag of that name stands before it.
        """
        if self.tags_at is None:
            return self.raw, b""
        before, _, after = self.raw.rpartition(f'"tags_at":"{self.tags_at}"'.encode())
        return before, after


def read_since(tags_at: str | datetime | None, moment: datetime) -> bool:
    """Return whether tags that were read at ``tags_at`` were read at ``moment`` or later."""
    read = datetime.fromisoformat(tags_at) if isinstance(tags_at, str) else tags_at
    return read is not None and read >= moment


_LINE: Final = Decoder(Line)


def read_line(raw: bytes, *, where: str) -> Line:
    """Read a line; ``ManifestInvalid`` when it is no object with a key."""
    try:
        line = _LINE.decode(raw)
    except (DecodeError, UnicodeDecodeError):
        raise ManifestInvalid(
            f"'{where}' is not valid: a line describes no object",
            "the stored inventory was changed or damaged; verify the target",
        ) from None
    line.raw = raw
    line.where = where
    return line


def in_order(lines: Iterable[Line]) -> Iterator[Line]:
    """Yield the lines of an inventory; ``ManifestInvalid`` when a key does not rise."""
    last = ""
    for line in lines:
        if line.key <= last:
            raise ManifestInvalid(
                f"'{line.where}' is not valid: its lines are out of order",
                "the stored inventory was changed or damaged; verify the target",
            )
        last = line.key
        yield line


def _seconds(moment: str) -> int | None:
    try:
        return int(datetime.fromisoformat(moment).timestamp())
    except ValueError:
        return None

"""One object of a snapshot, as a line of the inventory. Pure.

An inventory is JSON lines in the order of the keys' UTF-8 bytes, as listings are: Python orders
texts alike, for UTF-8 keeps the order of code points. Lines are canonical: sorted names, no
insignificant space, nothing that is empty. docs/format.md describes every field.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, StringConstraints, ValidationError, model_validator

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
        place = ".".join(str(part) for part in first["loc"]) or "line"
        raise _invalid(where, f"{place}: {first['msg']}") from None
    if entry.line() != line:
        raise _invalid(where, "a line is not in canonical form")
    return entry


def _invalid(where: str, why: str) -> ManifestInvalid:
    return ManifestInvalid(
        f"'{where}' is not valid: {why}",
        "the stored inventory was changed, damaged or written by a newer pgben; verify the target",
    )

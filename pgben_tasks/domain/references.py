"""What rows say of objects, and whether the objects are so. Pure.

Both sides come in the order of their keys, so that a comparison of any size takes no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Annotated, Final, Literal, Self

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, Encoder
from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pgben_tasks.errors import ManifestInvalid

FaultKind = Literal["missing", "unreadable", "size", "hash", "metadata", "orphan"]
#: The kinds of faults in the order in which they are told.
FAULTS: Final[tuple[FaultKind, ...]] = (
    "missing",
    "unreadable",
    "size",
    "hash",
    "metadata",
    "orphan",
)

Column = Annotated[str, Field(min_length=1, max_length=63)]


class Reference(BaseModel):
    """Which column of a table, or of a query, names objects of which bucket.

    ``size`` and ``hash`` are columns with what the row says of the object; ``hash_in`` is the
    metadata field that has the same hash, without it the stored bytes are meant (SHA-256).
    ``needs`` are the metadata fields without which the object cannot be read. ``row`` is the column
    that tells people which row it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    database: Annotated[str, Field(min_length=1, max_length=63)]
    bucket: Annotated[str, Field(min_length=1, max_length=63)]
    key: Column
    table: str | None = None
    query: str | None = None
    row: Column | None = None
    size: Column | None = None
    hash: Column | None = None
    hash_in: Annotated[str, Field(min_length=1)] | None = None
    where: str | None = None
    needs: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.table is None) == (self.query is None):
            message = "give `table` or `query`"
            raise ValueError(message)
        if self.query is not None and self.where is not None:
            message = "`where` goes with `table`; a `query` has its own"
            raise ValueError(message)
        if self.hash_in is not None and self.hash is None:
            message = "`hash_in` needs `hash`"
            raise ValueError(message)
        return self


class ReferenceLine(Struct, frozen=True, omit_defaults=True):
    """One row that names an object, as a line of the file that is stored with the backup."""

    bucket: str
    key: str
    reference: str
    row: str | None = None
    size: int | None = None
    hash: str | None = None


class ObjectLine(Struct, frozen=True):
    """What the comparison reads of a line of an inventory."""

    key: str
    size: int = 0
    sha256: str | None = None
    metadata: dict[str, str] = {}
    error: str | None = None


class Fault(Struct, frozen=True, omit_defaults=True):
    """One row whose object is not as it says, or one object that no row names (``orphan``).

    ``backup`` is an older snapshot that still has a missing object.
    """

    kind: FaultKind
    bucket: str
    key: str
    reference: str | None = None
    row: str | None = None
    expected: str | None = None
    found: str | None = None
    backup: str | None = None


_ENCODER: Final = Encoder(order="sorted")
_REFERENCE: Final = Decoder(ReferenceLine)
_OBJECT: Final = Decoder(ObjectLine)
_FAULT: Final = Decoder(Fault)


def encode(line: ReferenceLine | Fault) -> bytes:
    """Return a line as it is stored, with its newline."""
    return _ENCODER.encode(line) + b"\n"


def read_references(lines: Iterable[bytes], *, where: str) -> Iterator[ReferenceLine]:
    """Read the lines of a stored file; ``ManifestInvalid`` for any that is none."""
    return _read(lines, _REFERENCE, where)


def read_objects(lines: Iterable[bytes], *, where: str) -> Iterator[ObjectLine]:
    """Read what is compared of an inventory's lines; ``ManifestInvalid`` as above."""
    return _read(lines, _OBJECT, where)


def read_faults(lines: Iterable[bytes], *, where: str) -> Iterator[Fault]:
    """Read the lines of a stored list of faults; ``ManifestInvalid`` as above."""
    return _read(lines, _FAULT, where)


def in_order(line: ReferenceLine) -> tuple[str, str, str, str]:
    """Return by what lines are sorted: Python orders texts as their bytes of UTF-8 are."""
    return line.bucket, line.key, line.reference, line.row or ""


def compare(
    bucket: str,
    references: Iterable[ReferenceLine],
    objects: Iterable[ObjectLine],
    rules: Mapping[str, Reference],
) -> Iterator[Fault]:
    """Yield what is wrong between rows and objects of one bucket, both in the order of keys.

    ``rules`` say by the name of a reference what its hash is compared with and what its objects
    need; of a reference without a rule only size and presence are compared.
    """
    left = iter(objects)
    one = next(left, None)
    for key, rows in groupby(references, key=attrgetter("key")):
        while one is not None and one.key < key:
            yield Fault("orphan", bucket, one.key, found=str(one.size))
            one = next(left, None)
        there = one if one is not None and one.key == key else None
        for row in rows:
            yield from _of_row(bucket, row, there, rules.get(row.reference))
        if there is not None:
            one = next(left, None)
    while one is not None:
        yield Fault("orphan", bucket, one.key, found=str(one.size))
        one = next(left, None)


def recoverable(
    missing: Iterable[Fault], objects: Iterable[ObjectLine], backup: str
) -> Iterator[Fault]:
    """Yield these faults again, those whose object an older snapshot has with that backup.

    Both are of one bucket and in the order of keys; faults that name a backup stay as they are.
    """
    left = iter(objects)
    one = next(left, None)
    for fault in missing:
        while one is not None and one.key < fault.key:
            one = next(left, None)
        found = one is not None and one.key == fault.key and one.error is None
        yield replace(fault, backup=backup) if found and fault.backup is None else fault


def newly_faulty(found: Iterable[Fault], known: Iterable[Fault]) -> int:
    """Count the rows with faults that have none among the known ones; orphans are of no row.

    Both are in the order of ``compare``, bucket after bucket.
    """
    before = _rows_of(known)
    one = next(before, None)
    count = 0
    for row in _rows_of(found):
        while one is not None and one < row:
            one = next(before, None)
        count += one != row
    return count


def _rows_of(faults: Iterable[Fault]) -> Iterator[tuple[str, str, str, str]]:
    """Yield what tells the rows of faults apart, each once."""
    places = (
        (one.bucket, one.key, one.reference or "", one.row or "")
        for one in faults
        if one.kind != "orphan"
    )
    return (place for place, _ in groupby(places))


def _of_row(
    bucket: str, row: ReferenceLine, there: ObjectLine | None, rule: Reference | None
) -> Iterator[Fault]:
    def fault(kind: FaultKind, expected: object = None, found: object = None) -> Fault:
        return Fault(
            kind,
            bucket,
            row.key,
            row.reference,
            row.row,
            None if expected is None else str(expected),
            None if found is None else str(found),
        )

    if there is None:
        yield fault("missing")
        return
    if there.error is not None:
        yield fault("unreadable", found=there.error)
        return
    if row.size is not None and row.size != there.size:
        yield fault("size", row.size, there.size)
    if rule is None:
        return
    metadata = {name.lower(): value for name, value in there.metadata.items()}
    lacking = [name for name in rule.needs if not metadata.get(name.lower())]
    if lacking:
        yield fault("metadata", expected=", ".join(lacking))
    if row.hash is not None:
        field = rule.hash_in
        known = there.sha256 if field is None else metadata.get(field.lower())
        # A field that is missing and needed was told already.
        if (known or "").lower() != row.hash.lower() and field not in lacking:
            yield fault("hash", row.hash, known)


def _read(lines: Iterable[bytes], decoder: Decoder, where: str) -> Iterator:  # type: ignore[type-arg]
    for line in lines:
        try:
            yield decoder.decode(line)
        except (DecodeError, UnicodeDecodeError):
            raise ManifestInvalid(
                f"'{where}' is not valid: a line is not what the format says",
                "the stored file was changed or damaged; verify the target",
            ) from None

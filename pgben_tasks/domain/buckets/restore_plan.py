"""What a restore in place would do to a bucket, object by object. Pure.

A snapshot is compared with what is there now. Only contents prove that an object is the same: where
the listing shows the very object of the snapshot's line, its bytes and metadata are those, provided
that its date was settled when the snapshot was taken (``diff.settled_before``); everything else is
fetched. Tags change without a new date, so they are always asked for, where the server keeps any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import ValidationError

from pgben_tasks.domain.buckets.inventory import (
    Entry,
    Key,
    Line,
    Listed,
    in_order,
    parse_line,
    read_since,
)
from pgben_tasks.domain.values import Document, Size
from pgben_tasks.errors import ManifestInvalid

#: ``tags``: it differs in its tags only. ``extra``: the snapshot does not know it.
#: ``unreadable``: the snapshot knows it and does not have its bytes.
Found = Literal["same", "missing", "differing", "tags", "extra", "unreadable"]

#: What is found and is to be written.
WRITTEN: Final[frozenset[Found]] = frozenset({"missing", "differing", "tags"})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChoice:
    """Which keys a restore or a comparison is about: those below a prefix, or single ones."""

    prefix: str = ""
    keys: frozenset[str] = frozenset()

    def takes(self, key: str) -> bool:
        """Return whether it is about this key."""
        return (not self.keys or key in self.keys) and key.startswith(self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """An object as it was fetched: the digest of its bytes, and all that it carries.

    ``tags`` is None where the server keeps none, so that nothing is known of them.
    """

    sha256: str
    size: int
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: Mapping[str, str] | None
    #: Whether there should be no others; a snapshot that did not read them itself cannot know.
    all_tags: bool = True

    def differs(self, now: Content) -> tuple[str, ...]:
        """Name what is not the same in the object ``now``.

        A server gives a content type of its own to an object that was stored without one. Unknown
        tags are not compared; known ones differ from none where the server of ``now`` keeps none.
        """
        headers = {
            name: value
            for name, value in now.headers.items()
            if name in self.headers or name != "content-type"
        }
        pairs: list[tuple[str, object, object]] = [
            ("size", self.size, now.size),
            ("bytes", self.sha256, now.sha256),
            ("headers", dict(self.headers), headers),
            ("metadata", dict(self.metadata), dict(now.metadata)),
        ]
        if self.tags is not None:
            there = dict(now.tags or {})
            pairs.append(("tags", self.tags_over(there), there))
        return tuple(name for name, then, there in pairs if then != there)

    def tags_over(self, there: Mapping[str, str]) -> dict[str, str]:
        """Return the tags that an object with the tags ``there`` is to have."""
        return {**({} if self.all_tags else there), **(self.tags or {})}


def content_of(entry: Entry, listing_started: datetime | None = None) -> Content:
    """Return what a readable object of a snapshot carries.

    ``listing_started`` is the snapshot's: tags that were read before it may not be all.
    """
    return Content(
        sha256=entry.sha256 or "",
        size=entry.size,
        headers=entry.headers,
        metadata=entry.metadata,
        tags=entry.tags,
        all_tags=listing_started is None or read_since(entry.tags_at, listing_started),
    )


def version_mark(
    etag: str, modified: datetime, *, metadata: Mapping[str, str], tags: Mapping[str, str]
) -> str:
    """Return what tells versions of an object apart: equal bytes stored again are another one.

    So are other tags, which change neither etag nor date, and other metadata, which may have been
    stored in the same second. Only their digest is shown.
    """
    carried = json.dumps([sorted(metadata.items()), sorted(tags.items())])
    digest = hashlib.sha256(carried.encode()).hexdigest()
    return f"{etag} {modified.astimezone(UTC):%Y%m%dT%H%M%SZ} {digest[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one key came to; ``line`` is the snapshot's, ``listed`` what is there now.

    ``differs`` names what is not the same; nothing else is compared where the sizes differ.
    ``tags_lost``: the snapshot has tags of it, which the server does not keep. ``tags_kept``: it
    has further tags, and the snapshot did not read them itself.
    """

    found: Found
    line: Line | None = None
    listed: Listed | Line | None = None
    differs: tuple[str, ...] = ()
    tags_lost: bool = False
    tags_kept: bool = False

    @property
    def key(self) -> str:
        """The object's key."""
        either = self.line or self.listed
        return "" if either is None else either.key

    @property
    def size(self) -> int:
        """The object's bytes: those of the snapshot, or of an extra object."""
        either = self.line or self.listed
        return 0 if either is None else either.size


def between(
    before: Iterable[Line], after: Iterable[Line], *, tags: bool = True
) -> Iterator[Verdict]:
    """Compare two snapshots of a bucket, key by key; memory stays flat.

    ``missing`` is what the later one lacks, ``extra`` what only it has. ``tags`` is False where one
    of both was taken of a server that kept none. Raises ``ManifestInvalid`` for an inventory that
    is out of order.
    """
    left, right = in_order(before), in_order(after)
    old, new = next(left, None), next(right, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.key < new.key):
            yield Verdict(found="missing", line=old)
            old = next(left, None)
        elif old is None or new.key < old.key:
            yield Verdict(found="extra", listed=new)
            new = next(right, None)
        else:
            yield _compared(old, new, tags=tags)
            old, new = next(left, None), next(right, None)


def _compared(old: Line, new: Line, *, tags: bool) -> Verdict:
    if old.pack is None or new.pack is None:
        return Verdict(found="unreadable", line=old, listed=new)
    differs = differences(old, new, tags=tags)
    found: Found = "differing" if differs else "same"
    if differs == ("tags",):
        found = "tags"
    return Verdict(found=found, line=old, listed=new, differs=differs)


def differences(old: Line, new: Line, *, tags: bool) -> tuple[str, ...]:
    """Name what is not the same in two readable objects; tags only where both know them."""
    if old.says_the_same(new):
        return ()
    then = content_of(old.entry())
    return (then if tags else replace(then, tags=None)).differs(content_of(new.entry()))


class Planned(Document):
    """One object that is to be changed, as a line of the plan; sorts and groups like a ``Line``.

    ``line`` is the snapshot's, None for an extra object.
    """

    found: Found
    key: Key
    line: str | None = None
    pack: str | None = None
    size: Size

    @classmethod
    def read(cls, line: Line) -> Planned:
        """Read a line of the plan; ``ManifestInvalid`` when it is none."""
        try:
            return cls.model_validate_json(line.raw)
        except ValidationError:
            raise ManifestInvalid(f"'{line.where}' is no plan of a restore") from None

    def raw(self) -> bytes:
        """Return the line, with its newline."""
        return self.model_dump_json(exclude_defaults=True).encode() + b"\n"

    def entry(self) -> Entry:
        """Return the object as the snapshot has it."""
        if self.line is None:
            raise ManifestInvalid("an extra object is not in the snapshot")
        return parse_line(self.line.encode(), where="plan")


def planned(verdict: Verdict) -> Planned | None:
    """Return the line of the plan for what is not as the snapshot has it."""
    if verdict.found in {"same", "unreadable"}:
        return None
    line = verdict.line
    return Planned(
        found=verdict.found,
        key=verdict.key,
        line=None if line is None else line.raw.decode(),
        pack=None if line is None else line.pack,
        size=verdict.size,
    )


@dataclass(slots=True)
class PlanTotals:
    """Objects and bytes by what was found."""

    objects: dict[Found, int] = field(default_factory=dict)
    bytes: dict[Found, int] = field(default_factory=dict)

    def count(self, verdict: Verdict) -> None:
        """Count one key."""
        found = verdict.found
        self.objects[found] = self.objects.get(found, 0) + 1
        self.bytes[found] = self.bytes.get(found, 0) + verdict.size

    def objects_of(self, *found: Found) -> int:
        """Return the number of objects that came to one of these."""
        return sum(self.objects.get(one, 0) for one in found)

    @property
    def readable(self) -> int:
        """How many of the keys the snapshot has with their bytes."""
        return self.objects_of("same", *WRITTEN)

    def size(self, *found: Found) -> int:
        """Return the bytes of the objects that came to one of these."""
        return sum(self.bytes.get(one, 0) for one in found)

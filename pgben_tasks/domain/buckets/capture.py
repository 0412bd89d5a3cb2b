"""What a snapshot of a bucket says of it as a whole, in the signed manifest. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar, Final, Literal

from pgben_tasks.domain.values import Digest, Document, Moment, Size, SparseDocument

#: What ``BucketSettings.unknown`` says of a server without tags of objects.
OBJECT_TAGS: Final = "object tags"
#: What S3 allows for a bucket's name.
_LONGEST_NAME: Final = 63
#: … and what a bucket aside leaves of that for the numbers of further ones.
_NUMBERS: Final = len("-99")


def restored_bucket(target: str, now: datetime) -> str:
    """Name the bucket that a restore makes: ``<name>-restored-<yyyymmdd-hhmmss>``."""
    return _ending(target.partition("/")[2], f"-restored-{now:%Y%m%d-%H%M%S}")


def aside_bucket(target: str, now: datetime) -> str:
    """Name the bucket for what a restore overwrites: ``<name>-aside-<yyyymmdd-hhmmss>``."""
    ending = f"-aside-{now:%Y%m%d-%H%M%S}"
    return _ending(target.partition("/")[2], ending, longest=_LONGEST_NAME - _NUMBERS)


def further_aside(aside: str, number: int) -> str:
    """Name the bucket for the ``number``-th version of a key; the first lies in ``aside``."""
    return aside if number == 1 else _ending(aside, f"-{number}")


def list_bucket(aside: str) -> str:
    """Name the bucket with the list of what is added, beside the bucket ``aside`` of a restore."""
    name, _, moment = aside.rpartition("-aside-")
    return f"{name}-added-{moment}"


def places(
    target: str, now: datetime, *, into: str | None, in_place: bool, kept: Mapping[str, Any]
) -> dict[str, Any]:
    """Return to which bucket a restore writes, and to which it copies what it overwrites.

    ``now`` is local to the reader. A further attempt takes the names of the one before, ``kept``,
    and its snapshot: the newest may be one of the half-restored bucket by then. What was
    ``copying`` before goes on.
    """
    again = {name: kept[name] for name in ("snapshot", "copying") if name in kept}
    if in_place:
        aside = kept.get("aside") or aside_bucket(target, now)
        return {"into": target.partition("/")[2], "aside": aside, **again}
    return {"into": into or kept.get("into") or restored_bucket(target, now), **again}


def _ending(name: str, ending: str, *, longest: int = _LONGEST_NAME) -> str:
    """Return a name with an ending; one that is cut for it stays another than its neighbours'."""
    if len(name) + len(ending) > longest:
        ending = f"-{sha256(name.encode()).hexdigest()[:6]}{ending}"
    return name[: longest - len(ending)].rstrip("-.") + ending


class BucketSettings(Document):
    """The settings of a bucket, each as the server words it (XML, or JSON for ``policy``).

    None means: not set. ``unknown`` names those that the server cannot be asked for.
    """

    versioning: Literal["off", "enabled", "suspended"]
    lifecycle: str | None = None
    policy: str | None = None
    tagging: str | None = None
    encryption: str | None = None
    lock: str | None = None
    unknown: tuple[str, ...] = ()

    @property
    def knows_object_tags(self) -> bool:
        """Whether the server keeps tags of objects; if not, those of a snapshot say nothing."""
        return OBJECT_TAGS not in self.unknown


class BucketCapture(SparseDocument):
    """What one snapshot found. Names of keys stand in the sealed inventory only.

    ``carried``, ``fetched`` and ``gone`` compare with the snapshot before; ``unreadable`` counts
    keys that could not be fetched; ``bytes`` are those of all readable objects. ``inventory`` is
    the digest of the stored inventory, ``lines`` that of its plain JSON lines. ``tags_as_of`` is
    the oldest moment at which tags of an object were read, ``tags_unread`` how many objects have
    tags that were read before this snapshot; it is left out where there are none.
    """

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"tags_unread"})

    bucket: str
    listing_started: Moment
    listing_ended: Moment
    objects: Size
    bytes: Size
    carried: Size
    fetched: Size
    gone: Size
    unreadable: Size
    inventory: Digest
    inventory_size: Size
    lines: Digest
    tags_as_of: Moment | None
    tags_unread: Size | None = None
    settings: BucketSettings

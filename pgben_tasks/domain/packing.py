"""Which files share a pack: pure decisions. No file is touched here.

Files of a dump that are finished while others are still written may be packed early; what is left
is divided when the whole dump is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from pgben_tasks.domain.documents import Member
from pgben_tasks.domain.target import BackupId, Target

#: A tar header and the unit that members are padded to, in bytes.
TAR_BLOCK: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """Which files go into one pack and what they must contain (their digests are known)."""

    path: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedFile:
    """A file that nobody writes to any more, and whose digest nobody took yet."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyPlan:
    """Which finished files go into one pack; their digests are taken while it is made."""

    path: str
    files: tuple[FinishedFile, ...]


class Packable(Protocol):
    """What packs are divided by."""

    @property
    def name(self) -> str:
        """The file's name inside the pack."""

    @property
    def size(self) -> int:
        """Its bytes."""


_P = TypeVar("_P", bound=Packable)


def tar_size(member: Packable) -> int:
    """Return the bytes that ``member`` takes inside a tar: its header and its padded content."""
    return TAR_BLOCK + padded(member.size)


def padded(size: int) -> int:
    """Return what ``size`` bytes of content take inside a tar."""
    return -(-size // TAR_BLOCK) * TAR_BLOCK


def pack_plans(
    target: Target,
    backup: BackupId,
    members: Sequence[Member],
    *,
    compressed: bool,
    sealed: bool,
    pack_size: int,
    first: int = 1,
) -> tuple[PackPlan, ...]:
    """Divide ``members`` into packs of at most ``pack_size`` bytes (plain, as tar).

    A member of ``pack_size`` bytes or more has a pack of its own. Those come first, the largest
    in front, because they take longest and several packs are stored at once; the others follow in
    the order of their names. The same members give the same plans, whatever their order. Packs
    are numbered from ``first``.
    """
    if pack_size < 1:
        message = f"a pack size of {pack_size} bytes holds nothing"
        raise ValueError(message)
    if len({member.name for member in members}) != len(members):
        message = "two members have one name"
        raise ValueError(message)
    return tuple(
        PackPlan(
            path=pack_path(target, backup, number, compressed=compressed, sealed=sealed),
            members=group,
        )
        for number, group in enumerate(_groups(members, pack_size), start=first)
    )


def early_plans(
    target: Target,
    backup: BackupId,
    waiting: Sequence[FinishedFile],
    *,
    compressed: bool,
    sealed: bool,
    pack_size: int,
    early_size: int,
    first: int,
) -> tuple[EarlyPlan, ...]:
    """Divide the files that wait like ``pack_plans``; give no plan while they are too few.

    Fewer than ``early_size`` bytes are not worth packs of their own yet: more files will come, or
    the end of the dump.
    """
    if sum(file.size for file in waiting) < early_size:
        return ()
    return tuple(
        EarlyPlan(
            path=pack_path(target, backup, number, compressed=compressed, sealed=sealed),
            files=group,
        )
        for number, group in enumerate(_groups(waiting, pack_size), start=first)
    )


def pack_path(
    target: Target, backup: BackupId, number: int, *, compressed: bool, sealed: bool
) -> str:
    """Return the path of a pack; its suffix says what it is."""
    suffix = f".tar{'.zst' if compressed else ''}{'.age' if sealed else ''}"
    return f"packs/{target}/{backup}/{number}{suffix}"


def _groups(members: Sequence[_P], pack_size: int) -> Iterator[tuple[_P, ...]]:
    large = [member for member in members if member.size >= pack_size]
    for member in sorted(large, key=lambda each: (-each.size, each.name)):
        yield (member,)
    group: list[_P] = []
    used = 0
    for member in sorted(
        (each for each in members if each.size < pack_size), key=lambda each: each.name
    ):
        if group and used + tar_size(member) > pack_size:
            yield tuple(group)
            group, used = [], 0
        group.append(member)
        used += tar_size(member)
    if group:
        yield tuple(group)

"""Which files share a pack: a pure decision, made once per backup. No file is touched here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pgben_tasks.domain.documents import Member
from pgben_tasks.domain.target import BackupId, Target

#: A tar header and the unit that members are padded to, in bytes.
TAR_BLOCK: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """Which files go into one pack and what they must contain (their digests are known)."""

    path: str
    members: tuple[Member, ...]


def tar_size(member: Member) -> int:
    """Give the bytes that ``member`` takes inside a tar: its header and its padded content."""
    return TAR_BLOCK + -(-member.size // TAR_BLOCK) * TAR_BLOCK


def pack_plans(
    target: Target,
    backup: BackupId,
    members: Sequence[Member],
    *,
    compressed: bool,
    sealed: bool,
    pack_size: int,
) -> tuple[PackPlan, ...]:
    """Divide ``members`` into packs of at most ``pack_size`` bytes (plain, as tar).

    A member of ``pack_size`` bytes or more has a pack of its own. Those come first, the largest
    in front, because they take longest and several packs are stored at once; the others follow in
    the order of their names. The same members give the same plans, whatever their order.
    """
    if pack_size < 1:
        message = f"a pack size of {pack_size} bytes holds nothing"
        raise ValueError(message)
    if len({member.name for member in members}) != len(members):
        message = "two members have one name"
        raise ValueError(message)
    suffix = f".tar{'.zst' if compressed else ''}{'.age' if sealed else ''}"
    return tuple(
        PackPlan(path=f"packs/{target}/{backup}/{number}{suffix}", members=group)
        for number, group in enumerate(_groups(members, pack_size), start=1)
    )


def _groups(members: Sequence[Member], pack_size: int) -> Iterator[tuple[Member, ...]]:
    large = [member for member in members if member.size >= pack_size]
    for member in sorted(large, key=lambda each: (-each.size, each.name)):
        yield (member,)
    group: list[Member] = []
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

"""The audit trail as a chain of hashes: put together from what was found, with every break named.

Pure. Each entry names the digest of the one before, so that none can be changed, left out or put
in between unnoticed; only a tail that was cut off leaves no trace here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pgben_tasks.domain.documents import AuditEntry, Finding
from pgben_tasks.domain.layout import document_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """One entry per number, in order, and what is wrong with the chain."""

    entries: tuple[AuditEntry, ...]
    findings: tuple[Finding, ...]


def entry_digest(entry: AuditEntry) -> str:
    """Return what the next entry names as ``previous``."""
    return hashlib.sha256(entry.encode()).hexdigest()


def assemble(
    entries: Collection[AuditEntry],
    unreadable: Mapping[int, Finding] | None = None,
    *,
    first: int = 1,
) -> Trail:
    """Return the trail of entries in any order; ``unreadable`` are others, by number.

    ``first`` is the number of the first entry that was looked at: what it follows on is not known.

    Where several have one number, as when two catalogs wrote to one repository, the one stays that
    the entry after it names, else the youngest.
    """
    faults = unreadable or {}
    newest_first = sorted(entries, key=lambda one: (one.sequence, one.at), reverse=True)
    chain: list[AuditEntry] = []
    doubles: list[Finding] = []
    for number, same in groupby(newest_first, key=lambda one: one.sequence):
        candidates = list(same)
        named = chain[-1].previous if chain else None
        chosen = next((one for one in candidates if entry_digest(one) == named), candidates[0])
        chain.append(chosen)
        detail = f"there is another entry {number}, at '{document_path(chosen)}'"
        doubles += [
            Finding(kind="extra", path=document_path(one), detail=detail)
            for one in candidates
            if one is not chosen
        ]
    chain.reverse()
    findings = [*faults.values(), *doubles, *_breaks(chain, faults.keys(), first)]
    return Trail(entries=tuple(chain), findings=tuple(findings))


def ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of numbers that follow on each other; ``numbers`` ascend."""
    # Among such, number and place differ by the same.
    for _, group in groupby(enumerate(numbers), key=lambda one: one[1] - one[0]):
        found = [number for _, number in group]
        yield found[0], found[-1]


def _breaks(
    chain: Sequence[AuditEntry], unreadable: Collection[int], first: int
) -> Iterator[Finding]:
    """Yield the entries that do not follow on the one before."""
    before: AuditEntry | None = None
    for entry in chain:
        expected = first if before is None else before.sequence + 1
        gone = sorted(set(range(expected, entry.sequence)) - set(unreadable))
        if gone:
            numbers = f"entry {gone[0]}" if len(gone) == 1 else f"entries {gone[0]} to {gone[-1]}"
            yield Finding(
                kind="missing",
                path=document_path(entry),
                detail=f"before it, {numbers} cannot be found",
            )
        elif (
            (before is not None or first == 1)
            and entry.sequence == expected
            and entry.previous != (before and entry_digest(before))
        ):
            yield Finding(
                kind="forged",
                path=document_path(entry),
                detail="it does not name the digest of the entry before it",
            )
        before = entry

"""The signed statements about one backup as a chain: none can be taken out unnoticed.

Pure. Each link names its number and the digest of the link before it (``previous``); what it has
seen beside that stands in ``earlier``: statements of versions that made no chain, and those of a
second writer that saw the same head, as in direct mode. The end of a chain is guarded by the audit
trail, whose entries carry the digests of statements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from pgben_tasks.domain.documents import Finding, Verification
from pgben_tasks.domain.layout import document_path

_ByDigest = Mapping[str, Verification]


class Link(NamedTuple):
    """What a new statement says of those before it."""

    number: int
    previous: str | None
    earlier: tuple[str, ...] | None


def statement_digest(statement: Verification) -> str:
    """Return what the next link and the audit trail name a statement by."""
    return hashlib.sha256(statement.encode()).hexdigest()


def next_link(statements: Collection[Verification]) -> Link:
    """Return the link of a statement that has seen ``statements``, all there are of its backup."""
    known = _by_digest(statements)
    line = _main_line(known)
    if not line:
        return Link(1, None, tuple(sorted(known)) or None)
    seen = _ancestors(line[-1], known)
    unseen = tuple(sorted(known.keys() - seen))
    return Link((known[line[-1]].number or 0) + 1, line[-1], unseen or None)


def in_order(statements: Iterable[Verification]) -> list[Verification]:
    """Return statements in the order in which they count: by the chain, else by their moment.

    Of two that did not know of each other the worse one counts: one with findings comes as late as
    the chain allows, one without as early.
    """
    known = _by_digest(statements)
    line = _main_line(known)
    places: dict[str, float] = {}
    for place, link in enumerate(line):
        # What the first link names was there before it, in the order of time.
        for digest in _ancestors(link, known) - places.keys() - {link}:
            late = place == 0 or bool(known[digest].findings)
            places[digest] = place - 0.5 if late else _after_parent(digest, places, known)
        places[link] = place
    for digest in known.keys() - places.keys():
        late = not line or bool(known[digest].findings)
        places[digest] = len(line) if late else _after_parent(digest, places, known)
    return [
        known[digest]
        for digest in sorted(known, key=lambda one: (places[one], known[one].at, known[one].id))
    ]


def breaks(statements: Iterable[Verification]) -> Iterator[Finding]:
    """Yield where the chain names a statement that is not there, or does not count on."""
    known = _by_digest(statements)
    for link in sorted(known.values(), key=lambda one: (one.number or 0, one.id)):
        if link.number is None:
            continue
        path = document_path(link)
        for digest in filter(None, (link.previous, *(link.earlier or ()))):
            if digest not in known:
                detail = f"it names the statement {digest[:12]}…, which cannot be found"
                yield Finding(kind="missing", path=path, detail=detail)
        before = known.get(link.previous or "")
        expected = 1 if link.previous is None else before and (before.number or 0) + 1
        if expected is not None and link.number != expected:
            detail = f"it is number {link.number}, and the one before it says {expected}"
            yield Finding(kind="invalid", path=path, detail=detail)


def _by_digest(statements: Iterable[Verification]) -> dict[str, Verification]:
    return {statement_digest(one): one for one in statements}


def _main_line(known: _ByDigest) -> list[str]:
    """Return the digests of the longest line of links, the first one first."""
    links = [digest for digest, one in known.items() if one.number is not None]
    if not links:
        return []
    head = max(links, key=lambda digest: (known[digest].number or 0, digest))
    line = [head]
    while (previous := known[line[-1]].previous) is not None and previous in known:
        line.append(previous)
    return line[::-1]


def _ancestors(head: str, known: _ByDigest) -> set[str]:
    """Return a statement and all that it has seen, directly or by those that it names."""
    found: set[str] = set()
    waiting = [head]
    while waiting:
        digest = waiting.pop()
        if digest in found or digest not in known:
            continue
        found.add(digest)
        one = known[digest]
        waiting += [*filter(None, [one.previous]), *(one.earlier or ())]
    return found


def _after_parent(digest: str, places: Mapping[str, float], known: _ByDigest) -> float:
    """Return the place right behind the newest statement that one had seen."""
    seen = _ancestors(digest, known) - {digest}
    return max((places[one] for one in seen if one in places), default=-1.0) + 0.25

"""What thirty nights of changes add to a repository: bytes only, no times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks.chain import Chain
from benchmarks.documents import BUCKET, Documents
from benchmarks.places import Installation, servers
from benchmarks.report import MEBIBYTE
from pgben_tasks.runtime import open_store

NIGHTS: Final = 30
SHARE: Final = 0.01
#: What the project promises: so many times what one full copy takes.
MOST: Final = 1.50


def measure(objects: int, *, tell: Callable[[str], None]) -> dict[str, float]:
    """Take a full snapshot, then one after each of thirty nights; return bytes and their ratio.

    One full copy is what a copy of the bucket takes, its objects' own bytes.

    The nights follow each other at once, so none is older than retention keeps: as with settings
    that keep thirty days, no snapshot goes.
    """
    tell(f"filling a bucket with {objects} documents …")
    with servers() as on:
        documents = Documents.make(objects, on.stack.supervisor)
        at = Installation.make(on, "churn", **documents.settings())
        chain = Chain("snapshot", at, f"bucket/{BUCKET}")
        chain.run()
        first = _stored(at)
        copy = documents.size
        for night in range(1, NIGHTS + 1):
            documents.change(SHARE)
            chain.run()
            stored = _stored(at)
            tell(f"night {night}: {stored / MEBIBYTE:.1f} MiB, {stored / copy:.2f} × one full copy")
    return {
        "objects": objects,
        "copy_bytes": copy,
        "first_bytes": first,
        "stored_bytes": stored,
        "ratio": stored / copy,
        "ratio_to_first": stored / first,
    }


def sentence(found: dict[str, float]) -> str:
    """Return one line about whether the bar holds."""
    word = "holds" if found["ratio"] <= MOST else "is missed"
    return (
        f"{word}: after {NIGHTS} nights with {SHARE:.0%} changed the repository had "
        f"{found['ratio']:.2f} × one full copy ({found['copy_bytes'] / MEBIBYTE:.1f} MiB); "
        f"at most {MOST:.2f} ×; it was {found['ratio_to_first']:.2f} × the first snapshot "
        f"({found['first_bytes'] / MEBIBYTE:.1f} MiB)"
    )


def _stored(at: Installation) -> int:
    """Return the bytes of everything in the repository, inventories and signed documents, too."""
    return sum(one.size for one in open_store(at.work.settings).list(""))

"""Snapshots of a bucket against ``rclone sync``: the first, and nights without and with changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from benchmarks.chain import Chain
from benchmarks.documents import BUCKET, WARM_UP, Documents
from benchmarks.places import Installation, Servers, servers
from benchmarks.report import Bar, Part, verdicts
from benchmarks.rounds import Measured, run_rounds
from benchmarks.sync import COMPARING, TRANSFERS, Sync
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.embedded.stack import REPOSITORY_BUCKET

FIRST: Final = "snapshot, first"
UNCHANGED: Final = "snapshot, nothing changed"
CHANGED: Final = "snapshot, 1 % changed"
_SYNC_FIRST: Final = "rclone sync, first"
_SYNC_UNCHANGED: Final = "rclone sync, nothing changed"
_SYNC_CHANGED: Final = "rclone sync, 1 % changed"
_BARS: Final = (
    Bar(subject=FIRST, yardstick=_SYNC_FIRST, most=0.60),
    Bar(subject=UNCHANGED, yardstick=_SYNC_UNCHANGED, most=1.00),
    Bar(subject=CHANGED, yardstick=_SYNC_CHANGED, most=1.00),
)
_SHARE: Final = 0.01
ALONE: Final = "snapshot, one process"
SHARED: Final = "snapshot, two processes"


@dataclass
class _FirstSnapshot:
    """Snapshots by installations that have none yet; the last one is kept for what comes after."""

    on: Servers
    documents: Documents
    name: str = FIRST
    processes: int = 4
    installation: Installation | None = None
    _made: int = 0

    def run(self) -> Measured:
        """Make an installation, take a small snapshot unmeasured, and measure the first."""
        if self.installation is not None:
            self.installation.worker.stop()
        self._made += 1
        at = Installation.make(
            self.on,
            f"first{self._made}of{self.processes}",
            self.processes,
            **self.documents.settings(),
        )
        self.installation = at
        Chain(self.name, at, f"bucket/{WARM_UP}").run()
        return Chain(self.name, at, f"bucket/{BUCKET}").run()


def measure(objects: int, rounds: int, *, tell: Callable[[str], None]) -> Part:
    """Fill a bucket with ``objects`` and measure every night of it."""
    tell(f"filling a bucket with {objects} documents …")
    with servers() as on:
        documents = Documents.make(objects, on.stack.supervisor)
        # Beside the repository, on a server whose etags are digests, which --checksum compares.
        mirror = EmbeddedS3.start(supervisor=on.stack.supervisor, etags=True)
        mirror.make_bucket(REPOSITORY_BUCKET)
        numbers = count(1)

        def fresh() -> str:
            return f"{REPOSITORY_BUCKET}/mirror{next(numbers)}"

        transfers = _best(documents, mirror, fresh, tell)
        first = _FirstSnapshot(on, documents)
        found = run_rounds(
            [first, Sync(_SYNC_FIRST, documents, mirror, fresh, transfers=transfers)],
            rounds,
            tell=tell,
        )
        if first.installation is None:
            raise SystemExit("nothing was run")
        at, kept = first.installation, fresh()
        # What runs first is not measured: it fetches what was stored minutes ago once more.
        documents.settle()
        for share, ours, theirs in (
            (0.0, UNCHANGED, _SYNC_UNCHANGED),
            (_SHARE, CHANGED, _SYNC_CHANGED),
        ):
            chain = Chain(ours, at, f"bucket/{BUCKET}")
            sync = Sync(
                theirs, documents, mirror, lambda: kept, transfers=transfers, options=COMPARING
            )
            night = (lambda: documents.change(_SHARE)) if share else documents.warm
            found |= run_rounds([chain, sync], rounds, tell=tell, before=night)
    facts: dict[str, Any] = {
        "objects": objects,
        "bytes": documents.size,
        "transfers": transfers,
        "rounds": rounds,
    }
    return Part(
        title=(
            f"{objects} objects, {documents.size / 1e6:.0f} MB; "
            f"rclone with {transfers} transfers, its best of {TRANSFERS}; {rounds} rounds"
        ),
        found=found,
        judged=verdicts(_BARS, found),
        facts=facts,
    )


def measure_shared(objects: int, rounds: int, *, tell: Callable[[str], None]) -> Part:
    """Measure what a second process of the worker gains for a first snapshot of ``objects``."""
    tell(f"filling a bucket with {objects} documents …")
    with servers() as on:
        documents = Documents.make(objects, on.stack.supervisor)
        ways = [
            _FirstSnapshot(on, documents, name, processes)
            for name, processes in ((ALONE, 1), (SHARED, 2))
        ]
        found = run_rounds(ways, rounds, tell=tell)
    return Part(
        title=f"{objects} objects, {documents.size / 1e6:.0f} MB; {rounds} rounds",
        found=found,
        judged=verdicts([Bar(subject=SHARED, yardstick=ALONE, most=1.00)], found),
        facts={"objects": objects, "bytes": documents.size, "rounds": rounds},
    )


def _best(
    documents: Documents, mirror: EmbeddedS3, fresh: Callable[[], str], tell: Callable[[str], None]
) -> int:
    """Return with how many transfers rclone is the fastest here."""
    tried = {}
    for transfers in TRANSFERS:
        sync = Sync(f"{transfers} transfers", documents, mirror, fresh, transfers=transfers)
        tried[transfers] = sync.run().seconds
        tell(f"rclone sync with {transfers} transfers {tried[transfers]:.2f} s")
    return min(tried, key=lambda transfers: tried[transfers])

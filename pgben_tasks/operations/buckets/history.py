"""Read the snapshots of a bucket one after another: what each changed, and one object in all.

Inventories are fetched, checked and opened one by one, two of them at a time, and removed. One
that cannot be read is told and passed over: the next snapshot is compared with the last that could.
Keys may be personal data, so no error that leaves here names one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Final

from pgben_tasks.domain.buckets.capture import BucketCapture
from pgben_tasks.domain.buckets.history import Changes, Sighting, count_changes
from pgben_tasks.domain.buckets.inventory import Line
from pgben_tasks.domain.states import BackupStanding
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import IntegrityError, ObjectMissing
from pgben_tasks.operations.buckets.browse import line_of, open_inventory
from pgben_tasks.operations.buckets.restoring import capture_of
from pgben_tasks.operations.repository.survey import Survey, Surveyed, was_pruned
from pgben_tasks.operations.snapshot_files import read_lines
from pgben_tasks.operations.toolbox import Toolbox
from pgben_tasks.ports import Progress

#: What says that the inventory of a snapshot is no longer what it was.
_UNREADABLE: Final = (IntegrityError, ObjectMissing)
#: Lines read between two looks at whether somebody stops it.
_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One snapshot, and what it has beside an older one.

    ``backup`` is None where its manifest cannot be believed; ``fault`` is why it, or its inventory,
    cannot be read. ``compared_with`` is None for the first one that can.
    """

    id: BackupId
    backup: Surveyed | None = None
    fault: str | None = None
    compared_with: BackupId | None = None
    changes: Changes | None = None

    @property
    def moment(self) -> datetime | None:
        """The moment whose data it holds, where that is known."""
        return None if self.backup is None else self.backup.known.snapshot_time

    @property
    def standing(self) -> BackupStanding | None:
        """What statements say of it, where its manifest can be believed."""
        return None if self.backup is None else self.backup.known.standing

    @property
    def capture(self) -> BucketCapture | None:
        """What it says of its bucket, where its manifest can be believed."""
        return None if self.backup is None else capture_of(self.backup.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which snapshots are looked at, oldest first, and the older ones that are not."""

    chosen: Sequence[Night]
    older: Sequence[Night]


def choose(found: Survey, *, last: int | None, since: datetime | None) -> Choice:
    """Choose the newest ``last`` snapshots whose data is from ``since`` or later."""
    # The order of what can be read is that of the sequence, whatever clocks said.
    readable = (Night(id=one.known.id, backup=one) for one in reversed(found.backups))
    doubtful = sorted(found.unreadable, key=itemgetter(0))
    others = (Night(id=backup, fault=finding.detail) for backup, finding in doubtful)
    every = list(merge(readable, others, key=lambda one: str(one.id)))
    start = next((n for n, one in enumerate(every) if _is_since(one, since)), len(every))
    if last is not None:
        start = max(start, len(every) - last)
    return Choice(chosen=every[start:], older=every[:start])


def _is_since(one: Night, since: datetime | None) -> bool:
    if since is None:
        return True
    return (one.moment or one.id.started) >= since


def nights(tools: Toolbox, choice: Choice, folder: Path, progress: Progress) -> Iterator[Night]:
    """Yield the chosen snapshots, oldest first, each with what it changed beside the one before.

    What is opened lies in the private ``folder``. Raises ``ConfigurationError`` where no identity
    is at hand.
    """
    total = sum(_lines(one.capture) for one in choice.chosen if one.capture is not None)
    progress.begin("compare", total=total, unit="objects")
    base: _Opened | None = None
    for older in reversed(choice.older):
        found = _open(tools, older, folder)
        if isinstance(found, _Opened):
            base = found
            break
    for one in choice.chosen:
        opened = _open(tools, one, folder)
        if not isinstance(opened, _Opened):
            yield from filter(None, [opened])
            continue
        yield _compared(base, opened, progress)
        if base is not None:
            base.lines.unlink()
        base = opened


def sightings(
    tools: Toolbox, choice: Choice, key: str, folder: Path, progress: Progress
) -> Iterator[Sighting | Night]:
    """Yield how each chosen snapshot has one object, oldest first, or that it cannot be read.

    ``folder`` and what is raised are as for ``nights``.
    """
    progress.begin("look", total=len(choice.chosen), unit="snapshots")
    for one in choice.chosen:
        opened = _open(tools, one, folder)
        if not isinstance(opened, _Opened):
            yield from filter(None, [opened])
        else:
            seen = _sighting(opened, key)
            opened.lines.unlink()
            yield seen
        progress.advance(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A snapshot whose inventory lies open in a file."""

    night: Night
    backup: Surveyed
    lines: Path

    @property
    def capture(self) -> BucketCapture:
        return capture_of(self.backup.manifest)

    @property
    def knows_tags(self) -> bool:
        return self.capture.settings.knows_object_tags


def _open(tools: Toolbox, one: Night, folder: Path) -> _Opened | Night | None:
    """Open an inventory; return the snapshot with its fault where that cannot be done.

    None for one that retention has removed since it was listed.
    """
    if one.backup is None:
        return one
    try:
        lines = open_inventory(tools, one.backup.manifest, folder)
    except _UNREADABLE as exc:
        target = one.backup.manifest.target_name
        if isinstance(exc, ObjectMissing) and was_pruned(tools.repository, target, one.id):
            return None
        return _faulty(one, exc)
    return _Opened(night=one, backup=one.backup, lines=lines)


def _compared(base: _Opened | None, now: _Opened, progress: Progress) -> Night:
    if base is None:
        progress.advance(_lines(now.capture))
        return now.night
    try:
        changes = count_changes(
            read_lines(base.lines),
            _counted(read_lines(now.lines), progress),
            tags=base.knows_tags and now.knows_tags,
        )
    except _UNREADABLE as exc:
        return _faulty(now.night, exc)
    return Night(id=now.night.id, backup=now.backup, compared_with=base.night.id, changes=changes)


def _sighting(opened: _Opened, key: str) -> Sighting | Night:
    try:
        line = line_of(opened.lines, key)
    except _UNREADABLE as exc:
        return _faulty(opened.night, exc)
    return Sighting(backup=opened.backup.known, line=line, knows_tags=opened.knows_tags)


def _faulty(one: Night, exc: IntegrityError | ObjectMissing) -> Night:
    return Night(id=one.id, backup=one.backup, fault=exc.sentence)


def _lines(capture: BucketCapture) -> int:
    """Return how many lines a snapshot's inventory has."""
    return capture.objects + capture.unreadable


def _counted(lines: Iterable[Line], progress: Progress) -> Iterator[Line]:
    number = 0
    for number, line in enumerate(lines, 1):
        if number % _AT_ONCE == 0:
            progress.advance(_AT_ONCE)
        yield line
    progress.advance(number % _AT_ONCE)

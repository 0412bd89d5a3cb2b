"""Compare a snapshot with the bucket as it is now: the plan of a restore in place, and its proof.

Keys may be personal data, so no error that leaves here names one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pgben_tasks.domain.buckets.capture import BucketCapture
from pgben_tasks.domain.buckets.diff import Carried, Change, Gone, Wanted, compare
from pgben_tasks.domain.buckets.inventory import Entry, Line
from pgben_tasks.domain.buckets.restore_plan import Found, KeyChoice, Verdict, content_of
from pgben_tasks.errors import ObjectMissing
from pgben_tasks.operations.buckets.current import CurrentObjects, unnamed
from pgben_tasks.operations.buckets.patience import Patience
from pgben_tasks.operations.snapshot_files import read_lines, sorted_listing
from pgben_tasks.operations.toolbox import Toolbox
from pgben_tasks.ports import Bucket, ListedObject

_T = TypeVar("_T")


def compare_live(
    tools: Toolbox,
    bucket: Bucket,
    capture: BucketCapture,
    inventory: Path,
    choice: KeyChoice,
    scratch: Path,
    *,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Verdict]:
    """Yield of every chosen key how it is now beside the snapshot, in the order of keys.

    ``inventory`` is a file of the lines of the snapshot ``capture``. The listing is written down
    below ``scratch`` before anything is compared: fetching may take hours, and servers forget where
    a listing was. Memory stays flat. Tags are compared where the server keeps any, and kept them
    when the snapshot was taken. ``check`` raises when work must end.
    """
    at_once = tools.limits.copy_concurrency
    patience = Patience(tools.limits.patience, at_once=at_once, check=check)
    judge = _Judge(CurrentObjects(bucket), capture)
    with (
        sorted_listing(_listing(bucket, choice), scratch) as listing,
        ThreadPoolExecutor(at_once, thread_name_prefix="compare") as pool,
    ):
        lines = chosen(inventory, choice)
        changes = compare(listing, lines, previous_at=capture.listing_started)
        for batch in batches(changes, 4 * at_once):
            yield from patience.each(pool, judge.compare, batch)


def chosen(inventory: Path, choice: KeyChoice) -> Iterator[Line]:
    """Return the lines of the chosen keys."""
    return (line for line in read_lines(inventory) if choice.takes(line.key))


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Yield the items in lists of at most ``size``."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def _listing(bucket: Bucket, choice: KeyChoice) -> Iterator[ListedObject]:
    """List what may be chosen; single keys are looked at one by one."""
    if not choice.keys:
        # A bucket that was lost whole has no objects.
        return bucket.list(choice.prefix) if bucket.exists() else iter(())
    return _found(bucket, sorted(choice.keys))


def _found(bucket: Bucket, keys: Iterable[str]) -> Iterator[ListedObject]:
    if not bucket.exists():
        return
    for key in keys:
        try:
            with unnamed(key):
                facts = bucket.head(key)
        except ObjectMissing:
            continue
        yield ListedObject(key, facts.etag, facts.size, facts.modified)


class _Judge:
    """Compares what is in a bucket now with what a snapshot says of it."""

    def __init__(self, now: CurrentObjects, capture: BucketCapture) -> None:
        self._now = now
        self._listed_at = capture.listing_started
        # Of a server that kept none then, a snapshot does not know which tags there should be.
        self._tags = capture.settings.knows_object_tags

    def compare(self, change: Change) -> Verdict:
        """Return how one key is now."""
        line = change.line
        if isinstance(change, Wanted) and line is None:
            return Verdict(found="extra", listed=change.listed)
        if line is None or line.pack is None:
            return Verdict(found="unreadable", line=line)
        if isinstance(change, Gone):
            return Verdict(found="missing", line=line)
        try:
            with unnamed(line.key):
                return self._both(line, change)
        except ObjectMissing:
            # Somebody removed it since it was listed.
            return Verdict(found="missing", line=line)

    def _both(self, line: Line, change: Carried | Wanted) -> Verdict:
        """Compare an object that is in the snapshot and in the bucket."""
        entry = line.entry()
        as_it_was = isinstance(change, Carried) or change.why == "tags"
        if as_it_was:
            differs = self._tags_only(entry)
        elif isinstance(change, Wanted) and change.listed.size != line.size:
            differs = ("size",)
        else:
            differs = self._now.differ(
                line.key, entry, tags=self._tags, listing_started=self._listed_at
            )
        if differs:
            found: Found = "tags" if differs == ("tags",) else "differing"
            return Verdict(found=found, line=line, differs=differs)
        lost = self._now.lack_tags and bool(entry.tags)
        return Verdict(found="same", line=line, tags_lost=lost, tags_kept=self._keeps_more(entry))

    def _keeps_more(self, entry: Entry) -> bool:
        """Return whether the object has tags that the snapshot did not read and cannot deny."""
        if content_of(entry, self._listed_at).all_tags or not self._tags:
            return False
        return (self._now.tags(entry.key) or {}) != entry.tags

    def _tags_only(self, entry: Entry) -> tuple[str, ...]:
        """Compare the tags of the very object of the snapshot: they change without a new date."""
        if not self._now.keep_tags(entry.key) or not self._tags:
            return ()
        there = self._now.tags(entry.key) or {}
        return () if content_of(entry, self._listed_at).tags_over(there) == there else ("tags",)

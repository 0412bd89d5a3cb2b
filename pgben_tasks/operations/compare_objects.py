"""Compare a snapshot with the bucket as it is now: the plan of a restore in place, and its proof.

Keys may be personal data, so no error that leaves here names one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pgben_tasks.domain.bucket import BucketCapture
from pgben_tasks.domain.bucket_plan import (
    Content,
    Found,
    KeyChoice,
    Verdict,
    content_of,
    is_settled,
    version_mark,
)
from pgben_tasks.domain.inventory_diff import Carried, Change, Gone, Wanted, compare
from pgben_tasks.domain.inventory_line import Line
from pgben_tasks.errors import ObjectMissing, PgbenError
from pgben_tasks.operations.snapshot_files import read_lines
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
) -> Iterator[Verdict]:
    """Say of every chosen key how it is now beside the snapshot, in the order of keys.

    ``inventory`` is a file of the lines of the snapshot ``capture``. The listing is written down
    below ``scratch`` before anything is compared: fetching may take hours, and servers forget where
    a listing was. Memory stays flat.
    """
    at_once = tools.limits.copy_concurrency
    with (
        tools.sort_listing(_listing(bucket, choice), scratch) as listing,
        ThreadPoolExecutor(at_once, thread_name_prefix="compare") as pool,
    ):
        changes = compare(listing, chosen(inventory, choice))
        for batch in batches(changes, 4 * at_once):
            yield from pool.map(partial(_judge, bucket, capture.listing_started), batch)


def chosen(inventory: Path, choice: KeyChoice) -> Iterator[Line]:
    """Give the lines of the chosen keys."""
    return (line for line in read_lines(inventory) if choice.takes(line.key))


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Give the items in lists of at most ``size``."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def look(bucket: Bucket, key: str) -> tuple[Content, str]:
    """Fetch an object; gives what it is and carries, and the mark of its version."""
    digest = hashlib.sha256()
    with bucket.fetch(key) as got:
        for chunk in got.chunks:
            digest.update(chunk)
        facts = got.facts
    content = Content(
        sha256=digest.hexdigest(),
        size=facts.size,
        headers=facts.headers,
        metadata=facts.metadata,
        tags={} if facts.tag_count == 0 else bucket.tags(key),
    )
    return content, version_mark(facts.etag, facts.modified, content.tags)


def mark_of(bucket: Bucket, key: str) -> str | None:
    """Give the mark of the version that is there, None where there is none."""
    try:
        facts = bucket.head(key)
        tags = {} if facts.tag_count == 0 else bucket.tags(key)
    except ObjectMissing:
        return None
    return version_mark(facts.etag, facts.modified, tags)


@contextmanager
def unnamed(key: str) -> Iterator[None]:
    """Take the key out of what goes wrong with an object inside the block."""
    try:
        yield
    except PgbenError as exc:
        sentence = exc.sentence.replace(f"'{key}'", "an object").replace(repr(key), "an object")
        # The cause would show the key in a log.
        raise type(exc)(sentence, exc.hint) from None


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


def _judge(bucket: Bucket, listed_at: datetime, change: Change) -> Verdict:
    line = change.line
    if isinstance(change, Wanted) and line is None:
        return Verdict(found="extra", listed=change.listed)
    if line is None or line.pack is None:
        return Verdict(found="unreadable", line=line)
    if isinstance(change, Gone):
        return Verdict(found="missing", line=line)
    try:
        return _both(bucket, listed_at, line, change)
    except ObjectMissing:
        # Somebody removed it since it was listed.
        return Verdict(found="missing", line=line)


def _both(bucket: Bucket, listed_at: datetime, line: Line, change: Carried | Wanted) -> Verdict:
    """Compare an object that is in the snapshot and in the bucket."""
    as_it_was = isinstance(change, Carried) or change.why == "tags"
    if as_it_was and is_settled(line.entry().modified, listed_at):
        return _same_bytes(bucket, line)
    if isinstance(change, Wanted) and change.listed.size != line.size:
        return Verdict(found="differing", line=line, differs=("size",))
    return _looked_at(bucket, line)


def _same_bytes(bucket: Bucket, line: Line) -> Verdict:
    """Compare the tags of the very object that the snapshot saw: they change without a new date."""
    with unnamed(line.key):
        tags = bucket.tags(line.key)
    if tags == line.entry().tags:
        return Verdict(found="same", line=line)
    return Verdict(found="tags", line=line, differs=("tags",))


def _looked_at(bucket: Bucket, line: Line) -> Verdict:
    with unnamed(line.key):
        now, _ = look(bucket, line.key)
    differs = content_of(line.entry()).differs(now)
    if not differs:
        return Verdict(found="same", line=line)
    found: Found = "tags" if differs == ("tags",) else "differing"
    return Verdict(found=found, line=line, differs=differs)

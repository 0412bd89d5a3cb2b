"""Read the tags of unchanged objects again: setting one changes nothing that a listing shows.

All are read every night, the longest unread first, as far as the time goes that settings allow. In
the job's folder ``carried.jsonl`` is written anew with what was read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from pgben_tasks.domain.buckets.inventory import Line
from pgben_tasks.files.durable import durable_file
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets.compare import batches
from pgben_tasks.operations.buckets.copying import Fetcher
from pgben_tasks.operations.snapshot_files import ToFetch, by_key, by_tags_age, read_lines
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)

#: Objects asked for between two looks at the clock, by thread.
_BATCH: Final = 16


def refresh_tags(run: Run, tools: Toolbox) -> int:
    """Read the tags of what was carried over; return of how many objects they were read."""
    carried = run.folder / "carried.jsonl"
    if not run.job.result["keeps_tags"]:
        return 0
    moments: set[str] = set()
    count = 0
    for line in read_lines(carried):
        moments.add(line.tags_at or "")
        count += 1
    if not count:
        return 0
    run.progress.begin("tags", total=count, unit="objects")
    scratch = spool.fresh(run.folder / "tags")
    # As a rule all were read in the same night, and are in the order of keys already.
    mixed = len(moments) > 1
    lines = read_lines(carried)
    waiting = by_tags_age(lines, spool.fresh(scratch / "ages")) if mixed else lines
    with spool.disk_errors(scratch):
        read = _read(run, tools, waiting, scratch / "read.jsonl")
    fresh = read_lines(scratch / "read.jsonl")
    with spool.disk_errors(run.folder), durable_file(carried) as file:
        new = by_key(fresh, spool.fresh(scratch / "keys")) if mixed else fresh
        for line in _replaced(read_lines(carried), new):
            file.write(line.raw)
    spool.remove(scratch)
    log.info("tags_read", objects=read, unread=count - read)
    return read


def _read(run: Run, tools: Toolbox, waiting: Iterator[Line], destination: Path) -> int:
    """Write the lines of objects whose tags were read, until the time is up; return how many."""
    at_once = tools.limits.copy_concurrency
    budget = tools.limits.tag_budget.total_seconds()
    until = time.monotonic() + budget
    stop, now = threading.Event(), tools.clock.now()
    fetcher = Fetcher(run, tools.buckets[run.target], None, now=now, stop=stop)
    asked = read = 0
    with destination.open("wb") as file, ThreadPoolExecutor(at_once, "tags") as pool:
        try:
            for batch in batches(waiting, _BATCH * at_once):
                # Where there is any time, some are read: all have their turn one night.
                if time.monotonic() >= until and (asked or not budget):
                    break
                run.progress.check()
                for entry in pool.map(fetcher.entry, map(_ask, batch)):
                    if entry is not None:
                        file.write(entry.line())
                        # One whose tags could not be read has its line of before.
                        read += entry.tags_at == now
                asked += len(batch)
                run.progress.advance(len(batch))
        finally:
            stop.set()
    return read


def _ask(line: Line) -> ToFetch:
    """Ask for an object's tags alone; its line stands where they cannot be read."""
    return ToFetch(key=line.key, size=0, line=line.raw.decode(), tags_only=True)


def _replaced(lines: Iterator[Line], new: Iterator[Line]) -> Iterator[Line]:
    """Yield ``lines``, each as ``new`` has it where it does; both are in the order of keys."""
    fresh = next(new, None)
    for line in lines:
        while fresh is not None and fresh.key < line.key:
            fresh = next(new, None)
        yield fresh if fresh is not None and fresh.key == line.key else line

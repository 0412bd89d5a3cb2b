"""Fetching the objects of a snapshot, some at a time, into packs that are stored at once.

What is stored is written down in a journal, so that whoever goes on after a crash fetches nothing
twice but what was on its way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import structlog

from pgben_tasks.domain.buckets.inventory import Entry
from pgben_tasks.domain.buckets.line import Line
from pgben_tasks.domain.buckets.shard import Counts
from pgben_tasks.domain.documents import Pack, pack_number
from pgben_tasks.domain.target import BackupId
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets.fetching import Fetcher
from pgben_tasks.operations.buckets.journal import Done, Journal
from pgben_tasks.operations.repository import commit as committing
from pgben_tasks.operations.snapshot_files import ToFetch, merged, read_lines, read_to_fetch
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Bucket, DigestIndex, ObjectPackWriter

log = structlog.get_logger(__name__)

#: Seconds between two looks whether the work is still ours.
_POLL_SECONDS: Final = 0.25
#: So many objects a thread takes at a time.
_AT_ONCE: Final = 4


def known_places(run: Run, files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield digest and place of all that ``files`` speak of, where the pack is not avoided."""
    avoided = set(run.job.result["avoided"])
    for path in files:
        for line in read_lines(path):
            if line.sha256 is not None and line.pack is not None and line.pack not in avoided:
                yield line.sha256, line.pack


def copy_wanted(
    run: Run,
    tools: Toolbox,
    wanted: Path,
    journal: Journal,
    *,
    folder: Path,
    known: DigestIndex,
    numbers: range,
) -> Counts:
    """Fetch what ``wanted`` holds and ``journal`` does not; returns when all of it is stored.

    ``folder`` is for packs on their way. Packs are numbered within ``numbers``, above those that a
    dead run stored.
    """
    backup = committing.backup_id(run)
    packs = spool.fresh(folder / "packs")
    done = Done(journal)

    def store(pack: Pack, file: Path) -> None:
        run.progress.check()
        tools.repository.store_pack(pack, file, advance=_ignore)
        done.stored(pack)
        log.info("pack_stored", pack=pack.path, size=pack.size)

    with (
        spool.disk_errors(packs),
        tools.object_packs.writer(
            packs,
            known=known,
            target=run.target,
            backup=backup,
            first=_first_free(run, tools, backup, numbers),
            store=store,
            require_room=partial(
                spool.ensure_room,
                tools.spool,
                limit=tools.limits.spool_limit,
                what="a large object",
            ),
        ) as writer,
    ):
        work = Copy(
            run,
            tools.buckets[run.target],
            writer,
            done,
            own=f"{backup}/",
            now=tools.clock.now(),
            concurrency=tools.limits.copy_concurrency,
        )
        work.all(_remaining(wanted, journal, folder))
    done.finish()
    return work.counts


def _first_free(run: Run, tools: Toolbox, backup: BackupId, numbers: range) -> int:
    own = f"packs/{run.target}/{backup}/"
    there = (
        pack_number(path.removeprefix(own))
        for path in tools.repository.packs(run.target)
        if path.startswith(own)
    )
    return 1 + max((n for n in there if n is not None and n in numbers), default=numbers[0] - 1)


def _remaining(wanted: Path, journal: Journal, folder: Path) -> Iterator[ToFetch]:
    """Yield what is wanted and not yet written down; both are in the order of keys."""
    lines = merged(journal.files(), spool.fresh(folder / "merged"))
    line: Line | None = next(lines, None)
    for item in read_to_fetch(wanted):
        while line is not None and line.key < item.key:
            line = next(lines, None)
        if line is None or line.key != item.key:
            yield item


class _Shared:
    """Wants that several threads take, a few at a time: a lock for each would cost more."""

    def __init__(self, wanted: Iterator[ToFetch]) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()

    def take(self) -> list[ToFetch]:
        with self._lock:
            return list(islice(self._wanted, _AT_ONCE))


class Copy:
    """One run over what is wanted, ``concurrency`` objects at a time."""

    def __init__(
        self,
        run: Run,
        bucket: Bucket,
        writer: ObjectPackWriter,
        done: Done,
        *,
        own: str,
        now: datetime,
        concurrency: int,
    ) -> None:
        """Fetch from ``bucket`` into ``writer``; ``own`` is what places of own packs begin with."""
        self._run = run
        self._done = done
        self._own = own
        self._concurrency = concurrency
        self._stop = threading.Event()
        self._fetcher = Fetcher(run, bucket, writer, now=now, stop=self._stop)
        self._counting = threading.Lock()
        self.counts = Counts()
        self._cause: BaseException | None = None

    def all(self, wanted: Iterator[ToFetch]) -> None:
        """Fetch everything; the first error that is not one object's own ends it."""
        items = _Shared(wanted)
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="copy") as pool:
            running = [pool.submit(self._work, items) for _ in range(self._concurrency)]
            try:
                while wait(running, timeout=_POLL_SECONDS).not_done:
                    self._run.progress.check()
            finally:
                self._stop.set()
        if self._cause is not None:
            raise self._cause

    def _work(self, items: _Shared) -> None:
        """Take objects until none is left, or until somebody gave up."""
        try:
            while not self._stop.is_set() and (some := items.take()):
                for item in some:
                    self._took(self._fetcher.entry(item))
        except BaseException as exc:  # noqa: BLE001 - ``all`` raises it
            # The others end of this one's giving up, which is not what went wrong.
            with self._counting:
                self._cause = self._cause or exc
            self._stop.set()

    def _took(self, entry: Entry | None) -> None:
        with self._counting:
            self.counts.fetched += 1
            if entry is None:
                self.counts.vanished += 1
                return
            self.counts.failed += entry.error is not None
        own = entry.pack is not None and entry.pack.startswith(self._own)
        self._done.add(entry, own=own)


def _ignore(_amount: int) -> None:
    """Count nothing: the objects' own bytes are the progress."""

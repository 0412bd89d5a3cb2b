"""Fetching the objects of a snapshot, some at a time, into packs that are stored at once.

What is stored is written down in a journal, so that a further run after a crash fetches nothing
twice but what was on its way.

An object ends in one of four ways: its bytes are in a pack; it is gone, by two answers of different
kinds; it cannot be read, which its entry says; or it is as it was and stays where it is. Trouble of
the bucket as a whole, or of the repository, is never put down to an object.
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

from pgben_tasks.domain.buckets.diff import listed_moment
from pgben_tasks.domain.buckets.inventory import Entry, Line, parse_line
from pgben_tasks.domain.buckets.shard import Counts
from pgben_tasks.domain.documents import Pack, pack_number
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import (
    ConfigurationError,
    IntegrityError,
    ObjectMissing,
    PermanentError,
    PgbenError,
    StoreUnavailable,
    TransientError,
)
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets.current import unnamed
from pgben_tasks.operations.buckets.journal import Journal, PendingEntries
from pgben_tasks.operations.repository import commit as committing
from pgben_tasks.operations.snapshot_files import ToFetch, merged, read_lines, read_to_fetch
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Bucket, DigestIndex, ObjectPackWriter

log = structlog.get_logger(__name__)

#: Seconds between two checks whether the job is still ours.
_POLL_SECONDS: Final = 0.25
#: How many objects a thread takes at a time.
_TAKEN_AT_ONCE: Final = 4
#: Seconds before an object is fetched again after it failed.
_RETRY_DELAYS: Final = (0.5, 2.0, 5.0)
#: Seconds until the second is over in which an object was stored, by a server's clock.
_NEXT_SECOND: Final = 1.1
#: How often an object is fetched that was stored that very second.
_MOST_FETCHES: Final = 3
#: How many keys with the same prefix are searched for a missing key: a server may not sort them.
_SEARCHED_KEYS: Final = 1000


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
    run that was killed stored.
    """
    backup = committing.backup_id(run)
    packs = spool.fresh(folder / "packs")
    done = PendingEntries(journal)

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
    """Objects to fetch, which threads take a few at a time: a lock for each would cost more."""

    def __init__(self, wanted: Iterator[ToFetch]) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()

    def take(self) -> list[ToFetch]:
        with self._lock:
            return list(islice(self._wanted, _TAKEN_AT_ONCE))


class Copy:
    """One run over what is wanted, ``concurrency`` objects at a time."""

    def __init__(
        self,
        run: Run,
        bucket: Bucket,
        writer: ObjectPackWriter,
        done: PendingEntries,
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
        """Fetch objects until none is left, or until one thread failed."""
        try:
            while not self._stop.is_set() and (some := items.take()):
                for item in some:
                    self._took(self._fetcher.entry(item))
        except BaseException as exc:  # noqa: BLE001 - ``all`` raises it
            # The others end because this one stops them, which is not what went wrong.
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


class Fetcher:
    """Fetches objects and returns their entries. Safe to use from several threads."""

    def __init__(
        self,
        run: Run,
        bucket: Bucket,
        writer: ObjectPackWriter | None,
        *,
        now: datetime,
        stop: threading.Event,
    ) -> None:
        """Fetch from ``bucket`` into ``writer`` until ``stop`` is set; tags need no writer."""
        self._run = run
        self._bucket = bucket
        self._writer = writer
        self._now = now
        self._stop = stop
        self._keeps_tags = bool(run.job.result["keeps_tags"])

    def entry(self, item: ToFetch) -> Entry | None:
        """Fetch one object; None when it is gone. What cannot be read is said in its entry."""
        trouble: PgbenError
        for delay in (*_RETRY_DELAYS, None):
            try:
                with unnamed(item.key):
                    return self._tagged(item) if item.tags_only else self._settled(item)
            except ObjectMissing:
                if not self._is_listed(item.key):
                    return _before(item)
                # Something between here and the server answers for it, or only for the tags.
                trouble = StoreUnavailable(
                    f"{self._bucket.describe()} lists an object and says that it is not there"
                )
            except TransientError as exc:
                trouble = exc
            except (PermanentError, IntegrityError, ConfigurationError) as exc:
                trouble, delay = exc, None  # noqa: PLW2901 - to try again helps nothing
            # A repository that is away must not make objects unreadable.
            if self._writer is not None:
                self._writer.check()
            if delay is None:
                break
            if self._stop.wait(delay):
                raise trouble
        return self._unreadable(item, trouble)

    def _is_listed(self, key: str) -> bool:
        """Ask a second time whether an object is there, in the way in which we heard of it."""
        try:
            with unnamed(key):
                first = islice(self._bucket.list(key), _SEARCHED_KEYS)
                return any(one.key == key for one in first)
        except TransientError:
            return True

    def _settled(self, item: ToFetch) -> Entry:
        """Fetch an object, and again if it was stored this very second.

        Dates have whole seconds: stored over once more in that second with the same bytes, say to
        give it its metadata, it would look the same in every listing to come.
        """
        for _ in range(_MOST_FETCHES):
            entry, just_stored = self._fetched(item)
            if not just_stored:
                break
            if self._stop.wait(_NEXT_SECOND):
                raise TransientError("copying was given up")
        return entry

    def _fetched(self, item: ToFetch) -> tuple[Entry, bool]:
        if self._writer is None:
            message = "objects are fetched into packs, and there is no writer of any"
            raise TypeError(message)
        with self._bucket.fetch(item.key) as got:
            facts = got.facts
            kept = self._writer.add(self._counted(got.chunks), size=facts.size)
        if kept.size != facts.size:
            raise TransientError(f"an object of {facts.size} bytes gave {kept.size}")
        ask = facts.tag_count != 0 and self._keeps_tags
        tags = self._bucket.tags(item.key) if ask else {}
        entry = Entry(
            key=item.key,
            etag=facts.etag,
            size=facts.size,
            modified=listed_moment(item.modified, facts.modified),
            version=facts.version,
            headers=dict(facts.headers),
            metadata=dict(facts.metadata),
            tags=tags,
            tags_at=self._now,
            sha256=kept.sha256,
            pack=kept.place,
        )
        return entry, facts.just_stored

    def _tagged(self, item: ToFetch) -> Entry:
        old = parse_line((item.line or "").encode(), where="the spool")
        if not self._keeps_tags:
            # What another server knew before is not forgotten for that.
            return old
        tags = self._bucket.tags(item.key)
        if tags != old.tags and not self._is_still(old):
            # Somebody stored over it since the listing: these tags belong to other bytes, and the
            # next snapshot has both.
            return old
        return old.model_copy(update={"tags": tags, "tags_at": self._now})

    def _is_still(self, entry: Entry) -> bool:
        """Return whether the bucket still has the very object that an entry describes."""
        facts, stored = self._bucket.head(entry.key), int(entry.modified.timestamp())
        return (
            facts.etag == entry.etag
            and facts.size == entry.size
            and int(listed_moment(stored, facts.modified).timestamp()) == stored
        )

    def _unreadable(self, item: ToFetch, error: PgbenError) -> Entry:
        """Return the entry of an object that cannot be read; raise if the whole bucket cannot."""
        if isinstance(error, TransientError | ConfigurationError) and not self._answers():
            raise error
        log.warning("object_unreadable", why=type(error).__name__)
        before = _before(item)
        if before is not None:
            return before
        return Entry(
            key=item.key,
            etag="",
            size=item.size,
            modified=self._now,
            # The sentence names the key, which the line does already.
            error=type(error).__name__,
        )

    def _answers(self) -> bool:
        try:
            return self._bucket.exists()
        except (TransientError, ConfigurationError):
            return False

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._stop.is_set():
                raise TransientError("copying was given up")
            self._run.progress.advance(len(chunk))
            yield chunk


def _before(item: ToFetch) -> Entry | None:
    """Return the entry of an object that is as it was: its bytes are kept, with its tags then."""
    return None if item.line is None else parse_line(item.line.encode(), where="the spool")

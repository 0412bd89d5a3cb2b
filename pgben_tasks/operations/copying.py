"""Fetching the objects that a snapshot wants, some at a time, into packs that are stored at once.

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

from pgben_tasks.domain.documents import Pack, pack_number
from pgben_tasks.domain.inventory import Entry, parse_line
from pgben_tasks.domain.inventory_diff import listed_moment
from pgben_tasks.domain.inventory_line import Line
from pgben_tasks.domain.shard import Counts
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
from pgben_tasks.operations import committing, spool
from pgben_tasks.operations.compare_objects import unnamed
from pgben_tasks.operations.journal import Done, Journal
from pgben_tasks.operations.snapshot_files import merged, read_lines
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.operations.wants import Want, wants_in
from pgben_tasks.ports import Bucket, DigestIndex, ObjectPackWriter

log = structlog.get_logger(__name__)

#: Seconds between two looks whether the work is still ours.
_LOOK_EVERY: Final = 0.25
#: So many objects a thread takes at a time.
_AT_ONCE: Final = 4
#: Waits before an object is tried again, in seconds.
_DELAYS: Final = (0.5, 2.0, 5.0)
#: Until the second is over in which an object was stored, by a server's clock; and how often.
_SECOND: Final = 1.1
_SETTLINGS: Final = 3
#: Among so many keys that begin like a missing one it is looked for: a server may not sort them.
_LOOK_FOR: Final = 1000


def known_places(run: Run, files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Give digest and place of all that ``files`` speak of, where the pack is not avoided."""
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


def _remaining(wanted: Path, journal: Journal, folder: Path) -> Iterator[Want]:
    """Give what is wanted and not yet written down; both are in the order of keys."""
    lines = merged(journal.files(), spool.fresh(folder / "merged"))
    line: Line | None = next(lines, None)
    for want in wants_in(wanted):
        while line is not None and line.key < want.key:
            line = next(lines, None)
        if line is None or line.key != want.key:
            yield want


class _Shared:
    """Wants that several threads take, a few at a time: a lock for each would cost more."""

    def __init__(self, wanted: Iterator[Want]) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()

    def take(self) -> list[Want]:
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
        self._bucket = bucket
        self._writer = writer
        self._done = done
        self._own = own
        self._now = now
        self._concurrency = concurrency
        self._keeps_tags = bool(run.job.result["keeps_tags"])
        self._stop = threading.Event()
        self._counting = threading.Lock()
        self.counts = Counts()
        self._cause: BaseException | None = None

    def all(self, wanted: Iterator[Want]) -> None:
        """Fetch everything; the first error that is not one object's own ends it."""
        wants = _Shared(wanted)
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="copy") as pool:
            running = [pool.submit(self._work, wants) for _ in range(self._concurrency)]
            try:
                while wait(running, timeout=_LOOK_EVERY).not_done:
                    self._run.progress.check()
            finally:
                self._stop.set()
        if self._cause is not None:
            raise self._cause

    def _work(self, wants: _Shared) -> None:
        """Take objects until none is left, or until somebody gave up."""
        try:
            while not self._stop.is_set() and (some := wants.take()):
                for want in some:
                    self._took(self._one(want))
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

    def _one(self, want: Want) -> Entry | None:
        """Fetch one object; None when it is gone. What cannot be read is said in its entry."""
        trouble: PgbenError
        for delay in (*_DELAYS, None):
            try:
                with unnamed(want.key):
                    return self._tagged(want) if want.tags_only else self._settled(want)
            except ObjectMissing:
                if not self._is_listed(want.key):
                    return _before(want)
                # Something between here and the server answers for it, or only for the tags.
                trouble = StoreUnavailable(
                    f"{self._bucket.describe()} lists an object and says that it is not there"
                )
            except TransientError as exc:
                trouble = exc
            except (PermanentError, IntegrityError, ConfigurationError) as exc:
                trouble, delay = exc, None  # noqa: PLW2901 - to try again helps nothing
            # A repository that is away must not make objects unreadable.
            self._writer.check()
            if delay is None:
                break
            if self._stop.wait(delay):
                raise trouble
        return self._unreadable(want, trouble)

    def _is_listed(self, key: str) -> bool:
        """Ask a second time whether an object is there, in the way in which we heard of it."""
        try:
            with unnamed(key):
                first = islice(self._bucket.list(key), _LOOK_FOR)
                return any(one.key == key for one in first)
        except TransientError:
            return True

    def _settled(self, want: Want) -> Entry:
        """Fetch an object, and again if it was stored this very second.

        Dates have whole seconds: stored over once more in that second with the same bytes, say to
        give it its metadata, it would look the same in every listing to come.
        """
        for _ in range(_SETTLINGS):
            entry, just_stored = self._fetched(want)
            if not just_stored:
                break
            if self._stop.wait(_SECOND):
                raise TransientError("copying was given up")
        return entry

    def _fetched(self, want: Want) -> tuple[Entry, bool]:
        with self._bucket.fetch(want.key) as got:
            facts = got.facts
            kept = self._writer.add(self._counted(got.chunks), size=facts.size)
        if kept.size != facts.size:
            raise TransientError(f"an object of {facts.size} bytes gave {kept.size}")
        ask = facts.tag_count != 0 and self._keeps_tags
        tags = self._bucket.tags(want.key) if ask else {}
        entry = Entry(
            key=want.key,
            etag=facts.etag,
            size=facts.size,
            modified=listed_moment(want.modified, facts.modified),
            version=facts.version,
            headers=dict(facts.headers),
            metadata=dict(facts.metadata),
            tags=tags,
            tags_at=self._now,
            sha256=kept.sha256,
            pack=kept.place,
        )
        return entry, facts.just_stored

    def _tagged(self, want: Want) -> Entry:
        old = parse_line((want.line or "").encode(), where="the spool")
        if not self._keeps_tags:
            # What another server knew before is not forgotten for that.
            return old
        update = {"tags": self._bucket.tags(want.key), "tags_at": self._now}
        return old.model_copy(update=update)

    def _unreadable(self, want: Want, error: PgbenError) -> Entry:
        """Say that one object cannot be read, unless the whole bucket cannot."""
        if isinstance(error, TransientError | ConfigurationError) and not self._answers():
            raise error
        log.warning("object_unreadable", why=type(error).__name__)
        before = _before(want)
        if before is not None:
            return before
        return Entry(
            key=want.key,
            etag="",
            size=want.size,
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


def _before(want: Want) -> Entry | None:
    """Give the entry of an object that is as it was: its bytes are kept, with its tags then."""
    return None if want.line is None else parse_line(want.line.encode(), where="the spool")


def _ignore(_amount: int) -> None:
    """Count nothing: the objects' own bytes are the progress."""

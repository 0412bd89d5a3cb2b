"""Fetching the objects that a snapshot wants, some at a time, into packs that are stored at once.

What is stored is written down beside it (``done/``), so that whoever goes on after a crash fetches
nothing twice but what was on its way.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from pgben_tasks.domain.inventory import Entry, parse_line, sort_key
from pgben_tasks.errors import IntegrityError, ObjectMissing, PermanentError, TransientError
from pgben_tasks.operations import spool
from pgben_tasks.operations.toolbox import Run
from pgben_tasks.ports import Bucket, ObjectPackWriter

log = structlog.get_logger(__name__)

#: Waits before an object is tried again, in seconds.
_DELAYS: Final = (0.5, 2.0, 5.0)
#: Entries that belong to no pack of ours are written down in groups of so many.
_GROUP: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """One object to fetch; ``line`` is its old line when only its tags are read again."""

    key: str
    size: int
    line: str | None = None

    def encode(self) -> bytes:
        """Give a line of ``wanted.jsonl``."""
        fields = {"key": self.key, "size": self.size, "line": self.line}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Want:
        """Read a line of ``wanted.jsonl``, which is our own."""
        return cls(**json.loads(line))


class Done:
    """Writes down what is stored. An entry counts when the pack with its bytes is stored."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which may hold what an earlier run left."""
        self._folder = folder
        self._lock = threading.Lock()
        self._pending: dict[str, list[Entry]] = defaultdict(list)
        self._stored: set[str] = set()
        self._free: list[Entry] = []
        self._groups = len(list(folder.glob("*.jsonl")))

    def add(self, entry: Entry, *, own: bool) -> None:
        """Take an entry; ``own`` says that its bytes lie in a pack of this capture."""
        with self._lock:
            waits = own and entry.pack is not None and entry.pack not in self._stored
            if waits and entry.pack is not None:
                self._pending[entry.pack].append(entry)
                return
            self._free.append(entry)
            if len(self._free) >= _GROUP:
                self._write(self._free)
                self._free = []

    def stored(self, place: str) -> None:
        """Hear that the pack at ``place`` is stored."""
        with self._lock:
            self._stored.add(place)
            entries = self._pending.pop(place, [])
            if entries:
                self._write(entries)

    def finish(self) -> None:
        """Write down the rest; every pack is stored."""
        with self._lock:
            rest = [*self._free, *(one for some in self._pending.values() for one in some)]
            self._pending.clear()
            self._free = []
            if rest:
                self._write(rest)

    def _write(self, entries: list[Entry]) -> None:
        self._groups += 1
        entries.sort(key=lambda entry: sort_key(entry.key))
        lines = b"".join(entry.line() for entry in entries)
        spool.write_durably(self._folder / f"{self._groups}.jsonl", lines)


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
        self._stop = threading.Event()
        self.objects = 0
        self.vanished = 0
        self.failed = 0

    def all(self, wanted: Iterator[Want]) -> None:
        """Fetch everything; the first error that is not one object's own ends it."""
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="copy") as pool:
            running: set[Future[Entry | None]] = set()
            try:
                for want in wanted:
                    self._run.progress.check()
                    if len(running) >= 2 * self._concurrency:
                        running = self._collect(running)
                    running.add(pool.submit(self._one, want))
                while running:
                    running = self._collect(running)
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _collect(self, running: set[Future[Entry | None]]) -> set[Future[Entry | None]]:
        ended, rest = wait(running, return_when=FIRST_COMPLETED)
        for one in ended:
            entry = one.result()
            self.objects += 1
            if entry is None:
                self.vanished += 1
                continue
            self.failed += entry.error is not None
            own = entry.pack is not None and entry.pack.startswith(self._own)
            self._done.add(entry, own=own)
        return rest

    def _one(self, want: Want) -> Entry | None:
        """Fetch one object; None when it is gone. What cannot be read is said in its entry."""
        for delay in (*_DELAYS, None):
            try:
                return self._tagged(want) if want.line is not None else self._fetched(want)
            except ObjectMissing:
                return None
            except TransientError as exc:
                # A repository that is away must not make objects unreadable.
                self._writer.check()
                if delay is None:
                    return self._unreadable(want, exc)
                if self._stop.wait(delay):
                    raise
            except (PermanentError, IntegrityError) as exc:
                self._writer.check()
                return self._unreadable(want, exc)
        message = "the last try returns or raises"
        raise AssertionError(message)

    def _fetched(self, want: Want) -> Entry:
        with self._bucket.fetch(want.key) as got:
            facts = got.facts
            kept = self._writer.add(self._counted(got.chunks), size=facts.size)
        if kept.size != facts.size:
            raise TransientError(f"an object of {facts.size} bytes gave {kept.size}")
        tags = {} if facts.tag_count == 0 else self._bucket.tags(want.key)
        return Entry(
            key=want.key,
            etag=facts.etag,
            size=facts.size,
            modified=facts.modified,
            version=facts.version,
            headers=dict(facts.headers),
            metadata=dict(facts.metadata),
            tags=tags,
            tags_at=self._now,
            sha256=kept.sha256,
            pack=kept.place,
        )

    def _tagged(self, want: Want) -> Entry:
        old = parse_line((want.line or "").encode(), where="the spool")
        update = {"tags": self._bucket.tags(want.key), "tags_at": self._now}
        return old.model_copy(update=update)

    def _unreadable(self, want: Want, error: PermanentError | TransientError) -> Entry:
        """Say that one object cannot be read, unless the whole bucket cannot."""
        if isinstance(error, TransientError) and not self._answers():
            raise error
        log.warning("object_unreadable", why=type(error).__name__)
        if want.line is not None:
            # Only its tags were asked for: its bytes are kept, with the tags as they were.
            return parse_line(want.line.encode(), where="the spool")
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
        except TransientError:
            return False

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._stop.is_set():
                raise TransientError("copying was given up")
            self._run.progress.advance(len(chunk))
            yield chunk

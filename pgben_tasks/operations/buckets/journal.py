"""What a copy has stored, written down as it goes, so that nothing is fetched twice after a crash.

An entry counts when the pack with its bytes is in the repository. A copy that one worker makes
alone keeps its journal in the spool; a shared one in the repository, where others find it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from pgben_tasks.domain.buckets.inventory import Entry
from pgben_tasks.domain.buckets.shard import Part, Shard, part_numbers
from pgben_tasks.domain.documents import Pack, StoredFile
from pgben_tasks.domain.layout import shard_part, shard_path
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.operations import spool
from pgben_tasks.operations.snapshot_files import place_of
from pgben_tasks.operations.toolbox import Toolbox
from pgben_tasks.ports import Sharing

#: How many entries that wait for no pack are written down at once.
_ENTRIES_AT_ONCE: Final = 1000


class Journal(Protocol):
    """Where entries are written down, in groups that are sorted by key."""

    def files(self) -> list[Path]:
        """Return what was written so far, each file sorted."""

    def write(self, lines: bytes, packs: Sequence[Pack]) -> None:
        """Write a group down, with the packs that it is the first to speak of."""


class LocalJournal:
    """The journal of a copy that one worker makes alone, in the job's folder."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which may hold what an earlier run left."""
        self._lines, self._notes = folder / "done", folder / "notes"
        with spool.disk_errors(folder):
            for one in (self._lines, self._notes):
                one.mkdir(mode=0o700, exist_ok=True)
        self._groups = len(self.files())

    def files(self) -> list[Path]:
        """Return what was written so far; see ``Journal.files``."""
        return sorted(self._lines.glob("*.jsonl"))

    def packs(self) -> list[Pack]:
        """Return the packs that were written down."""
        # A write that was killed leaves a file that has no such name yet.
        notes = self._notes.glob("*.json")
        return [Pack.decode(note.read_bytes(), where=note.name) for note in notes]

    def write(self, lines: bytes, packs: Sequence[Pack]) -> None:
        """Write a group down; the packs first, for a line without its pack is worth nothing."""
        for pack in packs:
            name = place_of(pack).rpartition("/")[2]
            spool.write_durably(self._notes / f"{name}.json", pack.encode())
        self._groups += 1
        spool.write_durably(self._lines / f"{self._groups}.jsonl", lines)


class SharedJournal:
    """The journal of one shard: sealed parts in the repository, named in the ledger."""

    def __init__(
        self,
        tools: Toolbox,
        sharing: Sharing,
        shard: Shard,
        folder: Path,
        *,
        target: Target,
        backup: BackupId,
    ) -> None:
        """Bring what earlier owners of ``shard`` stored to ``folder``, which is empty."""
        self._tools = tools
        self._sharing = sharing
        self._shard = shard
        self._folder = folder
        self._target = target
        self._backup = backup
        self._files = [fetch_lines(tools, part.file, folder) for part in shard.parts]
        # Numbered above whatever is there: what nobody noted may still be there.
        numbers = part_numbers(shard)
        there = (shard_part(key, shard.n) for key in tools.repository.shard_files(target))
        own = [number for number in there if number is not None and number in numbers]
        self._last = max(own, default=numbers[0] - 1)

    def files(self) -> list[Path]:
        """Return what was written before; see ``Journal.files``."""
        return self._files

    def write(self, lines: bytes, packs: Sequence[Pack]) -> None:
        """Seal a group and store it, then note it: what is not noted was never stored."""
        self._last += 1
        key = shard_path(
            self._target,
            self._backup,
            self._shard.n,
            self._last,
            sealed=self._tools.objects.sealed,
        )
        file = store_lines(self._tools, key, lines, self._folder)
        self._sharing.note(self._shard.n, Part(file=file, packs=tuple(packs)))


def store_lines(tools: Toolbox, key: str, lines: bytes, folder: Path) -> StoredFile:
    """Seal lines as an inventory is sealed, and store them under ``key``."""
    plain, sealed = folder / "lines.plain", folder / key.rpartition("/")[2]
    with spool.disk_errors(folder):
        plain.write_bytes(lines)
        made = tools.objects.seal_inventory(plain, sealed)
        plain.unlink()
    tools.repository.store_shard_file(key, sealed)
    sealed.unlink()
    return StoredFile(path=key, size=made.size, sha256=made.sha256)


def fetch_lines(tools: Toolbox, file: StoredFile, folder: Path) -> Path:
    """Fetch and open lines that ``store_lines`` stored; return the plain file in ``folder``."""
    name = file.path.rpartition("/")[2]
    sealed, plain = folder / f"{name}.fetched", folder / name.partition(".")[0]
    tools.repository.fetch_shard_file(file, sealed)
    tools.objects.open_inventory(file, sealed, plain)
    sealed.unlink()
    return plain


#: A key and its line: a pack of tiny objects has very many of them, and an entry takes three
#: times as much memory.
_Lines = list[tuple[str, bytes]]


class PendingEntries:
    """Entries that go to the journal once their packs are stored. Safe to use from any thread."""

    def __init__(self, journal: Journal) -> None:
        """Begin with nothing pending."""
        self._journal = journal
        self._lock = threading.Lock()
        self._pending: dict[str, _Lines] = defaultdict(list)
        self._stored: set[str] = set()
        #: Packs that were stored before any entry of theirs was known.
        self._unnamed: dict[str, Pack] = {}
        #: Lines that wait for no pack, and the packs they name.
        self._free: _Lines = []
        self._named: set[str] = set()

    def add(self, entry: Entry, *, own: bool) -> None:
        """Take an entry; ``own`` says that its bytes lie in a pack of this copy."""
        line = (entry.key, entry.line())
        with self._lock:
            if own and entry.pack is not None and entry.pack not in self._stored:
                self._pending[entry.pack].append(line)
                return
            self._free.append(line)
            self._named.add(entry.pack or "")
            if len(self._free) >= _ENTRIES_AT_ONCE:
                self._write_free()

    def stored(self, pack: Pack) -> None:
        """Write down the entries that waited for this pack: it is stored."""
        place = place_of(pack)
        with self._lock:
            self._stored.add(place)
            lines = self._pending.pop(place, [])
            if lines:
                self._write(lines, [pack])
            else:
                self._unnamed[place] = pack

    def finish(self) -> None:
        """Write down the rest; every pack is stored.

        What is still pending has the bytes of an object that was copied before this began.
        """
        with self._lock:
            for place, lines in self._pending.items():
                self._free += lines
                self._named.add(place)
            self._pending.clear()
            self._write_free()

    def _write_free(self) -> None:
        packs = [self._unnamed.pop(place) for place in sorted(self._named & self._unnamed.keys())]
        if self._free:
            self._write(self._free, packs)
            self._free = []
            self._named = set()

    def _write(self, lines: _Lines, packs: Sequence[Pack]) -> None:
        lines.sort()
        self._journal.write(b"".join(line for _key, line in lines), packs)

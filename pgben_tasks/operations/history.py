"""The history for people, from the ledger into a folder of each kind of target.

One process at a time writes, and notes how far it came once everything is on the disk. Whoever
writes next finds in the file what a process wrote that died before its note. A folder that cannot
be written keeps nothing and nobody waiting: its lines come when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from pgben_tasks.domain.history import (
    FORMS,
    End,
    FolderNote,
    Form,
    Line,
    continued,
    lines_of,
    rewritten,
    since_last,
)
from pgben_tasks.domain.target import TargetKind
from pgben_tasks.errors import TargetBusy, TransientError

log = structlog.get_logger(__name__)


class Record(Protocol):
    """The ends that the ledger noted, and how far which folder is."""

    def newest(self) -> int:
        """Return the number of the newest end; 0 when there is none."""

    def ends(self, *, after: int, until: int) -> Iterable[End]:
        """Return the ends with numbers above ``after``, up to ``until``, in their order."""

    def note(self, identity: str) -> FolderNote | None:
        """Return what is noted of a folder; None for one that is new."""

    def wrote(self, identity: str, *, number: int, node: str, path: Path) -> None:
        """Note that the files of a folder have every end up to this number."""

    def alone(self) -> AbstractContextManager[Callable[[], None]]:
        """Keep every other process from writing; raise ``TargetBusy`` where one does.

        What is yielded is called before each write, and raises when that does not hold any more.
        """

    def failed(self, *, node: str, path: Path, why: str) -> bool:
        """Note that a folder cannot be written; return whether that is new."""

    def recovered(self, *, node: str, path: Path) -> bool:
        """Note that a folder is well; return whether it was not."""


class Folder(Protocol):
    """Where the two files lie; what the disk refuses is a ``TransientError``."""

    @property
    def path(self) -> Path:
        """Where it is on this machine."""

    def identity(self) -> str:
        """Return what tells this folder from every other one."""

    def change(self, name: str, change: Callable[[str, Sequence[str]], str]) -> None:
        """Write what ``change`` makes of a file and of what was moved away of it."""


def write_history(
    record: Record,
    folders: Iterable[tuple[TargetKind | None, Folder]],
    *,
    zone: tzinfo,
    node: str,
) -> int:
    """Write what is new into the files of each folder; return into how many.

    Each folder comes with the kind of target that it is about; None stands for every kind.
    """
    count = 0
    for kind, folder in folders:
        try:
            count += _write(record, kind, folder, zone=zone, node=node)
        except TargetBusy:
            # Another process is at it, and writes the same.
            continue
        except TransientError as exc:
            if record.failed(node=node, path=folder.path, why=exc.sentence):
                log.warning("history_not_written", folder=str(folder.path), why=exc.sentence)
            continue
        if record.recovered(node=node, path=folder.path):
            log.info("history_written_again", folder=str(folder.path))
    return count


def _write(
    record: Record, kind: TargetKind | None, folder: Folder, *, zone: tzinfo, node: str
) -> int:
    identity = folder.identity()
    if not _is_behind(record, identity):
        return 0
    with record.alone() as check:
        # Only now it is certain that nobody else writes: what was due may have been done.
        note, newest = record.note(identity), record.newest()
        if not _is_behind(record, identity):
            return 0
        after = 0 if note is None or note.rewrite else note.number
        lines = list(lines_of(record.ends(after=after, until=newest), zone, kind=kind))
        for form in FORMS:
            check()
            folder.change(form.name, partial(_changed, form, lines, note))
        check()
        record.wrote(identity, number=newest, node=node, path=folder.path)
    return 1


def _is_behind(record: Record, identity: str) -> bool:
    note = record.note(identity)
    return note is None or note.rewrite or note.number < record.newest()


def _changed(
    form: Form,
    lines: Sequence[Line],
    note: FolderNote | None,
    content: str,
    elsewhere: Sequence[str],
) -> str:
    if note is not None and note.rewrite:
        return rewritten(form, content, lines)
    # Files that are older than what is known of their folder go on where they end.
    new = since_last(content, lines) if note is None else lines
    return continued(form, content, new, elsewhere=elsewhere)

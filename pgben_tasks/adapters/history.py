"""A folder with the two files of the history; what stands in them is decided in ``domain``.

They are for reading, by people and their programs; nothing decides by them. Whatever is written is
on the disk when a call returns. Who calls sees to it that nobody else writes at the same time.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pgben_tasks.errors import TransientError
from pgben_tasks.files.durable import durable_file

#: The file whose text tells this folder from every other one, wherever it is mounted.
IDENTITY: Final = ".pgben-history"
#: The owner writes; people of the group read.
FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
_ID: Final = re.compile(r"[0-9a-f]{32}")
#: Old files may be in any encoding: what is no UTF-8 comes back as the same bytes.
_ENCODING: Final = ("utf-8", "surrogateescape")
_COMPRESSED: Final = frozenset({".gz", ".xz", ".bz2", ".zst"})


class HistoryFolder:
    """One folder. What its disk refuses is a ``TransientError`` that names it."""

    def __init__(self, path: Path) -> None:
        """Look at nothing yet."""
        self.path = path

    def identity(self) -> str:
        """Return the folder's id; a folder without one, or that was not there, gets one."""
        file = self.path / IDENTITY
        with self._reached():
            try:
                kept = file.read_text(encoding="ascii", errors="replace").strip()
            except FileNotFoundError:
                self.path.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
                kept = ""
            if _ID.fullmatch(kept):
                return kept
            made = secrets.token_hex(16)
            with durable_file(file) as unfinished:
                unfinished.write(f"{made}\n".encode())
            return made

    def change(self, name: str, change: Callable[[str, Sequence[str]], str]) -> None:
        """Write what ``change`` makes of a file, and of the lines it had before.

        These are those of the file that was last moved out of the way, to a name that begins with
        this one. A longer content is appended; any other replaces the file, whole or not at all.
        """
        path = self.path / name
        with self._reached():
            exists = path.exists()
            before = path.read_bytes() if exists else b""
            after = change(before.decode(*_ENCODING), self._moved_away(name)).encode(*_ENCODING)
            if after == before:
                return
            if exists and after.startswith(before):
                self._append(path, after[len(before) :])
                return
            mode = path.stat().st_mode & 0o777 if exists else FILE_MODE
            with durable_file(path, mode=mode) as file:
                file.write(after)

    @staticmethod
    def _append(path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _moved_away(self, name: str) -> list[str]:
        """Return the lines of the newest file that a rotation left, unless it is compressed."""
        others = [
            one for one in self.path.iterdir() if one.name.startswith((f"{name}.", f"{name}-"))
        ]
        plain = [one for one in others if one.is_file() and one.suffix not in _COMPRESSED]
        if not plain:
            return []
        newest = max(plain, key=lambda one: one.stat().st_mtime)
        return newest.read_bytes().decode(*_ENCODING).splitlines()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise TransientError(
                f"the history in the folder '{self.path}' cannot be written: {exc.strerror}",
                "look whether its volume is there, has room, and lets the worker's user write",
            ) from exc

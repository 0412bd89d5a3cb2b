"""The two files that people know from the old scripts: ``backup-log.txt``, ``backup-history.csv``.

They are for reading; nothing decides by them. A folder that cannot be written is logged and never
fails a backup.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import structlog

log = structlog.get_logger(__name__)

_COLUMNS: Final = ("timestamp", "status", "filename", "size")


class History:
    """Appends to the files in a folder per kind of target, with local times of ``zone``."""

    def __init__(self, folders: Mapping[str, Path], zone: ZoneInfo) -> None:
        """Write into ``folders``, by kind; they are made when missing."""
        self._folders = folders
        self._zone = zone

    def append(self, at: datetime, *, status: str, name: str, size: int, message: str) -> None:
        """Write one line to each file; ``name`` is ``<target>/<backup or job>``.

        ``size`` is in stored bytes.
        """
        folder = self._folders[name.partition("/")[0]]
        local = at.astimezone(self._zone).strftime("%Y-%m-%d %H:%M:%S")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "backup-log.txt").open("a", encoding="utf-8") as text:
                text.write(f"[{local}] {' '.join(message.split())}\n")
            table = folder / "backup-history.csv"
            with table.open("a", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                if file.tell() == 0:
                    writer.writerow(_COLUMNS)
                writer.writerow((local, status, name, size))
        except OSError as exc:
            log.warning("history_not_written", folder=str(folder), why=exc.strerror)

"""The two files that people know from the old scripts: ``backup-log.txt``, ``backup-history.csv``.

They are for reading; nothing decides by them. A folder that cannot be written is logged and never
fails a backup.
"""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import structlog

log = structlog.get_logger(__name__)

_COLUMNS: Final = ("timestamp", "status", "filename", "size")


class History:
    """Appends to the files in ``folder``, with local times of ``zone``."""

    def __init__(self, folder: Path, zone: ZoneInfo) -> None:
        """Write into ``folder``; it is made when missing."""
        self._folder = folder
        self._zone = zone

    def append(self, at: datetime, *, status: str, name: str, size: int, message: str) -> None:
        """Write one line to each file; ``name`` is the backup or job, ``size`` its stored bytes."""
        local = at.astimezone(self._zone).strftime("%Y-%m-%d %H:%M:%S")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / "backup-log.txt").open("a", encoding="utf-8") as text:
                text.write(f"[{local}] {' '.join(message.split())}\n")
            table = self._folder / "backup-history.csv"
            with table.open("a", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                if file.tell() == 0:
                    writer.writerow(_COLUMNS)
                writer.writerow((local, status, name, size))
        except OSError as exc:
            log.warning("history_not_written", folder=str(self._folder), why=exc.strerror)

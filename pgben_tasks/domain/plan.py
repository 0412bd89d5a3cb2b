"""What a restore would bring back, how long it takes, and what stands in its way. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.target import BackupId, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupied:
    """A live database: its bytes, and how many sessions each role and application has in it."""

    size: int
    sessions: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPart:
    """What comes back of one target.

    ``exists`` says whether there is a database or bucket of its name; ``live`` is None for a
    bucket, and where there is no such database. ``seconds`` is judged by the bytes of the last
    restore, None where there was none. ``obstacles`` stand against any restore, ``in_place``
    against one that replaces.
    """

    target: Target
    backup: BackupId
    state: str
    moment: datetime
    objects: int | None
    rows: int | None
    size: int
    stored: int
    exists: bool
    live: Occupied | None
    seconds: float | None
    obstacles: tuple[str, ...]
    in_place: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "target": str(self.target),
            "backup": str(self.backup),
            "state": self.state,
            "moment": self.moment.isoformat(),
            "rows": self.rows,
            "objects": self.objects,
            "bytes": self.size,
            "stored_bytes": self.stored,
            "exists": self.exists,
            "live_bytes": None if self.live is None else self.live.size,
            "connected": {} if self.live is None else dict(self.live.sessions),
            "seconds": self.seconds,
            "obstacles": list(self.obstacles),
            "obstacles_in_place": list(self.in_place),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """What a restore of a backup, or of everything of a recovery ``point``, would bring back.

    ``faults`` is how many rows of the point are known to have objects that are not as they say.
    ``needed`` and ``free`` are bytes of the spool of the worker that was asked.
    """

    point: BackupId | None
    moment: datetime
    parts: tuple[PlannedPart, ...]
    faults: int | None
    needed: int
    free: int

    @property
    def seconds(self) -> float | None:
        """How long all parts take, one after the other; None where one was never restored."""
        known = [one.seconds for one in self.parts if one.seconds is not None]
        return sum(known) if len(known) == len(self.parts) else None

    @property
    def obstacles(self) -> list[str]:
        """What stands against any restore; dumps lie in the spool until all are in place."""
        found = [f"'{one.target}': {what}" for one in self.parts for what in one.obstacles]
        if self.needed > self.free:
            found.append(
                f"the spool has {self.free:,} bytes free, all databases together need about "
                f"{self.needed:,}"
            )
        return found

    @property
    def obstacles_in_place(self) -> list[str]:
        """What stands against a restore in place."""
        return self.obstacles + [
            f"'{one.target}': {what}" for one in self.parts for what in one.in_place
        ]

    def command(self, *, in_place: bool) -> str:
        """Return the whole command to type; in place it names all that is replaced."""
        words = ["pgben", "restore"]
        if self.point is not None:
            words += ["--all", "--point", str(self.point)]
        else:
            (part,) = self.parts
            words += [str(part.target), "--backup", str(part.backup)]
        if in_place:
            words.append("--in-place")
            for name in dict.fromkeys(one.target.name for one in self.parts):
                words += ["--confirm", name]
        return shlex.join(words)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "point": None if self.point is None else str(self.point),
            "moment": self.moment.isoformat(),
            "parts": [one.to_json() for one in self.parts],
            "faults": self.faults,
            "seconds": self.seconds,
            "spool_needed_bytes": self.needed,
            "spool_free_bytes": self.free,
            "obstacles": self.obstacles,
            "obstacles_in_place": self.obstacles_in_place,
            "commands": {
                "beside": self.command(in_place=False),
                "in_place": self.command(in_place=True),
            },
        }


def size_of(manifest: Manifest) -> int:
    """Return the bytes of what a backup holds: of its dump, or of its objects."""
    return manifest.bucket.bytes if manifest.bucket is not None else manifest.plain_bytes

"""How a command opens a snapshot: in this process, with a repository and an identity."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pgben_tasks.cli import arguments
from pgben_tasks.errors import BackupNotFound

if TYPE_CHECKING:
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.domain.documents import Manifest
    from pgben_tasks.domain.target import BackupId, Target
    from pgben_tasks.operations.toolbox import Toolbox


@contextmanager
def opened(text: str, *, at: datetime | None = None) -> Iterator[tuple[Toolbox, Manifest, Path]]:
    """Find a snapshot; give what it is opened with, and a private folder that vanishes.

    ``text`` is an id, or a target: then the newest verified one, or the newest listed by ``at``.
    """
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.operations import spool

    place = DirectPlace.load()
    target, backup = _found(text, place, at)
    manifest = place.repository.manifest(target, backup)
    with place.tools(target) as tools, spool.passing_folder(tools.spool) as folder:
        yield tools, manifest, folder


def _found(text: str, place: DirectPlace, at: datetime | None) -> tuple[Target, BackupId]:
    if arguments.looks_like_backup(text):
        return arguments.backup(text, place.repository)
    target = arguments.target(text)
    return target, _newest(place, target, at)


def _newest(place: DirectPlace, target: Target, at: datetime | None) -> BackupId:
    from pgben_tasks.domain.selection import select
    from pgben_tasks.operations.repository.survey import survey

    surveyed = survey(place.repository, target)
    if at is not None:
        return select(surveyed.known, at, allow_unverified=False).backup.id
    newest = surveyed.newest_good
    if newest is None:
        raise BackupNotFound(
            f"'{target}' has no verified snapshot", "`pgben list` shows the backups there are"
        )
    return newest.known.id

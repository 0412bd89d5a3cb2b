"""Open a snapshot of a bucket in this process, with a repository and an identity."""

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
def open_snapshot(
    text: str, *, at: datetime | None = None
) -> Iterator[tuple[Toolbox, Manifest, Path]]:
    """Yield the tools for a snapshot, its manifest, and a private folder that is removed after.

    ``text`` is an id, or a target: then the newest verified one, or the newest listed by ``at``.
    """
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.operations import spool

    place = DirectPlace.load()
    if arguments.looks_like_backup(text):
        target, backup = arguments.find_backup(text, place.repository)
    else:
        target = arguments.parse_target(text)
        backup = _newest(place, target, at)
    manifest = place.repository.manifest(target, backup)
    with place.tools(target) as tools, spool.passing_folder(tools.spool) as folder:
        yield tools, manifest, folder


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

"""Whether backups can be restored by the clients that are known now, whatever was signed of them.

Statements say what was known when they were signed; a client may have gone since then, and backups
of before the first such statement were never judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from pgben_tasks.adapters.catalog.index import IndexedBackup
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.restorability import (
    Archive,
    RestoreSite,
    missing_client,
    server_major,
)
from pgben_tasks.domain.states import GOOD_LABELS, BackupStanding, State
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import PgbenError
from pgben_tasks.operations.repository.survey import Survey
from pgben_tasks.ports import Repository
from pgben_tasks.runtime import Workplace


def indexed_backups(work: Workplace, target: Target | None) -> list[IndexedBackup]:
    """Return the backups of the index, newest first, with state and needs as of now."""
    rows = work.index.backups(target)
    if not any(row.target.startswith("postgres/") for row in rows):
        return rows
    site = work.workers.restore_site()
    return [
        judged
        for _, group in groupby(rows, key=lambda row: row.target)
        for judged in _judged(list(group), site, work.repository)
    ]


def standing_now(
    standing: BackupStanding, manifest: Manifest, newest: Manifest, site: RestoreSite
) -> tuple[str, str | None]:
    """Return a backup's state as lists show it, and what this site lacks to restore it, as of now.

    The destination is the server as the ``newest`` backup of the target saw it.
    """
    label, needs = standing.state.label, standing.needs
    if manifest.postgres is None or newest.postgres is None:
        return label, needs
    destination = server_major(newest.postgres.server_version_num)
    return _now(label, needs, manifest.archive, destination, site)


def surveyed_now(survey: Survey, site: RestoreSite) -> Iterator[tuple[str, str | None]]:
    """Yield ``standing_now`` for every readable backup of a survey, in its order."""
    for one in survey.backups:
        yield standing_now(one.known.standing, one.manifest, survey.backups[0].manifest, site)


def newest_manifest(repository: Repository, target: Target, *, but: Manifest) -> Manifest:
    """Return the newest manifest of a target that can be believed; ``but`` where there is none."""
    for backup in sorted(repository.backups(target), key=str, reverse=True):
        try:
            return repository.manifest(target, backup)
        except PgbenError:
            continue
    return but


def _judged(
    rows: Sequence[IndexedBackup], site: RestoreSite, repository: Repository
) -> Iterator[IndexedBackup]:
    """Yield the rows of one target; what the index does not know is read from the repository."""
    known = [_with_archive(row, repository) for row in rows]
    majors = [row.server_major for row in known if row.server_major is not None]
    for row in known:
        if row.archive is None or not majors:
            yield row
            continue
        state, needs = _now(row.state, row.needs, row.archive, majors[0], site)
        yield replace(row, state=state, needs=needs)


def _with_archive(row: IndexedBackup, repository: Repository) -> IndexedBackup:
    """Return a row with what a version before did not write into the index."""
    if row.archive is not None or row.state not in GOOD_LABELS:
        return row
    try:
        manifest = repository.manifest(Target.parse(row.target), BackupId.parse(row.id))
    except PgbenError:
        return row
    if manifest.postgres is None:
        return row
    return replace(
        row,
        client_major=manifest.archive.client_major,
        dump_compression=manifest.archive.compression,
        server_major=server_major(manifest.postgres.server_version_num),
    )


def _now(
    state: str, needs: str | None, archive: Archive, destination: int, site: RestoreSite
) -> tuple[str, str | None]:
    missing = missing_client(archive, destination, site.clients)
    if state in GOOD_LABELS and missing is not None:
        return State.NOT_RESTORABLE.label, missing
    return state, needs

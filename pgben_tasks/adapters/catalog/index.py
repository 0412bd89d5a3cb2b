"""The catalog's index of the repository: what lists and decisions read fast, never trusted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pgben_tasks.adapters.catalog.database import CatalogDatabase, require
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedBackup:
    """One backup as the index knows it. Sizes in bytes.

    Of a backup whose manifest cannot be believed or is gone, perhaps only the name is known.
    """

    target: str
    id: str
    sequence: int | None
    state: str
    suspect: str | None
    job: str | None
    started_at: datetime
    finished_at: datetime | None
    snapshot_at: datetime | None
    manifest_sha256: str | None
    stored_bytes: int | None
    plain_bytes: int | None
    row_count: int | None
    table_count: int | None
    object_count: int | None
    verified_at: datetime | None
    acknowledged: bool


_COLUMNS = (
    "target, id, sequence, state, suspect, job, started_at, finished_at, snapshot_at,"
    " manifest_sha256, stored_bytes, plain_bytes, row_count, table_count, object_count,"
    " verified_at, acknowledged"
)


class BackupIndex:
    """The rows of ``backup`` for one repository."""

    def __init__(self, database: CatalogDatabase, repository: str) -> None:
        """Use the catalog at ``database`` for the repository with this id."""
        self._database = database
        self._repository = repository

    def next_sequence(self, target: Target, *, at_least: int) -> int:
        """Return the next sequence number of a target, above ``at_least`` (the newest stored)."""
        with self._database.transaction() as cursor:
            row = cursor.execute(
                "INSERT INTO backup_sequence (repository, target, last) VALUES (%s, %s, %s)"
                " ON CONFLICT (repository, target) DO UPDATE SET"
                " last = greatest(backup_sequence.last + 1, excluded.last) RETURNING last",
                (self._repository, str(target), at_least + 1),
            ).fetchone()
        return int(require(row)["last"])

    def add(self, manifest: Manifest, digest: str, *, state: str) -> None:
        """Write a backup that was committed; only a row without its facts is written again."""
        with self._database.transaction() as cursor:
            cursor.execute(
                f"INSERT INTO backup (repository, {_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s,"  # noqa: S608 - constant columns
                " %s, %s, %s, %s, %s, %s, %s, %s, %s, NULL, false)"
                " ON CONFLICT (repository, target, id) DO UPDATE SET sequence = excluded.sequence,"
                " suspect = excluded.suspect, job = excluded.job,"
                " started_at = excluded.started_at, finished_at = excluded.finished_at,"
                " snapshot_at = excluded.snapshot_at, manifest_sha256 = excluded.manifest_sha256,"
                " stored_bytes = excluded.stored_bytes, plain_bytes = excluded.plain_bytes,"
                " row_count = excluded.row_count, table_count = excluded.table_count,"
                " object_count = excluded.object_count"
                " WHERE backup.manifest_sha256 IS NULL",
                (
                    self._repository,
                    manifest.target,
                    manifest.backup,
                    manifest.sequence,
                    state,
                    manifest.suspect,
                    manifest.job,
                    manifest.started,
                    manifest.finished,
                    manifest.snapshot_time,
                    digest,
                    manifest.stored_bytes,
                    manifest.plain_bytes,
                    manifest.rows,
                    manifest.tables,
                    manifest.objects,
                ),
            )

    def set_state(
        self, target: Target, backup: str, state: str, *, verified_at: datetime | None = None
    ) -> None:
        """Write what a verification or a prune found out."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "UPDATE backup SET state = %s, verified_at = coalesce(%s, verified_at)"
                " WHERE repository = %s AND target = %s AND id = %s",
                (state, verified_at, self._repository, str(target), backup),
            )

    def acknowledge(self, target: Target, backup: str) -> None:
        """Write that somebody looked at a suspect backup and found it plausible."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "UPDATE backup SET acknowledged = true"
                " WHERE repository = %s AND target = %s AND id = %s",
                (self._repository, str(target), backup),
            )

    def backups(
        self, target: Target | None = None, *, expired: bool = False
    ) -> list[IndexedBackup]:
        """Return known backups, newest first; expired ones only when asked."""
        with self._database.transaction() as cursor:
            rows = cursor.execute(
                f"SELECT {_COLUMNS} FROM backup WHERE repository = %s"  # noqa: S608 - constant columns
                " AND (%s::text IS NULL OR target = %s) AND (%s OR state <> 'expired')"
                " ORDER BY target, sequence DESC NULLS LAST, id DESC",
                (self._repository, target and str(target), target and str(target), expired),
            ).fetchall()
        return [IndexedBackup(**row) for row in rows]

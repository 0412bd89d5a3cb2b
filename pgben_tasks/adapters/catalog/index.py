"""The catalog's index of the repository: what lists and decisions read fast, never trusted.

It is written backup by backup as they are made, or anew from what a repository says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import psycopg

from pgben_tasks.adapters.catalog.audit import TakenUp, take_up
from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.domain.documents import Manifest, RecoveryPoint
from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.reindex import IndexEntry, TargetIndex
from pgben_tasks.domain.restorability import Archive, Compression, server_major
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.domain.trail import Trail


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
    needs: str | None
    client_major: int | None
    dump_compression: Compression | None
    server_major: int | None
    held: bool
    held_until: datetime | None
    held_by: str | None
    hold_label: str | None

    @property
    def hold(self) -> Hold | None:
        """What the last decision about holding it says, whether or not that has ended."""
        if not self.held:
            return None
        return Hold(until=self.held_until, label=self.hold_label, who=self.held_by)

    @property
    def archive(self) -> Archive | None:
        """What decides which clients can restore the dump; None where the index does not say."""
        if self.client_major is None or self.dump_compression is None:
            return None
        return Archive(client_major=self.client_major, compression=self.dump_compression)


_COLUMNS = ", ".join(one.name for one in fields(IndexedBackup))
_SEQUENCE = """
INSERT INTO backup_sequence AS old (repository, target, last) VALUES (%s, %s, %s)
ON CONFLICT (repository, target) DO UPDATE SET last = greatest(old.last, excluded.last)
RETURNING last
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What writing the index anew changed: rows per target, sequence numbers, the trail."""

    added: Mapping[str, int]
    changed: Mapping[str, int]
    sequences: Mapping[str, int]
    trail: TakenUp


class BackupIndex:
    """The rows of ``backup`` for one repository."""

    def __init__(self, database: CatalogDatabase, repository: str) -> None:
        """Use the catalog at ``database`` for the repository with this id."""
        self._database = database
        self._repository = repository

    def next_sequence(self, target: Target, *, at_least: int) -> int:
        """Return the next sequence number of a target, above ``at_least`` (the newest stored)."""
        row = self._database.fetch_one(
            "INSERT INTO backup_sequence (repository, target, last) VALUES (%s, %s, %s)"
            " ON CONFLICT (repository, target) DO UPDATE SET"
            " last = greatest(backup_sequence.last + 1, excluded.last) RETURNING last",
            (self._repository, str(target), at_least + 1),
        )
        return int(require(row)["last"])

    def add(self, manifest: Manifest, digest: str, *, state: str) -> None:
        """Write a backup that was committed; only a row without its facts is written again."""
        facts = _manifest_facts(manifest, digest)
        with self._database.transaction() as cursor:
            _upsert(
                cursor,
                {**self._key(manifest.target, manifest.backup), "state": state, **facts},
                changes=facts,
                # Rows of before know nothing of their dump.
                condition=" WHERE backup.manifest_sha256 IS NULL OR backup.client_major IS NULL"
                if manifest.postgres
                else " WHERE backup.manifest_sha256 IS NULL",
            )

    def set_state(
        self,
        target: Target,
        backup: str,
        state: str,
        *,
        verified_at: datetime | None = None,
        needs: str | None = None,
    ) -> None:
        """Write what a verification or a prune found out."""
        self._database.execute(
            "UPDATE backup SET state = %s, needs = %s, verified_at = coalesce(%s, verified_at)"
            " WHERE repository = %s AND target = %s AND id = %s",
            (state, needs, verified_at, self._repository, str(target), backup),
        )

    def acknowledge(self, target: Target, backup: str) -> None:
        """Write that somebody looked at a suspect backup and found it plausible."""
        self._database.execute(
            "UPDATE backup SET acknowledged = true"
            " WHERE repository = %s AND target = %s AND id = %s",
            (self._repository, str(target), backup),
        )

    def set_hold(self, target: Target, backup: str, hold: Hold | None) -> None:
        """Write what keeps a backup from being pruned, None where nothing does."""
        facts = _hold_facts(hold)
        self._database.execute(
            f"UPDATE backup SET {', '.join(f'{name} = %({name})s' for name in facts)}"  # noqa: S608 - our own columns
            " WHERE repository = %(repository)s AND target = %(target)s AND id = %(id)s",
            {**facts, **self._key(str(target), backup)},
        )

    def backups(
        self, target: Target | None = None, *, expired: bool = False
    ) -> list[IndexedBackup]:
        """Return known backups, newest first; expired ones only when asked."""
        rows = self._database.fetch_all(
            f"SELECT {_COLUMNS} FROM backup WHERE repository = %s"  # noqa: S608 - our own columns
            " AND (%s::text IS NULL OR target = %s) AND (%s OR state <> 'expired')"
            " ORDER BY target, sequence DESC NULLS LAST, id DESC",
            (self._repository, target and str(target), target and str(target), expired),
        )
        return [IndexedBackup(**row) for row in rows]

    def targets(self) -> list[Target]:
        """Return the targets with known backups that have not expired, sorted."""
        rows = self._database.fetch_all(
            "SELECT DISTINCT target FROM backup WHERE repository = %s AND state <> 'expired'",
            (self._repository,),
        )
        return sorted(Target.parse(row["target"]) for row in rows)

    def add_point(self, point: RecoveryPoint) -> None:
        """Write a recovery point that was formed."""
        with self._database.transaction() as cursor:
            self._put_point(cursor, point)

    def remove_point(self, point: BackupId) -> None:
        """Forget a recovery point whose document was removed."""
        self._database.execute(
            "DELETE FROM recovery_point WHERE repository = %s AND id = %s",
            (self._repository, str(point)),
        )

    def points(self) -> list[RecoveryPoint]:
        """Return the known recovery points, newest first."""
        rows = self._database.fetch_all(
            "SELECT document::text AS text FROM recovery_point WHERE repository = %s"
            " ORDER BY id DESC",
            (self._repository,),
        )
        return [RecoveryPoint.model_validate_json(row["text"]) for row in rows]

    def known(self) -> set[tuple[str, str]]:
        """Return the (target, backup) pairs that the index knows now; none without its tables."""
        with self._database.transaction() as cursor:
            there = require(cursor.execute("SELECT to_regclass('backup') AS t").fetchone())
            return set(self._rows(cursor)) if there["t"] is not None else set()

    def rewrite(
        self,
        targets: Sequence[TargetIndex],
        points: Sequence[RecoveryPoint],
        trail: Trail,
        *,
        dry_run: bool,
    ) -> Written:
        """Write everything anew in one transaction; with ``dry_run`` return what would change."""
        with self._database.transaction() as cursor:
            before = self._rows(cursor)
            sequences = {}
            for one in targets:
                for entry in one.entries:
                    self._put(cursor, str(one.target), entry)
                number = (self._repository, str(one.target), one.last_sequence)
                last = require(cursor.execute(_SEQUENCE, number).fetchone())["last"]
                sequences[str(one.target)] = last
            cursor.execute("DELETE FROM recovery_point WHERE repository = %s", (self._repository,))
            for point in points:
                self._put_point(cursor, point)
            after = self._rows(cursor)
            written = Written(
                added=Counter(target for target, _ in after.keys() - before.keys()),
                changed=Counter(
                    key[0] for key in after.keys() & before.keys() if after[key] != before[key]
                ),
                sequences=sequences,
                trail=take_up(cursor, self._repository, trail),
            )
            if dry_run:
                cursor.connection.rollback()
        return written

    def _rows(self, cursor: psycopg.Cursor[Row]) -> dict[tuple[str, str], Any]:
        query = "SELECT target, id, to_jsonb(backup) AS row FROM backup WHERE repository = %s"
        rows = cursor.execute(query, (self._repository,)).fetchall()
        return {(row["target"], row["id"]): row["row"] for row in rows}

    def _put_point(self, cursor: psycopg.Cursor[Row], point: RecoveryPoint) -> None:
        cursor.execute(
            "INSERT INTO recovery_point (repository, id, document) VALUES (%s, %s, %s::jsonb)"
            " ON CONFLICT (repository, id) DO UPDATE SET document = excluded.document",
            (self._repository, point.id, point.encode().decode()),
        )

    def _put(self, cursor: psycopg.Cursor[Row], target: str, entry: IndexEntry) -> None:
        key, state = self._key(target, str(entry.backup)), {"state": entry.state}
        if entry.manifest is None:
            # A backup whose manifest is gone keeps what was known of it.
            _upsert(cursor, key | state | {"started_at": entry.backup.started}, changes=state)
            return
        facts = state | _manifest_facts(entry.manifest, entry.manifest.digest)
        facts |= {"verified_at": entry.verified_at, "acknowledged": entry.acknowledged}
        facts |= {"needs": entry.needs, **_hold_facts(entry.hold)}
        _upsert(cursor, key | facts, changes=facts)

    def _key(self, target: str, backup: str) -> dict[str, object]:
        return {"repository": self._repository, "target": target, "id": backup}


def _manifest_facts(manifest: Manifest, digest: str) -> dict[str, object]:
    return {
        "sequence": manifest.sequence,
        "suspect": manifest.suspect,
        "job": manifest.job,
        "started_at": manifest.started,
        "finished_at": manifest.finished,
        "snapshot_at": manifest.snapshot_time,
        "manifest_sha256": digest,
        "stored_bytes": manifest.stored_bytes,
        "plain_bytes": manifest.plain_bytes,
        "row_count": manifest.rows,
        "table_count": manifest.tables,
        "object_count": manifest.objects,
        **(_archive_facts(manifest) if manifest.postgres else {}),
    }


def _hold_facts(hold: Hold | None) -> dict[str, object]:
    return {
        "held": hold is not None,
        "held_until": hold and hold.until,
        "held_by": hold and hold.who,
        "hold_label": hold and hold.label,
    }


def _archive_facts(manifest: Manifest) -> dict[str, object]:
    return {
        "client_major": manifest.archive.client_major,
        "dump_compression": manifest.archive.compression,
        "server_major": server_major(manifest.database.server_version_num),
    }


def _upsert(
    cursor: psycopg.Cursor[Row],
    row: Mapping[str, object],
    *,
    changes: Iterable[str],
    condition: str = "",
) -> None:
    """Write a row of ``backup``; one that is there gets ``changes`` only."""
    values = ", ".join(f"%({name})s" for name in row)
    replaced = ", ".join(f"{name} = excluded.{name}" for name in changes)
    cursor.execute(
        f"INSERT INTO backup ({', '.join(row)}) VALUES ({values})"  # noqa: S608 - our own columns
        f" ON CONFLICT (repository, target, id) DO UPDATE SET {replaced}{condition}".encode(),
        row,
    )

"""Writes what was read from a repository into the catalog: index, sequence numbers, audit trail.

In one transaction, so that whoever is interrupted leaves the old state.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from pgben_tasks.adapters.catalog.audit import TakenUp, take_up
from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.domain.reindex import IndexEntry, TargetIndex
from pgben_tasks.domain.trail import Trail

_UPSERT = """
INSERT INTO backup (repository, target, id, state, started_at, sequence, suspect, job,
    finished_at, snapshot_at, manifest_sha256, stored_bytes, plain_bytes, row_count, table_count,
    object_count, verified_at, acknowledged)
VALUES (%(repository)s, %(target)s, %(id)s, %(state)s, %(started)s, %(sequence)s, %(suspect)s,
    %(job)s, %(finished)s, %(snapshot)s, %(digest)s, %(stored)s, %(plain)s, %(rows)s, %(tables)s,
    %(objects)s, %(verified)s, %(acknowledged)s)
ON CONFLICT (repository, target, id) DO UPDATE SET state = excluded.state,
    started_at = excluded.started_at, sequence = excluded.sequence, suspect = excluded.suspect,
    job = excluded.job, finished_at = excluded.finished_at, snapshot_at = excluded.snapshot_at,
    manifest_sha256 = excluded.manifest_sha256, stored_bytes = excluded.stored_bytes,
    plain_bytes = excluded.plain_bytes, row_count = excluded.row_count,
    table_count = excluded.table_count,
    object_count = excluded.object_count, verified_at = excluded.verified_at,
    acknowledged = excluded.acknowledged
"""
#: A backup whose manifest is gone keeps what was known of it.
_NAME_ONLY = """
INSERT INTO backup (repository, target, id, state, started_at)
VALUES (%(repository)s, %(target)s, %(id)s, %(state)s, %(started)s)
ON CONFLICT (repository, target, id) DO UPDATE SET state = excluded.state
"""
_SEQUENCE = """
INSERT INTO backup_sequence AS old (repository, target, last) VALUES (%s, %s, %s)
ON CONFLICT (repository, target) DO UPDATE SET last = greatest(old.last, excluded.last)
RETURNING last
"""
_ROWS = "SELECT target, id, to_jsonb(backup) AS row FROM backup WHERE repository = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What writing changed: rows per target, sequence numbers, the trail."""

    added: Mapping[str, int]
    changed: Mapping[str, int]
    sequences: Mapping[str, int]
    trail: TakenUp


class CatalogRebuild:
    """The index of one repository, to be written anew."""

    def __init__(self, database: CatalogDatabase, repository: str) -> None:
        """Use the catalog at ``database`` for the repository with this id."""
        self._database = database
        self._repository = repository

    def known(self) -> set[tuple[str, str]]:
        """Return the (target, backup) pairs that the index knows now; none without its tables."""
        with self._database.transaction() as cursor:
            there = require(cursor.execute("SELECT to_regclass('backup') AS t").fetchone())
            return set(self._rows(cursor)) if there["t"] is not None else set()

    def write(self, targets: Sequence[TargetIndex], trail: Trail, *, dry_run: bool) -> Written:
        """Write everything or, with ``dry_run``, only see what that would change."""
        with self._database.transaction() as cursor:
            before = self._rows(cursor)
            sequences = {}
            for one in targets:
                for entry in one.entries:
                    self._put(cursor, str(one.target), entry)
                number = (self._repository, str(one.target), one.last_sequence)
                sequences[str(one.target)] = require(cursor.execute(_SEQUENCE, number).fetchone())[
                    "last"
                ]
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
        rows = cursor.execute(_ROWS, (self._repository,)).fetchall()
        return {(row["target"], row["id"]): row["row"] for row in rows}

    def _put(self, cursor: psycopg.Cursor[Row], target: str, entry: IndexEntry) -> None:
        name = {
            "repository": self._repository,
            "target": target,
            "id": str(entry.backup),
            "state": entry.state,
            "started": entry.backup.started,
        }
        manifest = entry.manifest
        if manifest is None:
            cursor.execute(_NAME_ONLY, name)
            return
        facts = {
            "started": manifest.started,
            "sequence": manifest.sequence,
            "suspect": manifest.suspect,
            "job": manifest.job,
            "finished": manifest.finished,
            "snapshot": manifest.snapshot_time,
            "digest": hashlib.sha256(manifest.encode()).hexdigest(),
            "stored": manifest.stored_bytes,
            "plain": manifest.plain_bytes,
            "rows": manifest.rows,
            "tables": manifest.tables,
            "objects": manifest.objects,
            "verified": entry.verified_at,
            "acknowledged": entry.acknowledged,
        }
        cursor.execute(_UPSERT, name | facts)

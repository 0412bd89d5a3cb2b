"""The audit trail: who asked for what, with which result. A hash chain, kept in the catalog and
signed in the repository.

An entry is written here first and stored in the repository after the commit; one whose store
failed is stored by the next call of ``store_missing`` (the reconciler's, every minute).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.domain.documents import AuditEntry
from pgben_tasks.domain.target import require_utc

#: Guards the sequence: one entry is written at a time.
_AUDIT_LOCK = 7_290_114_402

_COLUMNS = "sequence, previous, at, who, action, target, backup, job, result, detail"


class AuditTrail:
    """Appends entries; ``store`` signs one into the repository."""

    def __init__(
        self, database: CatalogDatabase, repository: str, store: Callable[[AuditEntry], str]
    ) -> None:
        """Use the catalog at ``database`` and the repository with this id."""
        self._database = database
        self._repository = repository
        self._store = store

    def append(
        self,
        *,
        who: str,
        action: str,
        target: str,
        result: str,
        backup: str = "",
        job: str = "",
        detail: str = "",
    ) -> None:
        """Write one entry after the last one."""
        with self._database.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_AUDIT_LOCK,))
            last = cursor.execute(
                "SELECT sequence, sha256 FROM audit ORDER BY sequence DESC LIMIT 1"
            ).fetchone()
            now = require(cursor.execute("SELECT clock_timestamp() AS at").fetchone())["at"]
            entry = AuditEntry(
                repository=self._repository,
                sequence=1 if last is None else last["sequence"] + 1,
                previous=None if last is None else last["sha256"],
                at=now,
                who=who,
                action=action,
                target=target,
                backup=backup,
                job=job,
                result=result,
                detail=detail[:2000],
            )
            cursor.execute(
                f"INSERT INTO audit ({_COLUMNS}, sha256)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    entry.sequence,
                    entry.previous,
                    entry.at,
                    entry.who,
                    entry.action,
                    entry.target,
                    entry.backup,
                    entry.job,
                    entry.result,
                    entry.detail,
                    hashlib.sha256(entry.encode()).hexdigest(),
                ),
            )

    def store_missing(self) -> int:
        """Store every entry that the repository lacks, oldest first; returns how many."""
        with self._database.transaction() as cursor:
            rows = cursor.execute(
                f"SELECT {_COLUMNS} FROM audit WHERE NOT stored ORDER BY sequence LIMIT 500"
            ).fetchall()
        for row in rows:
            self._store(self._entry(row))
            with self._database.transaction() as cursor:
                cursor.execute(
                    "UPDATE audit SET stored = true WHERE sequence = %s", (row["sequence"],)
                )
        return len(rows)

    def _entry(self, row: Row) -> AuditEntry:
        moment = require_utc(row["at"])
        return AuditEntry(**{**row, "at": moment}, repository=self._repository)

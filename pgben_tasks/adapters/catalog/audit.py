"""The audit trail: who asked for what, with which result, as a chain of hashes.

It is kept in the catalog and signed in the repository.
An entry is written here first and stored in the repository after the commit; one whose store
failed is stored by the next call of ``store_missing`` (the reconciler's, every minute).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.domain.documents import AuditEntry
from pgben_tasks.domain.target import require_utc
from pgben_tasks.errors import IntegrityError, ObjectExists

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
                f"INSERT INTO audit ({_COLUMNS}, sha256)"  # noqa: S608 - constant columns
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
                f"SELECT {_COLUMNS}, sha256 FROM audit"  # noqa: S608 - constant columns
                " WHERE NOT stored ORDER BY sequence LIMIT 500"
            ).fetchall()
        for row in rows:
            self._store_once(self._entry(row), row["sha256"])
            with self._database.transaction() as cursor:
                cursor.execute(
                    "UPDATE audit SET stored = true WHERE sequence = %s", (row["sequence"],)
                )
        return len(rows)

    def _store_once(self, entry: AuditEntry, digest: str) -> None:
        """Store an entry that may be there already, stored by a tick that died or runs beside."""
        if hashlib.sha256(entry.encode()).hexdigest() != digest:
            raise IntegrityError(
                f"audit entry {entry.sequence} was changed in the catalog after it was written",
                "find out who can write to the catalog; the entry is not signed as it stands",
            )
        try:
            self._store(entry)
        except ObjectExists:
            try:
                # Stored between the look and the write; looked at again, the same bytes are fine.
                self._store(entry)
            except ObjectExists as exc:
                raise IntegrityError(
                    f"the repository's audit entry {entry.sequence} is not the catalog's",
                    "one of them was changed, or two catalogs write to one repository",
                ) from exc

    def _entry(self, row: Row) -> AuditEntry:
        fields = {name: row[name] for name in _COLUMNS.split(", ")}
        return AuditEntry(**{**fields, "at": require_utc(row["at"])}, repository=self._repository)

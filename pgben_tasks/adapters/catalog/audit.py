"""The audit trail: who asked for what, with which result, as a chain of hashes.

It is kept in the catalog and signed in the repository.
An entry is written here first and stored in the repository after the commit; one whose store
failed is stored by the next call of ``store_missing`` (the reconciler's, every minute).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.adapters.catalog.workers import TICK
from pgben_tasks.domain.documents import AuditEntry, Finding, Verification
from pgben_tasks.domain.job import ENDED
from pgben_tasks.domain.layout import AUDIT, document_path
from pgben_tasks.domain.statements import statement_digest
from pgben_tasks.domain.target import Target, require_utc
from pgben_tasks.domain.trail import Trail, entry_digest, ranges
from pgben_tasks.errors import IntegrityError, ObjectExists
from pgben_tasks.language import counted

#: Guards the sequence: one entry is written at a time.
AUDIT_LOCK = 7_290_114_402

#: A job that ended this long ago has its audit entry in the repository, or never gets one.
_SETTLED = timedelta(hours=1)
#: The target's row, which whoever makes a statement about one of its backups holds.
_OWN_ROW = (
    "INSERT INTO backup_sequence (repository, target, last) VALUES (%s, %s, %s)"
    " ON CONFLICT DO NOTHING"
)
_SAME = "SELECT detail FROM audit WHERE action = %s AND detail = ANY(%s)"
_DETAIL_CHARACTERS: Final = 2000
#: Whoever ends a job writes the entry right after it; one that is not there by then was lost.
_LOST_AFTER = timedelta(minutes=1)
#: The entry of a job's last end.
_END_ENTRY = (
    "SELECT 1 FROM audit WHERE audit.job = job.id::text AND audit.result = job.state"
    " AND audit.at >= job.ended_at"
)
_END_IS_ENTERED = f"SELECT 1 FROM job WHERE id = %s AND state = %s AND EXISTS ({_END_ENTRY})"  # noqa: S608 - constant columns
_ENDS_WITHOUT_ENTRY = (
    "SELECT kind, target, backup, id::text AS job, state, requested_by, error->>'sentence' AS why"  # noqa: S608 - constant columns
    " FROM job WHERE state = ANY(%(ended)s) AND ended_at < clock_timestamp() - %(lost_after)s"
    # Where no tick ran for a while, from an hour before the last one.
    " AND ended_at > coalesce((SELECT heartbeat_at FROM worker WHERE name = %(tick)s),"
    f" clock_timestamp()) - %(settled)s AND NOT EXISTS ({_END_ENTRY}) ORDER BY ended_at"
)
_LOCK_ROW = "SELECT 1 FROM backup_sequence WHERE repository = %s AND target = %s FOR UPDATE"

_NAMES = tuple(name for name in AuditEntry.model_fields if name not in {"format", "repository"})
_COLUMNS = ", ".join(_NAMES)


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
            self._append(
                cursor,
                who=who,
                action=action,
                target=target,
                backup=backup,
                job=job,
                result=result,
                detail=detail,
            )

    def append_end(self, *, job: str, result: str, **fields: str) -> bool:
        """Write that a job ended, unless an entry says so already; return whether it was written.

        The job has ended before: whoever ended it writes this, or the tick where that one died.
        """
        with self._database.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (AUDIT_LOCK,))
            entered = cursor.execute(
                _END_IS_ENTERED.encode(),
                (job, result),
            ).fetchone()
            if entered is None:
                self._append(cursor, job=job, result=result, **fields)
        return entered is None

    def append_ends(self) -> int:
        """Write the entries of ended jobs whose process died before it did; return how many.

        Only of the last hour: an older end without an entry is a finding of a verification.
        """
        rows = self._database.fetch_all(
            _ENDS_WITHOUT_ENTRY,
            {"ended": list(ENDED), "lost_after": _LOST_AFTER, "tick": TICK, "settled": _SETTLED},
        )
        return sum(
            self.append_end(
                # Who cancelled a job is not in the ledger; the sentence names them.
                who="unnamed" if row["state"] == "cancelled" else row["requested_by"],
                action=row["kind"],
                target=row["target"],
                backup=row["backup"] or "",
                job=row["job"],
                result=row["state"],
                detail=row["why"] or "",
            )
            for row in rows
        )

    def append_missing(
        self,
        details: Iterable[str],
        *,
        who: str,
        action: str,
        target: str,
        result: str,
        job: str = "",
    ) -> None:
        """Write an entry for each of these details that the action has none of, all or none."""
        wanted = list(dict.fromkeys(detail[:_DETAIL_CHARACTERS] for detail in details))
        with self._database.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (AUDIT_LOCK,))
            rows = cursor.execute(_SAME, (action, wanted)).fetchall()
            there = {row["detail"] for row in rows}
            for detail in wanted:
                if detail not in there:
                    self._append(
                        cursor,
                        who=who,
                        action=action,
                        target=target,
                        backup="",
                        job=job,
                        result=result,
                        detail=detail,
                    )

    @contextmanager
    def stating(self, target: Target) -> Iterator[Callable[[Verification, str], None]]:
        """Let one statement about a target's backups be made at a time, and enter it in the trail.

        What is yielded is called with the statement, once it is stored, and with who asked for it.
        The entry is committed with the end of the block: a crash before that leaves a statement
        without an entry, never an entry without its statement.
        """
        key = (self._repository, str(target))
        with self._database.transaction() as cursor:
            cursor.execute(_OWN_ROW, (*key, 0))
            cursor.execute(_LOCK_ROW, key)

            def enter(statement: Verification, who: str) -> None:
                count = len(statement.findings)
                found = counted(count, "finding") if count else "clean"
                self._append(
                    cursor,
                    who=who,
                    action="statement",
                    target=statement.target,
                    backup=statement.backup,
                    job=statement.job,
                    result=statement.kind,
                    detail=(statement.needs and f"needs {statement.needs}") or found,
                    statement=statement_digest(statement),
                )

            yield enter

    def _append(self, cursor: psycopg.Cursor[Row], **fields: Any) -> None:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (AUDIT_LOCK,))
        last = cursor.execute(
            "SELECT sequence, sha256 FROM audit ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        now = require(cursor.execute("SELECT clock_timestamp() AS at").fetchone())["at"]
        entry = AuditEntry(
            repository=self._repository,
            sequence=1 if last is None else last["sequence"] + 1,
            previous=None if last is None else last["sha256"],
            at=now,
            **{**fields, "detail": fields["detail"][:_DETAIL_CHARACTERS]},
        )
        _insert(cursor, entry, stored=False)

    def record(self) -> CatalogRecord:
        """Return what the catalog knows of the trail and of jobs, to compare a repository with it.

        To be read before the repository: what is stored meanwhile is missed by neither then.
        """
        # Jobs first: the entry of one that is settled was written before.
        jobs = self._database.fetch_all(
            "SELECT id::text AS id, state = ANY(%s) AND ended_at < clock_timestamp() - %s"
            " AS settled FROM job",
            (list(ENDED), _SETTLED),
        )
        rows = self._database.fetch_all(
            f"SELECT {_COLUMNS}, sha256, stored FROM audit ORDER BY sequence"  # noqa: S608 - constant columns
        )
        born = self._database.fetch_one(
            "SELECT min(applied_at) AS born, clock_timestamp() - %s AS settled FROM migration",
            (_SETTLED,),
        )
        times = require(born)
        return CatalogRecord(
            repository=self._repository,
            rows=rows,
            jobs=jobs,
            born=times["born"],
            settled=times["settled"],
        )

    def store_missing(self) -> int:
        """Store every entry that the repository lacks, oldest first; return how many."""
        rows = self._database.fetch_all(
            f"SELECT {_COLUMNS}, sha256 FROM audit"  # noqa: S608 - constant columns
            " WHERE NOT stored ORDER BY sequence LIMIT 500"
        )
        for row in rows:
            self._store_once(_entry(row, self._repository), row["sha256"])
            self._database.execute(
                "UPDATE audit SET stored = true WHERE sequence = %s", (row["sequence"],)
            )
        return len(rows)

    def conflict(self) -> IntegrityError | None:
        """Return why the next entry can never be stored; None where it can, or there is none."""
        row = self._database.fetch_one(
            f"SELECT {_COLUMNS}, sha256 FROM audit"  # noqa: S608 - constant columns
            " WHERE NOT stored ORDER BY sequence LIMIT 1"
        )
        if row is None:
            return None
        try:
            self._store_once(_entry(row, self._repository), row["sha256"])
        except IntegrityError as exc:
            return exc
        return None

    def _store_once(self, entry: AuditEntry, expected: str) -> None:
        """Store an entry, unless another tick has stored the same one."""
        if entry_digest(entry) != expected:
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
                    "the catalog was restored from an older copy, two catalogs write to one "
                    "repository, or one entry was changed",
                ) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogRecord:
    """The catalog's side of the audit trail and of jobs (``ports.TrailRecord``)."""

    repository: str
    rows: list[Row]
    jobs: list[Row]
    born: datetime
    settled: datetime

    @property
    def entries(self) -> tuple[AuditEntry, ...]:
        """Every entry that was stored in the repository, by its number."""
        return tuple(_entry(row, self.repository) for row in self.rows if row["stored"])

    def differences(self, trail: Trail) -> Iterator[Finding]:
        """Yield what the repository's trail lacks or has otherwise, and what the ledger lacks.

        Jobs are compared from the ledger's birth to an hour ago.
        """
        there = {entry.sequence: entry_digest(entry) for entry in trail.entries}
        yield from _unlike(self.rows, there, self.repository)
        waiting = {row["job"] for row in self.rows if not row["stored"]}
        ended = {entry.job for entry in trail.entries if entry.result in ENDED}
        for row in self.jobs:
            if row["settled"] and row["id"] not in ended | waiting:
                yield Finding(
                    kind="missing",
                    path=AUDIT.rstrip("/"),
                    detail=f"the ledger says that job {row['id']} ended, no audit entry says so",
                )
        known = {row["id"] for row in self.jobs}
        spoken_of = {
            entry.job: entry for entry in trail.entries if self.born < entry.at < self.settled
        }
        for job, entry in spoken_of.items():
            if _is_job(job) and job not in known:
                yield Finding(
                    kind="missing",
                    path=document_path(entry),
                    detail=f"it speaks of job {job}, which the ledger does not know",
                )


def _is_job(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenUp:
    """How many entries a catalog took over from the repository, and what did not fit.

    ``put_behind`` are entries of its own that it had written before, and had not stored.
    """

    taken: int
    put_behind: int
    findings: tuple[Finding, ...]


def take_up(cursor: psycopg.Cursor[Row], repository: str, trail: Trail) -> TakenUp:
    """Continue the catalog's trail where the repository's ends.

    What the catalog stored is never changed. Entries that a new catalog wrote before it knew of
    the old ones were signed by nobody: they get the next numbers.
    """
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (AUDIT_LOCK,))
    rows = cursor.execute(
        f"SELECT {_COLUMNS}, sha256, stored FROM audit ORDER BY sequence"  # noqa: S608 - constant columns
    ).fetchall()
    there = {entry.sequence: entry_digest(entry) for entry in trail.entries}
    unlike = [
        row["sequence"]
        for row in rows
        if there.get(row["sequence"], row["sha256"]) != row["sha256"]
    ]
    own = [row for row in rows if not row["stored"]] if unlike else []
    for row in own:
        cursor.execute("DELETE FROM audit WHERE sequence = %s", (row["sequence"],))
    kept = {row["sequence"]: row["sha256"] for row in rows if row not in own}
    taken = [entry for entry in trail.entries if entry.sequence not in kept]
    for entry in taken:
        _insert(cursor, entry, stored=True)
    last = max(kept | there, default=0)
    previous = (there | kept).get(last)
    for row in own:
        last += 1
        moved = {**row, "sequence": last, "previous": previous}
        entry = _entry(moved, repository)
        _insert(cursor, entry, stored=False)
        previous = entry_digest(entry)
    return TakenUp(
        taken=len(taken), put_behind=len(own), findings=tuple(_unlike(rows, there, repository))
    )


def _unlike(rows: list[Row], there: dict[int, str], repository: str) -> Iterator[Finding]:
    """Yield what the catalog stored and the repository does not have so.

    Entries that are gone side by side are one finding: a trail has thousands.
    """
    stored = {row["sequence"]: row for row in rows if row["stored"]}
    for first, last in ranges(number for number in stored if number not in there):
        what = "this entry" if first == last else f"the entries {first} to {last}"
        yield Finding(
            kind="missing",
            path=document_path(_entry(stored[first], repository)),
            detail=f"the catalog stored {what}, and cannot find or believe it any more",
        )
    for row in stored.values():
        if there.get(row["sequence"], row["sha256"]) != row["sha256"]:
            detail = "the catalog stored another entry with this number"
            yield Finding(kind="forged", path=document_path(_entry(row, repository)), detail=detail)


def _insert(cursor: psycopg.Cursor[Row], entry: AuditEntry, *, stored: bool) -> None:
    row = {name: getattr(entry, name) for name in _NAMES}
    row |= {"sha256": entry_digest(entry), "stored": stored}
    values = ", ".join(f"%({name})s" for name in row)
    cursor.execute(
        f"INSERT INTO audit ({', '.join(row)}) VALUES ({values})".encode(),  # noqa: S608 - our own columns
        row,
    )


def _entry(row: Row, repository: str) -> AuditEntry:
    fields = {name: row[name] for name in _NAMES}
    return AuditEntry(**{**fields, "at": require_utc(row["at"])}, repository=repository)

"""Reports in the catalog: those that were made, and what one is made from.

A report is kept as its document and as a page in each language, so that whoever shows one needs
neither what it was made from nor what draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import ValidationError

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.domain.report import Report, Size
from pgben_tasks.domain.target import require_utc
from pgben_tasks.language import Language

#: The migration that brought reports: windows before it are nobody's week.
_REPORT_MIGRATION: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReport:
    """A report as lists show it."""

    id: str
    job: UUID | None
    made_at: datetime
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The end of one verification, as far as a report tells of it."""

    target: str
    #: What each target had read again of it; empty where an older version verified.
    by_target: Mapping[str, Any]
    bytes_read: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """What a person acknowledged of a target: one ``backup``, or so many ``keys``."""

    target: str
    who: str
    at: datetime
    backup: str | None
    keys: int


class Reports:
    """The rows of ``report``, and the questions of one that is being made."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def add(
        self,
        report: Report,
        *,
        job: UUID | None,
        window: datetime | None,
        pages: Mapping[Language, str],
    ) -> None:
        """Keep a report, and its page in each language; one that is kept already stays as it is."""
        self._database.execute(
            "INSERT INTO report (id, job, window_at, made_at, colour, document, pages)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING",
            (
                report.id,
                job,
                window,
                report.made_at,
                report.colour,
                Jsonb(report.model_dump(mode="json")),
                Jsonb(dict(pages)),
            ),
        )

    def document(self, report: str) -> Report | None:
        """Return a report by its id; None when it was not kept, or not in a form of this version.

        What another version made is made anew.
        """
        row = self._database.fetch_one("SELECT document FROM report WHERE id = %s", (report,))
        try:
            return None if row is None else Report.model_validate(row["document"])
        except ValidationError:
            return None

    def page(self, report: str, language: Language) -> str | None:
        """Return the page of a report in a language, None when there is none."""
        row = self._database.fetch_one(
            "SELECT pages ->> %s AS page FROM report WHERE id = %s", (language, report)
        )
        return row["page"] if row else None

    def newest(self, limit: int) -> list[KeptReport]:
        """Return the newest reports first."""
        rows = self._database.fetch_all(
            "SELECT id, job, made_at, colour FROM report ORDER BY id DESC LIMIT %s", (limit,)
        )
        return [KeptReport(**row) for row in rows]

    def find(self, report: str) -> KeptReport | None:
        """Return one report as lists show it; None when it was not kept."""
        row = self._database.fetch_one(
            "SELECT id, job, made_at, colour FROM report WHERE id = %s", (report,)
        )
        return KeptReport(**row) if row else None

    def since(self) -> datetime:
        """Return when this catalog began to keep reports."""
        row = self._database.fetch_one(
            "SELECT applied_at FROM migration WHERE version = %s", (_REPORT_MIGRATION,)
        )
        return require(row)["applied_at"]  # type: ignore[no-any-return]

    def verification(self, *, window: datetime | None, key: str | None) -> UUID | None:
        """Return the verification of everything that speaks for the week of ``window``.

        That is the one that ended last of those that are full and succeeded since then, whoever
        asked for them, and that of the window itself, whose ledger key is ``key``.
        """
        row = self._database.fetch_one(
            "SELECT id FROM job WHERE key = %(key)s OR (kind = 'verify' AND target = %(all)s"
            " AND request ->> 'level' = 'full' AND state = 'succeeded'"
            " AND created_at >= coalesce(%(window)s::timestamptz, '-infinity'))"
            " ORDER BY ended_at DESC NULLS LAST LIMIT 1",
            {"key": key, "all": EVERYTHING, "window": window},
        )
        return row["id"] if row else None

    def verified(self, *, since: datetime) -> list[Verified]:
        """Return what was read again by the verifications that ended since then."""
        rows = self._database.fetch_all(
            "SELECT target, coalesce(result -> 'by_target', '{}') AS by_target,"
            " coalesce((result ->> 'bytes_read')::bigint, 0) AS bytes_read FROM job"
            " WHERE kind = 'verify' AND ended_at >= %s",
            (since,),
        )
        return [Verified(**row) for row in rows]

    def trends(self, *, since: datetime) -> dict[str, tuple[Size, ...]]:
        """Return the size and duration of every backup since then, the newest last, by target.

        Those that retention has removed since are among them.
        """
        rows = self._database.fetch_all(
            "SELECT target, started_at AS at, stored_bytes,"
            " extract(epoch FROM finished_at - started_at)::float AS seconds FROM backup"
            " WHERE started_at >= %s AND stored_bytes IS NOT NULL ORDER BY started_at, id",
            (since,),
        )
        found: dict[str, tuple[Size, ...]] = {}
        for row in rows:
            one = Size(
                at=require_utc(row["at"]), stored_bytes=row["stored_bytes"], seconds=row["seconds"]
            )
            found[row["target"]] = (*found.get(row["target"], ()), one)
        return found

    def prunes(self) -> dict[str, dict[str, Any]]:
        """Return what retention decided last of each target, as the result of its job says."""
        rows = self._database.fetch_all(
            "SELECT DISTINCT ON (target) target, result -> 'prune' AS prune FROM job"
            " WHERE kind IN ('backup', 'prune') AND result ? 'prune' AND ended_at IS NOT NULL"
            " AND request ->> 'dry_run' IS DISTINCT FROM 'true' ORDER BY target, ended_at DESC"
        )
        return {row["target"]: row["prune"] for row in rows}

    def acknowledged(self, *, since: datetime) -> list[Acknowledged]:
        """Return what people acknowledged, newest first: of backups that are still there, and keys.

        Of keys only what was acknowledged since then.
        """
        rows = self._database.fetch_all(
            "SELECT job.target, job.requested_by AS who, job.ended_at AS at, job.backup,"
            " CASE WHEN jsonb_typeof(job.request -> 'keys') = 'array'"
            " THEN jsonb_array_length(job.request -> 'keys') ELSE 0 END AS keys FROM job"
            " WHERE job.kind = 'acknowledge' AND job.state = 'succeeded'"
            " AND (job.request ->> 'backup' IS NULL AND job.ended_at >= %s OR EXISTS (SELECT"
            " FROM backup WHERE backup.target = job.target"
            " AND backup.id = job.request ->> 'backup' AND backup.state <> 'expired'))"
            " ORDER BY job.ended_at DESC",
            (since,),
        )
        return [_acknowledged(row) for row in rows]


def _acknowledged(row: Row) -> Acknowledged:
    # The row of the job names the snapshot that the statement about keys lies beside.
    backup = None if row["keys"] else row["backup"]
    return Acknowledged(**{**row, "backup": backup})


def in_total(found: Sequence[Verified], target: str) -> int:
    """Return how many stored bytes of a target these verifications read again."""
    return sum(
        one.bytes_read
        if one.target == target
        else int(one.by_target.get(target, {}).get("bytes_read", 0))
        for one in found
    )

"""The catalog's record of what restores in place write and delete in protected buckets."""

from __future__ import annotations

from datetime import datetime

from pgben_tasks.adapters.catalog.database import CatalogDatabase, require
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.target import Target


class CatalogOwnWrites:
    """The rows of ``own_write`` (``toolbox.OwnWrites``)."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def intend(self, job: Job, part: str, objects: int) -> None:
        """Write down that a part of a job's work is about to change so many objects.

        A part that is begun again after a crash counts once, at its latest beginning.
        """
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO own_write (job, attempt, part, target, objects)"
                " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (job, attempt, part)"
                " DO UPDATE SET objects = excluded.objects, at = clock_timestamp()",
                (job.id, job.attempt, part, job.target, objects),
            )

    def since(self, target: Target, moment: datetime) -> int:
        """Return how many objects of a target were changed by ourselves since then, at most."""
        with self._database.transaction() as cursor:
            row = require(
                cursor.execute(
                    "SELECT coalesce(sum(objects), 0)::bigint AS objects FROM own_write"
                    " WHERE target = %s AND at >= %s",
                    (str(target), moment),
                ).fetchone()
            )
        return int(row["objects"])

"""The shards of a copy in the ledger: steps named ``<step>/<n>``, offered before they begin.

Who works on a shard holds its lock, which ends with its process: a shard that is not done and whose
lock is free may be taken. Each taking is a new claim, the shard's own fence: a lock can be lost
with its session while its holder works on. A change names the fence of the job and the claim, and
must hit its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final, LiteralString
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row
from pgben_tasks.adapters.postgres.server import Lock
from pgben_tasks.contracts import JobRef
from pgben_tasks.domain.buckets.shard import Counts, Part, Shard
from pgben_tasks.errors import FenceLost, ShardLost

_OWN: Final[LiteralString] = (
    " FROM job WHERE job.id = %(job)s AND job.fence = %(fence)s AND job.state = 'running'"
    " AND step.job = job.id AND step.attempt = job.attempt"
)
_RUNNING: Final[LiteralString] = (
    " AND step.name = %(name)s AND step.state = 'running'"
    " AND (step.result->>'claim')::int = %(claim)s"
)


def shard_lock(job: UUID, n: int) -> Lock:
    """Return the lock that whoever copies a shard holds."""
    return Lock(f"shard:{job}:{n}")


def shard_step(step: str, n: int) -> str:
    """Return the name of the step that a shard of ``step`` is."""
    return f"{step}/{n}"


class ShardRows:
    """The rows of the shards of one step; everything raises ``FenceLost`` for a lost job."""

    def __init__(self, database: CatalogDatabase, ref: JobRef, step: str, *, node: str) -> None:
        """Act for the job ``ref``; ``node`` is noted with what is done here."""
        self.database = database
        self.ref = ref
        self._step = step
        self._values = {"job": ref.job, "fence": ref.fence, "node": node}
        #: What was taken here, under which claim.
        self._claims: dict[int, int] = {}

    def offer(self, shards: Sequence[Shard]) -> None:
        """Write the shards down; those that are there already stay as they are."""
        with self.database.transaction() as cursor:
            self._own(cursor)
            cursor.executemany(
                "INSERT INTO step (job, attempt, name, fence, state, node, result)"
                " SELECT id, attempt, %(name)s, fence, 'offered', %(node)s, %(shard)s FROM job"
                " WHERE id = %(job)s ON CONFLICT DO NOTHING",
                [
                    {
                        **self._values,
                        "name": shard_step(self._step, shard.n),
                        "shard": Jsonb(shard.values()),
                    }
                    for shard in shards
                ],
            )

    def all(self) -> list[Shard]:
        """Return every shard of the present attempt."""
        return [_shard(row) for row in self._rows()]

    def open(self) -> list[Shard]:
        """Return those that are not done."""
        return [_shard(row) for row in self._rows() if row["state"] != "done"]

    def begin(self, n: int) -> Shard | None:
        """Begin a shard whose lock is held; None when it is done."""
        with self.database.transaction() as cursor:
            row = cursor.execute(
                "UPDATE step SET state = 'running', fence = job.fence, node = %(node)s,"  # noqa: S608 - our own words
                " started_at = clock_timestamp(), heartbeat_at = clock_timestamp(),"
                " ended_at = NULL, result = jsonb_set(step.result, '{claim}',"
                " to_jsonb(COALESCE((step.result->>'claim')::int, 0) + 1))"
                + _OWN
                + " AND step.name = %(name)s AND step.state <> 'done' RETURNING step.result",
                self._key(n),
            ).fetchone()
            if row is None:
                self._own(cursor)
                return None
        shard = _shard(row)
        self._claims[n] = shard.claim
        return shard

    def note(self, n: int, part: Part) -> None:
        """Write down that a part is stored."""
        with self.database.transaction() as cursor:
            cursor.execute(
                "UPDATE step SET result = jsonb_set(step.result, '{parts}',"  # noqa: S608 - our own words
                " step.result->'parts' || %(part)s::jsonb)" + _OWN + _RUNNING,
                {**self._key(n), "part": Jsonb([part.values()])},
            )
            self._still_has(cursor, n)

    def end(self, n: int, counts: Counts) -> None:
        """Write down that a shard is stored whole."""
        with self.database.transaction() as cursor:
            cursor.execute(
                "UPDATE step SET state = 'done', ended_at = clock_timestamp(),"  # noqa: S608 - our own words
                " progress = %(counts)s" + _OWN + _RUNNING,
                {**self._key(n), "counts": Jsonb(asdict(counts))},
            )
            self._still_has(cursor, n)

    def give_back(self, n: int) -> None:
        """Write that nobody works on an unfinished shard any more; a lost job is no error."""
        self.database.execute(
            "UPDATE step SET state = 'interrupted'" + _OWN + _RUNNING,  # noqa: S608 - our own words
            self._key(n),
        )

    def counts(self) -> Counts:
        """Return the sum of the shards that are done."""
        total = Counts()
        for row in self._rows():
            if row["state"] == "done":
                total.add(Counts(**row["progress"]))
        return total

    def _rows(self) -> list[Row]:
        with self.database.transaction() as cursor:
            self._own(cursor)
            return cursor.execute(
                "SELECT step.state, step.progress, step.result FROM step"
                " JOIN job ON step.job = job.id AND step.attempt = job.attempt"
                " WHERE job.id = %s AND starts_with(step.name, %s)"
                " ORDER BY (step.result->>'n')::int",
                (self.ref.job, shard_step(self._step, 0).removesuffix("0")),
            ).fetchall()

    def _key(self, n: int) -> dict[str, object]:
        return {**self._values, "name": shard_step(self._step, n), "claim": self._claims.get(n)}

    def _still_has(self, cursor: psycopg.Cursor[Row], n: int) -> None:
        if cursor.rowcount != 1:
            self._own(cursor)
            raise ShardLost(f"shard {n} of job '{self.ref.job}' was taken by another worker")

    def _own(self, cursor: psycopg.Cursor[Row]) -> None:
        cursor.execute(
            "SELECT FROM job WHERE id = %(job)s AND fence = %(fence)s AND state = 'running'"
            " FOR SHARE",
            self._values,
        )
        if cursor.rowcount != 1:
            raise FenceLost(f"job '{self.ref.job}' is owned by another attempt")


def _shard(row: Row) -> Shard:
    return Shard.model_validate(row["result"], strict=False)

"""A small installation that protects a database and a bucket, and joins them in recovery points.

Steps run in the calling process, and so do the backups that they ask the real ledger for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from pgben_tasks import canvases
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.contracts import BackupAllRequest
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.failures import error_record
from pgben_tasks.domain.job import EVERYTHING, Job
from pgben_tasks.domain.points import KnownPoint
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import PgbenError, StepWaits
from pgben_tasks.operations.repository.points import surveyed_points
from pgben_tasks.operations.toolbox import NoProgress, Toolbox
from tests.support.bucketshop import TARGET as BUCKET, BucketShop

_WAIT = timedelta(minutes=5)


@dataclass
class PointShop:
    """Forms recovery points of the workshop's database and one bucket."""

    buckets: BucketShop
    settle: timedelta = timedelta(0)
    tools: Toolbox = field(init=False)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        """Protect both."""
        shop = self.buckets.shop
        self.ledger = shop.work.ledger
        # Ids are ordered by their second, then by their suffix: here several are of one second.
        numbers = count()
        self.buckets.tools = replace(self.buckets.tools, suffix=lambda: f"{next(numbers):06x}")
        self.tools = replace(
            self.buckets.tools,
            protected=frozenset({shop.target, BUCKET}),
            limits=replace(self.buckets.tools.limits, point_settle=self.settle),
        )

    def chain(self, *, window: datetime | None = None, **request: Any) -> in_process.Chain:
        """Prepare the job of a recovery point; ``request`` says more of what is asked for."""
        job = in_process.new_job(
            "point",
            BackupAllRequest.parse({"requested_by": "shop", **request}),
            target=EVERYTHING,
            node="workshop",
            now=datetime.now(UTC),
            context={},
        )
        row = in_process.MemoryRow(replace(job, window=window), self.tools.clock)
        return in_process.Chain(row, self.tools, NoProgress())

    def work(self, job: Job) -> Job:
        """Do what a worker does with a job that is queued; a failure ends it as failed."""
        began = replace(job, state="running", step=canvases.first_step(job.chain), node="workshop")
        chain = in_process.Chain(
            in_process.MemoryRow(began, self.tools.clock), self.tools, NoProgress()
        )
        ref = self.ledger.claim(
            job.id,
            node="workshop",
            first_step=began.step or "",
            lease=(job.target, secrets.token_hex(4)),
            context={},
            root_task="root",
            wait=_WAIT,
        )
        ref = self.ledger.begin_step(ref, began.step or "", node="workshop")
        try:
            ended = chain.run()
        except PgbenError as exc:
            self.ledger.fail(ref, state="failed", error=error_record(exc, began.step or ""))
        else:
            self.ledger.keep(ref, context={}, backup=ended.backup)
            self.ledger.end_step(
                ref, began.step or "", result=ended.result, following=None, wait=_WAIT
            )
        return self.ledger.job(job.id)

    def work_all(self) -> None:
        """Do every job that waits."""
        for job in reversed(self.ledger.jobs(open_only=True)):
            self.work(job)

    def form(
        self,
        chain: in_process.Chain | None = None,
        *,
        when_it_waits: Callable[[], None] | None = None,
    ) -> KnownPoint:
        """Form a point, and do what it waits for; return it."""
        chain = chain or self.chain()
        for _ in range(20):
            try:
                chain.step()
            except StepWaits:
                (when_it_waits or self.work_all)()
            if chain.job.state == "succeeded":
                return self.point(chain.job.result["point"])
        raise AssertionError(f"it waits for ever: {chain.job}")

    def point(self, point: str) -> KnownPoint:
        """Read a point from the repository."""
        (found,) = surveyed_points(self.tools.repository, only=BackupId.parse(point)).points
        return found

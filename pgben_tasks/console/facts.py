"""What pages show: read from the catalog with its read-only login, or asked of workers.

Everything here blocks, so pages call it off the event loop. Nothing is changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final
from uuid import UUID

from celery.exceptions import TimeoutError as NoAnswer

from pgben_tasks.adapters.catalog.reports import KeptReport
from pgben_tasks.client import Client
from pgben_tasks.domain.alarm import KeptAlarm
from pgben_tasks.domain.history import Line, lines_of
from pgben_tasks.domain.job import Job, StepRun
from pgben_tasks.domain.kept_databases import RestoredDatabase
from pgben_tasks.domain.nights import Night, WindowJob, calendar
from pgben_tasks.domain.swap import Swap, SwapState
from pgben_tasks.errors import PgbenError, TransientError
from pgben_tasks.language import Language
from pgben_tasks.runtime import Workplace
from pgben_tasks.settings import Settings

#: How many nights the calendar has.
NIGHTS: Final = 60
#: How many of the newest alarms and jobs the first page shows.
FEW: Final = 8
#: How many reports are listed: those of a year.
_REPORTS: Final = 53
#: How long the catalog may be silent before a page says so.
_PATIENCE: Final = timedelta(seconds=4)
#: How long an answer of workers is waited for, and how long one about the status stays good.
_ANSWER_SECONDS: Final = 9.0
_FRESH_SECONDS: Final = 20.0
#: A cancellation or a plan may wait for a server that is slow.
_LONG_ANSWER_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a worker said last of the whole installation; ``error`` is why there is nothing newer.

    ``document`` is what `pgben status --json` writes; ``asked`` is when it was given.
    """

    document: dict[str, Any] | None
    asked: datetime | None
    error: PgbenError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the first page shows beside the status."""

    now: datetime
    nights: tuple[Night, ...]
    running: tuple[Job, ...]
    newest: tuple[Job, ...]
    alarms: tuple[KeptAlarm, ...]
    restored: tuple[RestoredDatabase, ...]
    replaced: tuple[Swap, ...]
    workers: tuple[str, ...]
    restored_everything_in: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """One job with its steps, and what became of its swaps."""

    job: Job
    steps: tuple[StepRun, ...]
    swap: SwapState | None
    #: Of a restore that replaced databases: the swaps that an undo would turn back.
    replaced: tuple[Swap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPage:
    """A report as a part of a page, None where none was made yet, and the other newest ones."""

    kept: KeptReport | None
    page: str | None
    others: tuple[KeptReport, ...]


class Facts:
    """Answers for pages, from one catalog and one broker."""

    def __init__(self, settings: Settings) -> None:
        """Use the catalog and the broker of these settings; nothing is contacted yet."""
        self.settings = settings
        self.work = Workplace(settings, patience=_PATIENCE)
        self.client = Client(settings.redis_url.get_secret_value())
        self._status = Status(document=None, asked=None, error=None)
        self._status_until = 0.0
        self._asking = threading.Lock()

    def overview(self) -> Overview:
        """Return what the catalog knows for the first page."""
        work = self.work
        with work.database.kept():
            now = work.database.now()
            return Overview(
                now=now,
                nights=self._nights(now),
                running=tuple(work.ledger.jobs(limit=50, open_only=True)),
                newest=tuple(work.ledger.jobs(limit=FEW)),
                alarms=tuple(work.outbox.newest(FEW)),
                restored=tuple(work.restored.all()),
                replaced=tuple(work.swaps.done()),
                workers=tuple(work.workers.living()),
                restored_everything_in=work.records.last_restore_of_everything(),
            )

    def _nights(self, now: datetime) -> tuple[Night, ...]:
        zone = self.work.zone
        schedules = {
            name: schedule
            for name in self.work.target_names()
            if (schedule := self.work.schedule("backup", name)) is not None
        }
        since = now - timedelta(days=NIGHTS + 1)
        jobs = self.work.records.windows(since=since)
        return calendar(jobs, schedules, now=now, zone=zone, days=NIGHTS)

    def night(self, day: datetime) -> list[WindowJob]:
        """Return the jobs of the windows of one local day, which begins at ``day``."""
        found = self.work.records.windows(since=day.astimezone(UTC))
        return [one for one in found if one.window < day + timedelta(days=1)]

    def jobs(self, *, limit: int) -> list[Job]:
        """Return the newest jobs."""
        return self.work.ledger.jobs(limit=limit)

    def history(self, *, limit: int | None = None) -> list[Line]:
        """Return the newest lines of the history, the newest first."""
        with self.work.database.kept():
            return list(islice(lines_of(self.work.history.newest_ends(), self.work.zone), limit))

    def running(self) -> list[Job]:
        """Return the jobs that have not ended."""
        return self.work.ledger.jobs(limit=50, open_only=True)

    def job(self, name: str) -> JobFacts:
        """Return a job by its id, or the beginning of it; raises ``JobNotFound``."""
        work = self.work
        with work.database.kept():
            job = work.ledger.find(name)
            swaps = work.swaps.of_parts([job.id]).get(job.id, [])
            own = work.swaps.swap_of_job(job.id)
            return JobFacts(
                job=job,
                steps=tuple(work.ledger.steps(job.id)),
                swap=work.swaps.states([job]).get(job.id),
                replaced=tuple(
                    one
                    for one in ([own] if own is not None else swaps)
                    if one.state == "done" and one.aside is not None
                ),
            )

    def report(self, report: str | None, language: Language) -> ReportPage:
        """Return a report's page in a language, the newest one's for None, and which others are."""
        reports = self.work.reports
        with self.work.database.kept():
            newest = reports.newest(_REPORTS)
            kept = reports.find(report) if report else next(iter(newest), None)
            return ReportPage(
                kept=kept,
                page=reports.page(kept.id, language) if kept else None,
                others=tuple(one for one in newest if kept is None or one.id != kept.id),
            )

    def by_key(self, key: str) -> Job | None:
        """Return the job with this idempotency key; None while no worker has taken its message."""
        return self.work.ledger.by_key(key)

    def workers(self) -> list[str]:
        """Return the names of the workers that send heartbeats."""
        return self.work.workers.living()

    def status(self) -> Status:
        """Return what a worker says of the installation, at most ``_FRESH_SECONDS`` old.

        One question at a time: who comes while it is under way gets its answer, too.
        """
        with self._asking:
            if time.monotonic() >= self._status_until:
                self._status = self._ask_status()
                self._status_until = time.monotonic() + _FRESH_SECONDS
            return self._status

    def _ask_status(self) -> Status:
        try:
            document = self._ask(lambda seconds: self.client.status(expires=seconds))
        except PgbenError as exc:
            before = self._status
            return Status(document=before.document, asked=before.asked, error=exc)
        return Status(document=document, asked=datetime.now(UTC), error=None)

    def backups(self, target: str, *, before: str | None = None, limit: int = 50) -> dict[str, Any]:
        """Return the backups of a target, newest first, as `pgben list --json` has them."""
        return self._ask(
            lambda seconds: self.client.backups(target, expires=seconds, limit=limit, before=before)
        )

    def points(self, *, before: str | None = None, limit: int = 50) -> dict[str, Any]:
        """Return the recovery points, newest first, as `pgben points --json` has them."""
        return self._ask(
            lambda seconds: self.client.backups(
                expires=seconds, points=True, limit=limit, before=before
            )
        )

    def plan(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return what a restore would bring back (``contracts.PlanRequest``)."""
        return self._ask(
            lambda seconds: self.client.plan(expires=seconds, **fields),
            role="restore",
            seconds=_LONG_ANSWER_SECONDS,
        )

    def cancel(self, job: UUID, *, requested_by: str) -> dict[str, Any]:
        """Cancel a job; raises ``RequestRefused`` when that cannot be."""
        return self._ask(
            lambda seconds: self.client.cancel(job, requested_by=requested_by, expires=seconds),
            seconds=_LONG_ANSWER_SECONDS,
        )

    def _ask(
        self,
        send: Callable[[float], Any],
        *,
        role: str = "maintenance",
        seconds: float = _ANSWER_SECONDS,
    ) -> dict[str, Any]:
        """Return the answer of a worker; ``TransientError`` when none comes in time."""
        result = send(seconds)
        try:
            answer: dict[str, Any] = result.get(timeout=seconds)
        except NoAnswer as exc:
            raise TransientError(
                f"no {role} worker has answered within {seconds:.0f} s",
                f"see whether one runs: `python -m workers {role}`; all of them may be at work",
            ) from exc
        finally:
            result.forget()
        return answer

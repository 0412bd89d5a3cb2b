"""Jobs as values: one asked-for run, its states, and when a failed window is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from pgben_tasks.domain.target import require_utc

JobKind = Literal[
    "backup",
    "point",
    "restore",
    "restore_all",
    "verify",
    "prune",
    "undo",
    "undo_all",
    "acknowledge",
    "hold",
    "sweep",
    "report",
]
JobState = Literal["queued", "running", "waiting", "succeeded", "failed", "refused", "cancelled"]

#: The target of a job that is about everything: a verification, a recovery point, a report.
EVERYTHING: Final = "*"

ENDED: Final[frozenset[str]] = frozenset({"succeeded", "failed", "refused", "cancelled"})

#: A running step whose heartbeat is this old, and whose lock is free, has lost its worker. The
#: lock of a killed process is freed by the catalog's server at once; the six missed heartbeats only
#: bridge a short loss of its connection (docs/decisions/0005-takeover-after-a-minute.md).
STALE_AFTER: Final = timedelta(seconds=60)
HEARTBEAT_EVERY: Final = timedelta(seconds=10)
#: A job whose worker was lost this often in a row, without any step ending, is given up.
MOST_LOSSES: Final = 3
#: A queued job that nobody claimed is published again after this.
REPUBLISH_AFTER: Final = timedelta(minutes=5)
#: When the tick has not run for this long, a maintenance worker sends it instead of beat.
BEAT_SILENCE: Final = timedelta(minutes=5)
#: Waits before a step is tried again after a passing failure, in seconds.
RETRY_DELAYS: Final = (3, 10, 30)
#: How long after a failure a scheduled window is tried again: first, second, third time.
ATTEMPT_DELAYS: Final = (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of the ledger, with its running step when there is one."""

    id: UUID
    key: str
    kind: JobKind
    target: str
    window: datetime | None
    request: dict[str, Any]
    requested_by: str
    state: JobState
    fence: int
    attempt: int
    node: str | None
    backup: str | None
    root_task: str | None
    step: str | None
    context: dict[str, Any]
    result: dict[str, Any]
    error: dict[str, str] | None
    retry_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: dict[str, Any] | None = None

    @property
    def chain(self) -> str:
        """The name of its chain in ``canvases.CHAINS``.

        Backups and restores of a bucket have their own, and so have a restore that swaps, one
        that puts objects back in place, and one that is a part of such a restore of everything;
        a request for a backup that an existing one answers, too.
        """
        if self.kind == "backup" and self.context.get("existing"):
            return "existing_bucket" if self.target.startswith("bucket/") else "existing"
        if self.kind == "restore_all" and self.request.get("in_place"):
            return "replace_all"
        if self.kind == "restore" and self.request.get("in_place"):
            return "replace_part" if self.request.get("part_of") else "replace"
        if self.kind in {"backup", "restore"} and self.target.startswith("bucket/"):
            return f"{self.kind}_bucket"
        return "swap" if self.kind == "restore" and self.request.get("swap") else self.kind

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ENDED

    @property
    def request_again(self) -> dict[str, Any]:
        """The request that reaches this very row again, whatever window is due meanwhile."""
        again = {**self.request, "idempotency_key": self.key}
        return {**again, "scheduled": False} if "scheduled" in again else again


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """What the ledger keeps of one step of one attempt."""

    attempt: int
    name: str
    state: str
    node: str
    started_at: datetime
    ended_at: datetime | None
    result: dict[str, Any]

    @property
    def seconds(self) -> float | None:
        """How long it ran; None while it runs."""
        return None if self.ended_at is None else (self.ended_at - self.started_at).total_seconds()


def uncancellable(job: Job) -> str | None:
    """Return why a job cannot be cancelled, or None when it can.

    A failed one can while its next attempt is still to come.
    """
    if not job.ended or (job.state == "failed" and job.retry_at is not None):
        return None
    return f"job '{job.id}' has ended already: it is {job.state}"


def unrepeatable(job: Job) -> str | None:
    """Return why a job cannot be given a new attempt, or None when it can."""
    if job.state not in {"failed", "cancelled"}:
        return f"job '{job.id}' has not failed: it is {job.state}, so there is nothing to repeat"
    if not job.request:
        return f"job '{job.id}' was asked for by a request that could not be read"
    return None


def window_key(kind: str, target: str, window: datetime) -> str:
    """Return the key of a scheduled job, e.g. ``backup:postgres/pgben:2026-11-23T05:00Z``."""
    return f"{kind}:{target}:{require_utc(window):%Y-%m-%dT%H:%MZ}"


def next_attempt(*, attempt: int, now: datetime, successor: datetime | None) -> datetime | None:
    """Return when a failed scheduled job begins its next attempt; None when it is given up.

    ``attempt`` is the number of the attempt that failed (1 for the first), ``successor`` the
    moment its next window is due: a new attempt never begins at or after it.
    """
    if attempt < 1 or attempt > len(ATTEMPT_DELAYS):
        return None
    at = now + ATTEMPT_DELAYS[attempt - 1]
    return None if successor is not None and at >= successor else at

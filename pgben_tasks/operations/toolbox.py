"""What operations are handed: ports, values and the folder to work in. Built by ``runtime``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from pgben_tasks.contracts import JSON
from pgben_tasks.domain.documents import (
    AuditEntry,
    Finding,
    Manifest,
    RecoveryPoint,
    Verification,
)
from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.job import Job, JobKind
from pgben_tasks.domain.kept_databases import RestoredDatabase
from pgben_tasks.domain.references import Reference
from pgben_tasks.domain.restorability import RestoreSite
from pgben_tasks.domain.retention import Policy
from pgben_tasks.domain.space import Night
from pgben_tasks.domain.swap import Swap, SwapState
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.domain.trail import Trail
from pgben_tasks.domain.windows import Schedule
from pgben_tasks.ports import (
    Bucket,
    Clock,
    ObjectCodec,
    ObjectPacks,
    PackCodec,
    PostgresDestination,
    PostgresSource,
    PostgresSwap,
    Progress,
    Reporting,
    Repository,
    Sharing,
    SwapHooks,
)


class IndexRow(Protocol):
    """One backup as the index knows it."""

    @property
    def id(self) -> str:
        """The backup's id."""

    @property
    def state(self) -> str:
        """Its state as lists show it."""

    @property
    def suspect(self) -> str | None:
        """Why it is implausible, None when it is not."""

    @property
    def acknowledged(self) -> bool:
        """Whether somebody found it plausible all the same."""

    @property
    def snapshot_at(self) -> datetime | None:
        """The moment whose data it holds; None when its manifest is not known."""


class Index(Protocol):
    """The part of the catalog's index that operations write."""

    def next_sequence(self, target: Target, *, at_least: int) -> int:
        """Return the next sequence number of a target, above ``at_least``."""

    def add(self, manifest: Manifest, digest: str, *, state: str) -> None:
        """Write a committed backup."""

    def backups(self, target: Target) -> Sequence[IndexRow]:
        """Return the known backups of a target that have not expired."""

    def targets(self) -> Sequence[Target]:
        """Return the targets with known backups that have not expired."""

    def add_point(self, point: RecoveryPoint) -> None:
        """Write a recovery point that was formed."""

    def remove_point(self, point: BackupId) -> None:
        """Forget a recovery point whose document was removed."""

    def points(self) -> Sequence[RecoveryPoint]:
        """Return the known recovery points."""

    def acknowledge(self, target: Target, backup: str) -> None:
        """Write that somebody looked at a suspect backup and found it plausible."""

    def set_hold(self, target: Target, backup: str, hold: Hold | None) -> None:
        """Write what keeps a backup from being pruned, None where nothing does."""

    def set_state(
        self,
        target: Target,
        backup: str,
        state: str,
        *,
        verified_at: datetime | None = None,
        needs: str | None = None,
    ) -> None:
        """Write a backup's state, and what this site lacks to restore it."""


class SwapRecord(Protocol):
    """What was intended of swaps, and how they ended."""

    def intend(self, swap: Swap) -> None:
        """Write down a swap before anything is touched."""

    def settle(self, swap: Swap, state: SwapState) -> None:
        """Write how a swap ended."""

    def swap_of_job(self, job: UUID) -> Swap | None:
        """Return the swap of a job, None when it has none."""

    def open(self, target: str) -> Sequence[Swap]:
        """Return the swaps of a target whose end is not settled."""


class RestoredRecord(Protocol):
    """The copies that restores made beside the original."""

    def add(self, one: RestoredDatabase) -> None:
        """Write a copy that is open now; a step that runs again changes nothing."""


class Captures(Protocol):
    """What the ledger knows of captures that have no manifest yet, and of backups in use."""

    def running(self, target: Target) -> frozenset[str]:
        """Return the backup ids of a target's jobs that have not ended."""

    def named(self, target: Target) -> frozenset[str]:
        """Return every backup id that a target's jobs which have not ended work on, or ask for."""


class Jobs(Protocol):
    """The ledger, as a job asks for other jobs and waits for them."""

    def request(
        self,
        kind: JobKind,
        *,
        target: str,
        key: str,
        request: JSON,
        requested_by: str,
        window: datetime | None = None,
    ) -> tuple[Job, bool]:
        """Write a job unless its key is known; return it and whether it is new."""

    def job(self, job: UUID) -> Job:
        """Return one job; ``JobNotFound`` when there is none."""

    def by_key(self, key: str) -> Job | None:
        """Return the job with this key, None when there is none."""

    def restore_rate(self, target: Target) -> float | None:
        """Return the bytes per second of the last restore of a target; None when there was none."""

    def nights(self, target: Target) -> Sequence[Night]:
        """Return what the last backups of a target wrote, the newest first."""

    def cancel(self, job: UUID, *, error: JSON) -> bool:
        """End a job that has not ended and has not swapped; return whether it was so."""

    def open_backup(self, target: Target) -> Job | None:
        """Return a backup of a target that has not ended, the oldest of several."""


class OwnWrites(Protocol):
    """How many objects restores in place wrote or deleted in protected buckets, and when."""

    def intend(self, job: Job, part: str, objects: int) -> None:
        """Write down that a part of a job's work is about to change so many objects."""

    def since(self, target: Target, moment: datetime) -> int:
        """Return how many objects of a target were changed by ourselves since then, at most."""


class Workers(Protocol):
    """What the workers of this site publish of themselves."""

    @property
    def may_sign_needs(self) -> bool:
        """Whether what a restore lacks may be signed: not what direct mode sees on one machine."""

    def restore_site(self) -> RestoreSite:
        """Return the clients of the workers that restore."""

    def may_use_new_fields(self, revision: int, *, in_use: bool) -> bool:
        """Return whether everybody reads documents of a revision.

        ``in_use`` says that such documents are there already.
        """


class TrailRecord(Protocol):
    """What the catalog knows of the audit trail and of jobs."""

    @property
    def entries(self) -> tuple[AuditEntry, ...]:
        """Every entry that was stored in the repository, by its number."""

    def differences(self, trail: Trail) -> Iterable[Finding]:
        """Return what the repository's trail lacks, and what the ledger lacks that it names."""


class AuditTrail(Protocol):
    """The audit trail that the catalog keeps, and the maintenance worker stores."""

    def stating(
        self, target: Target
    ) -> AbstractContextManager[Callable[[Verification, str], None]]:
        """Let one statement about a target's backups be made at a time.

        What is yielded enters a stored statement, and who asked for it, into the trail.
        """

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
        """Write an entry for each of these details that the action has none of."""

    def record(self) -> TrailRecord | None:
        """Return what the catalog knows, to be read before the repository; None without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogPorts:
    """What the catalog keeps, or what stands in its place where there is none."""

    clock: Clock
    index: Index
    captures: Captures
    jobs: Jobs
    swaps: SwapRecord
    restored: RestoredRecord
    own_writes: OwnWrites
    workers: Workers
    trail: AuditTrail


class NoProgress:
    """A ``Progress`` that nobody sees."""

    def begin(self, phase: str, *, total: int | None = None, unit: str = "bytes") -> None:
        """Show nothing."""

    def advance(self, amount: int) -> None:
        """Show nothing."""

    def note(self, **facts: int | str) -> None:
        """Show nothing."""

    def check(self) -> None:
        """Go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The numbers that steer operations; sizes in bytes, shares between 0 and 1."""

    dump_jobs: int
    #: Small members of a dump share packs of this many bytes.
    pack_size: int
    suspect_shrink: float
    #: A bucket is suspect when a larger share of its objects changed since the snapshot before.
    suspect_changed: Decimal
    #: How much of the repository's bytes may be fetched anew in a night, to empty half-dead packs.
    vacate_share: Decimal
    copy_concurrency: int
    #: What a copy is divided into, so that several workers can share it.
    shard_bytes: int
    shard_objects: int = 5_000
    spool_limit: int | None
    #: What the repository may hold, where its store does not say so itself.
    repository_quota: int | None
    #: How long a database that a swap replaced is kept.
    keep_replaced: timedelta
    retention: Policy
    #: Finished files of a dump are packed while it goes on, as soon as they are this many bytes.
    early_size: int = 16 * 1024 * 1024
    #: A bucket's server is given up when nothing went well there for so long.
    patience: timedelta = timedelta(seconds=60)
    #: How long one night may read the tags of unchanged objects.
    tag_budget: timedelta = timedelta(minutes=10)
    #: How long after the databases' data the listings of a recovery point's buckets begin at least.
    point_settle: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """Everything an operation may use, built once per process."""

    repository: Repository
    codec: PackCodec
    clock: Clock
    #: This machine's clock: compared with the others, never decided by.
    own_clock: Clock
    index: Index
    captures: Captures
    jobs: Jobs
    sources: Mapping[Target, PostgresSource]
    destinations: Mapping[Target, PostgresDestination]
    #: Everything that this installation backs up.
    protected: frozenset[Target]
    #: The protected buckets, where the key for their server is at hand.
    buckets: Mapping[Target, Bucket]
    #: Another bucket of the same server, by its name.
    other_bucket: Callable[[str], Bucket]
    objects: ObjectCodec
    object_packs: ObjectPacks
    #: Which rows of which databases name which objects.
    references: tuple[Reference, ...]
    swapping: Mapping[Target, PostgresSwap]
    swaps: SwapRecord
    #: What a site runs around a swap.
    hooks: SwapHooks
    restored: RestoredRecord
    own_writes: OwnWrites
    workers: Workers
    trail: AuditTrail
    schedules: Mapping[str, Schedule]
    limits: Limits
    spool: Path
    node: str
    catch_up: timedelta
    #: The time zone of names and texts for people.
    zone: tzinfo
    #: Six fresh hex digits for a new id.
    suffix: Callable[[], str]
    #: What a report is made with; None for every other step.
    reporting: Reporting | None = None


class RunLedger(Protocol):
    """What a running step may do to its own row of the ledger."""

    @property
    def job(self) -> Job:
        """The job as the row has it now; ``step`` is the one that runs or is next."""

    def keep(self, *, context: JSON, backup: str | None = None) -> None:
        """Leave facts for later steps; raises ``FenceLost`` when the job changed hands."""

    def hold(self) -> None:
        """Raise ``FenceLost`` unless this run still owns the job: before anything irreversible."""


class JobRow(RunLedger, Protocol):
    """A job's row while its steps run: of the ledger, or in memory where there is none."""

    def try_lock(self, kind: str) -> AbstractContextManager[bool]:
        """Take one of the target's locks exclusively for a block, if nobody holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One running step: its job as the ledger shows it, and where it reports."""

    job: Job
    ledger: RunLedger
    progress: Progress
    folder: Path
    #: Take one of the target's locks (``read`` …) exclusively for a block, if nobody holds it.
    try_lock: Callable[[str], AbstractContextManager[bool]]
    #: How the step is shared with other workers; None where there can be none.
    sharing: Sharing | None = None

    @property
    def job_id(self) -> UUID:
        """The job's id."""
        return self.job.id

    @property
    def target(self) -> Target:
        """The job's target."""
        return Target.parse(self.job.target)

    @property
    def context(self) -> dict[str, Any]:
        """What earlier steps left."""
        return self.job.context

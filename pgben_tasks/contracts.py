"""Request models and the reference that crosses a chain: public API, light to import.

Names, targets and ids in a request are data: they never become part of a command line or a path
without being checked again where they are used. Adding an optional field is compatible; anything
else is a new version of the task's name (docs/tasks.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from pgben_tasks import names
from pgben_tasks.domain import faults
from pgben_tasks.domain.durations import parse_duration
from pgben_tasks.domain.holds import LONGEST
from pgben_tasks.domain.job import Job, JobKind
from pgben_tasks.domain.target import LATEST, BackupId, Target, check_name
from pgben_tasks.errors import ConfigurationError, RequestRefused

JSON = dict[str, Any]

_LONGEST_FIELD: Final = 40
_LONGEST_KEY: Final = 1024
#: More keys than this are no matter of single keys.
MOST_KEYS: Final = 1000
#: How many backups or jobs are listed at once.
MOST_LISTED: Final = 200


def _by(rule: Callable[[str], object]) -> AfterValidator:
    """Check a field by a rule of the domain."""

    def check(value: str) -> str:
        try:
            rule(value)
        except ConfigurationError as exc:
            # The sentence may repeat a value that holds a password; the hint never does.
            raise PydanticCustomError("pgben", "{hint}", {"hint": exc.hint}) from None
        return value

    return AfterValidator(check)


def _matching(pattern: str, what: str) -> AfterValidator:
    """Check a field by a pattern; ``what`` says what the pattern takes."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise PydanticCustomError("pgben", "{what}", {"what": what})
        return value

    return AfterValidator(check)


def _duration(value: object) -> object:
    """Read ``14d`` and its like; ISO 8601, as requests are written down, passes unchanged."""
    is_iso = isinstance(value, str) and value.startswith("P")
    return value if is_iso else parse_duration(value)


def _printable(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("pgben", "use printable characters only")
    return value


def _short_enough(value: str) -> str:
    if len(value.encode(errors="surrogatepass")) > _LONGEST_KEY:
        raise PydanticCustomError("pgben", "a key has at most 1,024 bytes")
    return value


def _said(fault: ErrorDetails) -> str:
    """Return what is wrong with which field, the field as errors name it (``errors``)."""
    if not fault["loc"]:
        return faults.phrase(fault)
    place = str(fault["loc"][0])
    # The name of an unknown field is as much a stranger's text as a value is.
    named = place.isidentifier() and len(place) <= _LONGEST_FIELD
    field = f"`{place}`" if named else "one of its fields"
    # A sentence of a check follows a colon, a phrase follows its field.
    colon = ":" if fault["type"] in {"pgben", "value_error"} else ""
    return f"{field}{colon} {faults.phrase(fault)}"


def _storable(data: object) -> bool:
    """Return whether all text in a request can be kept: JSON has texts that are no UTF-8."""
    if isinstance(data, dict):
        return all(_storable(key) and _storable(value) for key, value in data.items())
    if isinstance(data, list | tuple):
        return all(_storable(one) for one in data)
    if not isinstance(data, str):
        return True
    return "\0" not in data and not any("\ud800" <= sign <= "\udfff" for sign in data)


def _backup_id_or_latest(value: str) -> None:
    if value != LATEST:
        BackupId.parse(value)


ShortText = Annotated[
    str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)
]
#: Keys that pgben makes itself hold the target, which is ``*`` for a verification of everything.
Key = Annotated[
    str,
    _matching(r"[A-Za-z0-9:/_.+*-]{1,200}", "it takes 1 to 200 of A-Z, a-z, 0-9 and :/_.+*-"),
]
TargetField = Annotated[str, AfterValidator(_printable), _by(Target.parse)]
NameField = Annotated[str, AfterValidator(_printable), _by(check_name)]
#: A name of what a backup is kept for: of one word, because lists and the report show it.
LabelField = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,99}", "a label has 1 to 100 of A-Z, a-z, 0-9 and ._:/+@-"
    ),
]
#: A length of time: ``14d``, ``P14D`` or seconds.
DurationField = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0), le=LONGEST)]
#: What S3 takes for a bucket's name, without the dots that break its certificates.
BucketField = Annotated[
    str,
    _matching(
        r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
        "a bucket's name has 3 to 63 lower case letters, digits and hyphens",
    ),
]
#: A key or the beginning of one: anything, up to 1,024 bytes.
KeyText = Annotated[str, AfterValidator(_short_enough)]
BackupField = Annotated[str, _by(BackupId.parse)]
DigestField = Annotated[str, _matching(r"[0-9a-f]{64}", "a SHA-256 is written as 64 hex digits")]
BackupChoice = Annotated[str, _by(_backup_id_or_latest)]


class Request(BaseModel):
    """What every request carries. Unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Who asks, for the audit trail.
    requested_by: ShortText = "unnamed"
    #: The same key asks for the same job: a second request answers with the first one's outcome.
    idempotency_key: Key | None = None

    @property
    def replaces(self) -> bool:
        """Whether something that exists would be replaced, which has to be confirmed."""
        return False

    @classmethod
    def parse(cls, data: object) -> Self:
        """Read a request; raise ``RequestRefused`` naming the first fault, without its value."""
        try:
            request = cls.model_validate(data)
        except ValidationError as exc:
            found = exc.errors(include_input=False, include_url=False)
            # A name that is spelled wrong explains the field that is missing, not the other way.
            first = min(found, key=lambda fault: fault["type"] != "extra_forbidden")
            raise RequestRefused(
                f"the request is malformed: {_said(first)}",
                "docs/tasks.md lists the arguments of every task",
            ) from None
        if not _storable(data):
            raise RequestRefused(
                "the request is malformed: it holds a NUL or half a surrogate pair",
                "send text that is UTF-8; the catalog keeps no such characters",
            )
        return request


class _KeptRequest(Request):
    """What a request for backups says of keeping them; it goes with none that is scheduled.

    What is not used is left out, so that workers that do not know it take the request.
    """

    _LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"hold_for", "label", "reason", "max_age"})

    #: Retention keeps the backup for so long from its end, whoever asks for pruning meanwhile.
    hold_for: DurationField | None = None
    #: What it is kept for, such as a release; signed and listed.
    label: LabelField | None = None
    #: Why it is kept, for whoever reads the signed statement later.
    reason: ShortText | None = None
    #: A verified backup that is not older answers the request; no new one is made.
    max_age: DurationField | None = None

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> JSON:
        values: JSON = handler(self)
        return {
            name: value
            for name, value in values.items()
            if value is not None or name not in self._LEFT_OUT
        }

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.hold_for is None and (self.label is not None or self.reason is not None):
            message = "`label` and `reason` need `hold_for`: nothing else keeps them"
            raise ValueError(message)
        asked = self.hold_for is not None or self.max_age is not None
        if asked and getattr(self, "scheduled", False):
            message = "`hold_for` and `max_age` go with no `scheduled` backup"
            raise ValueError(message)
        return self


class BackupRequest(_KeptRequest):
    """Ask for a backup of one target now, or for the scheduled window that is due."""

    target: TargetField
    #: True means: the job of the window that is due at this moment (beat and the tick ask so).
    scheduled: bool = False


class BackupAllRequest(_KeptRequest):
    """Ask for backups of every database, then every bucket, and the recovery point that joins them.

    Or for the point of the scheduled window of databases that is due.
    """

    #: True means: the job of the window that is due at this moment (beat and the tick ask so).
    scheduled: bool = False

    @property
    def target(self) -> None:
        """None: it is about everything."""
        return


class RestoreRequest(Request):
    """Ask for a restore of a database beside the original, or in its place."""

    target: TargetField
    #: A backup id, or ``latest`` for the newest verified one.
    backup: BackupChoice = LATEST
    #: Instead of ``backup``: the newest verified backup taken at or before this moment.
    at: AwareDatetime | None = None
    #: Name of the new database; None means ``<name>_restored_<yyyymmdd_hhmmss>``.
    into: NameField | None = None
    #: Take a backup without any verification, after checking every digest.
    allow_unverified: bool = False
    #: Put the restored database in the original's place, which is kept under another name. Restores
    #: of buckets call it ``in_place``, which is read here as well.
    swap: bool = False
    #: The name of the database that a swap replaces, typed once more; without it none is made.
    confirm: NameField | None = None
    #: Make all roles that the backup's server had and this one has not, with their attributes,
    #: settings and memberships, without passwords. Else only names that the database needs.
    roles: bool = False
    #: The restore of everything that asked for this swap, which then waits for its turn.
    part_of: UUID | None = None

    @property
    def replaces(self) -> bool:
        """A swap replaces the live database."""
        return self.swap

    @model_validator(mode="before")
    @classmethod
    def _in_place(cls, data: Any) -> Any:
        """Read ``in_place`` as ``swap``, the one word that is kept."""
        if not isinstance(data, dict) or "in_place" not in data:
            return data
        asked = {**data}
        in_place = asked.pop("in_place")
        if asked.setdefault("swap", in_place) != in_place:
            message = "`swap` and `in_place` mean the same: give one of them"
            raise ValueError(message)
        return asked

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.at is not None and self.backup != LATEST:
            message = "give `backup` or `at`, not both"
            raise ValueError(message)
        if self.swap and self.into is not None:
            message = "give `into` or `swap`, not both"
            raise ValueError(message)
        if self.confirm is not None and not self.swap:
            message = "`confirm` needs `swap`: nothing would be replaced"
            raise ValueError(message)
        if self.part_of is not None and not self.swap:
            message = "`part_of` needs `swap`: nothing else waits"
            raise ValueError(message)
        return self


class BucketRestoreRequest(Request):
    """Ask for a snapshot's objects in another bucket, or in the original.

    In another, nothing that exists is replaced; in the original, what differs is copied aside
    first.
    """

    target: TargetField
    #: A backup id, or ``latest`` for the newest verified one.
    backup: BackupChoice = LATEST
    #: Instead of ``backup``: the newest verified snapshot listed at or before this moment.
    at: AwareDatetime | None = None
    #: The bucket to restore to; None means ``<name>-restored-<yyyymmdd-hhmmss>``.
    into: BucketField | None = None
    #: What restored keys begin with, put before their own.
    put_below: KeyText = ""
    #: Only keys that begin with this.
    prefix: KeyText = ""
    #: Only these keys; empty means all.
    keys: tuple[KeyText, ...] = ()
    #: Take a snapshot without any verification; every digest is checked all the same.
    allow_unverified: bool = False
    #: Take a damaged snapshot, named by its id, and restore what is whole of it.
    allow_damaged: bool = False
    #: Give the bucket the settings that the snapshot has of the original.
    settings: bool = False
    #: Put missing and differing objects back into the original bucket.
    in_place: bool = False
    #: The name of the bucket that is written to in place, typed once more.
    confirm: NameField | None = None
    #: In place: remove objects that the snapshot does not know, once they lie aside.
    delete_extra: bool = False
    #: The restore of everything that asked for this one: what is missing is added at once, and
    #: nothing is overwritten before its turn.
    part_of: UUID | None = None

    @property
    def replaces(self) -> bool:
        """In place, objects of the original bucket are overwritten."""
        return self.in_place

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.in_place and (self.into is not None or self.put_below):
            message = "`in_place` goes with neither `into` nor `put_below`"
            raise ValueError(message)
        if not self.in_place and (self.delete_extra or self.confirm is not None or self.part_of):
            message = "`delete_extra`, `confirm` and `part_of` need `in_place`"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.at is not None and self.backup != LATEST:
            message = "give `backup` or `at`, not both"
            raise ValueError(message)
        if self.allow_damaged and self.backup == LATEST:
            message = "`allow_damaged` needs a `backup` named by its id"
            raise ValueError(message)
        if self.keys and self.prefix:
            message = "give `keys` or `prefix`, not both"
            raise ValueError(message)
        if self.keys and self.delete_extra:
            message = "`delete_extra` goes with the whole bucket or a `prefix`, not with `keys`"
            raise ValueError(message)
        return self


class RestoreAllRequest(Request):
    """Ask for everything of a recovery point, beside the originals or in their place."""

    #: A recovery point's id, or ``latest`` for the newest verified one.
    point: BackupChoice = LATEST
    #: Instead of ``point``: the newest verified one whose data are of this moment or before.
    at: AwareDatetime | None = None
    #: Put the databases in the originals' place, which are kept, and objects back into their
    #: buckets, where what is overwritten lies aside.
    in_place: bool = False
    #: The name of every database and bucket that is replaced or written to, typed once more.
    confirm: Annotated[tuple[NameField, ...], Field(max_length=MOST_KEYS)] = ()
    #: Give the buckets the settings that the snapshots have of the originals.
    settings: bool = False
    #: Make all roles that the databases' server had, as ``RestoreRequest.roles`` says.
    roles: bool = False

    @property
    def target(self) -> None:
        """None: it is about everything."""
        return

    @property
    def replaces(self) -> bool:
        """In place, databases are replaced and objects overwritten."""
        return self.in_place

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.at is not None and self.point != LATEST:
            message = "give `point` or `at`, not both"
            raise ValueError(message)
        if self.confirm and not self.in_place:
            message = "`confirm` needs `in_place`: nothing would be replaced"
            raise ValueError(message)
        return self


class PlanRequest(Request):
    """Ask what a restore would bring back: of one target or, without one, of everything."""

    target: TargetField | None = None
    #: Of one target: a backup id, or ``latest`` for the newest verified one.
    backup: BackupChoice = LATEST
    #: Of everything: a recovery point's id, or ``latest`` for the newest verified one.
    point: BackupChoice = LATEST
    #: Instead of either: the newest verified one whose data are of this moment or before.
    at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.at is not None and (self.backup, self.point) != (LATEST, LATEST):
            message = "give `at`, or the id in `backup` or `point`, not both"
            raise ValueError(message)
        if self.target is None and self.backup != LATEST:
            message = "`backup` needs `target`"
            raise ValueError(message)
        if self.target is not None and self.point != LATEST:
            message = "`point` is of everything: it goes without `target`"
            raise ValueError(message)
        return self


class CatalogBackupsRequest(Request):
    """Ask which backups there are, or which recovery points, newest first."""

    #: The backups of one target; None means of all.
    target: TargetField | None = None
    #: Recovery points instead of backups.
    points: bool = False
    #: How many at most.
    limit: Annotated[int, Field(ge=1, le=MOST_LISTED)] = 50
    #: Only those that are older than the one with this id: the last of the page before.
    before: BackupField | None = None

    @model_validator(mode="after")
    def _points_are_of_everything(self) -> Self:
        if self.points and self.target is not None:
            message = "`points` are of everything: they go without `target`"
            raise ValueError(message)
        return self


class CatalogJobsRequest(Request):
    """Ask which jobs there are, newest first."""

    #: The jobs of one target; None means of all.
    target: TargetField | None = None
    #: Only jobs of this kind.
    kind: JobKind | None = None
    #: Only those that have not ended.
    open_only: bool = False
    #: How many at most.
    limit: Annotated[int, Field(ge=1, le=MOST_LISTED)] = 20
    #: Only those that are older than this one: the last of the page before.
    before: UUID | None = None


class CatalogStatusRequest(Request):
    """Ask whether everything can be restored, and whether everything works."""


class CancelRequest(Request):
    """Ask to cancel a job that has not ended, or that is to be tried again."""

    #: The id of the job in the ledger.
    job: UUID


class UndoRequest(Request):
    """Ask to turn a swap back: the replaced database takes its name again."""

    target: TargetField
    #: The job that swapped.
    job: UUID
    #: The name of the database that is replaced, typed once more.
    confirm: NameField | None = None
    #: The undo of everything that asked for this one.
    part_of: UUID | None = None

    @property
    def replaces(self) -> bool:
        """The restored database is replaced."""
        return True


class UndoAllRequest(Request):
    """Ask to turn every swap of a restore of everything back."""

    #: The restore of everything that swapped.
    job: UUID
    #: The name of every database that is replaced, typed once more.
    confirm: Annotated[tuple[NameField, ...], Field(max_length=MOST_KEYS)] = ()

    @property
    def target(self) -> None:
        """None: it is about everything."""
        return

    @property
    def replaces(self) -> bool:
        """The restored databases are replaced."""
        return True


class VerifyRequest(Request):
    """Ask for a verification of one backup, one target, or everything."""

    #: ``postgres/<name>``; None means every target of the repository.
    target: TargetField | None = None
    #: One backup id of the target; None means all of its backups.
    backup: BackupField | None = None
    level: Literal["quick", "full"] = "quick"
    scheduled: bool = False

    @model_validator(mode="after")
    def _backup_needs_target(self) -> Self:
        if self.backup is not None and self.target is None:
            message = "`backup` needs `target`"
            raise ValueError(message)
        return self


class PruneRequest(Request):
    """Ask for retention of one target outside the nightly chain."""

    target: TargetField
    dry_run: bool = False
    #: The backup that asked for this one, which has no room and waits for its end.
    part_of: UUID | None = None


class AcknowledgeRequest(Request):
    """Record that a suspect backup is plausible: it counts again, and pruning goes on.

    Or record that single keys of a bucket are lost: later snapshots count without them.
    """

    target: TargetField
    #: The SHA-256 of keys (UTF-8, in hex): keys may be personal data.
    keys: tuple[DigestField, ...] = Field(default=(), max_length=MOST_KEYS)
    #: One backup, or None with ``keys``.
    backup: BackupField | None = Field(default=None, validate_default=True)
    #: Why it is plausible, for whoever reads the signed statement later.
    reason: ShortText | None = None

    @field_validator("keys")
    @classmethod
    def _of_a_bucket(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and not str(info.data.get("target")).startswith("bucket/"):
            message = "only objects of buckets have keys"
            raise ValueError(message)
        return value

    @field_validator("backup")
    @classmethod
    def _one_matter(cls, value: str | None, info: ValidationInfo) -> str | None:
        if (value is None) != bool(info.data.get("keys")):
            message = "give `backup` or `keys`"
            raise ValueError(message)
        return value


class HoldRequest(Request):
    """Ask that retention keeps one backup until a moment, or no longer (``release``)."""

    target: TargetField
    backup: BackupField
    #: Until when it is kept.
    until: AwareDatetime | None = None
    #: Instead of ``until``: for how long, from when it is signed.
    keep_for: DurationField | None = None
    #: What it is kept for, such as a release; signed and listed.
    label: LabelField | None = None
    #: Why, for whoever reads the signed statement later.
    reason: ShortText
    #: Nothing of before keeps it any longer.
    release: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.release and {self.until, self.keep_for, self.label} != {None}:
            message = "`release` goes with none of `until`, `keep_for` and `label`"
            raise ValueError(message)
        if not self.release and (self.until is None) == (self.keep_for is None):
            message = "a hold needs one end: give `until` or `keep_for`"
            raise ValueError(message)
        return self


class SweepRequest(Request):
    """Ask for the removal of what ended runs left behind in the repository."""

    target: TargetField
    dry_run: bool = False
    #: The backup that asked for this one, which has no room and waits for its end.
    part_of: UUID | None = None


class ReportRequest(Request):
    """Ask for a report of everything, as it is mailed every week."""

    #: Send it to PGBEN_ADMIN_EMAIL; else it is only made and kept.
    mail: bool = True

    @property
    def target(self) -> None:
        """None: it is about everything."""
        return


#: The request of every kind of job; a restore of a bucket has another (``request_model``).
REQUESTS: dict[str, type[Request]] = {
    "backup": BackupRequest,
    "point": BackupAllRequest,
    "restore": RestoreRequest,
    "restore_all": RestoreAllRequest,
    "undo": UndoRequest,
    "undo_all": UndoAllRequest,
    "verify": VerifyRequest,
    "prune": PruneRequest,
    "acknowledge": AcknowledgeRequest,
    "hold": HoldRequest,
    "sweep": SweepRequest,
    "report": ReportRequest,
}

#: The requests of tasks that make no job.
TASK_REQUESTS: dict[str, type[Request]] = {
    names.CATALOG_PLAN: PlanRequest,
    names.CATALOG_BACKUPS: CatalogBackupsRequest,
    names.CATALOG_JOBS: CatalogJobsRequest,
    names.CATALOG_STATUS: CatalogStatusRequest,
    names.CANCEL_RUN: CancelRequest,
}


#: What of two requests for backups with one key has to be the same: a caller counts on it.
_DECISIVE: Final = ("hold_for", "label", "max_age")


def is_same_job(job: Job, kind: str, target: str, request: Request) -> bool:
    """Return whether a job with the key of ``request`` is what that asks for.

    Of one that was refused the ledger keeps no request.
    """
    asked = request.model_dump(mode="json")
    differs = [name for name in _DECISIVE if job.request.get(name) != asked.get(name)]
    return (job.kind, job.target) == (kind, target) and not (job.request and differs)


def check_same_job(job: Job, kind: str, target: str, request: Request) -> None:
    """Raise ``RequestRefused`` when the key of ``request`` is that of another job."""
    if is_same_job(job, kind, target, request):
        return
    hint = "one key stands for one job; give each request a key of its own"
    if (job.kind, job.target) == (kind, target):
        raise RequestRefused(
            f"the idempotency key '{job.key}' belongs to a backup of '{job.target}' that is held "
            "for another time, or label",
            hint,
        )
    raise RequestRefused(
        f"the idempotency key '{job.key}' belongs to a {job.kind} of '{job.target}'", hint
    )


def request_model(kind: str, target: object) -> type[Request]:
    """Return the model of a request; a restore of a bucket has one of its own."""
    if kind == "restore" and isinstance(target, str) and target.startswith("bucket/"):
        return BucketRestoreRequest
    return REQUESTS[kind]


class JobRef(BaseModel):
    """The small reference that crosses a chain: never bytes, never secrets.

    ``fence`` grows whenever the job changes hands; a step with an older fence stops before its
    next irreversible action.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: UUID
    fence: Annotated[int, Field(ge=1)]

    @classmethod
    def parse(cls, data: object) -> Self:
        """Read a reference; raise ``RequestRefused`` when it is none."""
        try:
            return cls.model_validate(data)
        except ValidationError:
            raise RequestRefused(
                "the task was called without a job reference",
                "steps are called by their chain; enqueue the chain's entry task instead",
            ) from None

    def to_json(self) -> JSON:
        """Return the reference as plain JSON."""
        return self.model_dump(mode="json")


class JobOutcome(BaseModel):
    """What the last step of a chain returns, and what a second delivery is answered with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: UUID
    state: str
    target: str
    backup: str | None = None
    ended: datetime | None = None
    result: JSON = Field(default_factory=dict)

    @classmethod
    def of_job(cls, job: Job) -> Self:
        """Return what callers of an ended job receive."""
        return cls(
            job=job.id,
            state=job.state,
            target=job.target,
            backup=job.backup,
            ended=job.ended_at,
            result=job.result,
        )

    def to_json(self) -> JSON:
        """Return the outcome as plain JSON."""
        return self.model_dump(mode="json")

"""The report that people read every week: what it says, as one document in no language.

Pure values, kept as JSON in the catalog; pages and mails are made of it, in any language. Sizes are
stored bytes, durations seconds, moments UTC. Nothing here names a person who is protected: keys,
rows and the reasons that people typed stay out.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from pgben_tasks.domain.nights import NightState
from pgben_tasks.domain.target import require_utc
from pgben_tasks.domain.verdicts import Colour

Moment = Annotated[datetime, AfterValidator(require_utc)]
#: What became of the verification that a report is about: ``missing`` when its window has no job,
#: ``late`` when it has not ended yet.
VerificationState = Literal["succeeded", "failed", "refused", "cancelled", "missing", "late"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReportReason(_Part):
    """One thing that keeps the verdict from being green."""

    colour: Colour
    text: str
    hint: str = ""


class Answers(_Part):
    """Whether we can restore today, to which moment, and how long it takes.

    ``colour`` answers the first question. ``to`` is the oldest of the targets' newest verified
    data; None where one has none. ``seconds`` is None where nothing was ever measured;
    ``measured`` says whether it is of one restore of everything, or the sum of each target's last.
    """

    colour: Colour
    to: Moment | None
    seconds: float | None
    measured: Literal["everything", "sum", "never"]


class NightOf(_Part):
    """What became of one night; ``day`` is local."""

    day: date
    state: NightState


class Size(_Part):
    """One backup in a trend: its window or moment, stored bytes, and how long it took."""

    at: Moment
    stored_bytes: int
    seconds: float | None


class Pruned(_Part):
    """What retention decided of one backup, with its reasons."""

    backup: str
    decision: Literal["keep", "expire", "expired"]
    reasons: tuple[str, ...]


class Acknowledgement(_Part):
    """Something that somebody acknowledged: ``what`` is a backup's id or a number of keys."""

    what: str
    who: str
    at: Moment


class Hold(_Part):
    """A backup that retention must keep; ``until`` is None for one without end."""

    backup: str
    label: str | None
    until: Moment | None
    who: str


class ReportFinding(_Part):
    """One thing that a verification found wrong."""

    backup: str
    kind: str
    detail: str


class VerificationFacts(_Part):
    """The weekly verification; ``examined`` backups, ``bytes_read`` of stored packs."""

    state: VerificationState
    job: str | None = None
    window: Moment | None = None
    ended_at: Moment | None = None
    examined: int = 0
    bytes_read: int = 0
    findings: int = 0
    sentence: str = ""
    hint: str = ""
    #: What it found that is of no protected target: files that nobody knows, the audit trail.
    elsewhere: tuple[ReportFinding, ...] = ()


class CrossCheck(_Part):
    """How the rows of the newest recovery point and its objects go together."""

    reference: str
    rows: int
    faults: int


class PointFacts(_Part):
    """The newest recovery point, and the newest one that is verified."""

    id: str | None
    state: str | None
    moment: Moment | None
    within_rpo: bool
    #: None where rows and objects were not compared.
    faults: int | None
    checks: tuple[CrossCheck, ...] = ()
    #: How many faults there are of each kind, where any are: ``missing``, ``size``, ``orphan`` …
    kinds: tuple[tuple[str, int], ...] = ()
    newest: str | None = None
    newest_state: str | None = None


class TargetFacts(_Part):
    """One protected database or bucket."""

    target: str
    week: tuple[NightOf, ...]
    backup: str | None
    state: str | None
    last_good: Moment | None
    age_seconds: float | None
    within_rpo: bool
    #: The newest last; at most 90 days.
    trend: tuple[Size, ...]
    bytes_reread: int
    last_full_verification: Moment | None
    verification_overdue: bool
    #: None means never measured.
    last_restore_seconds: float | None
    last_restore_at: Moment | None
    within_rto: bool | None
    next_window: Moment | None
    failures: int
    last_failure: str | None = None
    retention: tuple[Pruned, ...] = ()
    #: Why retention removes nothing, where it refuses to.
    retention_refused: str | None = None
    #: Known holes of the client programs that made or would restore its backups.
    client_holes: tuple[str, ...] = ()
    acknowledged: tuple[Acknowledgement, ...] = ()
    holds: tuple[Hold, ...] = ()
    findings: tuple[ReportFinding, ...] = ()


class SpaceFacts(_Part):
    """One place that fills: bytes, bytes per day, and days left at that rate.

    ``place`` is ``spool``, ``repository`` or ``restore``; ``capacity`` is None where nobody knows.
    """

    place: str
    where: str
    used: int | None
    capacity: int | None
    growth_per_day: int | None
    days_left: float | None
    #: What the windows until this time tomorrow will write, by earlier nights.
    tonight: int | None
    fits: bool | None
    critical: bool


class OpenAlarm(_Part):
    """An alarm that is not cleared."""

    kind: str
    target: str
    since: Moment
    sentence: str


class Report(_Part):
    """The whole report."""

    #: A reader refuses another one.
    format: Literal[1] = 1
    #: Sortable and unique: a backup's id without a backup.
    id: str
    made_at: Moment
    #: IANA name; nights and moments are shown in it.
    zone: str
    node: str
    colour: Colour
    reasons: tuple[ReportReason, ...]
    answers: Answers
    rpo_seconds: float
    rto_seconds: float
    verification: VerificationFacts
    point: PointFacts | None
    targets: tuple[TargetFacts, ...]
    #: Of everything, for the calendar; the oldest first, at most 90.
    nights: tuple[NightOf, ...]
    space: tuple[SpaceFacts, ...]
    alarms: tuple[OpenAlarm, ...]
    contacts: tuple[tuple[str, str, str], ...]

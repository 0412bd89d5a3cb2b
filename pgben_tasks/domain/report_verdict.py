"""The verdict of a report: that of `pgben status`, and what a week has to show beside it. Pure.

Each rule yields reasons. A verification that did not happen, or that looked at nothing, is red: a
report must not be green because nobody looked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pgben_tasks.domain.outlook import Fault
from pgben_tasks.domain.report import (
    Answers,
    OpenAlarm,
    TargetFacts,
    VerificationFacts,
)
from pgben_tasks.domain.verdicts import Reason, Verdict

_SEE_JOBS: Final = "`pgben jobs` shows what became of it; `pgben verify --level full` looks now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """What a report has found beside the status.

    ``silent`` are the parts that did not answer, by what would have been known from them.
    """

    verification: VerificationFacts
    answers: Answers
    targets: Sequence[TargetFacts]
    rto_seconds: float
    alarms: Sequence[OpenAlarm] = ()
    silent: Mapping[str, Fault]


def judge_report(status: Verdict, week: Week) -> Verdict:
    """Return the verdict of a report: the reasons of the status and those of the week."""
    return Verdict.from_reasons(
        (
            *status.reasons,
            *_of_silence(week.silent),
            *_of_verification(week.verification),
            *(reason for one in week.targets for reason in _of_restores(one)),
            *_of_everything(week.answers, week.rto_seconds),
            *(reason for one in week.targets for reason in _of_nights(one)),
            *(reason for one in week.targets for reason in _of_retention(one)),
            *_of_alarms(week.alarms),
        )
    )


def _of_silence(silent: Mapping[str, Fault]) -> Iterator[Reason]:
    for part, fault in silent.items():
        yield Reason(
            "red", f"a part of the report could not be made, {part}: {fault.sentence}", fault.hint
        )


def _of_verification(one: VerificationFacts) -> Iterator[Reason]:
    if one.window is None and one.state == "missing":
        # A new installation, or a catalog that does not answer, which has said so.
        yield Reason(
            "yellow", "no verification has run yet", "`pgben verify --level full` looks now"
        )
    elif one.state == "failed" and one.findings:
        yield Reason(
            "red", f"the verification of the week found faults: {one.findings:,}", one.hint
        )
    elif one.state == "missing":
        yield Reason("red", "the verification of the week did not run", _SEE_JOBS)
    elif one.state == "late":
        yield Reason("red", "the verification of the week has not ended", _SEE_JOBS)
    elif one.state != "succeeded":
        yield Reason("red", _unsuccessful(one), one.hint or _SEE_JOBS)
    elif not one.examined:
        yield Reason("red", "the verification of the week examined nothing", _SEE_JOBS)


def _unsuccessful(one: VerificationFacts) -> str:
    """Return what became of a verification that did not succeed."""
    if one.state == "refused":
        return f"the verification of the week was refused: {one.sentence}"
    if one.state == "cancelled":
        return f"the verification of the week was cancelled: {one.sentence}"
    return f"the verification of the week failed: {one.sentence}"


def _of_restores(one: TargetFacts) -> Iterator[Reason]:
    if one.last_restore_seconds is None:
        yield Reason(
            "yellow",
            f"how long a restore of '{one.target}' takes was never measured",
            f"`pgben restore {one.target}` makes a copy beside, and measures it",
        )
    elif one.within_rto is False:
        yield Reason(
            "yellow", f"the last restore of '{one.target}' took longer than PGBEN_RTO allows"
        )


def _of_everything(answers: Answers, rto_seconds: float) -> Iterator[Reason]:
    seconds = answers.seconds
    if answers.measured == "everything" and seconds is not None and seconds > rto_seconds:
        yield Reason("yellow", "the last restore of everything took longer than PGBEN_RTO allows")


def _of_nights(one: TargetFacts) -> Iterator[Reason]:
    states = Counter(night.state for night in one.week)
    if states["no backup"]:
        yield Reason(
            "yellow",
            f"nights of this week in which no backup of '{one.target}' ran: {states['no backup']}",
            "`pgben jobs` shows what ran",
        )
    if states["failed"]:
        yield Reason(
            "yellow",
            f"nights of this week in which the backup of '{one.target}' failed: {states['failed']}",
            "`pgben jobs` shows them",
        )


def _of_retention(one: TargetFacts) -> Iterator[Reason]:
    if one.retention_refused is not None:
        yield Reason(
            "yellow", f"retention removes nothing of '{one.target}': {one.retention_refused}"
        )


def _of_alarms(alarms: Iterable[OpenAlarm]) -> Iterator[Reason]:
    count = len(tuple(alarms))
    if count:
        yield Reason(
            "yellow", f"alarms that are not cleared: {count:,}", "`pgben alarms` shows them"
        )

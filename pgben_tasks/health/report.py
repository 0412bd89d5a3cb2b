"""The report of a week: the status, and what the catalog tells of the week beside it.

A part that does not answer hides no other: what would have been known from it is left out, and the
verdict says so in red.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence, Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from pgben_tasks.adapters.catalog.reports import Acknowledged, Reports, Verified, in_total
from pgben_tasks.domain.holds import in_force
from pgben_tasks.domain.job import EVERYTHING, Job, window_key
from pgben_tasks.domain.known_holes import known_holes
from pgben_tasks.domain.layout import capture_of, target_of, target_of_statement
from pgben_tasks.domain.nights import Night, NightState, calendar
from pgben_tasks.domain.outlook import Fault, PointOutlook, TargetOutlook
from pgben_tasks.domain.report import (
    Acknowledgement,
    Answers,
    CrossCheck,
    Hold,
    NightOf,
    OpenAlarm,
    PointFacts,
    Pruned,
    Report,
    ReportFinding,
    ReportReason,
    Size,
    SpaceFacts,
    TargetFacts,
    VerificationFacts,
    VerificationState,
)
from pgben_tasks.domain.report_due import window_to_report
from pgben_tasks.domain.report_verdict import Week, judge_report
from pgben_tasks.domain.restorability import Client
from pgben_tasks.domain.retention import split_reasons
from pgben_tasks.domain.space import Forecast
from pgben_tasks.domain.target import BackupId, Target, require_utc
from pgben_tasks.domain.verdicts import Verdict
from pgben_tasks.errors import ConfigurationError, PgbenError
from pgben_tasks.health.looks import system_error
from pgben_tasks.health.situation import Situation, gather
from pgben_tasks.language import Language
from pgben_tasks.ports import Images, RenderedReport, Reporting
from pgben_tasks.redaction import redact
from pgben_tasks.runtime import Workplace

T = TypeVar("T")

#: How far trends and the calendar go back.
PAST: Final = timedelta(days=90)
_WEEK_NIGHTS: Final = 7
#: A report may wait longer for its parts than somebody at a terminal does.
PATIENCE: Final = timedelta(seconds=30)
#: As many acknowledgements of one target are told.
_MOST_ACKNOWLEDGED: Final = 20
_ENDS: Final[Mapping[str, VerificationState]] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "refused": "refused",
    "cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    """What the catalog tells of the week; empty where it did not answer."""

    verification: VerificationFacts
    findings: Sequence[ReportFindingOf] = ()
    trends: Mapping[str, tuple[Size, ...]] = field(default_factory=dict)
    verified: Sequence[Verified] = ()
    nights: Sequence[Night] = ()
    prunes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    acknowledged: Sequence[Acknowledged] = ()
    clients: Mapping[str, tuple[Client, ...]] = field(default_factory=dict)
    everything: timedelta | None = None
    alarms: Sequence[OpenAlarm] = ()


@dataclass(frozen=True, slots=True)
class ReportFindingOf:
    """A finding of the verification, and the target that it is about; None for no target."""

    target: str | None
    finding: ReportFinding


class _Parts:
    """Asks one part after the other, and remembers which did not answer."""

    def __init__(self) -> None:
        self.silent: dict[str, Fault] = {}

    def ask(self, question: Callable[[], T], otherwise: T, *, what: str) -> T:
        """Return the answer, or ``otherwise``; ``what`` would have been known from it."""
        try:
            return question()
        except PgbenError as exc:
            self.silent[what] = Fault(exc.sentence, exc.hint)
        except OSError as exc:
            self.silent[what] = Fault(system_error(exc).sentence)
        return otherwise


def new_report_id(now: datetime) -> str:
    """Return the id of a report that is made now."""
    return str(BackupId.make(now, secrets.token_hex(3)))


def render(report: Report, language: Language, *, images: Images) -> RenderedReport:
    """Return a report in a language (``ports.Render``)."""
    # What draws takes memory, and is loaded with the first report.
    from pgben_tasks.adapters.report import render as rendering  # noqa: PLC0415

    return rendering.render(report, language, images=images)


def reporting(work: Workplace) -> Reporting:
    """Return what the step of a report needs."""
    # Connections of its own: what hangs is left to itself, and is never handed to a step.
    patient = replace(work, patience=PATIENCE)
    return Reporting(
        gather=lambda report, window: compose_report(
            patient, gather(patient, patience=PATIENCE), report, window
        ),
        record=work.reports,
        render=render,
        mailer=work.mailer,
        language=work.settings.language,
    )


def compose_report(
    work: Workplace, found: Situation, report: str, window: datetime | None = None
) -> Report:
    """Return the report with this id: of the week of ``window``, the latest one where it is None.

    ``window`` is when the verification of the week was due.
    """
    parts = _Parts()
    recorded = (
        _recorded(work, parts, found.now, window)
        if found.surroundings.catalog_away is None
        # That it is away is among the reasons of the status.
        else _Recorded(verification=VerificationFacts(state="missing"))
    )
    targets = tuple(_target(work, one, recorded, found.now) for one in found.targets)
    space = tuple(_space(one) for one in found.surroundings.space)
    answers = _answers(found, recorded.everything)
    week = Week(
        verification=recorded.verification,
        answers=answers,
        targets=targets,
        rto_seconds=work.settings.rto.total_seconds(),
        alarms=recorded.alarms,
        silent=parts.silent,
    )
    verdict = judge_report(found.verdict, week)
    return Report(
        id=report,
        made_at=require_utc(found.now),
        zone=work.zone.key,
        node=work.settings.node or socket.gethostname(),
        colour=verdict.colour,
        reasons=_reasons(verdict),
        answers=answers,
        rpo_seconds=work.settings.rpo.total_seconds(),
        rto_seconds=work.settings.rto.total_seconds(),
        verification=recorded.verification,
        point=_point(work, found.point, found.now),
        targets=targets,
        nights=tuple(NightOf(day=one.day, state=one.state) for one in recorded.nights),
        space=space,
        alarms=tuple(recorded.alarms),
        contacts=tuple(tuple(one) for one in work.settings.contacts),
    )


def _reasons(verdict: Verdict) -> tuple[ReportReason, ...]:
    return tuple(
        ReportReason(colour=one.colour, text=redact(one.text), hint=redact(one.hint))
        for one in verdict.reasons
    )


def _recorded(work: Workplace, parts: _Parts, now: datetime, window: datetime | None) -> _Recorded:
    reports = work.reports
    with work.database.kept():
        about = window or parts.ask(
            lambda: _latest_window(work, reports, now), None, what="the week"
        )
        job = parts.ask(lambda: _verification(work, reports, about), None, what="the verification")
        findings = tuple(_findings(job)) if job else ()
        return _Recorded(
            verification=_verification_facts(job, about, findings, set(work.target_names())),
            findings=findings,
            trends=parts.ask(
                lambda: reports.trends(since=now - PAST), {}, what="sizes and durations"
            ),
            verified=parts.ask(
                lambda: reports.verified(since=now - timedelta(days=7)),
                [],
                what="bytes that were read again",
            ),
            nights=parts.ask(lambda: _nights(work, now), (), what="the nights"),
            prunes=parts.ask(reports.prunes, {}, what="the retention"),
            acknowledged=parts.ask(
                lambda: reports.acknowledged(since=now - PAST), [], what="the acknowledgements"
            ),
            clients=parts.ask(work.workers.clients_by_worker, {}, what="client programs"),
            everything=parts.ask(
                work.records.last_restore_of_everything, None, what="the restores"
            ),
            alarms=parts.ask(lambda: _alarms(work), (), what="the alarms"),
        )


def _latest_window(work: Workplace, reports: Reports, now: datetime) -> datetime | None:
    schedule = work.schedule("verify", EVERYTHING)
    if schedule is None:
        return None
    return window_to_report(schedule, now=now, since=reports.since())


def _verification(work: Workplace, reports: Reports, window: datetime | None) -> Job | None:
    key = window_key("verify", EVERYTHING, window) if window else None
    found = reports.verification(window=window, key=key)
    return work.ledger.job(found) if found else None


def _verification_facts(
    job: Job | None,
    window: datetime | None,
    findings: Sequence[ReportFindingOf],
    protected: AbstractSet[str],
) -> VerificationFacts:
    due = window and require_utc(window)
    if job is None:
        return VerificationFacts(state="missing", window=due)
    error = job.error or {}
    return VerificationFacts(
        state=_state(job),
        job=str(job.id),
        window=due,
        ended_at=job.ended_at and require_utc(job.ended_at),
        examined=int(job.result.get("backups", 0)),
        bytes_read=int(job.result.get("bytes_read", 0)),
        findings=int(job.result.get("findings_total", 0)),
        sentence=redact(str(error.get("sentence", ""))),
        hint=redact(str(error.get("hint", ""))),
        elsewhere=tuple(one.finding for one in findings if one.target not in protected),
    )


def _state(job: Job) -> VerificationState:
    """Return what became of a verification: one that is tried again has failed so far."""
    return _ENDS.get(job.state, "late")


def _findings(job: Job) -> Iterable[ReportFindingOf]:
    """Yield what a verification found, by the target that the path of each names."""
    for one in (*job.result.get("findings", ()), *job.result.get("findings_known", ())):
        path = str(one["path"])
        target = target_of(path) or target_of_statement(path)
        backup = ""
        with suppress(ConfigurationError, IndexError):
            backup = str(capture_of(path)) if target else path
        yield ReportFindingOf(
            str(target) if target else None,
            ReportFinding(backup=backup, kind=one["kind"], detail=redact(str(one["detail"]))),
        )


def _nights(work: Workplace, now: datetime) -> tuple[Night, ...]:
    schedules = {
        name: schedule
        for name in work.target_names()
        if (schedule := work.schedule("backup", name)) is not None
    }
    jobs = work.records.windows(since=now - PAST - timedelta(days=1))
    return calendar(jobs, schedules, now=now, zone=work.zone, days=PAST.days)


def _space(one: Forecast) -> SpaceFacts:
    return SpaceFacts(
        place=one.place,
        where=one.where,
        used=one.used,
        capacity=one.capacity,
        growth_per_day=one.growth_per_day,
        days_left=one.days_left,
        tonight=one.tonight,
        fits=one.fits,
        critical=one.critical,
    )


def _alarms(work: Workplace) -> tuple[OpenAlarm, ...]:
    """Return the alarms that are not over."""
    return tuple(
        OpenAlarm(
            kind=one.alarm.kind,
            target=one.alarm.target,
            since=require_utc(one.raised_at),
            sentence=one.alarm.facts.get("sentence", ""),
        )
        for one in work.outbox.open()
    )


def _answers(found: Situation, everything: timedelta | None) -> Answers:
    """Return whether everything can be restored, to when, and how long it takes."""
    good = [one.newest_good for one in found.targets]
    taken = [one.taken for one in good if one is not None and one.taken is not None]
    each = [one.last_restore for one in found.targets if one.last_restore is not None]
    seconds: float | None = None
    measured: Any = "never"
    if everything is not None:
        seconds, measured = everything.total_seconds(), "everything"
    elif each and len(each) == len(found.targets):
        seconds, measured = sum(each, timedelta(0)).total_seconds(), "sum"
    return Answers(
        colour=found.restorable.colour,
        to=require_utc(min(taken)) if taken and len(taken) == len(good) else None,
        seconds=seconds,
        measured=measured,
    )


def _point(work: Workplace, one: PointOutlook | None, now: datetime) -> PointFacts | None:
    if one is None:
        return None
    good, newest = one.newest_good, one.newest
    check = good.check if good else None
    references = work.settings.references.references if work.settings.references else ()
    counts = check.model_dump(exclude={"faults", "references", "objects"}) if check else {}
    return PointFacts(
        id=str(good.id) if good else None,
        state=good.state if good else None,
        moment=require_utc(good.moment) if good else None,
        within_rpo=one.within_rpo(now),
        faults=good.faults if good and check else None,
        checks=(
            CrossCheck(
                reference=", ".join(each.name for each in references),
                rows=check.references,
                faults=check.rows,
            ),
        )
        if check
        else (),
        kinds=tuple((kind, count) for kind, count in counts.items() if count),
        newest=str(newest.id) if newest else None,
        newest_state=newest.state if newest else None,
    )


def _target(work: Workplace, one: TargetOutlook, recorded: _Recorded, now: datetime) -> TargetFacts:
    good, name = one.newest_good, one.target
    age = one.age(now)
    prune = recorded.prunes.get(name, {})
    return TargetFacts(
        target=name,
        week=tuple(
            NightOf(day=night.day, state=_night_of(night, name))
            for night in recorded.nights[-_WEEK_NIGHTS:]
        ),
        backup=good.backup if good else None,
        state=good.state if good else None,
        last_good=require_utc(good.taken) if good and good.taken else None,
        age_seconds=age.total_seconds() if age is not None else None,
        within_rpo=one.within_rpo(now),
        trend=recorded.trends.get(name, ()),
        bytes_reread=in_total(recorded.verified, name),
        last_full_verification=_utc(one.last_full_verification),
        verification_overdue=one.verification_overdue(now),
        last_restore_seconds=one.last_restore.total_seconds() if one.last_restore else None,
        last_restore_at=_utc(one.last_restore_at),
        within_rto=one.within_rto,
        next_window=_utc(one.next_window),
        failures=one.failures or 0,
        last_failure=redact(one.last_failure) if one.last_failure else None,
        retention=tuple(_pruned(prune)),
        retention_refused=prune.get("refused"),
        client_holes=_holes(work, recorded.clients, name),
        acknowledged=tuple(_acknowledgements(recorded.acknowledged, name))[:_MOST_ACKNOWLEDGED],
        holds=tuple(_holds(one, now)),
        findings=tuple(found.finding for found in recorded.findings if found.target == name),
    )


def _holds(one: TargetOutlook, now: datetime) -> Iterable[Hold]:
    """Yield the backups of a target that are held now, newest first."""
    for backup in one.backups:
        hold = in_force(backup.hold, now)
        if hold is not None:
            yield Hold(
                backup=backup.backup,
                label=hold.label,
                until=_utc(hold.until),
                who=redact(hold.who or "–"),
            )


def _night_of(night: Night, target: str) -> NightState:
    return night.subjects.get(target, "none")


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else require_utc(at)


def _pruned(prune: Mapping[str, Any]) -> Iterable[Pruned]:
    expired = set(prune.get("expired", ()))
    for row in prune.get("decisions", ()):
        gone = row["backup"] in expired
        yield Pruned(
            backup=row["backup"],
            decision="expired" if gone else row["decision"],
            reasons=split_reasons(row["reasons"]),
        )


def _acknowledgements(found: Iterable[Acknowledged], target: str) -> Iterable[Acknowledgement]:
    for one in found:
        if one.target == target:
            # Keys may be personal data: only their number is told.
            what = one.backup or str(one.keys)
            yield Acknowledgement(what=what, who=one.who, at=require_utc(one.at))


def _holes(
    work: Workplace, clients: Mapping[str, tuple[Client, ...]], target: str
) -> tuple[str, ...]:
    """Return the known holes of the client programs that would restore a database here."""
    if Target.parse(target).kind != "postgres" or target not in work.target_names():
        return ()
    versions = sorted({client.version for some in clients.values() for client in some})
    found = []
    for version in versions:
        with suppress(ValueError):
            found += [
                f"{version}: {hole} ({mended})" for hole, mended in known_holes(version).items()
            ]
    return tuple(found)

"""What a report says, in which order and in which words. Pure.

What strangers wrote (names, errors of servers, contacts) passes through ``one_line``; templates
escape it for HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pgben_tasks.adapters.report.nights import calendar
from pgben_tasks.adapters.report.parts import (
    Answer,
    Content,
    Fact,
    Facts,
    Line,
    Lines,
    Part,
    Section,
)
from pgben_tasks.adapters.report.places import space
from pgben_tasks.adapters.report.targets import finding_lines, first_lines, target_section
from pgben_tasks.adapters.report.words import ReportWords
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.domain.report import PointFacts, Report, ReportReason, VerificationFacts
from pgben_tasks.domain.verdicts import Colour
from pgben_tasks.language import translatable as _
from pgben_tasks.words import CAN, LEVELS

#: What a colour is called in a subject; the first is the same in every language.
_MARKS: Final[Mapping[Colour, str]] = {
    "green": "OK",
    "yellow": _("ATTENTION"),
    "red": _("CRITICAL"),
}
_VERDICTS: Final[Mapping[Colour, str]] = {
    "green": _("Everything can be restored, and nothing needs attention."),
    "yellow": _("Everything can be restored, and something needs attention."),
    "red": _("Everything can be restored today, but something is seriously wrong."),
}
_NOT_EVERYTHING: Final = _("Not everything can be restored today.")
_VERIFICATIONS: Final[Mapping[str, str]] = {
    "succeeded": _("The verification read what is stored and found no damage."),
    "failed": _("The verification failed."),
    "refused": _("The verification was refused."),
    "cancelled": _("The verification was cancelled."),
    "missing": _("The verification did not run."),
    "late": _("The verification has not ended yet."),
}
_DAMAGE: Final = _("The verification found damage.")
_NOTHING: Final = _("The verification examined nothing: it says nothing about any backup.")
#: Letters of a subject beyond which what it says is cut.
_LONGEST_SUBJECT: Final = 140


def content(report: Report, words: ReportWords) -> Content:
    """Return everything that a report says."""
    shown = colour(report)
    mark = words(_MARKS[shown])
    made = words.local(report.made_at)
    return Content(
        subject=_subject(report, shown, words),
        title=words(_("Weekly report")),
        about=f"{words.weekday(made)} {words.moment(report.made_at)} · {words.plain(report.node)}",
        level=LEVELS[shown],
        mark=mark,
        verdict=words(_NOT_EVERYTHING if report.answers.colour == "red" else _VERDICTS[shown]),
        answers=tuple(_answers(report, words)),
        sections=tuple(_sections(report, words)),
        foot=(
            words(
                _("Made by pgben on {node}, report {id}. Times are those of {zone}."),
                node=words.plain(report.node),
                id=words.plain(report.id),
                zone=words.plain(report.zone),
            ),
        ),
    )


def colour(report: Report) -> Colour:
    """Return the colour that a report is shown in.

    Never green where the first answer is not, nor where no verification read anything: whoever
    made the report may have overlooked that.
    """
    if "red" in {report.colour, report.answers.colour}:
        return "red"
    clean = (
        report.answers.colour == "green" and level_of_verification(report.verification) == "good"
    )
    return report.colour if clean else "yellow"


def level_of_verification(found: VerificationFacts) -> str:
    """Return the level of a verification: bad where it examined nothing, whatever became of it."""
    if found.findings or not found.examined or found.state not in {"succeeded", "late"}:
        return "bad"
    return "good" if found.state == "succeeded" else "doubt"


def _subject(report: Report, shown: Colour, words: ReportWords) -> str:
    worst = next(iter(_worst_first(report)), None)
    if shown == "green" and report.answers.to is not None:
        most = words(
            _("everything restorable to {moment}"), moment=words.short_moment(report.answers.to)
        )
    elif worst is not None:
        most = words.said(worst.text)
    elif shown != "green" and level_of_verification(report.verification) != "good":
        most = _lowered(words(sentence_of_verification(report.verification)))
    else:
        most = _lowered(
            words(_VERDICTS[shown] if report.answers.colour != "red" else _NOT_EVERYTHING)
        )
    subject = words(
        _("[{mark}] pgben: weekly report of {day}: {most}"),
        mark=words(_MARKS[shown]),
        day=words.short_day(words.local(report.made_at)),
        most=most,
    )
    return subject if len(subject) <= _LONGEST_SUBJECT else f"{subject[: _LONGEST_SUBJECT - 1]}…"


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].removesuffix(".")


def _worst_first(report: Report) -> list[ReportReason]:
    order = ("red", "yellow", "green")
    return sorted(report.reasons, key=lambda one: order.index(one.colour))


def _answers(report: Report, words: ReportWords) -> Iterator[Answer]:
    found = report.answers
    yield Answer(
        question=words(_("Can we restore today?")),
        answer=words(CAN[found.colour]),
        level=LEVELS[found.colour],
    )
    if found.to is None:
        yield Answer(
            question=words(_("To when?")),
            answer=words(_("not everything has a verified backup")),
            level="bad",
        )
    else:
        old = (report.made_at - found.to).total_seconds()
        yield Answer(
            question=words(_("To when?")),
            answer=words.moment(found.to),
            level="good" if old <= report.rpo_seconds else "bad",
            more=(words.against(old, report.rpo_seconds),),
        )
    if found.seconds is None:
        yield Answer(
            question=words(_("How fast?")),
            answer=words(_("never measured")),
            level="bad",
            more=(words(_("nothing was restored yet")),),
        )
    else:
        yield Answer(
            question=words(_("How fast?")),
            answer=words.duration(found.seconds),
            level="good" if found.seconds <= report.rto_seconds else "bad",
            more=(
                words(_("as the last restore of everything took"))
                if found.measured == "everything"
                else words(_("the sum of the last restores of each target")),
                words(_("PGBEN_RTO allows {limit}"), limit=words.hours(report.rto_seconds)),
            ),
        )


def _sections(report: Report, words: ReportWords) -> Iterator[Section]:
    yield Section(
        id="reasons",
        heading=words(_("What needs attention")),
        parts=(Lines(lines=tuple(_reasons(report, words))),),
    )
    if report.point is not None:
        yield _point(report.point, report, words)
    yield _verification(report.verification, words)
    for number, target in enumerate(report.targets, start=1):
        yield target_section(target, number, report, words)
    if report.space:
        yield Section(id="space", heading=words(_("Space")), parts=tuple(space(report, words)))
    yield Section(
        id="alarms",
        heading=words(_("Open alarms")),
        parts=(Lines(lines=tuple(_alarms(report, words))),),
    )
    if report.nights:
        yield Section(
            id="nights",
            heading=words(_("The last {count} nights"), count=len(report.nights)),
            parts=tuple(calendar(report.nights, words)),
        )
    if report.contacts:
        lines = (
            Line(text=words.plain("; ".join(filter(None, one))), level="")
            for one in report.contacts
        )
        yield Section(
            id="contacts", heading=words(_("Contacts")), parts=(Lines(lines=tuple(lines)),)
        )
    yield Section(
        id="more",
        heading=words(_("More")),
        parts=(
            Lines(
                lines=tuple(
                    Line(text=words(text), level="")
                    for text in (
                        _("`pgben report --open` writes this report anew, with what is true then."),
                        _("`pgben status`, `pgben jobs` and `pgben alarms` show more."),
                        _("docs/report.md says how to read it; docs/operations.md, what to do."),
                    )
                )
            ),
        ),
    )


def _reasons(report: Report, words: ReportWords) -> Iterator[Line]:
    for one in _worst_first(report):
        yield Line(
            text=words.said(one.text),
            level=LEVELS[one.colour],
            hint=words.said(one.hint),
        )
    if not report.reasons and colour(report) == "green":
        yield Line(text=words(_("Nothing.")), level="good")
    elif not report.reasons:
        yield Line(
            text=words(sentence_of_verification(report.verification)),
            level=level_of_verification(report.verification),
        )


def _point(point: PointFacts, report: Report, words: ReportWords) -> Section:
    parts: list[Part] = []
    level, badge = "bad", words(_("there is none"))
    if point.id is None:
        parts.append(
            Lines(lines=(Line(text=words(_("there is no verified recovery point")), level="bad"),))
        )
    else:
        level, badge = _judge_point(point, words)
        parts.append(Facts(facts=tuple(_facts_of_point(point, report, words))))
    lines = [
        Line(
            label=words.plain(check.reference),
            text=words(
                _("rows: {rows}; of these faulty: {faults}"),
                rows=words.number(check.rows),
                faults=words.number(check.faults),
            ),
            level="bad" if check.faults else "good",
        )
        for check in point.checks
    ]
    if point.newest is not None and point.newest != point.id:
        lines.append(
            Line(
                text=words(
                    _("the newest recovery point, {id}, is not good: {state}"),
                    id=words.plain(point.newest),
                    state=words.state(words.plain(point.newest_state or "?")),
                ),
                level="doubt",
            )
        )
    if lines:
        parts.append(Lines(lines=tuple(lines)))
    return Section(
        id="point",
        heading=words(_("Newest recovery point")),
        level=level,
        badge=badge,
        parts=tuple(parts),
    )


def _judge_point(point: PointFacts, words: ReportWords) -> tuple[str, str]:
    if not point.within_rpo:
        return "bad", words(_("too old"))
    if point.faults:
        return "bad", words(_("with faults"))
    return LEVELS.get(point.state or "", "plain"), words.state(words.plain(point.state or "?"))


def _facts_of_point(point: PointFacts, report: Report, words: ReportWords) -> Iterator[Fact]:
    yield Fact(label=words(_("Recovery point")), value=words.plain(point.id or "?"))
    if point.moment is not None:
        old = (report.made_at - point.moment).total_seconds()
        yield Fact(
            label=words(_("Data as of")),
            value=words.moment(point.moment),
            level="good" if point.within_rpo else "bad",
            more=(words.against(old, report.rpo_seconds),),
        )
    if point.faults is None:
        text, level = words(_("rows and objects were not compared")), "doubt"
    elif point.faults:
        text, level = (
            words(
                _("rows whose objects are not as they say: {count}"),
                count=words.number(point.faults),
            ),
            "bad",
        )
    else:
        text, level = words(_("rows and objects were compared: all as they say")), "good"
    yield Fact(label=words(_("Cross-check")), value=text, level=level)


def sentence_of_verification(found: VerificationFacts) -> str:
    """Return what became of the verification in one sentence, not translated."""
    if found.findings:
        return _DAMAGE
    if found.state == "succeeded" and not found.examined:
        return _NOTHING
    return _VERIFICATIONS[found.state]


def _verification(found: VerificationFacts, words: ReportWords) -> Section:
    level = level_of_verification(found)
    lines = [Line(text=words(sentence_of_verification(found)), level=level)]
    if found.sentence:
        lines.append(
            Line(text=words.said(found.sentence), level=level, hint=words.said(found.hint))
        )
    facts = [
        Fact(
            label=words(_("Backups examined")),
            value=words.number(found.examined),
            level="" if found.examined else "bad",
        ),
        Fact(label=words(_("Bytes read")), value=words.size(found.bytes_read)),
        Fact(
            label=words(_("Findings")),
            value=words.number(found.findings),
            level="bad" if found.findings else "",
        ),
    ]
    if found.window is not None:
        facts.append(Fact(label=words(_("Window")), value=words.moment(found.window)))
    if found.ended_at is not None:
        facts.append(Fact(label=words(_("Ended at")), value=words.moment(found.ended_at)))
    if found.job is not None:
        facts.append(Fact(label=words(_("Job")), value=words.plain(found.job)))
    parts: list[Part] = [Lines(lines=tuple(lines)), Facts(facts=tuple(facts))]
    if elsewhere := first_lines(finding_lines(found.elsewhere, words), words):
        parts.append(Lines(heading=words(_("Findings of no protected target")), lines=elsewhere))
    state = {"missing": _("did not run"), "late": _("not ended yet")}.get(found.state)
    return Section(
        id="verification",
        heading=words(_("Verification")),
        level=level,
        badge=words(state) if state else words.state(found.state),
        parts=tuple(parts),
    )


def _alarms(report: Report, words: ReportWords) -> Iterator[Line]:
    for alarm in report.alarms:
        target = words.plain(alarm.target)
        about, said = words.kind_of_alarm(alarm.kind), words.said(alarm.sentence)
        yield Line(
            label=about if target in {"", EVERYTHING} else f"{target}: {about}",
            text="" if said == about else said,
            level="bad",
            hint=words(_("since {moment}"), moment=words.moment(alarm.since)),
        )
    if not report.alarms:
        yield Line(text=words(_("None.")), level="good")

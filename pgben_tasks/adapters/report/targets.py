"""One protected database or bucket in the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from pgben_tasks.adapters.report.nights import week
from pgben_tasks.adapters.report.parts import Fact, Facts, Line, Lines, Part, Section, Trend
from pgben_tasks.adapters.report.words import DECISIONS, ReportWords
from pgben_tasks.domain.report import Pruned, Report, ReportFinding, Size, TargetFacts
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.language import translatable as _
from pgben_tasks.words import LEVELS

#: A picture of fewer backups shows nothing.
_FEWEST_DRAWN: Final = 3
_LONGEST_TREND: Final = timedelta(days=90)
_SHORTEST_TREND: Final = timedelta(days=14)
#: Lines of one list; further ones are counted.
_MOST_LINES: Final = 8


def target_section(target: TargetFacts, number: int, report: Report, words: ReportWords) -> Section:
    """Return what is known of a target; ``number`` tells its picture from the others'."""
    level, badge = _judge(target)
    parts: list[Part] = []
    if target.week:
        parts.append(week(target.week, words))
    parts.append(Facts(facts=tuple(_facts(target, report, words))))
    if len(target.trend) >= _FEWEST_DRAWN:
        parts.append(_trend(target, number, report, words))
    lists = {
        _("Findings"): finding_lines(target.findings, words),
        _("Known holes of client programs"): _holes(target, words),
        _("Acknowledged exceptions"): _acknowledged(target, words),
        _("Held backups"): _holds(target, words),
        _("Retention"): _retention(target, words),
    }
    for heading, lines in lists.items():
        found = first_lines(lines, words)
        if found:
            parts.append(Lines(heading=words(heading), lines=found))
    return Section(
        id=f"target-{number}",
        heading=words.plain(target.target),
        level=level,
        badge=words(badge),
        parts=tuple(parts),
    )


def _judge(target: TargetFacts) -> tuple[str, str]:
    """Return the level of a target, and what is said of it, not translated."""
    if target.last_good is None:
        return "bad", _("no verified backup")
    if not target.within_rpo:
        return "bad", _("too old")
    if target.findings:
        return "bad", _("damage found")
    doubts = (
        target.failures,
        target.verification_overdue,
        target.within_rto is not True,
        target.client_holes,
        target.retention_refused,
        LEVELS.get(target.state or "", "good") != "good",
    )
    return ("doubt", _("needs a look")) if any(doubts) else ("good", _("in order"))


def _facts(target: TargetFacts, report: Report, words: ReportWords) -> Iterator[Fact]:
    if target.last_good is None:
        yield Fact(label=words(_("Last good backup")), value=words(_("none")), level="bad")
    else:
        yield Fact(
            label=words(_("Last good backup")),
            value=words.moment(target.last_good),
            level="good" if target.within_rpo else "bad",
            more=()
            if target.age_seconds is None
            else (words.against(target.age_seconds, report.rpo_seconds),),
        )
    if target.backup is not None:
        yield Fact(
            label=words(_("Newest backup")),
            value=words.state(words.plain(target.state or "?")),
            level=LEVELS.get(target.state or "", "plain"),
            more=(words.plain(target.backup),),
        )
    yield from _trend_facts(target, words)
    yield Fact(
        label=words(_("Read again this week")),
        value=words.size(target.bytes_reread),
        more=(
            words(_("in full at {moment}"), moment=words.moment(target.last_full_verification))
            if target.last_full_verification
            else words(_("never in full")),
        ),
    )
    if target.verification_overdue:
        yield Fact(label=words(_("Read in full")), value=words(_("too long ago")), level="doubt")
    yield _restore(target, report, words)
    if target.failures:
        yield Fact(
            label=words(_("Failed since the last success")),
            value=words.number(target.failures),
            level="bad",
            more=(words.said(target.last_failure),) if target.last_failure else (),
        )
    yield Fact(
        label=words(_("Next backup")),
        value=words.moment(target.next_window)
        if target.next_window
        else words(_("none is scheduled")),
        level="" if target.next_window else "doubt",
    )


def _restore(target: TargetFacts, report: Report, words: ReportWords) -> Fact:
    limit = words(_("PGBEN_RTO allows {limit}"), limit=words.hours(report.rto_seconds))
    label = words(_("Last restore took"))
    if target.last_restore_seconds is None:
        return Fact(label=label, value=words(_("never measured")), level="bad", more=(limit,))
    at = words(_("at {moment}"), moment=words.moment(target.last_restore_at))
    return Fact(
        label=label,
        value=words.duration(target.last_restore_seconds),
        level="bad" if target.within_rto is False else "good",
        more=(limit,) if target.last_restore_at is None else (f"{at}; {limit}",),
    )


def _trend_facts(target: TargetFacts, words: ReportWords) -> Iterator[Fact]:
    if not target.trend:
        return
    trend = _in_order(target)
    newest, first = trend[-1], trend[0]
    days = (newest.at - first.at).days
    yield Fact(
        label=words(_("Size")),
        value=words.size(newest.stored_bytes),
        more=(
            words(
                _("{before} {count} days before"), before=words.size(first.stored_bytes), count=days
            ),
        )
        if days
        else (),
    )
    took = [one.seconds for one in trend if one.seconds is not None]
    if took:
        yield Fact(
            label=words(_("Duration")),
            value=words.duration(took[-1]),
            more=(
                words(
                    _("between {least} and {most}"),
                    least=words.duration(min(took)),
                    most=words.duration(max(took)),
                ),
            )
            if len(took) > 1
            else (),
        )


def _trend(target: TargetFacts, number: int, report: Report, words: ReportWords) -> Trend:
    trend = _in_order(target)
    until = max(report.made_at, trend[-1].at)
    first = max(trend[0].at, _before(until, _LONGEST_TREND))
    shown = [one for one in trend if one.at >= first] or trend[-1:]
    sizes = [one.stored_bytes for one in shown]
    return Trend(
        name=f"trend-{number}",
        alt=words(
            _("Sizes of {count} backups of {target} since {day}: from {least} to {most}."),
            count=len(shown),
            target=words.plain(target.target),
            day=words.day(words.local(first)),
            least=words.size(min(sizes)),
            most=words.size(max(sizes)),
        ),
        sizes=shown,
        since=min(first, _before(until, _SHORTEST_TREND)),
        until=until,
        titles=(words(_("Stored size")), words(_("Duration"))),
    )


def _in_order(target: TargetFacts) -> list[Size]:
    return sorted(target.trend, key=lambda one: one.at)


def _before(at: datetime, span: timedelta) -> datetime:
    try:
        return at - span
    except OverflowError:
        return at


def first_lines(lines: Iterable[Line], words: ReportWords) -> tuple[Line, ...]:
    """Return the first lines of a list, and how many more there are."""
    found = tuple(lines)
    if len(found) <= _MOST_LINES:
        return found
    count = words.number(len(found) - _MOST_LINES)
    return (*found[:_MOST_LINES], Line(text=words(_("and {count} more"), count=count), level=""))


def finding_lines(findings: Iterable[ReportFinding], words: ReportWords) -> Iterator[Line]:
    """Yield a line for each thing that a verification found."""
    for one in findings:
        yield Line(
            label=words.kind_of_finding(one.kind),
            text=words.said(one.detail),
            level="bad",
            hint=words.plain(one.backup),
        )


def _holes(target: TargetFacts, words: ReportWords) -> Iterator[Line]:
    for one in target.client_holes:
        yield Line(text=words.said(one), level="doubt")


def _acknowledged(target: TargetFacts, words: ReportWords) -> Iterator[Line]:
    for one in target.acknowledged:
        yield Line(
            text=words(
                _("{what}, by {who} at {moment}"),
                what=words(_("keys: {count}"), count=words.number(int(one.what)))
                if one.what.isdecimal()
                else words.plain(one.what),
                who=words.plain(one.who),
                moment=words.moment(one.at),
            )
        )


def _holds(target: TargetFacts, words: ReportWords) -> Iterator[Line]:
    for one in target.holds:
        until = (
            words(_("until {moment}"), moment=words.moment(one.until))
            if one.until
            else words(_("without end"))
        )
        yield Line(
            label=words.plain(one.label or one.backup),
            text=words(_("{until}, by {who}"), until=until, who=words.plain(one.who)),
            hint=words.plain(one.backup) if one.label else "",
        )


def _retention(target: TargetFacts, words: ReportWords) -> Iterator[Line]:
    """Yield what goes and what stays; backups with the same reasons share a line."""
    if target.retention_refused:
        yield Line(
            label=words(_("removes nothing")),
            text=words.said(target.retention_refused),
            level="doubt",
        )
    groups: dict[tuple[str, tuple[str, ...]], list[Pruned]] = {}
    for decision in ("expired", "expire", "keep"):
        for one in target.retention:
            if one.decision == decision:
                groups.setdefault((decision, one.reasons), []).append(one)
    for (decision, reasons), backups in groups.items():
        yield Line(
            label=words(DECISIONS[decision]),
            text=_backups(backups, words),
            hint="; ".join(words.said(one) for one in reasons),
            level="",
        )


def _backups(found: list[Pruned], words: ReportWords) -> str:
    """Write which backups these are: one, or how many of which days."""
    moments = [_moment(one.backup) for one in found]
    known = [at for at in moments if at is not None]
    if len(found) == 1 or len(known) < len(found):
        names = [
            one.backup if at is None else words.moment(at)
            for one, at in zip(found, moments, strict=True)
        ]
        return words.plain(", ".join(names))
    return words(
        _("{count} backups, of {first} to {last}"),
        count=words.number(len(found)),
        first=words.day(words.local(min(known))),
        last=words.day(words.local(max(known))),
    )


def _moment(backup: str) -> datetime | None:
    """Return when a backup began, as its id says; None for what is no id."""
    try:
        return BackupId.parse(backup).started
    except ConfigurationError:
        return None

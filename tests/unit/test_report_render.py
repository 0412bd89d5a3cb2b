"""How the weekly report looks: escaped, whole, in both languages, as mail, file, page and text."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise, product
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from pgben_tasks.adapters.report.content import colour, content
from pgben_tasks.adapters.report.render import STYLES, Images, Rendered, render, stylesheet
from pgben_tasks.adapters.report.text import plain_text
from pgben_tasks.adapters.report.words import ReportWords
from pgben_tasks.domain.alarm import AlarmKind
from pgben_tasks.domain.documents import FindingKind
from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.nights import NightState
from pgben_tasks.domain.report import (
    OpenAlarm,
    Report,
    ReportFinding,
    ReportReason,
    TargetFacts,
    VerificationFacts,
    VerificationState,
)
from pgben_tasks.domain.retention import Policy, plan
from pgben_tasks.domain.states import BackupStanding, KnownBackup, State
from pgben_tasks.domain.target import BackupId
from pgben_tasks.domain.verdicts import Colour
from pgben_tasks.language import Language, translation_of_error
from pgben_tasks.words import ALARMS, LEVELS, SIGNS
from tests.support.report_examples import EXAMPLES, critical, good
from tests.support.texts import english_in

LANGUAGES: tuple[Language, ...] = get_args(Language)
IMAGES: tuple[Images, ...] = get_args(Images)
MARKS = {
    "green": {"pt_BR": "[OK]", "en": "[OK]"},
    "yellow": {"pt_BR": "[ATENÇÃO]", "en": "[ATTENTION]"},
    "red": {"pt_BR": "[CRÍTICO]", "en": "[CRITICAL]"},
}
HOSTILE = "<script>alert('x')</script>\"&\r\nBcc: everybody@example.com $\\frac{1}{2}$"
#: Elements without an end tag.
VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """Reads a page strictly: every element is closed where it was opened."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _value in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    def attributes(self, name: str) -> list[str]:
        return [found[name] or "" for _tag, found in self.elements if name in found]


def changed(report: Report, **fields: Any) -> Report:
    return report.model_copy(update=fields)


@cache
def example(kind: str, language: Language, images: Images) -> Rendered:
    """Return an example as it is rendered: to draw it takes half a second."""
    return render(EXAMPLES[kind](), language, images=images)


def text(report: Report, language: Language = "en") -> str:
    """Return the text of a report without drawing its pictures."""
    words = ReportWords(language, ZoneInfo(report.zone))
    return plain_text(content(report, words), words)


def text_of(html: str) -> str:
    return " ".join(" ".join(Page(html).words).split())


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_report_is_whole_in_every_form_and_language(
    kind: str, images: Images, language: Language
) -> None:
    report = EXAMPLES[kind]()
    found = example(kind, language, images)
    page = Page(found.html)
    # One heading of the page, and no level is left out below it.
    levels = [int(tag[1]) for tag, _attributes in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert len(page.attributes("id")) == len(set(page.attributes("id")))
    assert set(page.attributes("lang")) == {language.replace("_", "-")}
    for attributes in (found for tag, found in page.elements if tag in {"img", "svg"}):
        assert attributes.get("alt") or attributes.get("aria-label")
    for target in report.targets:
        assert target.target in text_of(found.html)
        assert target.target in found.text
    for contact in report.contacts:
        assert contact[1] in text_of(found.html)
        assert contact[1] in found.text


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize("images", IMAGES)
def test_nothing_is_loaded_from_outside_and_nothing_runs(kind: str, images: Images) -> None:
    html = example(kind, "en", images).html
    html = html.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|url\((?!#)|@import|<script|<link|<iframe|<form", html)
    page = Page(html)
    assert not [name for _tag, found in page.elements for name in found if name.startswith("on")]
    sources = [*page.attributes("src"), *page.attributes("href")]
    assert all(source.startswith(("cid:", "#")) for source in sources)


def test_a_mail_has_a_picture_for_each_content_id_and_no_other() -> None:
    found = example("attention", "pt_BR", "cid")
    named = {one.removeprefix("cid:") for one in Page(found.html).attributes("src")}
    assert named == set(found.images)
    assert len(named) == 3
    assert all(one.startswith(b"\x89PNG") for one in found.images.values())
    assert sum(map(len, found.images.values())) < 150_000
    for id_ in named:
        assert re.fullmatch(r"[a-z0-9.-]+@[a-z]+", id_)
    assert named.isdisjoint(render(changed(good(), id="another"), "pt_BR", images="cid").images)


def test_a_page_of_the_console_has_no_inline_styles_and_is_no_document() -> None:
    html = example("attention", "pt_BR", "svg").html
    page = Page(html)
    assert page.attributes("style") == []
    assert {"html", "body", "style", "img"}.isdisjoint({tag for tag, _found in page.elements})
    assert "<svg" in html
    # Texts of pictures can be searched.
    assert "Tamanho armazenado" in page.words
    classes = {name for one in page.attributes("class") for name in one.split()}
    known = set(re.findall(r"\.(report-[a-z0-9-]+)", stylesheet()))
    assert {
        one for one in classes - known if not one.startswith(("report-ink", "report-edge"))
    } <= {
        "report-this-week",
        "report-earlier",
    }


def test_a_mail_looks_right_without_a_stylesheet() -> None:
    page = Page(example("attention", "pt_BR", "cid").html)
    bare = [
        (tag, found)
        for tag, found in page.elements
        if (found.get("class") or "").startswith("report-") and not found.get("style")
    ]
    # A plain line needs no colour beside that of its class.
    assert bare == []


def test_the_same_report_is_drawn_the_same() -> None:
    for images in IMAGES:
        assert render(good(), "en", images=images) == example("good", "en", images)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("kind", "is_"), [("good", "green"), ("attention", "yellow"), ("critical", "red")]
)
def test_the_subject_is_one_line_that_begins_with_the_verdict(
    kind: str, is_: Colour, language: Language
) -> None:
    subject = example(kind, language, "svg").subject
    assert subject.startswith(f"{MARKS[is_][language]} pgben: ")
    assert len(subject.splitlines()) == 1
    assert len(subject) <= 140


def test_a_good_subject_says_to_when_everything_can_be_restored() -> None:
    assert example("good", "pt_BR", "svg").subject == (
        "[OK] pgben: relatório semanal de 30/11: tudo restaurável até 30/11 02:02"
    )
    assert example("good", "en", "svg").subject == (
        "[OK] pgben: weekly report of 30 Nov: everything restorable to 30 Nov 02:02"
    )


def test_a_bad_subject_says_the_worst_reason_without_secrets() -> None:
    reasons = (
        ReportReason(colour="yellow", text="a lesser one"),
        ReportReason(colour="red", text="the catalog postgresql://u:hunter2@h/d\nX: y is away"),
    )
    subject = render(changed(critical(), reasons=reasons), "en", images="svg").subject
    assert subject.endswith(": the catalog postgresql://u:••••@h/d X: y is away")


VERIFICATIONS = [
    VerificationFacts(state="succeeded", examined=0),
    *(
        VerificationFacts(state=state, examined=examined)
        for state in ("failed", "refused", "cancelled", "missing")
        for examined in (0, 3)
    ),
    VerificationFacts(state="late"),
    VerificationFacts(state="succeeded", examined=3, findings=1),
]


@pytest.mark.parametrize(
    "verification", VERIFICATIONS, ids=lambda one: f"{one.state} {one.examined}"
)
def test_a_verification_that_examined_nothing_or_did_not_run_is_red_and_the_report_never_green(
    verification: VerificationFacts,
) -> None:
    report = changed(good(), verification=verification)
    assert colour(report) == "yellow"
    found = render(report, "en", images="svg")
    assert found.subject.startswith("[ATTENTION] ")
    assert "Verification [✗" in " ".join(found.text.split())
    section = found.html.partition('id="report-verification"')[2].partition("</h2>")[0]
    assert "report-back-bad" in section
    assert "Nothing." not in found.text


def test_the_colour_is_never_better_than_the_first_answer() -> None:
    for whole, answer in product(get_args(Colour), repeat=2):
        report = changed(good(), colour=whole)
        report = changed(report, answers=changed(report.answers, colour=answer))  # type: ignore[arg-type]
        order = ("green", "yellow", "red")
        assert colour(report) == order[max(order.index(whole), order.index(answer))]


@pytest.mark.parametrize(
    ("language", "says"), [("pt_BR", "nunca medido"), ("en", "never measured")]
)
def test_what_was_never_measured_is_red(language: Language, says: str) -> None:
    html = example("attention", language, "svg").html
    assert re.search(rf'<strong class="report-said report-ink-bad">.{{0,60}}{says}</strong>', html)
    assert re.search(rf'<span class="report-ink-bad">.{{0,60}}{says}</span>', html)


def test_colours_are_never_alone() -> None:
    said = text_of(example("critical", "en", "svg").html)
    for sign in (SIGNS["good"], SIGNS["doubt"], SIGNS["bad"]):
        assert sign in said
    assert "CRITICAL" in said


def hostile(report: Report) -> Report:
    """Return a report whose every text was written by somebody who means harm."""

    def poison(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: poison(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [poison(one, name) for one in value]
        kept = {"colour", "measured", "decision", "zone"}
        moment = isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value)
        if not isinstance(value, str) or name in kept or moment:
            return value
        if name == "state" and value in {*get_args(NightState), *get_args(VerificationState)}:
            return value
        return HOSTILE

    return Report.model_validate(poison(report.model_dump(mode="json"), ""))


@pytest.mark.parametrize("images", IMAGES)
def test_what_strangers_wrote_is_escaped_and_stays_on_its_line(images: Images) -> None:
    found = render(hostile(critical()), "pt_BR", images=images)
    assert "<script" not in found.html
    assert "&lt;script&gt;" in found.html
    assert {"script"}.isdisjoint({tag for tag, _found in Page(found.html).elements})
    assert not re.search(r"^Bcc:", found.text, re.MULTILINE)
    assert len(found.subject.splitlines()) == 1


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_text_has_no_line_longer_than_72_letters(kind: str, language: Language) -> None:
    for report in (EXAMPLES[kind](), hostile(EXAMPLES[kind]())):
        lines = text(report, language).splitlines()
        assert max(map(len, lines)) <= 72


@pytest.mark.parametrize("kind", EXAMPLES)
def test_nothing_stays_english_in_portuguese(kind: str) -> None:
    report = EXAMPLES[kind]()
    # What clients lack is told by the name of a flaw.
    targets = tuple(changed_target(one, client_holes=()) for one in report.targets)
    said = text(changed(report, targets=targets), "pt_BR")
    names = {"release", "verify", "python", "status", "jobs", "backup", "pgben"}
    for name in ("server", "disk", "repository"):
        names.add(name)
    assert english_in(said) - names == set()


def changed_target(target: TargetFacts, **fields: Any) -> TargetFacts:
    return target.model_copy(update=fields)


def test_text_and_page_say_the_same_in_the_same_order() -> None:
    for kind, language in product(EXAMPLES, LANGUAGES):
        found = example(kind, language, "svg")
        headings = re.findall(r"<h2[^>]*>(.*?)</h2>", found.html)
        lines = iter(found.text.splitlines())
        for heading in headings:
            plain = re.sub(r"<[^>]+>|&nbsp;", " ", heading).split()[0]
            assert any(plain.lower() in line.lower() for line in lines), heading


def test_every_kind_of_finding_and_alarm_has_its_words() -> None:
    for kind in get_args(FindingKind):
        finding = ReportFinding(backup="b", kind=kind, detail="d")
        target = changed_target(good().targets[0], findings=(finding,))
        assert kind not in text(changed(good(), targets=(target,)), "pt_BR")
    assert set(get_args(AlarmKind)) <= set(ALARMS)
    alarm = OpenAlarm(kind="brand new", target="*", since=good().made_at, sentence="s")
    assert "brand new: s" in text(changed(good(), alarms=(alarm,)))


_HELD = Hold(until=datetime(2026, 12, 15, tzinfo=UTC), label="release-42", who="ana@host")


def test_every_reason_of_retention_is_translated() -> None:
    now = datetime(2026, 12, 1, 6, tzinfo=UTC)
    good_one = BackupStanding(state=State.VERIFIED)
    standings = {
        1: BackupStanding(state=State.DAMAGED),
        5: BackupStanding(state=State.VERIFIED, suspect="40 % fewer rows"),
        7: BackupStanding(state=State.VERIFIED, hold=Hold()),
        8: BackupStanding(state=State.VERIFIED, hold=Hold(who="ana@host")),
        10: BackupStanding(state=State.VERIFIED, hold=Hold(who="ana", label="release-42")),
        11: BackupStanding(state=State.VERIFIED, hold=replace(_HELD, label=None)),
        12: BackupStanding(state=State.VERIFIED, hold=_HELD),
        9: BackupStanding(state=State.VERIFIED, drilled=now),
    }
    backups = [
        KnownBackup(
            id=BackupId.make(now - timedelta(days=back), f"{back:06x}"),
            sequence=200 - back,
            started=now - timedelta(days=back),
            snapshot_time=now - timedelta(days=back),
            standing=standings.get(back, good_one),
            bytes=100,
        )
        for back in range(1, 100)
    ]
    policy = Policy(keep_daily=3, keep_weekly=3, keep_monthly=3)
    decided = plan(
        backups,
        now=now,
        policy=policy,
        named=(str(backups[50].id),),
        joined={backups[60].id: "20261001T070000Z-0b2faf"},
    )
    reasons = {reason for one in decided.decisions for reason in one.reasons}
    reasons |= {
        said for _id, _word, text in decided.explain() for said in (text,) if "," not in said
    }
    assert len({reason[:12] for reason in reasons}) >= 10
    assert {one for one in reasons if not translation_of_error(one, "pt_BR")} == set()
    for said in ("past its age, and no rule keeps it", "would expire, but pruning is refused"):
        assert translation_of_error(said, "pt_BR")


def test_many_lines_of_one_list_are_shortened() -> None:
    findings = tuple(
        ReportFinding(backup="b", kind="damaged", detail=f"finding {number}")
        for number in range(30)
    )
    target = changed_target(critical().targets[0], findings=findings)
    said = text(changed(critical(), targets=(target,)))
    assert "finding 7" in said
    assert "finding 8" not in said
    assert "and 22 more" in said


def test_a_backup_that_took_no_time_that_can_be_divided_is_drawn() -> None:
    (one, *_) = good().targets
    trend = tuple(each.model_copy(update={"seconds": 5e-324}) for each in one.trend)
    drawn = changed(good(), targets=(changed_target(one, trend=trend),))
    assert "<svg" in render(drawn, "en", images="svg").html


def test_what_was_found_outside_of_the_targets_is_shown() -> None:
    found = tuple(
        ReportFinding(backup=f"audit/{number}", kind="missing", detail=f"entry {number} is gone")
        for number in range(10)
    )
    verification = VerificationFacts(state="failed", examined=3, findings=10, elsewhere=found)
    said = " ".join(text(changed(good(), verification=verification)).split())
    assert "Findings of no protected target" in said
    assert "entry 7 is gone" in said
    assert "and 2 more" in said


def test_backups_with_the_same_reasons_share_a_line() -> None:
    said = " ".join(text(good()).split())
    assert "stays: 27 backups, of 1 Nov 2026 to 27 Nov 2026 younger than 30 days" in said
    assert "was removed: 7 backups, of 25 Oct 2026 to 31 Oct 2026" in said


def test_the_calendar_of_the_text_has_a_sign_for_every_night() -> None:
    lines = example("critical", "en", "svg").text.splitlines()
    rows = [
        line for line in lines if re.match(r"  (Mon|Tue|Wed|Thu|Fri|Sat|Sun) {1,3}[✓✗! ]", line)
    ]
    signs = "".join(row[6:] for row in rows[-7:])
    counted = {sign: signs.count(sign) for sign in "✓✗!"}
    states = [LEVELS[one.state] for one in critical().nights]
    assert counted == {SIGNS[level]: states.count(level) for level in ("good", "bad", "doubt")}


def test_the_colours_are_those_of_the_console() -> None:
    console = Path(STYLES).parents[2] / "console" / "static" / "console.css"
    known = set(re.findall(r"#[0-9a-f]{3,6}\b", console.read_text(encoding="utf-8"))) | {"#ffffff"}
    assert set(re.findall(r"#[0-9a-f]{3,6}\b", stylesheet())) <= known


def test_every_text_of_the_stylesheet_can_be_read() -> None:
    """Hold colours against their backgrounds to 4.5 to 1 (WCAG 2.2, 1.4.3), light and dark."""
    for sheet in (stylesheet().partition("@media")[0], stylesheet().rpartition("dark)")[2]):
        for ink, back in _pairs(sheet):
            assert contrast(ink, back) >= 4.5, (ink, back)


def _pairs(sheet: str) -> list[tuple[str, str]]:
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", sheet)
    both = [
        (ink[1], back[1])
        for _selector, said in rules
        if (ink := re.search(r"(?<![-\w])color: (#\w+)", said))
        and (back := re.search(r"background: (#\w+)", said))
    ]
    card = next(
        back[1]
        for selector, said in rules
        if ".report-card" in selector and (back := re.search(r"background: (#\w+)", said))
    )
    alone = [
        (ink[1], card)
        for _selector, said in rules
        if (ink := re.search(r"(?<![-\w])color: (#\w+)", said)) and "background" not in said
    ]
    assert len(both) >= 5
    assert len(alone) >= 5
    return [*both, *alone]


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour_: str) -> float:
    parts = [int(colour_[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_nothing_that_does_not_draw_imports_matplotlib() -> None:
    script = "import sys, pgben_tasks.adapters.report.render; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=60
    )
    assert "matplotlib" not in done.stdout.split()
    assert "pgben_tasks.adapters.report.render" in done.stdout.split()


VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=30) | st.sampled_from([HOSTILE, "*", "3", "20261130T050211Z-07fd7d"]),
    int: st.integers(min_value=0, max_value=2**62),
    float: st.floats(min_value=0, max_value=1e12),
    bool: st.booleans(),
    type(None): st.none(),
    date: st.dates(),
    datetime: st.datetimes(timezones=st.just(UTC)),
}


def anything(wanted: Any) -> st.SearchStrategy[Any]:
    """Return whatever a field of this type may hold."""
    arguments = get_args(wanted)
    kind = get_origin(wanted)
    if wanted in VALUES:
        return VALUES[wanted]
    if kind is Literal:
        return st.sampled_from(arguments)
    if kind is tuple and arguments[-1] is ...:
        return st.lists(anything(arguments[0]), max_size=3).map(tuple)
    if kind is tuple:
        return st.tuples(*map(anything, arguments))
    if kind is None:
        fields = {name: anything(one.annotation) for name, one in wanted.model_fields.items()}
        return st.builds(wanted, **fields)
    return st.one_of(*map(anything, arguments[:1] if kind is Annotated else arguments))


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(anything(Report), st.sampled_from(LANGUAGES), st.sampled_from(IMAGES))
def test_any_report_is_rendered_in_every_form(
    report: Report, language: Language, images: Images
) -> None:
    found = render(report, language, images=images)
    assert "script" not in {tag for tag, _attributes in Page(found.html).elements}
    assert max(map(len, found.text.split("\n"))) <= 72
    assert len(found.subject.splitlines()) == 1

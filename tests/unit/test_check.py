"""`pgben check`: what is well, what warns and what is critical; its line, and its exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.cli.invocation import asks_for_check
from pgben_tasks.cli.view.nagios import judgement_document, plugin_lines, unknown_lines
from pgben_tasks.domain.check import (
    Bounds,
    Judgement,
    Level,
    PointSigns,
    SignedBackup,
    Signs,
    TargetSigns,
    judge,
    length,
)
from pgben_tasks.domain.documents import CrossCheck, Finding
from pgben_tasks.domain.points import KnownPoint
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import ConfigurationError

NOW = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BOUNDS = Bounds.of(DAY, 7 * DAY)
#: A figure as Nagios reads it (the guidelines of its plugins): a label, then value and thresholds.
FIGURE = re.compile(r"[\w./-]+=-?[0-9.]+(?:s|B)?;[0-9.]*;[0-9.]*;0;")


def kept(age: timedelta = HOUR, **fields: Any) -> SignedBackup:
    values: dict[str, Any] = {
        "backup": "20261125T070000Z-1f0c9a",
        "state": "verified",
        "suspect": False,
        "counts": fields.get("state", "verified") == "verified" and not fields.get("suspect"),
        "taken": NOW - age,
        "stored_bytes": 4096,
        "last_read": NOW - age,
    }
    return SignedBackup(**{**values, **fields})


def target(*backups: SignedBackup, **fields: Any) -> TargetSigns:
    values: dict[str, Any] = {"target": "postgres/pgben", "findings": ()}
    return TargetSigns(backups=backups, **{**values, **fields})


def judged(
    *targets: TargetSigns,
    points: PointSigns | None = None,
    trail: tuple[Finding, ...] = (),
    bounds: Bounds = BOUNDS,
) -> Judgement:
    signs = Signs(targets=targets, points=points or PointSigns(), trail=trail)
    return judge(signs, bounds, now=NOW)


def finding(kind: Any = "missing") -> Finding:
    return Finding(kind=kind, path="packs/postgres/pgben/x/1.tar.age", detail="it is gone")


def point(age: timedelta = HOUR, state: str = "verified", **fields: Any) -> KnownPoint:
    started = NOW - age
    values: dict[str, Any] = {"job": "job", "moment": started, "members": (), "states": (state,)}
    return KnownPoint(id=BackupId.make(started, "abcdef"), **{**values, **fields})


def faults(rows: int) -> CrossCheck:
    counts = dict.fromkeys(("unreadable", "size", "hash", "metadata", "orphan", "recoverable"), 0)
    return CrossCheck(references=100, objects=100, missing=rows, faults=None, **counts)


def first_line(found: Judgement) -> str:
    return next(plugin_lines(found))


def test_a_fresh_verified_backup_is_ok_and_says_so_in_one_line() -> None:
    found = judged(target(kept()))
    assert (found.level, found.problems) == (Level.OK, ())
    assert [*plugin_lines(found)] == [
        (
            "PGBEN OK - every target can be restored (1), to 1 h 0 min ago or later"
            "|postgres/pgben_backups=1;;;0; postgres/pgben_age=3600s;86400;108000;0; "
            "postgres/pgben_size=4096B;;;0; postgres/pgben_unread=3600s;691200;1296000;0; "
            "findings=0;;0;0;"
        )
    ]


@pytest.mark.parametrize(
    ("age", "level"),
    [
        (DAY, Level.OK),
        (DAY + HOUR, Level.WARNING),
        (DAY + 6 * HOUR, Level.WARNING),
        (DAY + 7 * HOUR, Level.CRITICAL),
        (-timedelta(minutes=4), Level.OK),
        # A clock is wrong: its age says nothing.
        (-HOUR, Level.CRITICAL),
    ],
)
def test_the_age_of_the_newest_verified_backup_decides(age: timedelta, level: Level) -> None:
    found = judged(target(kept(age, last_read=NOW)))
    assert found.level is level
    assert [one.target for one in found.problems] == ["postgres/pgben"] * (level is not Level.OK)


def test_a_newer_backup_that_does_not_count_makes_no_target_younger() -> None:
    found = judged(target(kept(state="unverified"), kept(2 * DAY)))
    assert found.level is Level.CRITICAL
    assert "2 d 0 h old, more than 1 d 6 h" in found.summary


@pytest.mark.parametrize(
    ("one", "level", "text"),
    [
        (target(), Level.CRITICAL, "there is no backup of 'postgres/pgben'"),
        (
            target(kept(state="unverified"), kept(state="incomplete")),
            Level.CRITICAL,
            "there is no verified backup of 'postgres/pgben' among 2",
        ),
        (target(kept(suspect=True), kept()), Level.WARNING, "is suspect: it shrank"),
        (target(kept(state="incomplete"), kept()), Level.WARNING, "is incomplete"),
        (target(kept(state="not restorable here"), kept()), Level.WARNING, "not restorable here"),
        (target(kept(), kept(state="damaged")), Level.CRITICAL, "damaged backups of"),
        (target(kept(last_read=NOW - 9 * DAY)), Level.WARNING, "were not read again for 9 d"),
        (target(kept(last_read=NOW - 16 * DAY)), Level.CRITICAL, "not read again for 16 d"),
        (
            target(kept(), findings=(finding(),)),
            Level.CRITICAL,
            "missing files or documents of",
        ),
        (target(kept(), findings=(finding("forged"),)), Level.CRITICAL, "forged documents of"),
        (target(kept(), findings=(finding("extra"),)), Level.WARNING, "documents too many of"),
    ],
)
def test_what_is_wrong_with_a_target_is_said_first(
    one: TargetSigns, level: Level, text: str
) -> None:
    found = judged(one)
    assert found.level is level
    assert text in found.problems[0].text
    assert first_line(found).startswith(f"PGBEN {level.name} - {found.problems[0].text}")


def test_one_on_its_way_and_an_old_suspicion_are_no_problem() -> None:
    assert judged(target(kept(state="unverified"), kept(2 * HOUR))).level is Level.OK
    assert judged(target(kept(), kept(DAY, suspect=True))).level is Level.OK


def test_the_worst_problem_decides_and_the_others_are_counted() -> None:
    found = judged(
        target(kept(DAY + HOUR, last_read=NOW)),
        target(target="bucket/documents"),
        target(kept(suspect=True), kept(), target="postgres/saude"),
    )
    assert found.level is Level.CRITICAL
    assert [one.level for one in found.problems] == [2, 1, 1]
    assert found.summary == "there is no backup of 'bucket/documents' (and 2 more)"


def test_what_is_protected_no_more_is_only_looked_at_for_damage() -> None:
    old = target(kept(90 * DAY), protected=False, target="postgres/velho")
    found = judged(old)
    assert (found.level, found.summary) == (Level.OK, "no damage in 1 targets")
    assert [one.label for one in found.figures] == [
        "postgres/velho_backups",
        "postgres/velho_size",
        "findings",
    ]
    assert judged(replace(old, findings=(finding(),))).level is Level.CRITICAL


def test_nothing_to_judge_is_no_judgement() -> None:
    with pytest.raises(ConfigurationError, match="nothing is protected"):
        judged()


def test_what_is_wrong_with_the_trail_is_critical() -> None:
    found = judged(target(kept()), trail=(finding(), finding("forged")))
    assert {one.text for one in found.problems} == {
        "missing files or documents of the audit trail: 1",
        "forged documents of the audit trail: 1",
    }


@pytest.mark.parametrize(
    ("points", "level", "text"),
    [
        (PointSigns(), Level.OK, ""),
        (PointSigns(wanted=True), Level.WARNING, "there is no verified recovery point"),
        (PointSigns(wanted=True, points=(point(),)), Level.OK, ""),
        (PointSigns(wanted=True, points=(point(2 * DAY),)), Level.WARNING, "2 d 0 h old"),
        (
            PointSigns(wanted=True, points=(point(state="missing"), point(2 * HOUR))),
            Level.WARNING,
            "the newest recovery point is missing",
        ),
        (
            PointSigns(wanted=True, checked=True, points=(point(),)),
            Level.WARNING,
            "were not compared",
        ),
        (
            PointSigns(wanted=True, checked=True, points=(point(check=faults(3)),)),
            Level.WARNING,
            "not as they say: 3",
        ),
        (PointSigns(wanted=True, checked=True, points=(point(check=faults(0)),)), Level.OK, ""),
        (
            PointSigns(findings=(finding("forged"),)),
            Level.CRITICAL,
            "forged documents of the recovery points: 1",
        ),
    ],
)
def test_recovery_points_warn(points: PointSigns, level: Level, text: str) -> None:
    found = judged(target(kept()), points=points)
    assert found.level is level
    assert all(text in one.text for one in found.problems)


def test_rows_without_their_objects_are_critical_where_that_is_strict() -> None:
    points = PointSigns(wanted=True, points=(point(check=faults(1)),))
    strict = replace(BOUNDS, strict=True)
    assert judged(target(kept()), points=points, bounds=strict).level is Level.CRITICAL


def test_ages_that_are_not_given_follow_those_that_are() -> None:
    def ages(**given: timedelta) -> tuple[timedelta, timedelta]:
        found = Bounds.of(DAY, 7 * DAY, **given)  # type: ignore[arg-type]
        return found.warn_age, found.crit_age

    assert ages() == (DAY, 30 * HOUR)
    assert ages(warn_age=4 * HOUR) == (4 * HOUR, 5 * HOUR)
    assert ages(crit_age=2 * DAY) == (DAY, 2 * DAY)
    assert ages(crit_age=2 * HOUR) == (2 * HOUR, 2 * HOUR)
    with pytest.raises(ConfigurationError, match="critical before it warns"):
        ages(warn_age=DAY, crit_age=HOUR)


LEVELS = st.sampled_from(["missing", "extra", "forged"])
NAMES = st.from_regex(r"(?:postgres|bucket)/[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(
    targets=st.lists(
        st.builds(
            lambda name, ages, kinds: target(
                *(kept(timedelta(hours=age)) for age in ages),
                target=name,
                findings=tuple(finding(kind) for kind in kinds),
            ),
            NAMES,
            st.lists(st.integers(-100, 10_000), max_size=3),
            st.lists(LEVELS, max_size=3),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_is_found_the_lines_follow_the_guidelines(targets: list[TargetSigns]) -> None:
    found = judged(*targets)
    head, *more = plugin_lines(found)
    text, bar, figures = head.partition("|")
    assert text.startswith(f"PGBEN {found.level.name} - ")
    assert bar
    assert [one for one in figures.split(" ") if not FIGURE.fullmatch(one)] == []
    assert not any("|" in line or "\n" in line for line in more)
    assert found.level == max([0, *(one.level for one in found.problems)])
    document = judgement_document(found)
    assert (document["code"], document["status"]) == (found.level, found.level.name.lower())
    assert len(document["figures"]) == len(found.figures)


def test_long_lists_end_with_their_number_and_no_text_can_be_taken_for_figures() -> None:
    many = tuple(finding().model_copy(update={"path": f"a|b\nc{n}"}) for n in range(15))
    lines = [*plugin_lines(judged(target(kept(), findings=many)))]
    assert lines[0].count("|") == 1
    assert lines[2] == "  a/b c0: it is gone"
    assert lines[-1] == "  and 5 more"
    assert len(lines) == 13


def test_that_nothing_could_be_judged_is_unknown_with_the_reason() -> None:
    assert [*unknown_lines("the repository does not answer", "look\nthere | here")] == [
        "PGBEN UNKNOWN - the repository does not answer",
        "HINT: look",
        "HINT: there / here",
    ]


def test_durations_are_short() -> None:
    words = [length(timedelta(seconds=one)) for one in (5, 300, 3 * 3600 + 60, 90_000)]
    assert words == ["5 s", "5 min", "3 h 1 min", "1 d 1 h"]


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("check", True),
        ("--debug check --json", True),
        ("--env-file check check", True),
        ("check --env-file x", True),
        ("--env-file check list", False),
        ("backup check", False),
        ("--help", False),
        ("", False),
    ],
)
def test_check_is_known_by_the_first_word_that_is_no_option(typed: str, *, asked: bool) -> None:
    assert asks_for_check(typed.split()) is asked


@pytest.mark.parametrize(("typed", "code"), [("check", 3), ("list", 2)])
def test_without_the_packages_of_the_command_line_it_is_unknown(typed: str, code: int) -> None:
    script = (
        "import sys; sys.modules['typer'] = None; sys.argv = ['pgben', sys.argv[1]];"
        "from pgben_tasks.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", script, typed], check=False, timeout=60)
    assert done.returncode == code

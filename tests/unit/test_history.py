"""Which lines the history has, and how files of lines go on: nothing lost, nothing twice."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.history import (
    COLUMNS,
    FORMS,
    HEADER,
    LOG,
    OLD_COLUMNS,
    TABLE,
    End,
    Form,
    Line,
    continued,
    line_of,
    lines_of,
    rewritten,
    since_last,
    whole_table,
)

ZONE = ZoneInfo("America/Fortaleza")
AT = datetime(2026, 11, 23, 5, 4, 11, tzinfo=UTC)
SECOND = timedelta(seconds=1)
JOB = UUID("1f0c9a2b-0000-4000-8000-000000000001")
BACKUP = "20261123T050000Z-1f0c9a"
CANARY = "cidadao/42/rg.jpg"

forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


def end(number: int = 1, **changed: Any) -> End:
    at = AT + number * SECOND
    usual = End(
        number=number,
        at=at,
        began_at=at - timedelta(seconds=7, milliseconds=250),
        job=UUID(int=JOB.int + (number << 96)),
        kind="backup",
        target="postgres/pgben",
        state="succeeded",
        attempt=1,
        backup=BACKUP,
        requested_by="schedule",
        request={"target": "postgres/pgben"},
        result={"state": "verified", "rows": 850, "stored_bytes": 40_000, "suspect": None},
        error=None,
        retry_at=None,
    )
    return replace(usual, **changed)


def line(number: int = 1, **changed: Any) -> Line:
    made = line_of(end(number, **changed), ZONE)
    assert made is not None
    return made


def cells(text: str) -> dict[str, str]:
    """Read one record as any reader of such files does."""
    (found,) = csv.reader(io.StringIO(text, newline=""))
    return dict(zip(COLUMNS, found, strict=True))


# Lines


def test_a_backup_has_the_old_columns_first_and_local_time() -> None:
    made = line()
    assert tuple(HEADER.split(","))[:4] == OLD_COLUMNS
    assert made.record.startswith(
        f"2026-11-23 02:04:12,verified,postgres/pgben/{BACKUP},40000,backup,postgres/pgben,{BACKUP}"
    )
    assert made.record.endswith(f"{end().job},1,7.2,schedule,850 rows")
    assert made.sentence == (
        "[2026-11-23 02:04:12] backup of 'postgres/pgben' verified: 850 rows, 40000 bytes in 7 s"
        f" (job {str(end().job)[:8]})"
    )
    assert made.document["timestamp"] == "2026-11-23T05:04:12Z"
    assert set(made.document) == set(COLUMNS)


def test_a_failure_has_its_sentence_and_when_it_is_tried_again() -> None:
    made = line(
        state="failed",
        attempt=2,
        backup=None,
        error={"sentence": "the server does not answer", "hint": "start it"},
        retry_at=AT + timedelta(hours=1),
    )
    said = cells(made.record)
    assert (said["status"], said["size"], said["backup"]) == ("failed", "0", "")
    assert said["filename"] == f"postgres/pgben/{end().job}"
    assert made.error == "the server does not answer"
    assert said["detail"] == "the server does not answer; tried again at 2026-11-23 03:04:11"
    assert made.sentence.endswith(", attempt 2)")


def test_a_job_that_nobody_claimed_has_no_duration() -> None:
    made = line(state="refused", attempt=0, began_at=None, error={"sentence": "no"})
    assert cells(made.record)["seconds"] == ""
    assert line(state="cancelled", attempt=0, began_at=None).detail == ""


def test_an_attempt_that_lost_its_worker_says_so() -> None:
    made = line(state="lost", backup=None, result={})
    assert (made.status, made.size) == ("lost", 0)
    assert "heartbeats" in made.sentence


@pytest.mark.parametrize(
    ("kind", "result", "said"),
    [
        ("verify", {"level": "full", "backups": 3, "bytes_read": 5}, "level full, 3 backups"),
        ("restore", {"into": "copy", "rows_compared": 1}, "into copy, 1 row compared"),
        ("prune", {"prune": {"expired": ["a", "b"]}}, "2 backups expired"),
        ("prune", {"prune": {"expired": []}}, "0 backups expired"),
        ("prune", {"prune": {"refused": "too many"}}, "pruning refused: too many"),
        ("sweep", {"sweep": {"removed": 1}}, "1 file removed"),
        ("acknowledge", {"acknowledged": BACKUP}, f"acknowledged {BACKUP}"),
        ("point", {"point": BACKUP, "suspect": "2 rows"}, f"recovery point {BACKUP}, suspect: 2"),
        ("something new", {}, ""),
    ],
)
def test_results_are_told(kind: str, result: dict[str, Any], said: str) -> None:
    made = line(kind=kind, target="*", backup=None, result=result)
    assert made.detail.startswith(said)
    assert made.status == "succeeded"
    assert " of everything succeeded" in made.sentence


def test_a_plan_is_told_as_one() -> None:
    request = {"dry_run": True}
    assert line(kind="prune", result={"prune": {}}, request=request).detail == "only planned"


def test_a_sweep_that_happens_by_itself_has_a_line_only_where_something_happened() -> None:
    quiet = end(kind="sweep", result={"sweep": {"removed": 0}})
    assert line_of(quiet, ZONE) is None
    assert line_of(replace(quiet, result={"sweep": {"removed": 3}}), ZONE) is not None
    assert line_of(replace(quiet, requested_by="ana"), ZONE) is not None
    assert line_of(replace(quiet, state="failed", error={"sentence": "no"}), ZONE) is not None


def test_what_is_about_everything_is_in_the_files_of_both_kinds() -> None:
    quiet = end(4, target="*", kind="sweep", result={})
    ends = [end(1), end(2, target="bucket/papers"), end(3, target="*", kind="verify"), quiet]
    assert [one.number for one in lines_of(ends, ZONE, kind="postgres")] == [1, 3]
    assert [one.number for one in lines_of(ends, ZONE, kind="bucket")] == [2, 3]
    assert [one.number for one in lines_of(ends, ZONE)] == [1, 2, 3]


def test_what_a_request_says_of_people_is_hidden() -> None:
    request = {"keys": [CANARY], "reason": "asked for by Ana Maria"}
    failed = line(
        state="failed", request=request, error={"sentence": f"'{CANARY}' is not in the snapshot"}
    )
    done = line(request=request, result={"suspect": f"{CANARY} shrank, asked for by Ana Maria"})
    for made in (failed, done):
        assert CANARY not in made.record + made.sentence
        assert "Ana" not in made.record + made.sentence


def test_a_secret_in_a_sentence_is_hidden() -> None:
    made = line(state="failed", error={"sentence": "postgresql://u:hush@h/d does not answer"})
    assert "hush" not in made.record + made.sentence


HOSTILE = st.text() | st.sampled_from(
    ["=cmd()", "+1", "-1", "@x", "\t=1", 'a"b,c', "a\r\nb", ";=1+1", "x; -1", "\x00", "＝1", '"']
)


@given(sentence=HOSTILE, who=HOSTILE, target=HOSTILE, state=HOSTILE)
def test_any_text_stays_one_record_and_one_line_and_no_formula(
    sentence: str, who: str, target: str, state: str
) -> None:
    failed = line(state="failed", error={"sentence": sentence}, requested_by=who, target=target)
    done = line(result={"state": state or "verified", "suspect": sentence}, requested_by=who)
    for made in (failed, done):
        said = cells(made.record)
        assert len(made.sentence.splitlines()) == len(made.record.splitlines()) == 1
        for text in said.values():
            assert not any(
                cell.strip().startswith(tuple("=+-@＝＋－＠")) for cell in text.split(";")
            )
        made.record.encode("utf-8")
        made.sentence.encode("utf-8")
        assert TABLE.read(made.record) is not None


@given(sentence=HOSTILE, attempt=st.integers(0, 99), kind=st.sampled_from(["backup", "verify"]))
def test_every_line_is_found_again(sentence: str, attempt: int, kind: str) -> None:
    made = line(state="failed", error={"sentence": sentence}, attempt=attempt, kind=kind)
    for form in FORMS:
        assert form.read(form.write(made)) == form.key(made)


# Files


def written(form: Form, *lines: Line) -> str:
    return continued(form, "", lines)


@forms
def test_a_new_file_has_its_header_and_every_line(form: Form) -> None:
    text = written(form, line(1), line(2))
    assert text.splitlines() == [
        *([HEADER] if form is TABLE else []),
        form.write(line(1)),
        form.write(line(2)),
    ]
    assert text.endswith("\n")
    assert form is LOG or text == whole_table([line(1), line(2)])


@forms
def test_what_a_crash_left_at_any_byte_is_continued_to_the_same_file(form: Form) -> None:
    noted = written(form, line(1))
    whole = continued(form, noted, [line(2), line(3)])
    for size in range(len(noted), len(whole) + 1):
        assert continued(form, whole[:size], [line(2), line(3)]) == whole


def test_a_crash_in_the_first_write_of_all_leaves_nothing_behind() -> None:
    whole = written(TABLE, line(1))
    for size in range(len(whole) + 1):
        assert continued(TABLE, whole[:size], [line(1)]) == whole


@forms
def test_lines_that_were_moved_away_do_not_come_again(form: Form) -> None:
    rotated = written(form, line(1), line(2)).splitlines()
    assert continued(form, "", [line(2), line(3)], elsewhere=rotated) == written(form, line(3))


@forms
def test_two_ends_in_one_second_are_two_lines(form: Form) -> None:
    first = line(1, state="failed", attempt=0, error={})
    second = replace(first, number=2)
    third = replace(first, number=3, status="cancelled")
    whole = written(form, first, second, third)
    assert len(whole.splitlines()) == 3 + (form is TABLE)
    assert continued(form, whole, [first, second, third]) == whole
    half = written(form, first)
    assert continued(form, half, [first, second, third]) == whole


OLD_TABLE = "timestamp,status,filename,size\r\n2026-11-22 02:00:00,OK,pgben_1.sql.gz,99\r\n"


def test_an_old_table_goes_on_under_the_names_of_all_columns() -> None:
    text = continued(TABLE, OLD_TABLE, [line(1)])
    assert text == f"{HEADER}\n2026-11-22 02:00:00,OK,pgben_1.sql.gz,99\r\n{line(1).record}\n"
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["filename"] for row in rows] == ["pgben_1.sql.gz", line(1).filename]


def test_a_table_without_names_of_columns_gets_them_and_keeps_its_first_line() -> None:
    text = continued(TABLE, "2026-11-22 02:00:00,OK,pgben_1.sql.gz,99\n", [])
    assert text == f"{HEADER}\n2026-11-22 02:00:00,OK,pgben_1.sql.gz,99\n"
    assert continued(TABLE, "\ufeff" + OLD_TABLE, []).startswith(f"{HEADER}\n2026")


def test_a_foreign_line_without_an_end_gets_one() -> None:
    assert continued(LOG, "[2026-11-22 02:00:00] Backup OK", []) == (
        "[2026-11-22 02:00:00] Backup OK\n"
    )
    open_quote = f'{HEADER}\n2026-11-22 02:00:00,"OK'
    text = continued(TABLE, open_quote, [line(1)])
    assert list(csv.reader(io.StringIO(text)))[1:] == [
        ["2026-11-22 02:00:00", "OK"],
        list(cells(line(1).record).values()),
    ]


def test_an_old_file_is_continued_from_its_last_moment_on() -> None:
    lines = [line(1), line(2), line(3)]
    old = f"[{line(2).timestamp}] Backup OK\n"
    assert since_last(old, lines) == [line(2), line(3)]
    assert since_last("no moment\n", lines) == lines
    assert since_last("", lines) == lines


# Written anew


@forms
def test_a_file_that_is_written_anew_has_what_the_ledger_knows(form: Form) -> None:
    lines = [line(1), line(2), line(3)]
    whole = written(form, *lines)
    assert rewritten(form, whole, lines) == whole
    # Lost, torn, in disorder or twice: it comes out the same.
    scrambled = "".join(reversed(whole.splitlines(keepends=True)))
    for damaged in ("", whole[: len(whole) // 2], scrambled, whole * 2):
        assert rewritten(form, damaged, lines) == whole


def test_what_is_older_than_the_ledger_or_of_others_stays_where_it_belongs() -> None:
    before = line(9, at=AT - timedelta(days=3))
    stranger = line(7, at=line(1).at)
    lines = [line(1), line(3)]
    content = (
        f"{OLD_TABLE}{before.record}\n{stranger.record}\n{line(2).timestamp},OK,own.gz,1\n"
        f"not a record\n{line(5).timestamp},OK,last.gz,1\n"
    )
    assert rewritten(TABLE, content, lines).splitlines() == [
        HEADER,
        "2026-11-22 02:00:00,OK,pgben_1.sql.gz,99",
        before.record,
        stranger.record,
        line(1).record,
        f"{line(2).timestamp},OK,own.gz,1",
        "not a record",
        line(3).record,
        f"{line(5).timestamp},OK,last.gz,1",
    ]


def test_what_versions_before_wrote_of_a_known_backup_is_replaced() -> None:
    lines = [line(1), line(2, kind="verify"), line(3, target="bucket/papers")]
    table = f"{line(1).timestamp},verified,{line(1).filename},40000\r\n"
    assert rewritten(TABLE, table, lines) == written(TABLE, *lines)
    said = "backup of 'postgres/pgben' verified: 850 rows, 40000 bytes in 4 s"
    moment = (AT - SECOND).astimezone(ZONE)
    log = f"[{moment:%Y-%m-%d %H:%M:%S}] {said}\n"
    assert rewritten(LOG, log, lines) == written(LOG, *lines)
    # One that the ledger does not know stays.
    earlier = f"[2026-11-22 02:00:00] {said}\n"
    later = f"[2026-11-24 02:00:00] {said}\n"
    others = f"[2026-11-22 02:00:00] {said.replace('pgben', 'other')}\n"
    assert rewritten(LOG, earlier + others + later, lines) == (
        f"{earlier}{others}{written(LOG, *lines)}{later}"
    )


@given(
    old=st.lists(st.text(st.characters(exclude_characters="\n")).filter(str.strip), max_size=6),
    known=st.integers(0, 4),
)
def test_no_line_of_others_is_lost_and_writing_anew_twice_changes_nothing(
    old: list[str], known: int
) -> None:
    lines = [line(number) for number in range(1, known + 1)]
    content = "".join(f"{text}\n" for text in old)
    for form in FORMS:
        once = rewritten(form, content, lines)
        foreign = [text for text in old if not form.is_header(text)]
        left = iter(once.split("\n"))
        assert all(text in left for text in foreign)
        assert rewritten(form, once, lines) == once
        assert continued(form, once, lines) == once

"""The answers of the console's first page, and what the page of a job shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from pgben_tasks.console.facts import JobFacts, Status
from pgben_tasks.console.summary import answers, job_page, progress_of
from pgben_tasks.console.words import Words
from pgben_tasks.domain.job import Job, JobKind
from pgben_tasks.errors import TransientError

pytestmark = pytest.mark.unit

NOW = datetime(2026, 12, 1, 5, tzinfo=UTC)
WORDS = Words("pt_BR", ZoneInfo("America/Fortaleza"))
JOB = Job(
    id=UUID("3f0c9a2b-1111-4222-8333-444444444444"),
    key="k",
    kind="restore",
    target="postgres/pgben",
    window=None,
    request={},
    requested_by="ana",
    state="running",
    fence=1,
    attempt=1,
    node="node",
    backup=None,
    root_task="root",
    step="pgben.restore.postgres.load",
    context={},
    result={},
    error=None,
    retry_at=None,
    created_at=NOW,
    started_at=NOW,
    ended_at=None,
)


def document(colour: str, *moments: str | None, took: float | None = None) -> dict[str, Any]:
    verdict = {"colour": colour, "reasons": []}
    targets = [{"restorable_to": one, "last_restore_seconds": took} for one in moments]
    return {"restorable": verdict, "running": verdict, "targets": targets, "point": None}


def told(found: dict[str, Any] | None, error: TransientError | None = None) -> dict[str, Any]:
    return answers(Status(document=found, asked=NOW, error=error), None, WORDS)


@pytest.mark.parametrize(
    ("colour", "says"),
    [("green", "Sim"), ("yellow", "Sim, mas"), ("red", "Não, nem tudo")],
)
def test_the_first_answer_is_the_verdicts(colour: str, says: str) -> None:
    found = told(document(colour, "2026-12-01T05:00:00Z"))
    assert found["colour"] == colour
    assert found["can"].startswith(says)


def test_nobody_who_answers_is_red_whatever_was_said_before() -> None:
    nobody = TransientError("no maintenance worker has answered within 9 s")
    assert told(None, nobody)["colour"] == "red"
    before = told(document("green", "2026-12-01T05:00:00Z"), nobody)
    assert (before["colour"], before["can"]) == ("red", told(None, nobody)["can"])


def test_everything_is_as_old_as_its_oldest_and_as_slow_as_all_together() -> None:
    moments = ("2026-12-01T05:00:00Z", "2026-11-30T05:00:00Z")
    found = told(document("green", *moments, took=30.0))
    assert (found["to"], found["took"]) == (moments[1], 60.0)
    assert told(document("red", moments[0], None))["to"] is None
    assert told(document("red", moments[0], None))["took"] is None
    assert told(document("yellow"))["to"] is None


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        ({"phase": "load", "done": 5, "total": 10}, 0.5),
        ({"phase": "load", "done": 50, "total": 10}, 1.0),
        ({"phase": "load", "done": None, "total": None}, None),
        ({"phase": "load", "done": 5, "total": 0}, None),
    ],
)
def test_a_bar_is_as_long_as_what_is_done(progress: dict[str, Any], share: float | None) -> None:
    found = progress_of(replace(JOB, progress=progress))
    assert found is not None
    assert found["share"] == share
    assert progress_of(replace(JOB, progress=progress, state="waiting")) is None
    assert progress_of(JOB) is None


def test_how_far_a_phase_is_stands_in_the_pages_language() -> None:
    far = {"unit": "bytes", "done": 1024**2, "total": 4 * 1024**2, "rate": 2048, "seconds_left": 90}
    assert WORDS.progress(far) == "25%, 1,00 MiB de 4,00 MiB, 2,00 KiB/s, faltam 1 min 30 s"
    assert WORDS.progress({"unit": "objects", "done": 1200, "total": 3000}).startswith("40%, 1.200")
    assert WORDS.progress({"unit": "objects", "done": 7}).startswith("7 ")
    assert WORDS.progress({}) == ""


@pytest.mark.parametrize("kind", ["backup", "point", "restore", "restore_all", "verify", "undo"])
@pytest.mark.parametrize(
    ("state", "result", "error"),
    [
        ("refused", {}, {"sentence": "no", "hint": "`into` is there"}),
        ("cancelled", {}, {"sentence": "no"}),
        ("succeeded", {"databases": {"postgres/pgben": {"into": "x"}}, "buckets": {}}, None),
        ("succeeded", {"databases": {"postgres/pgben": "20261201T050000Z-ab12cd"}}, None),
        ("failed", {"moment": "no moment", "suspect": 3, "tables": 1, "findings": [{}]}, None),
    ],
)
def test_a_job_in_any_state_has_a_page(
    kind: JobKind, state: Any, result: dict[str, Any], error: dict[str, str] | None
) -> None:
    ended = NOW + timedelta(seconds=5)
    job = replace(JOB, kind=kind, state=state, result=result, error=error, ended_at=ended)
    page = job_page(JobFacts(job=job, steps=(), swap=None, replaced=()), WORDS)
    assert page["took"] == timedelta(seconds=5)
    assert (page["error"] is None) == (error is None)
    assert WORDS.work(job)


def test_a_target_that_is_none_is_not_shown() -> None:
    assert WORDS.target("529.982.247-25") == "?"
    assert WORDS.target("*") == "tudo"

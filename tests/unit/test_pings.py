"""What is pinged of attempts, under which URL: decisions, without a clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from pgben_tasks.domain.pings import (
    FRESH,
    AttemptRun,
    Ping,
    ping_url,
    pings,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BY_KIND = "https://hc.example.org/ping/secret-key/pgben-{kind}?create=1"
BY_TARGET = "https://hc.example.org/ping/secret-key/{kind}-{target}"
JOB = UUID("1f0c9a2b-0000-4000-8000-000000000000")


def run(**changed: Any) -> AttemptRun:
    made = AttemptRun(
        kind="backup",
        target="postgres/pgben",
        job=JOB,
        state="succeeded",
        started_at=NOW - 2 * MINUTE,
        ended_at=NOW - MINUTE,
        error=None,
        step=None,
    )
    return replace(made, **changed)


def running(**changed: Any) -> AttemptRun:
    return run(state="running", ended_at=None, **changed)


def failed(**changed: Any) -> AttemptRun:
    error = {"error": "DatabaseUnavailable", "step": "pgben.backup.postgres.dump"}
    return run(**{"state": "failed", **error, **changed})


def asked(*attempts: AttemptRun, template: str = BY_KIND, **known: Any) -> list[Ping]:
    given: dict[str, Any] = {"upto": {}, "standing": {}, "watched": set()} | known
    return list(pings(template, attempts, now=NOW, **given))


def signs(*attempts: AttemptRun, **known: Any) -> list[str]:
    return [one.sign for one in asked(*attempts, **known)]


@pytest.mark.parametrize(
    ("sign", "url"),
    [
        ("success", "https://hc.example.org/ping/secret-key/pgben-restore-all?create=1"),
        ("start", "https://hc.example.org/ping/secret-key/pgben-restore-all/start?create=1"),
        ("fail", "https://hc.example.org/ping/secret-key/pgben-restore-all/fail?create=1"),
    ],
)
def test_the_sign_stands_behind_the_path(sign: Any, url: str) -> None:
    assert ping_url(BY_KIND, kind="restore_all", target="*", sign=sign) == url


def test_a_target_is_a_plain_word_of_the_url() -> None:
    made = [
        ping_url(BY_TARGET, kind="backup", target=target, sign="success").rpartition("/")[2]
        for target in ("postgres/pgben", "bucket/Documents_2", "*", "postgres/a?b=../c")
    ]
    assert made == [
        "backup-postgres-pgben",
        "backup-bucket-documents-2",
        "backup-everything",
        "backup-postgres-a-b-c",
    ]


def test_a_beginning_and_an_end_are_pinged_once() -> None:
    assert signs(running()) == ["start"]
    assert signs(run()) == ["success"], "with its end, its beginning is no news"
    assert signs(failed()) == ["fail"]
    (ping,) = asked(run())
    assert signs(run(), upto={ping.series: ping.at}) == []
    later = run(ended_at=NOW)
    assert signs(run(), later, upto={ping.series: ping.at}) == ["success"]


def test_a_failure_says_where_and_of_which_kind_and_repeats_no_words_of_its_error() -> None:
    (ping,) = asked(failed())
    assert ping.text == (
        "backup of postgres/pgben, failed: DatabaseUnavailable, "
        f"in pgben.backup.postgres.dump; job {JOB}"
    )
    (other,) = asked(failed(target="*", error=None, step=None))
    assert other.text == f"backup of everything, failed: unknown; job {JOB}"


def test_a_cancelled_attempt_is_an_end_and_a_lost_one_is_none() -> None:
    assert signs(failed(state="cancelled")) == ["fail"]
    assert signs(run(state="lost")) == []
    assert signs(run(started_at=None, ended_at=None, state="queued")) == []


def test_what_is_long_over_is_not_pinged_any_more() -> None:
    old = run(ended_at=NOW - FRESH - MINUTE)
    assert signs(old) == []
    assert signs(old, upto={"backup": NOW - 10 * FRESH}) == []


def test_in_one_series_a_failure_is_not_covered_by_another_targets_success() -> None:
    other = {"target": "postgres/other"}
    assert signs(failed(ended_at=NOW - 2 * MINUTE), run(**other)) == ["fail"]
    assert signs(failed(), run(**other), template=BY_TARGET) == ["fail", "success"]


def test_a_success_is_not_told_while_another_target_of_the_same_url_stands_failed() -> None:
    watched = {("backup", "postgres/pgben"), ("backup", "postgres/other"), ("verify", "*")}
    standing = {("backup", "postgres/other"): "failed"}
    assert signs(run(), standing=standing, watched=watched) == []
    assert signs(run(), standing=standing, watched=watched, template=BY_TARGET) == ["success"]
    assert signs(run(), standing={("verify", "*"): "failed"}, watched=watched) == ["success"]
    assert signs(run(), standing=standing, watched=set()) == ["success"]
    refused = {("backup", "postgres/other"): "refused"}
    assert signs(run(), standing=refused, watched=watched) == []
    assert signs(run(), standing={("backup", "postgres/other"): "succeeded"}, watched=watched) == [
        "success"
    ]

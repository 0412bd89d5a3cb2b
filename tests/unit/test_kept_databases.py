"""Claims about databases that restores left: which those are, by oid, and until when they stay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.documents import TableCount
from pgben_tasks.domain.kept_databases import (
    NOTICE,
    FoundDatabase,
    KeptDatabase,
    RestoredDatabase,
    contents_digest,
    expiry_alarm,
    list_kept,
    may_be_left,
)
from pgben_tasks.domain.swap import Swap, replaced_name, restored_name, undone_name
from pgben_tasks.domain.target import Target

MADE = datetime(2026, 11, 23, 5, 0, 5, tzinfo=UTC)
FORTALEZA = ZoneInfo("America/Fortaleza")
TARGET = Target("postgres", "pgben")
RESTORED, REPLACED, KEEP = timedelta(days=14), timedelta(days=7), "ana@host wanted that"
COPY = RestoredDatabase(
    job=uuid4(),
    target="postgres/pgben",
    name="pgben_restored_20261123_020005",
    oid=20000,
    checked_at=700,
    contents="0" * 64,
    generated=True,
    made_at=MADE,
)
SWAP = Swap(
    job=uuid4(),
    target="postgres/pgben",
    live="pgben",
    incoming="pgben_restored_20261123_020005",
    aside="pgben_replaced_20261123_020005",
    live_oid=16384,
    incoming_oid=20000,
    state="done",
    settled_at=MADE,
)


def found(name: str, oid: int, *, is_open: bool = False) -> FoundDatabase:
    return FoundDatabase(name=name, oid=oid, size=1, sessions=0, is_open=is_open)


def listed(
    *databases: FoundDatabase, restored: RestoredDatabase = COPY, swap: Swap = SWAP
) -> list[KeptDatabase]:
    return list(
        list_kept(
            TARGET,
            databases,
            restored=[restored],
            swaps=[swap],
            keep_restored=RESTORED,
            keep_replaced=REPLACED,
            zone=FORTALEZA,
        )
    )


def test_a_copy_with_a_name_of_ours_expires_and_no_other() -> None:
    there = found(COPY.name, COPY.oid, is_open=True)
    (line,) = listed(there)
    assert (line.origin, line.job, line.until) == ("restored", COPY.job, MADE + RESTORED)
    for other, why in (
        (replace(COPY, generated=False), "its name was chosen"),
        (replace(COPY, kept_because=KEEP), KEEP),
    ):
        (line,) = listed(there, restored=other)
        assert (line.until, line.kept_because) == (None, why)


def test_what_a_swap_set_aside_expires_while_it_is_closed() -> None:
    there = found(SWAP.aside or "", 16384)
    (line,) = listed(there)
    assert (line.origin, line.job, line.until) == ("replaced", SWAP.job, MADE + REPLACED)
    (line,) = listed(replace(there, is_open=True))
    assert (line.until, line.kept_because) == (None, "it takes connections")
    (line,) = listed(there, swap=replace(SWAP, kept_because=KEEP))
    assert (line.until, line.kept_because) == (None, KEEP)


def test_another_database_of_that_name_is_not_the_one_that_is_known() -> None:
    for line in listed(found(COPY.name, 1), found(SWAP.aside or "", 1)):
        assert (line.job, line.until, line.since) == (None, None, MADE)
        assert line.kept_because == "the catalog does not know it"
    (undone,) = listed(found("pgben_undone_20261123_020005", 1))
    assert undone.origin == "undone"
    (unclear,) = listed(found("pgben_undone_20269999_020005", 1))
    assert unclear.since is None


def test_no_other_database_is_listed() -> None:
    for name in ("pgben", "postgres", "pgben_restored", "outro_restored_20261123_020005"):
        assert listed(found(name, 1)) == []


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=63))
def test_every_name_that_restores_give_is_known_again(name: str) -> None:
    target = Target("postgres", name)
    for make in (restored_name, replaced_name, undone_name):
        assert may_be_left(make(name, MADE), target)
    assert not may_be_left(name, Target("postgres", "x"))


@pytest.mark.parametrize("elapsed", [timedelta(days=12), timedelta(days=30)])
def test_no_copy_is_removed_sooner_than_two_days_after_its_alarm(elapsed: timedelta) -> None:
    now = MADE + elapsed
    alarm = expiry_alarm(COPY, keep=RESTORED, now=now)
    until = datetime.fromisoformat(alarm.facts["until"])
    assert until == max(MADE + RESTORED, now + NOTICE)
    assert (alarm.kind, alarm.job) == ("expiring", COPY.job)


def test_the_digest_of_contents_tells_every_number_apart() -> None:
    tables = [TableCount(schema_name="public", table=name, rows=7) for name in ("a", "b")]
    first = contents_digest(tables, 0)
    assert contents_digest(reversed(tables), 0) == first
    more = [*tables[:1], tables[1].model_copy(update={"rows": 8})]
    for other in (contents_digest(more, 0), contents_digest(tables, 1)):
        assert other != first

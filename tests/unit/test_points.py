"""Claims about recovery points: what may join one, what state it has, which retention keeps."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.documents import (
    CrossCheck,
    Manifest,
    RecoveryPoint,
    StoredReferences,
)
from pgben_tasks.domain.layout import has_place, point_of, point_path
from pgben_tasks.domain.outlook import PointOutlook
from pgben_tasks.domain.points import (
    Candidate,
    KnownPoint,
    MemberFacts,
    choose_point,
    first_fitting,
    known_point,
    member_state,
    newest_good,
)
from pgben_tasks.domain.retention import Policy, plan, plan_points
from pgben_tasks.domain.states import BackupStanding, KnownBackup, State
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.domain.verdicts import judge_restorable
from pgben_tasks.errors import BackupNotFound, ManifestInvalid
from tests.support import samples
from tests.unit.test_outlook import WELL

START = samples.START
BUCKET = "bucket/documents"
DAY = timedelta(days=1)
POINT = samples.recovery_point()


# --- the document


def test_a_point_is_as_of_its_latest_database() -> None:
    later = samples.point_member("postgres/second", snapshot_time=START + timedelta(minutes=3))
    members = (*POINT.members, later)
    assert samples.recovery_point(members=members).moment == START + timedelta(minutes=3)
    assert RecoveryPoint.decode(POINT.encode(), where="here") == POINT


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"members": (POINT.members[1],)}, "joins no database with a bucket"),
        ({"members": (POINT.members[0],)}, "joins no database with a bucket"),
        ({"members": ()}, "joins no database with a bucket"),
        ({"members": POINT.members[::-1]}, "not sorted by target"),
        ({"members": (POINT.members[0], *POINT.members)}, "named twice"),
        ({"settle": 3601}, "began too early"),
        ({"settle": -1}, "greater than or equal to 0|at least 0"),
    ],
)
def test_what_is_no_point_is_not_read(fields: dict[str, Any], why: str) -> None:
    text = POINT.model_copy(update=fields).encode()
    with pytest.raises(ManifestInvalid, match=why):
        RecoveryPoint.decode(text, where="here")


def test_a_listing_that_began_just_late_enough_joins() -> None:
    assert samples.recovery_point(settle=3600).settle == 3600


def test_the_format_knows_points_and_nothing_like_them() -> None:
    path = point_path(POINT.id)
    assert str(point_of(path)) == POINT.id
    assert has_place(path)
    assert has_place(f"{path}.sig")
    for key in (f"{path}.old", "recovery-points/x.json", f"recovery-points/a/{POINT.id}.json"):
        assert point_of(key) is None
        assert not has_place(key)


# --- which snapshot joins


def candidate(minutes: int, *, good: bool = True) -> Candidate:
    return Candidate(backup=f"at {minutes}", listed=START + timedelta(minutes=minutes), good=good)


def test_the_first_good_snapshot_that_was_listed_late_enough_joins() -> None:
    found = [candidate(20), candidate(4), candidate(5, good=False), candidate(10)]
    after = START + timedelta(minutes=5)
    assert first_fitting(found, after) == candidate(10)
    assert first_fitting([candidate(5)], after) == candidate(5)
    assert first_fitting([candidate(4), candidate(9, good=False)], after) is None
    assert first_fitting([], after) is None


# --- its state


def of_states(database: str, bucket: str, **fields: Any) -> KnownPoint:
    facts = {
        ("postgres/pgben", str(samples.BACKUP)): MemberFacts(state=database, manifest=None),
        (BUCKET, str(samples.BACKUP)): MemberFacts(state=bucket, manifest=None),
    }
    return known_point(samples.recovery_point(**fields), facts)


@pytest.mark.parametrize(
    ("database", "bucket", "state"),
    [
        ("verified", "verified", "verified"),
        ("verified", "verified (unopened)", "verified (unopened)"),
        ("verified with exceptions", "verified", "verified with exceptions"),
        ("damaged", "verified", "damaged"),
        ("unverified", "suspect", "unverified"),
        ("verified", "expired", "missing"),
        ("not restorable here", "verified", "not restorable here"),
        ("stored", "damaged", "stored"),
    ],
)
def test_a_point_is_as_good_as_its_worst_member(database: str, bucket: str, state: str) -> None:
    found = of_states(database, bucket)
    assert found.state == state
    assert found.good is state.startswith("verified")


def test_a_member_that_is_gone_or_another_one_makes_a_point_bad() -> None:
    key = ("postgres/pgben", str(samples.BACKUP))
    bucket = {(BUCKET, str(samples.BACKUP)): MemberFacts(state="verified", manifest=None)}
    assert known_point(POINT, bucket).state == "missing"
    other = MemberFacts(state="verified", manifest=samples.sha256(b"another manifest"))
    assert known_point(POINT, {**bucket, key: other}).state == "damaged"
    same = MemberFacts(state="verified", manifest=samples.sha256(b"manifest"))
    assert known_point(POINT, {**bucket, key: same}).good


def test_a_good_backup_that_is_suspect_is_none_for_a_point() -> None:
    assert member_state("verified", suspect=True) == "suspect"
    assert member_state("damaged", suspect=True) == "damaged"
    assert not of_states("suspect", "verified").good


def test_a_point_is_good_with_a_backup_when_it_names_it_and_is_verified() -> None:
    wanted = (Target.parse(BUCKET), samples.BACKUP)
    other = (Target.parse("bucket/other"), samples.BACKUP)
    assert of_states("verified", "verified").is_good_with({other, wanted})
    assert not of_states("verified", "verified").is_good_with({other})
    assert not of_states("damaged", "verified").is_good_with({wanted})


# --- retention


def night(days_old: float, *, state: str = "verified") -> KnownPoint:
    formed = datetime(2026, 11, 23, 6, tzinfo=UTC) - timedelta(days=days_old)
    found = of_states(state, "verified")
    return replace(found, id=BackupId.make(formed, "0a0b0c"), moment=formed - timedelta(hours=1))


NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)


def kept(points: list[KnownPoint], **policy: Any) -> list[KnownPoint]:
    return [one for one, _ in plan_points(points, now=NOW, policy=Policy(**policy)).keep]


def test_points_expire_by_their_age_and_the_newest_verified_one_never() -> None:
    old, older, oldest = night(40), night(50), night(60)
    assert kept([oldest, old, older]) == [old]
    young = night(3)
    assert kept([oldest, young, old]) == [young]
    made = plan_points([oldest, young, old], now=NOW, policy=Policy())
    assert made.expire == (old, oldest)


def test_a_newest_point_that_is_damaged_does_not_push_out_the_last_verified_one() -> None:
    bad, good = night(35, state="damaged"), night(36)
    assert kept([good, bad]) == [bad, good]
    assert kept([bad]) == [bad], "while none is verified, none leaves"


def test_daily_weekly_and_monthly_points_are_kept_beyond_the_age() -> None:
    points = [night(days) for days in range(120)]
    young = kept(points, brake=Decimal(1))
    monthly = kept(points, keep_monthly=4, brake=Decimal(1))
    assert [one.started.month for one in monthly if one not in young] == [9, 8]
    assert kept(points, keep_daily=40, brake=Decimal(1)) == points[:40]


def test_many_points_never_leave_at_once() -> None:
    points = [night(days) for days in range(31, 41)]
    assert kept(points) == points
    (_, reasons) = plan_points(points, now=NOW, policy=Policy()).keep[-1]
    assert reasons == ("it would be one of 9 verified points of 10 at once",)
    assert kept(points, brake=Decimal(1)) == points[:1]


def test_members_of_kept_points_stay_and_say_why() -> None:
    started = NOW - timedelta(days=90)
    backups = [
        KnownBackup(
            id=BackupId.make(started + DAY * number, f"{number:06x}"),
            sequence=number,
            started=started + DAY * number,
            snapshot_time=started + DAY * number,
            standing=BackupStanding(state=State.VERIFIED),
            bytes=1,
        )
        for number in range(1, 6)
    ]
    joined = {backups[0].id: "20261123T060000Z-0a0b0c"}
    made = plan(backups, now=NOW, policy=Policy(), joined=joined)
    reasons = {str(one.backup): one.reasons for one in made.decisions}
    assert reasons[str(backups[0].id)] == ("of recovery point 20261123T060000Z-0a0b0c",)
    assert made.expire == (backups[1].id,)


def test_members_are_told_by_target() -> None:
    made = plan_points([night(3)], now=NOW, policy=Policy())
    for target in (Target("postgres", "pgben"), Target.parse(BUCKET)):
        assert made.members_of(target) == {samples.BACKUP: str(night(3).id)}
    assert made.members_of(Target("bucket", "others")) == {}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 400), st.sampled_from(["verified", "damaged", "suspect", "missing"])
        ),
        max_size=12,
        unique_by=lambda one: one[0],
    )
)
def test_the_newest_verified_point_is_never_removed(nights: list[tuple[int, str]]) -> None:
    points = [night(age, state=state) for age, state in nights]
    made = plan_points(points, now=NOW, policy=Policy(brake=Decimal(1)))
    stay = [one for one, reasons in made.keep if reasons]
    assert sorted([*stay, *made.expire], key=lambda one: one.id) == sorted(
        points, key=lambda one: one.id
    )
    best = newest_good(points)
    assert best is None or best in stay
    assert all(one.good or best is not None for one in made.expire)


# --- the verdict


def test_a_verified_point_that_is_recent_is_green_and_anything_else_is_yellow() -> None:
    def colours(*points: KnownPoint) -> list[tuple[str, str]]:
        outlook = PointOutlook.of(points, rpo=timedelta(hours=24))
        found = judge_restorable((), WELL, now=NOW, point=outlook)
        return [(one.colour, one.text) for one in found.reasons]

    assert colours(night(0.5)) == []
    assert colours() == [("yellow", "there is no verified recovery point")]
    assert colours(night(2)) == [
        ("yellow", "the newest verified recovery point is older than PGBEN_RPO")
    ]
    assert colours(night(-3)) == [
        ("yellow", "the newest verified recovery point is older than PGBEN_RPO")
    ], "a moment to come is a wrong clock's"
    assert colours(night(0.2, state="damaged"), night(0.5)) == [
        ("yellow", "the newest recovery point is damaged")
    ]


def checked(**faults: int) -> CrossCheck:
    kinds = ("missing", "unreadable", "size", "hash", "metadata", "orphan", "recoverable")
    counts = {kind: faults.get(kind, 0) for kind in kinds}
    return CrossCheck(references=9, objects=9, faults=None, **counts)


def test_faulty_rows_are_yellow_or_red_and_orphans_are_nothing() -> None:
    def told(check: CrossCheck | None, **settings: bool) -> list[tuple[str, str]]:
        point = replace(night(0.5), check=check)
        outlook = PointOutlook.of([point], rpo=timedelta(hours=24), **settings)
        found = judge_restorable((), WELL, now=NOW, point=outlook)
        return [(one.colour, one.text) for one in found.reasons]

    rows = "rows of the newest verified recovery point whose objects are not as they say: 3"
    assert told(checked(missing=2, metadata=1)) == [("yellow", rows)]
    assert told(checked(missing=2, metadata=1), strict=True) == [("red", rows)]
    assert told(checked(orphan=5), strict=True, checked=True) == []
    assert told(None) == []
    assert told(None, checked=True) == [
        ("yellow", "rows and objects of the newest verified recovery point were not compared")
    ]


def test_a_snapshot_of_a_bucket_has_no_references() -> None:
    stored = StoredReferences(size=1, sha256="0" * 64, lines="0" * 64, count=1, names=("x",))
    text = samples.manifest(references=stored)
    assert text.has_lines
    assert Manifest.decode(text.encode(), where="here") == text
    bucket = text.model_copy(update={"postgres": None, "target": BUCKET})
    with pytest.raises(ManifestInvalid, match="a bucket has no references"):
        Manifest.decode(bucket.encode(), where="here")


def test_where_there_is_no_recovery_point_none_can_be_restored() -> None:
    with pytest.raises(BackupNotFound, match="there is no recovery point\nHINT"):
        choose_point([], None)
    with pytest.raises(BackupNotFound, match="there is no recovery point '20261130T050000Z"):
        choose_point([], BackupId.parse("20261130T050000Z-1f0c9a"))

"""Claims about what retention keeps, removes and refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.retention import Plan, Policy, plan, unreferenced
from pgben_tasks.domain.states import BackupStanding, KnownBackup, State
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import PruneRefused
from tests.support import samples

NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
DAY = timedelta(days=1)
GOOD = BackupStanding(state=State.VERIFIED)
NEVER = Policy(brake=Decimal(1))


def known(
    sequence: int, days_old: float, standing: BackupStanding = GOOD, *, suffix: str = ""
) -> KnownBackup:
    started = NOW - timedelta(days=days_old)
    return KnownBackup(
        id=BackupId.make(started, suffix or f"{sequence:06x}"),
        sequence=sequence,
        started=started,
        snapshot_time=started,
        standing=standing,
        bytes=100,
    )


def nightly(count: int, *, oldest: int) -> list[KnownBackup]:
    """Make ``count`` verified backups a day apart, the first one ``oldest`` days old."""
    return [known(number + 1, oldest - number) for number in range(count)]


def sequences(made: Plan, history: list[KnownBackup]) -> set[int]:
    by_id = {one.id: one.sequence for one in history}
    return {by_id[one] for one in made.expire}


def reasons(made: Plan, backup: KnownBackup) -> tuple[str, ...]:
    return next(one.reasons for one in made.decisions if one.backup == backup.id)


def test_what_is_past_its_age_expires_oldest_first() -> None:
    history = nightly(32, oldest=32)
    made = plan(history, now=NOW, policy=Policy())
    assert made.refused is None
    assert made.expire == (history[0].id, history[1].id)
    assert reasons(made, history[2]) == ("younger than 30 days",)
    assert len(made.keep) == 30
    made.check()


def test_prune_keeps_the_last_verified_backups_however_old() -> None:
    history = nightly(5, oldest=400)
    made = plan(history, now=NOW, policy=NEVER)
    assert sequences(made, history) == {1, 2}
    assert reasons(made, history[-1]) == ("one of the 3 newest verified",)


def test_the_newest_drilled_backup_stays() -> None:
    drilled = BackupStanding(state=State.VERIFIED, drilled=NOW)
    history = [known(1, 90, drilled), known(2, 80, drilled), *nightly(3, oldest=3)]
    history = [*history[:2], known(3, 3), known(4, 2), known(5, 1)]
    made = plan(history, now=NOW, policy=NEVER)
    assert sequences(made, history) == {1}
    assert reasons(made, history[1]) == ("newest drilled",)


def test_a_held_backup_stays() -> None:
    history = [
        known(1, 90, BackupStanding(state=State.DAMAGED, hold=Hold())),
        known(2, 3),
        known(3, 2),
        known(4, 1),
    ]
    made = plan(history, now=NOW, policy=NEVER)
    assert not made.expire
    assert reasons(made, history[0]) == ("held until it is released",)


def test_what_a_job_works_on_stays_however_old_and_of_any_state() -> None:
    damaged = BackupStanding(state=State.DAMAGED)
    history = [known(1, 90), known(2, 80, damaged), known(3, 3), known(4, 2), known(5, 1)]
    named = frozenset({str(one.id) for one in history[:2]} | {"latest"})
    made = plan(history, now=NOW, policy=NEVER, named=named)
    assert not made.expire
    assert reasons(made, history[0]) == reasons(made, history[1]) == ("in use by a job",)
    assert sequences(plan(history, now=NOW, policy=NEVER), history) == {1, 2}


@pytest.mark.parametrize("state", [State.UNVERIFIED, State.DAMAGED])
def test_a_bad_backup_leaves_after_the_same_age_when_a_newer_verified_exists(state: State) -> None:
    bad = BackupStanding(state=state)
    history = [known(1, 90, bad), known(2, 80), known(3, 40, bad)]
    made = plan(history, now=NOW, policy=NEVER)
    assert sequences(made, history) == {1}
    assert reasons(made, history[2]) == ("no newer verified backup",)


def test_daily_weekly_and_monthly_keep_the_newest_of_their_period() -> None:
    history = nightly(120, oldest=120)
    policy = Policy(max_age=DAY, keep_daily=5, keep_weekly=3, keep_monthly=3, brake=Decimal(1))
    made = plan(history, now=NOW, policy=policy)
    said = {one.backup.started.date().isoformat(): one.reasons for one in made.decisions}
    assert said["2026-11-22"] == (
        "younger than 1 day",
        "one of the 3 newest verified",
        "newest of 2026-11-22",
        "newest of week 2026-W47",
        "newest of month 2026-11",
    )
    assert said["2026-11-18"] == ("newest of 2026-11-18",)
    assert said["2026-11-17"] == ()
    assert said["2026-11-15"] == ("newest of week 2026-W46",)
    assert said["2026-10-31"] == ("newest of month 2026-10",)
    assert said["2026-09-30"] == ("newest of month 2026-09",)
    assert len(made.keep) == 5 + 2 + 2


def test_periods_are_those_of_the_configured_zone() -> None:
    # 02:30 UTC on November 1 is still October 31 in Fortaleza.
    late = known(1, 22 + 3.5 / 24)
    assert late.started.isoformat() == "2026-11-01T02:30:00+00:00"
    for zone, month in ((ZoneInfo("America/Fortaleza"), "2026-10"), (UTC, "2026-11")):
        policy = Policy(max_age=DAY, keep_monthly=1, floor=0, zone=zone)
        made = plan([late], now=NOW, policy=policy)
        assert reasons(made, late) == (f"newest of month {month}",)


def test_the_sequence_says_what_is_newest_not_a_clock() -> None:
    # The clock ran backwards while these were made: the highest numbers have the oldest dates.
    history = [known(number, 40 + number) for number in range(1, 6)]
    made = plan(history, now=NOW, policy=NEVER)
    assert sequences(made, history) == {1, 2}


def test_a_target_without_backups_has_an_empty_plan() -> None:
    made = plan([], now=NOW, policy=Policy(interval=DAY))
    assert (made.decisions, made.refused) == ((), None)


def test_no_verified_backup_refuses() -> None:
    made = plan([known(1, 90, BackupStanding(state=State.UNVERIFIED))], now=NOW, policy=Policy())
    assert made.refused == "no backup is verified, so none may be removed"
    with pytest.raises(PruneRefused, match="no backup is verified") as caught:
        made.check()
    assert "pgben verify" in caught.value.hint


def test_the_very_first_backup_refuses_nothing() -> None:
    # Its chain prunes before it is recorded: it is unverified then, and nothing could leave.
    made = plan([known(1, 0.01, BackupStanding(state=State.UNVERIFIED))], now=NOW, policy=Policy())
    assert (made.refused, made.expire) == (None, ())


def test_an_unacknowledged_suspect_is_kept_and_stops_pruning() -> None:
    suspect = BackupStanding(state=State.VERIFIED, suspect="rows shrank from 9 to 1")
    history = [*nightly(6, oldest=90), known(7, 0.5, suspect)]
    made = plan(history, now=NOW, policy=NEVER)
    assert made.refused is not None
    assert "rows shrank from 9 to 1" in made.refused
    assert not made.expire
    assert "suspect, not acknowledged" in reasons(made, history[-1])
    assert set(made.keep) == {one.id for one in history}


def test_an_acknowledged_suspect_is_an_ordinary_backup() -> None:
    accepted = BackupStanding(state=State.VERIFIED, suspect="rows shrank", acknowledged=True)
    history = [known(1, 90, accepted), known(2, 3), known(3, 2), known(4, 1)]
    made = plan(history, now=NOW, policy=NEVER)
    assert (made.refused, sequences(made, history)) == (None, {1})


def test_the_brake_stops_a_run_that_would_remove_too_much() -> None:
    history = nightly(10, oldest=35)
    assert plan(history[:5], now=NOW, policy=Policy()).refused is None
    history = [known(number, 60 - number) for number in range(1, 11)]
    made = plan(history, now=NOW, policy=Policy())
    assert made.refused is not None
    assert made.refused.startswith("it would remove 7 of 10 verified backups at once")
    assert made.explain()[-1] == (
        str(history[0].id),
        "keep",
        "would expire, but pruning is refused",
    )


def test_two_backups_may_always_leave() -> None:
    history = [known(1, 90), known(2, 80), known(3, 3), known(4, 2), known(5, 1)]
    made = plan(history, now=NOW, policy=Policy(brake=Decimal(0)))
    assert (made.refused, sequences(made, history)) == (None, {1, 2})


def test_the_brake_lets_two_go_and_never_three_beyond_its_share() -> None:
    ages = [90, 80, 70, 4, 3, 2, 1]
    history = [known(number + 1, age) for number, age in enumerate(ages)]
    refused = plan(history, now=NOW, policy=Policy(brake=Decimal("0.2"))).refused
    assert refused is not None
    assert refused.startswith("it would remove 3 of 7 verified backups at once, more than 2")


def test_the_share_is_one_of_the_verified_backups_alone() -> None:
    # Three of nine verified ones leave: more than 30 %, however many unverified ones there are.
    bad = BackupStanding(state=State.UNVERIFIED)
    ages = [90, 80, 70, 6, 5, 4, 3, 2, 1]
    history = [known(number + 1, age) for number, age in enumerate(ages)]
    history += [known(number + 10, 0.5, bad) for number in range(9)]
    assert plan(history, now=NOW, policy=Policy(brake=Decimal("0.3"))).refused is not None
    assert plan(history, now=NOW, policy=Policy(brake=Decimal("0.34"))).refused is None


def test_the_brake_compares_exactly() -> None:
    # 0.29 of 100 are 29 backups; in binary floating point they would be 28.999….
    history = [known(number, 100 if number <= 29 else 1) for number in range(1, 101)]
    policy = Policy(brake=Decimal("0.29"))
    assert plan(history, now=NOW, policy=policy).refused is None
    history[29] = known(30, 100)
    assert plan(history, now=NOW, policy=policy).refused is not None


def test_a_clock_before_any_backup_refuses() -> None:
    history = [*nightly(4, oldest=90), known(9, -1)]
    refused = plan(history, now=NOW, policy=NEVER).refused
    assert refused is not None
    assert "began after the present time" in refused


def test_a_silence_of_over_three_intervals_refuses() -> None:
    history = nightly(5, oldest=7)
    assert plan(history, now=NOW, policy=Policy(interval=DAY)).refused is None
    refused = plan(history[:4], now=NOW, policy=Policy(interval=DAY)).refused
    assert refused is not None
    assert "over 3 scheduled intervals old" in refused


def test_the_nights_own_backup_does_not_vouch_for_the_clock() -> None:
    # Forty nights later, or so the clock says: the backup that was made by that clock is new.
    history = [*nightly(5, oldest=48), known(6, 0.01)]
    policy = Policy(interval=DAY, brake=Decimal(1))
    assert sequences(plan(history, now=NOW, policy=policy), history) == {1, 2, 3}
    made = plan(history, now=NOW, policy=policy, own=history[-1].id)
    assert made.refused is not None
    assert f"the newest backup '{history[4].id}' is over 3 scheduled intervals" in made.refused
    assert made.expire == ()
    # The very first night has nothing to compare with.
    assert plan(history[-1:], now=NOW, policy=policy, own=history[-1].id).refused is None


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        plan([], now=datetime(2026, 11, 23), policy=Policy())  # noqa: DTZ001


def test_every_backup_is_explained() -> None:
    history = nightly(32, oldest=32)
    rows = plan(history, now=NOW, policy=Policy(max_age=timedelta(hours=721))).explain()
    assert rows[0][1:] == ("keep", "younger than 30 days, 1:00:00, one of the 3 newest verified")
    assert rows[-1] == (str(history[0].id), "expire", "past its age, and no rule keeps it")
    assert len(rows) == 32


def manifest_naming(backup: str, *packs: str) -> Manifest:
    return samples.manifest(
        backup=backup,
        packs=tuple(
            samples.pack(
                path=f"packs/postgres/pgben/{path}",
                members=(samples.member(f"{number}.dat", b"x"),),
            )
            for number, path in enumerate(packs)
        ),
    )


def test_only_packs_that_no_remaining_manifest_names_are_unreferenced() -> None:
    old, shared = "20261101T050000Z-aaaaaa/1.tar", "20261101T050000Z-aaaaaa/2.tar"
    running = "packs/postgres/pgben/20261123T050000Z-cccccc/1.tar"
    gone = manifest_naming("20261101T050000Z-aaaaaa", old, shared)
    remaining = manifest_naming("20261102T050000Z-bbbbbb", shared)
    stored = [f"packs/postgres/pgben/{old}", f"packs/postgres/pgben/{shared}", running]
    found = unreferenced(stored, remaining=[remaining], gone=[gone])
    assert found == (f"packs/postgres/pgben/{old}",)
    assert unreferenced([running], remaining=[remaining], gone=[gone]) == ()


standings = st.builds(
    BackupStanding,
    state=st.sampled_from([State.VERIFIED, State.VERIFIED, *State]),
    suspect=st.sampled_from([None, None, None, "rows shrank"]),
    acknowledged=st.booleans(),
    hold=st.sampled_from([None, None, Hold(), Hold(until=NOW), Hold(until=NOW + DAY)]),
    drilled=st.sampled_from([None, NOW]),
)


@st.composite
def histories(draw: st.DrawFn) -> list[KnownBackup]:
    ages = draw(st.lists(st.floats(min_value=-1, max_value=400), max_size=30))
    return [known(number + 1, age, draw(standings)) for number, age in enumerate(ages)]


limits = st.none() | st.integers(min_value=0, max_value=6)
policies = st.builds(
    Policy,
    max_age=st.integers(min_value=0, max_value=60).map(lambda days: timedelta(days=days)),
    keep_daily=limits,
    keep_weekly=limits,
    keep_monthly=limits,
    brake=st.sampled_from([Decimal("0.2"), Decimal(1)]),
    interval=st.none() | st.just(DAY) | st.just(100 * DAY),
)


@given(histories(), policies)
def test_no_plan_ever_breaks_a_floor(history: list[KnownBackup], policy: Policy) -> None:
    made = plan(history, now=NOW, policy=policy)
    expiring = set(made.expire)
    newest_first = sorted(history, key=lambda one: -one.sequence)
    good = [one for one in newest_first if one.standing.counts]
    protected = {one.id for one in good[:3]}
    protected |= {one.id for one in [two for two in good if two.standing.drilled][:1]}
    protected |= {
        one.id for one in history if one.standing.hold_at(NOW) or one.standing.open_suspicion
    }
    protected |= {one.id for one in history if NOW - one.started <= policy.max_age}
    assert not expiring & protected
    assert expiring.isdisjoint(made.keep)
    assert expiring | set(made.keep) == {one.id for one in history}
    removed = [one for one in good if one.id in expiring]
    assert len(removed) <= 2 or len(removed) <= policy.brake * len(good)
    for one in history:
        if one.id in expiring and not one.standing.counts:
            assert any(other.sequence > one.sequence for other in good)


@given(histories(), policies)
def test_doubt_removes_nothing(history: list[KnownBackup], policy: Policy) -> None:
    made = plan(history, now=NOW, policy=policy)
    doubtful = any(one.standing.open_suspicion or one.started > NOW for one in history)
    unverified = not any(one.standing.counts for one in history)
    if unverified:
        assert not made.expire
    if doubtful or (unverified and any(NOW - one.started > policy.max_age for one in history)):
        assert made.refused is not None
        assert not made.expire


@given(histories(), policies, st.randoms())
def test_the_order_given_does_not_matter(
    history: list[KnownBackup], policy: Policy, random: Random
) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)
    assert plan(shuffled, now=NOW, policy=policy) == plan(history, now=NOW, policy=policy)

"""Four hundred nights of anything: no promise of the repository format is ever broken.

A history is a rule and some incidents; every other night is an ordinary one. After each night the
plan is made and carried out, and what left is held against ``tests/support/retention_promises.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.retention import Clocks, Policy, plan
from pgben_tasks.domain.states import BackupStanding, KnownBackup, State
from pgben_tasks.domain.target import BackupId
from tests.support.retention_promises import PROMISES, Look, Past, Rules, expected

pytestmark = pytest.mark.unmeasured

NIGHTS: Final = 400
#: In Fortaleza it is still the evening before, of another day, week, month and year.
FIRST: Final = datetime(2026, 1, 1, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
CLOCKS: Final = ("catalog", "worker", "store")

Incident = tuple[int, str, int]


@dataclass
class History:
    """A target's life: its backups as records, and the state of its surroundings."""

    rules: Rules
    backups: list[Past] = field(default_factory=list)
    #: How many left, prune after prune.
    left: list[int] = field(default_factory=list)
    check: Callable[[Look], None] = lambda _look: None
    last: Look | None = None
    wrong: dict[str, timedelta] = field(default_factory=dict)
    failing: int = 0
    made: int = 0

    def live(self, incidents: list[Incident], nights: int = NIGHTS) -> None:
        """Let nights pass, each with what happens in it."""
        by_night: dict[int, list[tuple[str, int]]] = {}
        for night, what, amount in incidents:
            by_night.setdefault(night, []).append((what, amount))
        for night in range(nights):
            happening = dict(by_night.get(night, ()))
            self.surroundings(happening)
            self.night(FIRST + night * DAY, happening)

    def surroundings(self, happening: dict[str, int]) -> None:
        """Do what people, disks and clocks do by day."""
        newest_first = sorted(self.backups, key=lambda one: -one.sequence)
        for what, amount in happening.items():
            chosen = newest_first[amount % len(newest_first)] if newest_first else None
            if what == "failures":
                self.failing = amount % 12
            elif what == "acknowledge":
                for one in self.backups:
                    # A damaged backup cannot be acknowledged.
                    one.acknowledged |= one.suspect and not one.damaged
            elif what.startswith("clock of "):
                self.wrong[what.removeprefix("clock of ")] = (amount - 40) * DAY / 4
            elif what == "all clocks":
                self.wrong = dict.fromkeys(CLOCKS, (amount - 40) * DAY)
            elif what == "clocks set right":
                self.wrong.clear()
            elif chosen is not None:
                self.befall(chosen, what)

    def befall(self, one: Past, what: str) -> None:
        """Let something happen to one backup."""
        one.damaged = what == "damage" or (one.damaged and what != "repair")
        one.verified |= what == "repair"
        one.held |= what == "hold"
        one.drilled |= what == "drill" and one.verified and not one.damaged

    def night(self, moment: datetime, happening: dict[str, int]) -> None:
        """Back up unless that fails, prune, and read back unless that fails."""
        now = moment + self.wrong.get("catalog", timedelta(0))
        if self.failing:
            self.failing -= 1
            self.prune(moment + 2 * timedelta(hours=1), own=None, happening=happening)
            return
        self.made += 1
        new = Past(sequence=self.made, started=now, suspect="suspect" in happening)
        self.backups.append(new)
        self.prune(moment + timedelta(minutes=20), own=new.sequence, happening=happening)
        new.verified = "unread" not in happening

    def prune(self, moment: datetime, *, own: int | None, happening: dict[str, int]) -> None:
        """Plan, check the plan against the promises, and carry it out."""
        rules = replace(self.rules, brake=Decimal(1)) if "brake off" in happening else self.rules
        shown = {name: moment + self.wrong.get(name, timedelta(0)) for name in CLOCKS}
        look = Look(
            before=self.backups,
            now=shown["catalog"],
            rules=rules,
            other_clocks=(shown["worker"], shown["store"]),
            own=own,
        )
        self.last = replace(look, gone=decided(look, Clocks(**shown)))
        self.check(self.last)
        self.backups = [one for one in self.backups if one.sequence not in self.last.gone]
        self.left.append(len(self.last.gone))


def decided(look: Look, clocks: Clocks) -> frozenset[int]:
    """Ask the code under test what leaves."""
    known = {one.sequence: described(one) for one in look.before}
    rules = look.rules
    policy = Policy(
        max_age=timedelta(days=rules.days),
        keep_daily=rules.daily or None,
        keep_weekly=rules.weekly or None,
        keep_monthly=rules.monthly or None,
        zone=rules.zone,
        brake=rules.brake,
        interval=rules.interval,
    )
    own = None if look.own is None else known[look.own].id
    made = plan(list(known.values()), now=look.now, policy=policy, own=own)
    doubt = clocks.doubt()
    if doubt is not None:
        made = made.refusing(*doubt)
    gone = set(made.expire)
    return frozenset(sequence for sequence, one in known.items() if one.id in gone)


@cache
def named(started: datetime, sequence: int) -> BackupId:
    """Return the id of a backup; cached, because reading a date is slow."""
    return BackupId.make(started, f"{sequence:06x}")


def described(one: Past) -> KnownBackup:
    """Tell the code under test of a backup in its own words."""
    read = State.VERIFIED if one.sequence % 2 else State.VERIFIED_UNOPENED
    state = State.DAMAGED if one.damaged else read if one.verified else State.UNVERIFIED
    return KnownBackup(
        id=named(one.started, one.sequence),
        sequence=one.sequence,
        started=one.started,
        snapshot_time=one.started,
        standing=BackupStanding(
            state=state,
            suspect="rows shrank" if one.suspect else None,
            acknowledged=one.acknowledged,
            hold=Hold() if one.held else None,
            drilled=one.started if one.drilled else None,
        ),
        bytes=100,
    )


WHAT: Final = (
    *("failures", "unread", "suspect", "acknowledge", "damage", "repair", "hold", "drill"),
    *("brake off", "all clocks", "clocks set right"),
    *(f"clock of {name}" for name in CLOCKS),
)
#: What somebody does about an incident, mostly within days.
REMEDIES: Final = {
    "suspect": "acknowledge",
    "damage": "repair",
    "all clocks": "clocks set right",
    **dict.fromkeys((f"clock of {name}" for name in CLOCKS), "clocks set right"),
}
incidents = st.lists(
    st.tuples(
        st.integers(0, NIGHTS - 1),
        st.sampled_from(WHAT),
        st.integers(0, 80),
        st.none() | st.integers(1, 9),
    ).map(lambda drawn: with_remedy(*drawn)),
    max_size=30,
).map(lambda found: [incident for some in found for incident in some])


def with_remedy(night: int, what: str, amount: int, days: int | None) -> list[Incident]:
    """Return an incident, and what is done about it ``days`` later."""
    remedy = REMEDIES.get(what)
    later = [(night + days, remedy, amount)] if remedy and days else []
    return [(night, what, amount), *later]


rules = st.builds(
    Rules,
    days=st.sampled_from([0, 1, 5, 20, 30, 60]),
    daily=st.integers(0, 40),
    weekly=st.integers(0, 8),
    monthly=st.integers(0, 12),
    brake=st.sampled_from([Decimal(0), Decimal("0.05"), Decimal("0.2"), Decimal(1)]),
    interval=st.sampled_from([DAY, DAY / 2, 7 * DAY]),
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(rules, incidents)
@example(Rules(), [(200, "all clocks", 60), (203, "clocks set right", 0)])
@example(Rules(days=5, daily=20, weekly=3), [(100, "damage", 0), (100, "hold", 0)])
@example(
    Rules(days=1, monthly=12), [(100, "drill", 0), (180, "suspect", 0), (190, "acknowledge", 0)]
)
def test_no_promise_is_ever_broken_and_the_rest_leaves(
    rules: Rules, incidents: list[Incident]
) -> None:
    def check(look: Look) -> None:
        for promise in PROMISES:
            promise(look)
        assert look.gone == expected(look)

    history = History(rules, check=check)
    history.live(incidents)
    assert len(history.left) == NIGHTS


def lived(rules: Rules, *incidents: Incident) -> History:
    history = History(rules)
    history.live(list(incidents))
    return history


def test_a_year_without_incidents_keeps_what_the_rules_say_and_no_more() -> None:
    history = lived(Rules(days=30, daily=7, weekly=8, monthly=12))
    today = (FIRST + (NIGHTS - 1) * DAY).date()
    kept = {(FIRST + (one.sequence - 1) * DAY).date() for one in history.backups}
    assert today == date(2027, 2, 4)
    # Thirty days, the Sunday evenings of eight weeks, the last evenings of twelve months; what is
    # an evening there has the next day's date here.
    young = {today - days * DAY for days in range(30)}
    mondays = {date(2026, 12, 21), date(2026, 12, 28), date(2027, 1, 4)}
    firsts = {date(2026, month, 1) for month in range(4, 13)} | {date(2027, 1, 1)}
    assert kept == young | mondays | firsts


@pytest.mark.parametrize(
    ("incident", "nights"),
    [
        ((200, "suspect", 0), range(200, 230)),
        ((200, "clock of store", 41), range(200, 230)),
        ((200, "clock of worker", 39), range(200, 230)),
        ((200, "clock of catalog", 41), range(200, 230)),
        # Forty days at once: the silence stops the first night, the brake every other.
        ((200, "all clocks", 80), range(200, 230)),
        # A clock that is a day behind is believed again when it is past what it once showed.
        ((200, "all clocks", 39), [200]),
        # Four nights without a backup: three intervals later it stops, and for one more night.
        ((200, "failures", 4), [202, 203, 204]),
    ],
)
def test_after_this_nothing_leaves_until_it_is_settled(
    incident: Incident, nights: Sequence[int]
) -> None:
    assert lived(Rules()).left[200:] == [1] * 200
    left = lived(Rules(), incident).left
    assert [night for night in range(200, 230) if not left[night]] == list(nights)


def noticed(look: Look) -> set[Callable[[Look], None]]:
    """Return the promises that a look breaks."""
    broken = set()
    for promise in PROMISES:
        try:
            promise(look)
        except AssertionError:
            broken.add(promise)
    return broken


def test_every_promise_can_be_broken() -> None:
    """Remove everything from one history after another: each promise must notice its own."""
    found: set[Callable[[Look], None]] = set()
    for incidents in (
        [(100, "drill", 0), (101, "hold", 0), (399, "suspect", 0)],
        [(399, "all clocks", 80)],
        [(night, "unread", 0) for night in range(NIGHTS)],
    ):
        last = lived(Rules(weekly=8), *incidents).last
        assert last is not None
        found |= noticed(replace(last, gone=frozenset(one.sequence for one in last.before)))
    assert found == set(PROMISES)

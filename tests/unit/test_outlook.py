"""The two verdicts: red when something is not as it must be, yellow when it will not stay so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.outlook import (
    Fault,
    Keys,
    ListedBackup,
    Presence,
    Surroundings,
    TargetOutlook,
)
from pgben_tasks.domain.restorability import RestoreSite
from pgben_tasks.domain.space import Forecast, Usage, forecast
from pgben_tasks.domain.verdicts import judge_restorable, judge_running

NOW = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WELL = Surroundings(missing_roles=(), reconciler="runs")


def kept(age: timedelta = HOUR, **fields: Any) -> ListedBackup:
    values: dict[str, Any] = {"backup": "one", "state": "verified", "taken": NOW - age}
    return ListedBackup(**{**values, **fields})


def target(*backups: ListedBackup, **fields: Any) -> TargetOutlook:
    values: dict[str, Any] = {"target": "postgres/pgben", "rpo": DAY, "verify_every": 7 * DAY}
    return TargetOutlook(backups=backups, **{**values, "failures": 0, **fields})


def colour(*targets: TargetOutlook, surroundings: Surroundings = WELL) -> str:
    return judge_restorable(targets, surroundings, now=NOW).colour


def running(surroundings: Surroundings, *targets: TargetOutlook) -> str:
    return judge_running(targets, surroundings).colour


def place(
    kind: Any = "spool", *, used: int = 50, capacity: int | None = 100, tonight: int = 1
) -> Forecast:
    usage = Usage(used=used, capacity=capacity)
    return forecast(kind, "node:/spool", usage, tonight=tonight, critical_share=0.8)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (
            place(used=90),
            "'node:/spool' is fuller than PGBEN_DISK_CRITICAL: 10 B of 100 B are free",
        ),
        (
            place(tonight=51),
            "needs about 51 B by earlier nights, and 'node:/spool' has 50 B of 100 B",
        ),
        (place("restore", tonight=51), "a restore of the largest database beside needs about 51 B"),
    ],
)
def test_a_place_that_fills_is_said_with_its_numbers(one: Forecast, says: str) -> None:
    (reason,) = judge_running([], replace(WELL, space=(one,))).reasons
    assert says in reason.text
    assert "The disk fills" in reason.hint


def test_a_fresh_verified_backup_and_living_processes_are_green() -> None:
    verdict = judge_restorable([target(kept())], WELL, now=NOW)
    assert (verdict.colour, verdict.reasons) == ("green", ())
    assert colour(target(kept(state="verified (unopened)"))) == "green"
    # A snapshot whose unreadable objects somebody acknowledged is what a restore would take.
    assert colour(target(kept(state="verified with exceptions"))) == "green"


@pytest.mark.parametrize(
    "one",
    [
        target(),
        target(kept(state="stored")),
        target(kept(state="unverified")),
        target(kept(state="damaged")),
        target(kept(suspect="90 % fewer rows")),
        target(kept(age=DAY + HOUR)),
        target(kept(age=-60 * DAY)),
        target(kept(taken=None)),
        target(kept(state="not restorable here", needs="a client")),
    ],
)
def test_a_target_without_a_good_backup_that_is_young_enough_is_red(one: TargetOutlook) -> None:
    assert colour(one) == "red"
    assert colour(target(kept()), one) == "red", "one such target is enough"


def test_a_backup_of_the_future_is_no_proof_and_the_clock_is_named() -> None:
    minute = timedelta(minutes=1)
    assert colour(target(kept(age=-4 * minute))) == "green", "clocks differ a little"
    verdict = judge_restorable([target(kept(age=-6 * minute))], WELL, now=NOW)
    assert verdict.reasons[0].text == (
        "the newest verified backup of 'postgres/pgben' is dated in the future"
    )
    assert "clock" in verdict.reasons[0].hint


def test_what_a_backup_needs_is_said() -> None:
    unfit = kept(state="not restorable here", needs="a PostgreSQL client of version 14 to 16")
    newest = judge_restorable([target(unfit, kept())], WELL, now=NOW)
    assert newest.colour == "yellow"
    assert "it needs a PostgreSQL client of version 14 to 16" in newest.reasons[0].text
    older = judge_restorable([target(kept(), unfit, unfit)], WELL, now=NOW)
    assert [reason.text for reason in older.reasons] == [
        "older backups of 'postgres/pgben' that cannot be restored here: 2"
    ]


@pytest.mark.parametrize(
    ("site", "says"),
    [
        (RestoreSite(clients=None, current=False), "no restore worker has published its clients"),
        (RestoreSite(clients=(), current=False), "by the clients that were published last"),
    ],
)
def test_a_restore_worker_that_is_down_is_not_known_and_yellow(
    site: RestoreSite, says: str
) -> None:
    verdict = judge_restorable([target(kept())], replace(WELL, restore_site=site), now=NOW)
    assert verdict.colour == "yellow"
    assert says in verdict.reasons[0].text
    living = RestoreSite(clients=(), current=True)
    assert colour(target(kept()), surroundings=replace(WELL, restore_site=living)) == "green"


@pytest.mark.parametrize(
    "one",
    [
        target(kept(suspect="shrank"), kept()),
        target(kept(state="stored"), kept()),
        target(kept(), kept(state="damaged")),
        target(kept(), kept(state="missing")),
        target(kept(), kept(age=8 * DAY), last_full_verification=NOW - 8 * DAY),
    ],
)
def test_what_threatens_the_next_restore_is_yellow(one: TargetOutlook) -> None:
    assert colour(one) == "yellow"


@pytest.mark.parametrize(
    ("surroundings", "expected"),
    [
        (WELL, "green"),
        (replace(WELL, catalog_away=Fault("it does not answer")), "red"),
        (replace(WELL, broker_away=Fault("it does not answer")), "red"),
        (replace(WELL, disks_away=Fault("they do not answer")), "red"),
        (replace(WELL, missing_roles=("backup",)), "red"),
        (replace(WELL, reconciler="silent"), "red"),
        (replace(WELL, reconciler="runs without beat"), "yellow"),
        (replace(WELL, reconciler="never ran"), "yellow"),
        (replace(WELL, full_disks=("spool",)), "yellow"),
        (replace(WELL, space=(place(used=90),)), "yellow"),
        (replace(WELL, space=(place(tonight=51),)), "yellow"),
        (replace(WELL, space=(place("restore", tonight=51),)), "yellow"),
        (replace(WELL, space=(place(), place(capacity=None))), "green"),
        (replace(WELL, protected=(Presence(target="postgres/pgben"),)), "green"),
        (replace(WELL, protected=(Presence(target="postgres/pgben", gone=True),)), "red"),
        (replace(WELL, protected=(Presence(target="bucket/a", fault=Fault("away")),)), "red"),
        (replace(WELL, protected=(Presence(target="bucket/a", asked=False),)), "green"),
    ],
)
def test_what_does_not_work_is_of_the_second_verdict_only(
    surroundings: Surroundings, expected: str
) -> None:
    assert running(surroundings, target(kept())) == expected
    assert colour(target(kept()), surroundings=surroundings) == "green"


def test_an_installation_that_protects_nothing_is_not_green() -> None:
    verdict = judge_restorable([], replace(WELL, protects=False), now=NOW)
    assert (verdict.colour, verdict.reasons[0].text) == ("yellow", "nothing is protected")


def test_what_is_gone_is_told_with_its_way_back_unless_there_is_none() -> None:
    gone = replace(
        WELL,
        protected=(
            Presence(target="postgres/pgben", gone=True),
            Presence(target="bucket/papers", gone=True),
        ),
    )
    bucket = target(target="bucket/papers")
    hints = [one.hint for one in judge_running([target(kept()), bucket], gone).reasons]
    assert "`pgben restore pgben --in-place --confirm pgben`" in hints[0]
    assert hints[1].startswith("there is no backup")
    # A job would only wait where there is no broker or no catalog.
    fault = Fault("it is away")
    for lost in (replace(gone, broker_away=fault), replace(gone, catalog_away=fault)):
        reasons = judge_running([target(kept())], lost).reasons
        said = " ".join(one.hint for one in reasons)
        assert "`pgben restore pgben --direct --into pgben`" in said
        assert "restore bucket/papers --in-place --confirm papers --direct`" in said
    # Where the repository is away, whether there is one is not known.
    hints = [one.hint for one in judge_running([], gone).reasons]
    assert "`pgben restore bucket/papers --in-place --confirm papers`" in hints[1]


UNUSABLE = Keys(set_here=True, fault=Fault("it cannot be read"), node="here")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (Keys(set_here=True, restorers=()), "green"),
        (Keys(set_here=False, restorers=("restore.here",), node="here"), "green"),
        (Keys(set_here=False, restorers=()), "yellow"),
        (Keys(set_here=False, restorers=None), "yellow"),
        (replace(UNUSABLE, restorers=("restore.there",)), "yellow"),
        (replace(UNUSABLE, restorers=("restore.here",)), "red"),
        (replace(UNUSABLE, restorers=()), "red"),
        (replace(UNUSABLE, restorers=None), "red"),
    ],
)
def test_nothing_is_restorable_without_a_key_that_somebody_may_hold(
    keys: Keys, expected: str
) -> None:
    assert colour(target(kept()), surroundings=replace(WELL, keys=keys)) == expected


def test_a_repository_that_cannot_be_read_is_red_and_the_first_reason() -> None:
    away = replace(WELL, repository_away=Fault("gone"), keys=Keys(set_here=False))
    verdict = judge_restorable([], away, now=NOW)
    assert verdict.colour == "red"
    assert [reason.colour for reason in verdict.reasons] == ["red", "yellow"]
    unknown = replace(WELL, backups_away=Fault("it hangs"))
    assert colour(surroundings=unknown) == "red"


def test_what_the_newest_failure_said_is_repeated() -> None:
    one = target(kept(), failures=1, last_failure="wrong password")
    verdict = judge_running([one], WELL)
    assert verdict.colour == "yellow"
    assert "wrong password" in verdict.reasons[0].text


def test_a_restore_takes_the_newest_good_backup_and_its_age_counts() -> None:
    one = target(kept(suspect="shrank"), kept(age=2 * HOUR, backup="two"), kept(age=DAY))
    assert one.newest_good is not None
    assert (one.newest_good.backup, one.age(NOW), one.kept) == ("two", 2 * HOUR, 2)


def test_a_young_installation_owes_no_verification_yet() -> None:
    assert not target(kept(), kept(age=6 * DAY)).verification_overdue(NOW)
    assert target(kept(), kept(age=8 * DAY)).verification_overdue(NOW)
    recent = target(kept(), kept(age=8 * DAY), last_full_verification=NOW - DAY)
    assert not recent.verification_overdue(NOW)
    assert not target().verification_overdue(NOW)


ages = st.timedeltas(min_value=timedelta(0), max_value=60 * DAY)
states = st.sampled_from(["verified", "verified (unopened)", "stored", "damaged", "missing"])


@given(st.lists(st.builds(lambda age, state: kept(age=age, state=state), ages, states)))
def test_green_always_means_a_good_backup_within_the_rpo(backups: list[ListedBackup]) -> None:
    one = target(*backups)
    if colour(one) == "green":
        age = one.age(NOW)
        assert age is not None
        assert age <= DAY
    if not any(backup.good for backup in backups):
        assert colour(one) == "red"

"""Claims about clocks that differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations

import pytest

from pgben_tasks.domain.retention import Clocks, Policy, plan
from pgben_tasks.errors import PruneRefused

NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
LIMIT = timedelta(minutes=5)
NAMES = ("catalog", "worker", "store")


def clocks(**wrong: timedelta) -> Clocks:
    return Clocks(**{name: NOW + wrong.get(name, timedelta(0)) for name in NAMES})


def test_clocks_that_agree_raise_no_doubt() -> None:
    assert clocks().doubt() is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sign", [1, -1])
def test_any_clock_that_is_over_five_minutes_off_is_named(name: str, sign: int) -> None:
    assert clocks(**{name: sign * LIMIT}).doubt() is None
    doubt = clocks(**{name: sign * (LIMIT + timedelta(seconds=1))}).doubt()
    assert doubt is not None
    sentence, hint = doubt
    told = f"the clock of the {name} is" if sign > 0 else f"ahead of the {name}'s"
    assert told in sentence
    assert "0:05:01" in sentence
    assert "NTP" in hint


@pytest.mark.parametrize("order", list(permutations(NAMES)))
def test_two_small_errors_may_be_one_that_is_too_large(order: tuple[str, str, str]) -> None:
    ahead, behind, _ = order
    off = timedelta(minutes=3)
    doubt = clocks(**{ahead: off, behind: -off}).doubt()
    assert doubt is not None
    assert doubt[0].startswith(f"the clock of the {ahead} is 0:06:00 ahead of the {behind}'s")


def test_the_same_moment_in_another_zone_is_the_same() -> None:
    there = timezone(timedelta(hours=-3))
    same = NOW.astimezone(there)
    assert Clocks(catalog=NOW, worker=same, store=NOW).doubt() is None


def test_a_clock_without_a_zone_is_refused() -> None:
    naive = datetime(2026, 11, 23, 6)  # noqa: DTZ001 - that is what is refused
    with pytest.raises(ValueError, match="without a time zone"):
        Clocks(catalog=NOW, worker=naive, store=NOW).doubt()


def test_a_plan_that_is_refused_for_the_clocks_expires_nothing() -> None:
    made = plan([], now=NOW, policy=Policy()).refusing("the clocks differ", "set them")
    assert made.expire == ()
    with pytest.raises(PruneRefused, match="the clocks differ"):
        made.check()

"""Readings of a phase of work: how far, how fast, how long still."""

from __future__ import annotations

from pgben_tasks.operations.progress import Gauge


class Watch:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_reading_says_how_far_how_fast_and_how_long_still() -> None:
    watch = Watch()
    gauge = Gauge(monotonic=watch)
    gauge.begin("fetch", total=1000)
    gauge.note(packs=3)
    gauge.advance(150)
    gauge.advance(100)
    watch.seconds += 10
    assert gauge.read() == {
        "phase": "fetch",
        "total": 1000,
        "unit": "bytes",
        "packs": 3,
        "done": 250,
        "rate": 25,
        "seconds_left": 30,
    }


def test_less_than_one_in_a_second_is_a_rate_too() -> None:
    watch = Watch()
    gauge = Gauge(monotonic=watch)
    gauge.begin("check", total=10, unit="tables")
    gauge.advance(1)
    watch.seconds += 60
    assert gauge.read()["seconds_left"] == 540


def test_a_new_phase_begins_at_nothing() -> None:
    gauge = Gauge(monotonic=Watch())
    gauge.begin("fetch", total=10)
    gauge.note(packs=3)
    gauge.advance(10)
    gauge.begin("check", unit="tables")
    reading = gauge.read()
    assert "packs" not in reading
    assert (reading["phase"], reading["total"], reading["done"]) == ("check", None, 0)
    assert reading["seconds_left"] is None


def test_more_than_expected_leaves_no_negative_time() -> None:
    watch = Watch()
    gauge = Gauge(monotonic=watch)
    gauge.begin("load", total=10)
    gauge.advance(50)
    watch.seconds += 1
    assert gauge.read()["seconds_left"] == 0


def test_only_what_changed_since_the_last_reading_is_new() -> None:
    gauge = Gauge(monotonic=Watch())
    seen = [gauge.changed]
    gauge.read()
    seen.append(gauge.changed)
    gauge.advance(1)
    seen.append(gauge.changed)
    assert seen == [True, False, True]

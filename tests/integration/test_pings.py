"""Pings from the ledger to a real HTTP server: real catalog, real jobs, real tick; no worker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from pgben_tasks.adapters.pings import send_ping
from pgben_tasks.domain.pings import FRESH
from pgben_tasks.errors import ConfigurationError, RequestRefused, TransientError
from pgben_tasks.health.doctor.checks import examine
from pgben_tasks.tasks import postgres
from tests.support.alarm_place import MINUTE, Place, alarm_place, call
from tests.support.installation import Installation
from tests.support.receiver import HOST, Receiver

KEY = "canary-ping-key"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def place(installation: Installation, receiver: Receiver) -> Iterator[Place]:
    with alarm_place(installation) as made:
        url = f"http://{HOST}:{receiver.port}/{KEY}/" + "{kind}"
        yield made.with_settings(heartbeat_url=SecretStr(url))


def pinged(receiver: Receiver) -> list[str]:
    """Return the pings that came, without those of ticks, and forget them."""
    paths = [one.path.removeprefix(f"/{KEY}/") for one in receiver.requests]
    receiver.requests.clear()
    return [path for path in paths if path != "tick"]


def test_every_tick_of_beat_is_pinged_and_none_that_a_worker_sent(
    place: Place, receiver: Receiver
) -> None:
    place.tick()
    place.tick(stand_in=True)
    assert [one.path for one in receiver.requests] == [f"/{KEY}/tick"]


def test_a_job_is_pinged_when_it_begins_and_when_the_ledger_says_that_it_succeeded(
    place: Place, receiver: Receiver, installation: Installation
) -> None:
    chain = installation.chain("backup")
    place.tick()
    assert pinged(receiver) == ["backup/start"]
    place.tick()
    assert pinged(receiver) == [], "once"
    chain.rest()
    place.tick()
    assert pinged(receiver) == ["backup"]
    # A worker that was started anew knows from the catalog what was pinged.
    place.with_settings().tick()
    assert pinged(receiver) == []


def test_a_failure_is_pinged_with_its_kind_and_without_its_words(
    place: Place, receiver: Receiver
) -> None:
    wrong = place.with_settings(db_pass=SecretStr(f"{KEY}-password"))
    with pytest.raises(ConfigurationError):
        call(postgres.backup, {"target": place.target})
    wrong.tick()
    failures = [one for one in receiver.requests if one.path.endswith("/fail")]
    assert [one.path for one in failures] == [f"/{KEY}/backup/fail"]
    assert "ConfigurationError, in pgben.backup.postgres.dump" in failures[0].body
    assert "does not accept" not in failures[0].body
    assert f"{KEY}-password" not in failures[0].body


def test_refusals_that_anybody_can_provoke_are_not_pinged(place: Place, receiver: Receiver) -> None:
    with pytest.raises(RequestRefused):
        call(postgres.backup, {"target": "postgres/unknown"})
    place.tick()
    assert pinged(receiver) == []


def test_a_server_that_was_away_gets_what_is_fresh_and_its_outage_is_logged_once(
    place: Place, receiver: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver.stop()
    call(postgres.backup, {"target": place.target})
    for _ in range(3):
        place.tick()
    record = place.work.outbox.channels()["heartbeat"]
    assert record.failing_since is not None
    found = {one.check: one for one in examine(lambda: place.work)}
    assert found["heartbeat"].code == "failing"
    receiver.start()
    place.after(FRESH - 2 * MINUTE)
    place.tick()
    assert pinged(receiver) == ["backup"]
    written = capfd.readouterr().out
    assert written.count("pings_not_taken") == 1
    assert written.count("pings_taken_again") == 1
    assert KEY not in written


def test_a_success_of_long_ago_is_not_told_as_one_of_now(place: Place, receiver: Receiver) -> None:
    receiver.stop()
    call(postgres.backup, {"target": place.target})
    place.tick()
    receiver.start()
    place.after(FRESH + MINUTE)
    place.tick()
    assert pinged(receiver) == []


def test_a_server_that_says_nothing_does_not_hold_the_tick_up(
    place: Place, receiver: Receiver
) -> None:
    receiver.silent = True
    begun = place.work.database.now()
    place.tick()
    assert place.work.database.now() - begun < timedelta(seconds=30)
    assert place.work.outbox.channels()["heartbeat"].failing_since is not None


def test_without_a_url_nothing_is_pinged(place: Place, receiver: Receiver) -> None:
    place.with_settings(heartbeat_url=None).tick()
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("status", "kind"), [(404, ConfigurationError), (429, TransientError), (500, TransientError)]
)
def test_what_the_server_answers_is_an_error_without_the_url(
    receiver: Receiver, status: int, kind: type[Exception]
) -> None:
    receiver.status = status
    with pytest.raises(kind, match=f"status {status}") as raised:
        send_ping(f"http://{HOST}:{receiver.port}/{KEY}/backup", "x")
    assert KEY not in str(raised.value)


def test_a_name_that_no_server_has_is_an_error_without_the_url() -> None:
    for url in (f"http://ana:{KEY}@nowhere.invalid/{KEY}", f"http://{HOST}:1/{KEY}"):
        with pytest.raises(TransientError, match="does not answer") as raised:
            send_ping(url, "x")
        assert KEY not in str(raised.value)

"""Alarms as episodes on several channels: real catalog, ticks, mail server and HTTP receiver."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from pgben_tasks.adapters.chat import apprise_channels
from pgben_tasks.adapters.postgres.clients import published_clients
from pgben_tasks.domain.alarm import REFUSALS_APART
from pgben_tasks.domain.episodes import CHANNEL_PATIENCE, CLEAR_AFTER
from pgben_tasks.errors import ConfigurationError, RestoreRefused, TransientError
from pgben_tasks.health.doctor.checks import examine
from pgben_tasks.health.looks import Look
from pgben_tasks.operations.alarms.send import send_alarms
from pgben_tasks.ports import Channel, Mail
from pgben_tasks.tasks import postgres, reconciler, repository
from tests.support.alarm_place import HOUR, MINUTE, Place, alarm_place, call
from tests.support.installation import Installation
from tests.support.mailbox import MailServer
from tests.support.receiver import HOST, Receiver

CANARY = "canary-Zq83hfPw"
MARIA = "maria@example.org"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def place(installation: Installation) -> Iterator[Place]:
    with alarm_place(installation) as made:
        yield made


def url_of(receiver: Receiver) -> str:
    return f"json://ana:{CANARY}@{HOST}:{receiver.port}/{CANARY}/hook"


def name_of(receiver: Receiver) -> str:
    return f"json://{HOST}:{receiver.port}"


@pytest.fixture
def both(place: Place, receiver: Receiver) -> Place:
    """Return a place whose alarms go by mail, and to the receiver through Apprise."""
    return place.with_settings(alert_urls=(SecretStr(url_of(receiver)),))


def titles(receiver: Receiver) -> list[str]:
    return [one.json["title"] for one in receiver.requests]


def subjects(server: MailServer) -> list[str]:
    return [one.subject for one in server.letters]


# Episodes


def test_an_outage_of_a_week_is_told_once_reminded_six_times_and_resolved_once(
    both: Place, receiver: Receiver
) -> None:
    both.tick()
    both.wait(6 * MINUTE)
    for _ in range(28):
        both.tick(stand_in=True)
        both.wait(6 * HOUR)
    both.tick()
    both.after(CLEAR_AFTER)
    both.tick()
    both.after(CLEAR_AFTER)
    both.tick()
    expected = [
        "[pgben] ALARM: the scheduler (beat) is silent",
        *["[pgben] STILL OPEN: the scheduler (beat) is silent"] * 6,
        "[pgben] RESOLVED: the scheduler (beat) is silent",
    ]
    assert subjects(both.server) == expected
    assert titles(receiver) == expected
    (only,) = both.alarms()
    assert [one.reminders for one in only.deliveries] == [6, 6]


def test_a_condition_that_is_away_for_one_tick_is_the_same_episode(place: Place) -> None:
    place.tick()
    place.wait(6 * MINUTE)
    assert place.tick(stand_in=True) == (1, 1)
    for _ in range(3):
        assert place.tick() == (0, 0)
        place.wait(6 * MINUTE)
        assert place.tick(stand_in=True) == (0, 0)
    assert place.open() == ["silent"]
    assert len(place.server.letters) == 1


def test_a_failed_backup_is_over_with_the_next_success_without_a_message(place: Place) -> None:
    place.fail(place.job())
    assert place.tick() == (1, 1)
    assert place.open() == ["failed"]
    call(postgres.backup, {"target": place.target})
    assert place.tick() == (0, 0)
    assert place.open() == []
    (only,) = place.alarms()
    assert only.cleared_at is not None
    assert len(place.server.letters) == 1


def test_a_verification_that_did_not_take_place_is_open_until_one_does(place: Place) -> None:
    job = place.job("verify", window=place.now)
    place.sql("UPDATE job SET target = '*' WHERE id = %s", job.id)
    assert place.work.ledger.cancel(job.id, error={"type": "JobCancelled", "sentence": "no"})
    assert place.tick() == (1, 1)
    assert place.server.letters[0].subject == (
        "[pgben] ALARM: verification of everything did not take place"
    )
    call(repository.verify, {"level": "quick"})
    place.tick()
    assert place.open() == ["unverified"], "a quick look is no verification"
    call(repository.verify, {"level": "full"})
    assert place.tick() == (0, 1)
    assert place.server.letters[1].subject.startswith("[pgben] RESOLVED")


def test_a_backup_that_no_restore_worker_can_load_is_open_until_one_can(place: Place) -> None:
    work = place.work
    work.workers.register(["restore.one"])
    work.workers.publish(["restore.one"], published_clients())
    assert place.tick() == (0, 0)
    place.sql("UPDATE backup SET client_major = 99, server_major = 99")
    assert place.tick() == (1, 1)
    (letter,) = place.server.letters
    assert letter.subject == (
        f"[pgben] ALARM: {place.target} cannot be restored by the workers here"
    )
    assert "it needs a PostgreSQL client of version 99 or newer" in letter.body
    place.sql("UPDATE backup SET client_major = 17, server_major = 17")
    place.tick()
    place.after(CLEAR_AFTER)
    assert place.tick() == (0, 1)
    assert place.open() == []


def test_a_source_that_cannot_be_asked_clears_nothing(
    place: Place, installation: Installation
) -> None:
    work = place.work
    work.workers.register(["restore.one"])
    work.workers.publish(["restore.one"], published_clients())
    place.sql("UPDATE backup SET client_major = 99, server_major = 99")
    assert place.tick() == (1, 1)
    away = installation.repository.with_name("away")
    installation.repository.rename(away)
    try:
        blind = place.with_settings()
        for _ in range(3):
            blind.after(CLEAR_AFTER)
            blind.tick()
    finally:
        away.rename(installation.repository)
    assert "foreign" in place.open()
    assert not [one for one in subjects(place.server) if "RESOLVED" in one]


# Channels


def test_with_the_mail_server_down_others_are_told_at_once_and_mail_when_it_is_back(
    both: Place, receiver: Receiver
) -> None:
    both.server.stop()
    both.fail(both.job())
    assert both.tick() == (1, 1)
    told = f"[pgben] ALARM: backup of {both.target} failed"
    assert titles(receiver) == [told]
    both.after(CHANNEL_PATIENCE + MINUTE)
    both.tick()
    assert titles(receiver)[1:] == ["[pgben] ALARM: alarms do not go by 'mail'"]
    assert "does not answer" in receiver.requests[1].json["message"]
    both.server.start()
    both.after(HOUR)
    both.tick()
    both.after(CLEAR_AFTER)
    both.tick()
    both.after(CLEAR_AFTER)
    both.tick()
    assert subjects(both.server) == [told], "once, and nobody is told by mail that mail was away"
    assert titles(receiver)[2:] == ["[pgben] RESOLVED: alarms do not go by 'mail'"]


@pytest.mark.parametrize("trouble", ["down", "refusing", "password"])
def test_with_the_other_channel_in_trouble_mail_tells_at_once(
    place: Place, receiver: Receiver, trouble: str
) -> None:
    if trouble == "down":
        receiver.stop()
    else:
        receiver.status = 503 if trouble == "refusing" else 401
    both = place.with_settings(alert_urls=(SecretStr(url_of(receiver)),))
    both.fail(both.job())
    assert both.tick() == (1, 1)
    both.after(CHANNEL_PATIENCE + MINUTE)
    both.tick()
    assert subjects(both.server)[1:] == [
        f"[pgben] ALARM: alarms do not go by '{name_of(receiver)}'"
    ]
    receiver.status = 200
    if trouble == "down":
        receiver.start()
    both.after(HOUR)
    both.tick()
    assert titles(receiver) == [f"[pgben] ALARM: backup of {both.target} failed"]


def test_a_wrong_password_of_the_mail_server_is_told_by_the_other_channel(
    place: Place, receiver: Receiver
) -> None:
    with MailServer(login=("pgben", "right")) as server:
        both = place.with_settings(
            alert_urls=(SecretStr(url_of(receiver)),),
            smtp_port=server.port,
            smtp_user="pgben",
            smtp_pass=SecretStr(f"{CANARY}-wrong"),
        )
        both.fail(both.job())
        assert both.tick() == (1, 1)
        both.after(CHANNEL_PATIENCE + MINUTE)
        both.tick()
        assert "does not accept the user 'pgben'" in receiver.requests[1].json["message"]
        assert server.letters == []


def test_a_channel_that_is_set_later_hears_what_is_open_and_not_what_is_over(
    place: Place, receiver: Receiver
) -> None:
    place.fail(place.job())
    place.tick()
    call(postgres.backup, {"target": place.target})
    place.fail(place.job("restore"))
    place.tick()
    both = place.with_settings(alert_urls=(SecretStr(url_of(receiver)),))
    both.tick()
    assert titles(receiver) == [f"[pgben] ALARM: restore of {both.target} failed"]


class Stuck:
    """A channel that says nothing until it is let go."""

    name = "stuck"

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def send(self, _mail: Mail) -> tuple[str, ...]:
        self.let_go.wait(60)
        return ()


def test_a_channel_that_hangs_keeps_no_other_from_telling(place: Place) -> None:
    mailer = place.work.mailer
    assert mailer is not None
    stuck = Stuck()
    channels: list[Channel] = [stuck, mailer]
    place.fail(place.job())
    assert reconciler._raise_alarms(place.work) == 1
    try:
        told = send_alarms(
            place.work.outbox,
            channels,
            begin=Look,
            letterhead=place.work.letterhead,
            restorable=place.work.records.restorable,
            within=timedelta(seconds=1),
            now=place.now,
        )
    finally:
        stuck.let_go.set()
    assert told == 1
    (only,) = place.alarms()
    by_channel = {one.channel: one for one in only.deliveries}
    assert by_channel["mail"].told_at is not None
    assert by_channel["stuck"].last_error == "'stuck' did not answer within 1 s"


def test_a_receiver_that_hangs_is_given_up(receiver: Receiver, place: Place) -> None:
    receiver.silent = True
    (channel,) = apprise_channels([url_of(receiver)], timeout=0.5)
    mail = Mail(subject="x", body="y", at=place.now, id="z")
    with pytest.raises(TransientError, match="did not take the message"):
        channel.send(mail)


@pytest.mark.parametrize("url", ["nothing://here", "tgram://", f"slack://{CANARY}"])
def test_a_url_that_apprise_cannot_use_is_refused_by_its_place(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        apprise_channels(["json://receiver.example.org", url])
    assert "number 2" in raised.value.sentence
    assert CANARY not in str(raised.value)


def test_channels_are_named_without_what_is_secret() -> None:
    token = "123456789:ABCdefGHIjklMNOpqrsTUVwxyzABCDEFGHI"
    names = [
        one.name
        for one in apprise_channels(
            [
                f"jsons://ana:{CANARY}@hook.example.org/{CANARY}",
                f"jsons://hook.example.org/{CANARY}",
                f"tgram://{token}/12345",
                f"ntfy://{CANARY}",
            ]
        )
    ]
    assert names == [
        "jsons://hook.example.org",
        "jsons://hook.example.org #2",
        "tgram",
        "ntfy",
    ]


# What anybody can provoke

PROVOKED = """
INSERT INTO job (key, kind, target, request, requested_by, state, error, ended_at)
SELECT 'restore:refused:' || n || random(), 'restore', %s, '{}', 'unnamed', 'refused',
 '{"type": "RestoreRefused", "sentence": "no", "hint": "", "in_place": "yes"}', clock_timestamp()
FROM generate_series(1, %s) n
"""


def test_thousands_of_refused_restores_in_place_are_one_message_in_a_quarter_of_an_hour(
    both: Place, receiver: Receiver
) -> None:
    for _ in range(6):
        both.sql(PROVOKED, both.target, 500)
        both.tick()
        both.after(2 * MINUTE)
    assert len(both.server.letters) == len(receiver.requests) == 1
    both.after(REFUSALS_APART)
    both.tick()
    assert len(both.server.letters) == len(receiver.requests) == 2
    assert "2500" not in both.server.letters[0].subject
    # What is worse goes at once, in full, whatever waits.
    both.sql(PROVOKED, both.target, 500)
    both.fail(both.job())
    both.tick()
    assert f"backup of {both.target} failed" in both.server.letters[2].subject


def test_a_restore_in_place_is_told_at_once_to_the_contacts_and_so_is_its_end(
    place: Place,
) -> None:
    job = place.job("restore")
    place.sql("""UPDATE job SET request = '{"swap": true}' WHERE id = %s""", job.id)
    assert place.tick() == (1, 1)
    assert place.tick() == (0, 0)
    (asked,) = place.server.letters
    assert asked.subject == f"[pgben] ALARM: asked for in place: restore of {place.target}"
    assert "Asked for by: ana" in asked.body
    assert MARIA in asked.recipients
    place.sql(
        "UPDATE job SET state = 'succeeded', ended_at = clock_timestamp() WHERE id = %s", job.id
    )
    assert place.tick() == (1, 1)
    done = place.server.letters[1]
    assert done.subject == f"[pgben] ALARM: done in place: restore of {place.target}"
    assert MARIA in done.recipients
    assert place.open() == []
    place.fail(place.job())
    place.tick()
    assert MARIA not in place.server.letters[2].recipients


def test_what_goes_wrong_again_is_not_told_as_resolved(place: Place) -> None:
    for _ in range(2):
        place.fail(place.job("report"))
        assert place.tick() == (1, 1)
    assert place.tick() == (0, 0)
    _, again = place.server.letters
    assert again.subject.startswith("[pgben] ALARM: ")
    assert "Resolved" not in again.body
    assert len(place.open()) == 1


def test_the_contacts_get_what_is_replaced_and_nothing_that_failed_meanwhile(place: Place) -> None:
    place.fail(place.job())
    job = place.job("restore")
    place.sql("""UPDATE job SET request = '{"swap": true}' WHERE id = %s""", job.id)
    assert place.tick() == (2, 2)
    by_reader = {MARIA in one.recipients: one for one in place.server.letters}
    assert len(place.server.letters) == 2
    assert "asked for in place" in by_reader[True].subject
    assert "failed" not in by_reader[True].body
    assert f"backup of {place.target} failed" in by_reader[False].subject


def test_a_request_to_replace_that_is_refused_at_once_is_told_to_the_contacts(
    place: Place,
) -> None:
    with pytest.raises(RestoreRefused, match="would be replaced"):
        call(postgres.restore, {"target": place.target, "swap": True, "confirm": "other"})
    assert place.tick() == (1, 1)
    (letter,) = place.server.letters
    assert letter.subject == f"[pgben] ALARM: refused in place: restore of {place.target}"
    assert MARIA in letter.recipients


# Secrets


def test_what_is_secret_in_urls_is_nowhere(
    both: Place, receiver: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        ping = f"http://{HOST}:{receiver.port}/{CANARY}/" + "{kind}"
        loud = both.with_settings(heartbeat_url=SecretStr(ping))
        loud.fail(loud.job())
        loud.tick()
        receiver.stop()
        loud.fail(loud.job())
        loud.tick()
        loud.after(CHANNEL_PATIENCE + MINUTE)
        loud.tick()
    finally:
        logging.getLogger().setLevel(logging.WARNING)
    doctor = [result.written("en") for result in examine(lambda: loud.work)]
    rows = loud.work.database.fetch_all(
        "SELECT (SELECT string_agg(alarm::text, '') FROM alarm) AS a,"
        " (SELECT string_agg(d::text, '') FROM alarm_delivery d) AS d,"
        " (SELECT string_agg(c::text, '') FROM channel c) AS c"
    )
    assert name_of(receiver) in repr(rows)
    assert any(name_of(receiver) in sentence for sentence, _ in doctor)
    written = capfd.readouterr()
    mails = [one.message.as_string() for one in loud.server.letters]
    for text in (
        *(repr(rows), repr(doctor), repr(mails), written.out, written.err),
        *(repr(loud.work.settings), repr(loud.work.settings.rows()), repr(loud.work.channels)),
    ):
        assert CANARY not in text

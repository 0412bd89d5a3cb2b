"""The command line about alarms: what was raised and sent, and whether mails go at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgben_tasks.adapters.catalog.outbox import AlarmOutbox
from pgben_tasks.domain.alarm import Alarm, AlarmKind, facts
from pgben_tasks.domain.episodes import to_send
from tests.support import samples
from tests.support.cli_site import CANARY, Site
from tests.support.mailbox import MailServer
from tests.support.receiver import HOST, Receiver


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer(login=("pgben", CANARY)) as running:
        yield running


def test_a_test_mail_is_sent_and_the_server_named(server: MailServer, catalogless: Site) -> None:
    said = catalogless.run("alarms", "--test", **server.settings(PGBEN_LANGUAGE="en"))
    assert said.code == 0, said.all
    assert f"'127.0.0.1:{server.port}' took a test mail from pgben@example.org" in said.err
    (letter,) = server.letters
    assert letter.subject == "[pgben] TEST: alarms arrive here"
    assert "Maria da Conceição" in letter.body
    assert CANARY not in said.all


def test_a_test_mail_is_in_portuguese_unless_asked_otherwise(
    server: MailServer, catalogless: Site
) -> None:
    said = catalogless.run("alarms", "--test", "--json", **server.settings())
    assert server.letters[0].subject == "[pgben] TESTE: os alarmes chegam aqui"
    assert said.json == {
        "channels": [{"channel": "mail", "taken": True, "error": None}],
        "test": {
            "server": f"127.0.0.1:{server.port}",
            "from": "pgben@example.org",
            "to": ["ana@example.org", "bia@example.org"],
            "refused": [],
        },
    }


def test_a_wrong_password_is_said_with_what_to_do(server: MailServer, catalogless: Site) -> None:
    wrong = server.settings(PGBEN_SMTP_PASS=f"{CANARY}-wrong")
    said = catalogless.run("alarms", "--test", **wrong)
    assert said.code == 2
    assert "does not accept the user 'pgben'" in said.err
    assert "PGBEN_SMTP_PASS" in said.err
    assert CANARY not in said.all


def test_a_server_that_is_away_is_a_matter_of_time(server: MailServer, catalogless: Site) -> None:
    server.stop()
    said = catalogless.run("alarms", "--test", "--json", **server.settings())
    assert said.code == 75
    assert said.json["error"]["type"] == "TransientError"


def test_a_recipient_that_is_refused_fails_the_test(server: MailServer, catalogless: Site) -> None:
    server.answers = {"bia@example.org": "550 no such mailbox"}
    said = catalogless.run("alarms", "--test", **server.settings())
    assert said.code == 1
    assert "did not take one for bia@example.org" in said.err


def test_without_settings_a_test_says_which_are_wanted(catalogless: Site) -> None:
    said = catalogless.run("alarms", "--test")
    assert said.code == 2
    assert "PGBEN_SMTP_HOST and PGBEN_ADMIN_EMAIL" in said.err


def test_every_channel_is_tried_and_the_others_although_one_is_away(
    server: MailServer, catalogless: Site
) -> None:
    with Receiver() as receiver:
        url = f"json://ana:{CANARY}@{HOST}:{receiver.port}/{CANARY}"
        name = f"json://{HOST}:{receiver.port}"
        both = server.settings(PGBEN_LANGUAGE="en", PGBEN_ALERT_URLS=url)
        said = catalogless.run("alarms", "--test", **both)
        assert said.code == 0, said.all
        assert "took a test mail" in said.err
        assert f"'{name}' took a test" in said.err
        (request,) = receiver.requests
        assert request.json["title"] == server.letters[0].subject
        server.stop()
        said = catalogless.run("alarms", "--test", **both)
        assert said.code == 1
        assert "'mail' took no test: the mail server" in said.err
        assert len(receiver.requests) == 2
        document = catalogless.run("alarms", "--test", "--json", **both)
    assert [one["taken"] for one in document.json["channels"]] == [False, True]
    assert CANARY not in said.all + document.all


def test_one_channel_beside_mail_is_enough(catalogless: Site) -> None:
    with Receiver() as receiver:
        url = f"json://{HOST}:{receiver.port}"
        assert catalogless.run("alarms", "--test", PGBEN_ALERT_URLS=url).code == 0
    said = catalogless.run("alarms", "--test", PGBEN_ALERT_URLS=url)
    assert said.code == 75
    assert f"the channel '{url}' did not take the message" in said.err


def test_only_what_is_open_is_listed_when_asked_so(ready: Site) -> None:
    outbox = AlarmOutbox(ready.ledger.database)
    assert "no alarm is open" in ready.run("alarms", "--open").err
    kinds: tuple[AlarmKind, ...] = ("refused", "stale")
    alarms = [
        Alarm(key=kind, kind=kind, target="postgres/x", happened_at=samples.START, facts={})
        for kind in kinds
    ]
    outbox.add_all(alarms, now=samples.START)
    found = ready.run("alarms", "--open", "--json").json["alarms"]
    assert [(one["kind"], one["open"], one["episode"]) for one in found] == [("stale", True, 1)]
    every = ready.run("alarms", "--json").json["alarms"]
    assert [one["kind"] for one in every] == ["stale", "refused"]


def test_alarms_are_listed_with_what_became_of_their_mails(server: MailServer, ready: Site) -> None:
    outbox = AlarmOutbox(ready.ledger.database)
    said = ready.run("alarms")
    assert said.code == 0
    assert "there were no alarms yet" in said.err
    assert "alarms go nowhere" in said.err
    job = ready.job()
    for key, what in (("one", "the first"), ("two", "the second")):
        told = facts(work="backup", sentence=what)
        alarm = Alarm(
            key=key,
            kind="failed",
            target=job.target,
            job=job.id,
            happened_at=samples.START,
            facts=told,
        )
        now = samples.START
        outbox.add_all([alarm], now=now)
        with outbox.sending(["mail"], now=now) as sending:
            pending = to_send(sending.waiting("mail"), now=now, last_sent={})
            if key == "one":
                sending.sent("mail", pending, note=None)
            else:
                sending.not_sent("mail", pending, "the mail server does not answer")

    said = ready.run("alarms", **server.settings())
    assert said.err == ""
    second, first = (line for line in said.out.splitlines() if str(job.id)[:8] in line)
    assert "mail: not sent, tried once: the mail server does not answer" in second
    assert "the first" in first
    assert "not sent" not in first
    assert "open" in first

    document = ready.run("alarms", "--limit", "1", "--json").json
    (only,) = document["alarms"]
    assert document["mail"] is False
    assert (only["job"], only["sent_at"], only["open"]) == (str(job.id), None, True)
    (mail,) = only["channels"]
    assert (mail["channel"], mail["told_at"], mail["tries"]) == ("mail", None, 1)
    assert only["facts"]["sentence"] == "the second"


def test_the_help_has_examples(catalogless: Site) -> None:
    said = catalogless.run("alarms", "--help")
    assert "pgben alarms --test" in said.out

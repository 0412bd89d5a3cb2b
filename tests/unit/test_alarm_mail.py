"""Mails of alarms in both languages: what stands in them, and what can never stand in them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.adapters.mail import SmtpMailer, SmtpServer
from pgben_tasks.domain.alarm import (
    MOST_IN_A_MAIL,
    Alarm,
    AlarmKind,
    Delivery,
    KeptAlarm,
    facts,
)
from pgben_tasks.domain.episodes import Batch, batch_of, to_send
from pgben_tasks.domain.job import JobKind
from pgben_tasks.domain.overdue import Restorable
from pgben_tasks.domain.space import Usage, forecast, space_alarms
from pgben_tasks.language import age, translate
from pgben_tasks.operations.alarms.mail import (
    HAPPENED,
    MOST_LISTED,
    RUNBOOK,
    SECTIONS,
    WORK,
    Letterhead,
    compose,
    compose_test,
)
from pgben_tasks.ports import Mail

ROOT = Path(__file__).parents[2]
TARGET = "postgres/pgben"
NOW = datetime(2026, 11, 23, 5, 0, 14, tzinfo=UTC)
JOB = UUID("1f0c9a2b-0000-4000-8000-000000000000")
NEWEST = Restorable(
    backup="20261122T050000Z-aaaaaa", state="verified", snapshot_at=NOW - timedelta(hours=26)
)
BOTH = pytest.mark.parametrize("language", ["pt_BR", "en"])


def letterhead(language: Any = "pt_BR") -> Letterhead:
    return Letterhead(
        language=language,
        zone=ZoneInfo("America/Fortaleza"),
        node="node-a",
        contacts=[("Maria da Conceição", "maria@example.org", "+55 84 99999-0000")],
    )


def kept(kind: AlarmKind = "failed", number: int = 1, **changed: Any) -> KeptAlarm:
    fields: dict[str, Any] = {
        "key": f"{kind}:{number}",
        "kind": kind,
        "target": TARGET,
        "job": JOB,
        "happened_at": NOW,
        "facts": facts(
            work="backup",
            sentence="the server does not accept the role 'postgres'",
            hint="set PGBEN_DB_PASS",
            requested_by="schedule",
            next_attempt=(NOW + timedelta(minutes=15)).isoformat(),
        ),
    }
    return KeptAlarm(
        id=number,
        alarm=Alarm(**{**fields, **changed}),
        episode=1,
        raised_at=NOW,
        absent_since=None,
        cleared_at=None,
    )


def written(
    *alarms: KeptAlarm, language: Any = "pt_BR", newest: Restorable | None = NEWEST
) -> Mail:
    return said(Batch(raised=alarms), language=language, newest=newest)


def said(
    batch: Batch,
    *,
    language: Any = "pt_BR",
    newest: Restorable | None = NEWEST,
    now: datetime = NOW,
) -> Mail:
    return compose(
        batch, letterhead=letterhead(language), restorable=lambda _target: newest, now=now
    )


def test_a_mail_in_portuguese_says_what_happened_what_is_left_and_what_to_do() -> None:
    mail = written(kept())
    assert mail.subject == "[pgben] ALARME: backup de postgres/pgben falhou"
    for line in (
        "O que aconteceu: the server does not accept the role 'postgres'",
        "Dica: set PGBEN_DB_PASS",
        "Quando: 2026-11-23 02:00:14-03:00",
        "Alvo: postgres/pgben",
        f"Trabalho: {JOB}",
        "Pedido por: schedule",
        "Próxima tentativa: 2026-11-23 02:15:14-03:00",
        (
            "Pode ser restaurado: backup 20261122T050000Z-aaaaaa, dados de 2026-11-22 "
            "00:00:14-03:00 (há 1 d 2 h), verificado"
        ),
        "  pgben jobs 1f0c9a2b",
        "  docs/pt_BR/operacao.md, “Quando algo falha”",
        "  Maria da Conceição; maria@example.org; +55 84 99999-0000",
    ):
        assert line in mail.body.splitlines()


def test_an_error_is_told_in_the_language_of_the_mail() -> None:
    said = facts(
        sentence="the PostgreSQL server 'db:5432' does not answer",
        hint="check that it runs, and the host and port that are set",
    )
    lines = written(kept(facts=said)).body.splitlines()
    assert "O que aconteceu: o servidor PostgreSQL 'db:5432' não responde" in lines
    assert "Dica: confira se está no ar, e o host e a porta configurados" in lines
    assert f"What happened: {said['sentence']}" in written(kept(facts=said), language="en").body


def test_the_same_mail_in_english() -> None:
    mail = written(kept(), language="en")
    assert mail.subject == "[pgben] ALARM: backup of postgres/pgben failed"
    for line in (
        "What happened: the server does not accept the role 'postgres'",
        "Next attempt: 2026-11-23 02:15:14-03:00",
        "  docs/operations.md, “A backup failed”",
    ):
        assert line in mail.body.splitlines()


@BOTH
@pytest.mark.parametrize("kind", get_args(AlarmKind))
@pytest.mark.parametrize("target", [TARGET, "*", "", "?"])
def test_every_kind_of_alarm_can_be_written_of_every_target(
    language: Any, kind: AlarmKind, target: str
) -> None:
    bare = kept(kind, target=target, job=None, facts={})
    many = [kept(kind, number) for number in range(9)]
    for mail in (written(bare, language=language), written(*many, language=language)):
        assert "{" not in mail.subject + mail.body
        assert mail.subject.startswith("[pgben] ALARM")


@BOTH
@pytest.mark.parametrize("what", ["not_begun", "not_ended", "missed"])
def test_what_is_overdue_is_said_in_words(language: Any, what: str) -> None:
    window = facts(work="verify", what=what, window=NOW.isoformat())
    mail = written(kept("overdue", target="*", facts=window), language=language)
    assert translate(HAPPENED[what], language) in mail.body
    assert "2026-11-23 02:00:14-03:00" in mail.body


def test_a_place_that_fills_is_told_with_its_numbers() -> None:
    usage = Usage(used=3 * 1024**3, capacity=4 * 1024**3)
    one = forecast("spool", "worker-1:/spool", usage, tonight=3 * 1024**3 // 2, critical_share=0.8)
    (alarm,) = space_alarms([one], now=NOW)
    told = replace(kept("space"), alarm=alarm)
    mail = written(told, language="en")
    assert mail.subject == "[pgben] ALARM: 'worker-1:/spool' is running out of room"
    lines = mail.body.splitlines()
    assert (
        "What happened: what is due until this time tomorrow needs about 1.50 GiB by earlier "
        "nights, and 1.00 GiB of 4.00 GiB are free"
    ) in lines
    assert "Place: worker-1:/spool" in lines
    assert "  docs/operations.md, “The disk fills”" in lines
    assert "precisa de cerca de 1,50 GiB" in written(told).body


def test_every_kind_of_job_has_its_words() -> None:
    assert set(get_args(JobKind)) == set(WORK)


@pytest.mark.parametrize(
    ("language", "page"), [("en", "operations.md"), ("pt_BR", "pt_BR/operacao.md")]
)
def test_the_sections_that_mails_name_exist(language: Any, page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    headings = {line.lstrip("# ") for line in text.splitlines() if line.startswith("#")}
    assert page in translate(RUNBOOK, language, section="x")
    assert set(SECTIONS) == set(get_args(AlarmKind))
    assert {translate(section, language) for section in SECTIONS.values()} <= headings


def test_nothing_to_restore_is_said() -> None:
    assert (
        "nothing: there is no verified backup" in written(kept(), language="en", newest=None).body
    )


def test_a_job_that_is_not_tried_again_says_so() -> None:
    given_up = kept(facts=facts(work="backup", sentence="no"))
    assert "Next attempt: none by itself" in written(given_up, language="en").body


def test_a_storm_is_counted() -> None:
    mail = written(kept(), *(kept("refused", number) for number in range(2, 52)), language="en")
    assert mail.subject == "[pgben] ALARM: backup of postgres/pgben failed (and 50 more)"
    assert "  46 × a request was refused" in mail.body.splitlines()
    assert len(mail.body) < 10_000


def test_the_same_alarms_make_a_mail_of_the_same_id_and_others_another() -> None:
    assert written(kept()).id == written(kept()).id != written(kept(number=2)).id


@BOTH
def test_reminders_and_ends_are_told_with_since_when_and_until_when(language: Any) -> None:
    later = NOW + timedelta(days=3, hours=2)
    over = replace(kept("silent", 2, target=""), cleared_at=later)
    mixed = said(Batch(reminders=(kept("stale"),), over=(over,)), language=language, now=later)
    alone = said(Batch(over=(over,)), language=language, now=later)
    words = {"en": ("STILL OPEN", "RESOLVED"), "pt_BR": ("AINDA ABERTO", "RESOLVIDO")}[language]
    assert mixed.subject.startswith(f"[pgben] {words[0]}: ")
    assert alone.subject.startswith(f"[pgben] {words[1]}: ")
    for text in (mixed.body, mixed.brief):
        assert "3 d 2 h" in text
        assert "2026-11-23 02:00:14-03:00" in text
        assert "2026-11-26 04:00:14-03:00" in text
    assert mixed.id != alone.id


def test_each_reminder_is_a_message_of_its_own() -> None:
    def reminder(number: int) -> Mail:
        heard = Delivery(
            channel="mail",
            told_at=NOW,
            last_sent_at=NOW,
            reminders=number,
            over_at=None,
            tries=0,
            next_try_at=NOW,
            last_error=None,
        )
        waiting = [(kept("stale"), heard)]
        return said(batch_of(to_send(waiting, now=NOW + timedelta(days=1), last_sent={})))

    assert reminder(0).id == reminder(0).id != reminder(1).id


def test_the_end_of_damage_says_what_was_looked_at_since() -> None:
    over = replace(kept("damaged", facts=facts(work="verify")), cleared_at=NOW)
    line = "the verification since found nothing new"
    assert line in said(Batch(over=(over,)), language="en").body
    other = replace(kept("silent", target=""), cleared_at=NOW)
    assert line not in said(Batch(over=(other,)), language="en").body


def test_an_alarm_that_was_over_before_anybody_could_be_told_says_so() -> None:
    late = replace(kept("stale"), cleared_at=NOW + timedelta(hours=5))
    assert "Over since: 2026-11-23 07:00:14-03:00" in written(late, language="en").body
    only_happened = replace(kept("refused"), cleared_at=NOW)
    assert "Over since" not in written(only_happened, language="en").body


def test_long_lists_are_cut() -> None:
    many = tuple(kept("stale", number) for number in range(60))
    mail = said(Batch(reminders=many), language="en")
    assert mail.body.count("since 2026") == MOST_LISTED
    assert mail.brief.count("since 2026") == MOST_IN_A_MAIL
    assert "(and 59 more)" in mail.subject


def test_a_brief_message_says_what_happened_in_a_line() -> None:
    mail = written(kept(), *(kept("refused", number) for number in range(2, 52)), language="en")
    first, *_, last = mail.brief.splitlines()
    assert first == (
        "backup of postgres/pgben failed: the server does not accept the role 'postgres'"
    )
    assert last == "and 46 more"
    assert "maria@example.org" not in mail.brief


def test_only_what_is_replaced_in_place_goes_to_the_contacts() -> None:
    asked = kept("in_place", facts=facts(work="restore", what="in_place_asked"))
    assert written(kept(), asked).to_contacts
    assert not written(kept()).to_contacts
    assert written(asked, language="en").subject == (
        "[pgben] ALARM: asked for in place: restore of postgres/pgben"
    )


def test_a_channel_that_takes_nothing_is_named_with_its_reason() -> None:
    told = facts(
        channel="json://receiver:8080",
        since=NOW.isoformat(),
        why="the mail server 'mail:25' does not answer: refused",
    )
    body = written(kept("channel", target="", facts=told)).body
    assert "json://receiver:8080" in body
    assert "o servidor de e-mail 'mail:25' não responde" in body


def test_what_a_restore_lacks_is_said_in_the_language_of_the_mail() -> None:
    told = facts(
        work="restore",
        backup_id="20261122T050000Z-aaaaaa",
        needs="a PostgreSQL client of version 17 or newer",
    )
    assert "cliente" in written(kept("foreign", facts=told)).body
    assert told["needs"] in written(kept("foreign", facts=told), language="en").body


def test_a_kind_of_job_that_this_version_does_not_know_is_named_all_the_same() -> None:
    odd = kept("failed", facts=facts(work="drill"))
    assert written(odd, language="en").subject.endswith("drill postgres/pgben failed")


@BOTH
def test_the_test_mail_says_that_it_is_one(language: Any) -> None:
    mail = compose_test(letterhead=letterhead(language), now=NOW)
    assert "TEST" in mail.subject
    assert "maria@example.org" in mail.body


def test_ages_are_written_in_two_units() -> None:
    assert age(timedelta(minutes=-5)) == "0 min"
    assert age(timedelta(minutes=59)) == "59 min"
    assert age(timedelta(hours=3, minutes=20)) == "3 h 20 min"
    assert age(timedelta(days=40, hours=5)) == "40 d 5 h"


# What strangers write

HOSTILE = st.text() | st.sampled_from(
    ["x\r\nBcc: thief@example.org", "x\n\n<html>", "a\u2028b", "\ud800", "\x00", "{work}"]
)


@given(HOSTILE)
def test_a_strangers_text_makes_no_header_and_no_line(text: str) -> None:
    def body_and_headers(target: str) -> tuple[str, list[str]]:
        mail = Mail(
            subject=f"[pgben] {target}", body=written(one(target)).body, at=NOW, id="pgben.x"
        )
        message = mailer._message(mail)
        # Written and read again, as a mail program would.
        return message.get_content(), list(message.keys())

    def one(target: str) -> KeptAlarm:
        said = facts(work="backup", sentence=target, hint=target, requested_by=target)
        return kept("refused", target="?", facts=said)

    mailer = SmtpMailer(
        SmtpServer(host="mail", port=25, security="none"),
        sender="pgben@example.org",
        recipients=("ana@example.org",),
    )
    body, headers = body_and_headers(text)
    plain_body, plain_headers = body_and_headers("plain")
    assert headers == plain_headers
    assert abs(len(body.splitlines()) - len(plain_body.splitlines())) <= 3
    assert not any(line.startswith("Bcc") for line in body.splitlines())


def test_a_password_is_in_no_representation_of_its_server() -> None:
    server = SmtpServer(host="mail", port=25, security="none", user="ana", password="hunter2")
    assert "hunter2" not in repr(server) + repr(SmtpMailer(server, sender="a@b", recipients=()))

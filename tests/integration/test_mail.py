"""Mail over real SMTP: lines, logins and certificates, and what is said when one is wrong."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks import runtime
from pgben_tasks.adapters.mail import SmtpMailer
from pgben_tasks.errors import ConfigurationError, TransientError
from pgben_tasks.ports import Mail
from pgben_tasks.settings import Settings
from tests.support.mailbox import MailServer, self_made_certificate

CANARY = "canary-Zq83hfPw"
NOW = datetime(2026, 11, 23, 5, 0, 14, tzinfo=UTC)
MAIL = Mail(
    subject="[pgben] ALARME: restauração de postgres/pgben falhou",
    body="O que aconteceu: não há espaço.\n\nContatos:\n  Maria da Conceição\n",
    at=NOW,
    id="pgben.1f0c",
)


def mailer(server: MailServer, **changed: str) -> SmtpMailer:
    made = runtime.mailer(Settings.load(server.settings(**changed)))
    assert made is not None
    return made


def unchecked(**changed: Any) -> SmtpMailer:
    """Return a mailer with values that settings refuse when they are read."""
    settings = Settings.load(MailServer().settings())
    made = runtime.mailer(settings.model_copy(update=changed))
    assert made is not None
    return made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_made_certificate(tmp_path_factory.mktemp("mail"))


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_a_mail_arrives_whole_on_every_kind_of_line(security: str, certificate: Path) -> None:
    held = None if security == "none" else certificate
    with MailServer(security, held, login=("pgben", CANARY)) as server:
        assert mailer(server).send(MAIL) == ()
    (letter,) = server.letters
    message = letter.message
    assert letter.protected == (security != "none")
    assert letter.recipients == ("ana@example.org", "bia@example.org")
    assert letter.subject == MAIL.subject
    assert letter.body.replace("\r\n", "\n") == MAIL.body
    assert message["From"] == "pgben <pgben@example.org>"
    assert message["To"] == "ana@example.org, bia@example.org"
    assert message["Message-ID"] == "<pgben.1f0c@example.org>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == NOW
    assert message.get_content_type() == "text/plain"
    assert message.get_content_charset() == "utf-8"
    assert CANARY not in message.as_string()


def told(error: BaseException) -> str:
    """Return all that a log could hold of an error."""
    return "".join(traceback.format_exception(error))


def test_a_wrong_password_is_a_matter_of_settings_and_is_repeated_nowhere() -> None:
    """Not even when the server repeats what it was told."""
    with MailServer(login=("pgben", "right"), says=f"535 {CANARY} is wrong") as server:
        wrong = mailer(server, PGBEN_SMTP_PASS=CANARY)
        with pytest.raises(ConfigurationError, match="does not accept the user 'pgben'") as caught:
            wrong.send(MAIL)
    assert CANARY not in told(caught.value)
    assert server.letters == []


def test_a_server_that_knows_our_password_does_not_make_us_repeat_it() -> None:
    answers = {f"{one}@example.org": f"550 not with {CANARY}" for one in ("ana", "bia")}
    with (
        MailServer(login=("pgben", CANARY), answers=answers) as server,
        pytest.raises(ConfigurationError, match="550 not with …") as caught,
    ):
        mailer(server).send(MAIL)
    assert CANARY not in caught.value.sentence


def test_a_password_that_smtp_cannot_carry_is_said_and_not_shown() -> None:
    with MailServer(login=("pgben", "right")) as server:
        strange = mailer(server, PGBEN_SMTP_PASS=f"{CANARY}ç")
        with pytest.raises(ConfigurationError, match="protocol cannot carry") as caught:
            strange.send(MAIL)
    assert CANARY not in told(caught.value)
    assert "UnicodeEncodeError" not in told(caught.value)


def test_a_server_that_is_away_is_waited_for() -> None:
    server = MailServer()
    with pytest.raises(TransientError, match=r"mail server '127\.0\.0\.1:\d+' does not answer"):
        mailer(server).send(MAIL)


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path) -> None:
    with MailServer("starttls", certificate) as server:
        trusting_nobody = mailer(server, PGBEN_SMTP_CA_FILE="")
        with pytest.raises(ConfigurationError, match="certificate of the mail server"):
            trusting_nobody.send(MAIL)
    assert server.letters == []


def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    elsewhere = self_made_certificate(tmp_path, name="mail.example.org")
    with (
        MailServer("tls", elsewhere) as server,
        pytest.raises(ConfigurationError, match="is not trusted"),
    ):
        mailer(server).send(MAIL)
    assert server.letters == []


@pytest.mark.parametrize(
    ("server", "client", "said"),
    [("none", "starttls", "does not offer"), ("starttls", "tls", "does not speak TLS")],
)
def test_a_line_that_is_not_what_the_settings_say_is_refused(
    server: str, client: str, said: str, certificate: Path
) -> None:
    held = None if server == "none" else certificate
    with MailServer(server, held) as running, pytest.raises(ConfigurationError, match=said):
        mailer(running, PGBEN_SMTP_SECURITY=client).send(MAIL)
    assert running.letters == []


def test_a_server_that_wants_tls_is_not_spoken_to_without(certificate: Path) -> None:
    with (
        MailServer("starttls", certificate) as server,
        pytest.raises(ConfigurationError, match="530"),
    ):
        mailer(server, PGBEN_SMTP_SECURITY="none").send(MAIL)


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path, certificate: Path) -> None:
    with (
        MailServer("starttls", certificate) as server,
        pytest.raises(ConfigurationError, match="absent"),
    ):
        mailer(server, PGBEN_SMTP_CA_FILE=str(tmp_path / "absent")).send(MAIL)


def test_a_recipient_that_is_refused_does_not_keep_the_mail_from_the_others() -> None:
    with MailServer(answers={"bia@example.org": "550 no such mailbox"}) as server:
        assert mailer(server).send(MAIL) == ("bia@example.org",)
    assert [letter.recipients for letter in server.letters] == [("ana@example.org",)]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("550 no such mailbox", ConfigurationError), ("450 come back later", TransientError)],
)
def test_nobody_taken_is_no_mail(answer: str, kind: Any) -> None:
    with (
        MailServer(answers={f"{one}@example.org": answer for one in ("ana", "bia")}) as server,
        pytest.raises(kind, match=f"refuses every recipient: {answer}"),
    ):
        mailer(server).send(MAIL)
    assert server.letters == []


def test_a_mail_that_was_taken_is_taken_however_the_server_says_goodbye() -> None:
    with MailServer(farewell="421 too busy") as server:
        assert mailer(server).send(MAIL) == ()
    assert len(server.letters) == 1


def test_a_host_that_cannot_be_one_is_a_matter_of_settings() -> None:
    with pytest.raises(ConfigurationError, match="a name that no server can have"):
        unchecked(smtp_host="mail..example.org").send(MAIL)


@pytest.mark.parametrize("address", ["<ana@example.org>", "ana..x@example.org", "a;b@example.org"])
def test_an_address_that_cannot_be_one_is_a_matter_of_settings(address: str) -> None:
    with pytest.raises(ConfigurationError, match="is none that mail can be sent to"):
        unchecked(admin_email=(address,)).send(MAIL)


@pytest.mark.parametrize(
    ("settings", "sender"),
    [
        ({"PGBEN_SMTP_FROM": "backup@example.org"}, "backup@example.org"),
        ({"PGBEN_SMTP_FROM": "", "PGBEN_SMTP_USER": "me@example.org"}, "me@example.org"),
        ({"PGBEN_SMTP_FROM": "", "PGBEN_SMTP_USER": "pgben"}, "ana@example.org"),
    ],
)
def test_the_sender_is_who_the_server_will_most_likely_take(
    settings: dict[str, str], sender: str
) -> None:
    assert mailer(MailServer(), **settings).sender == sender


@pytest.mark.parametrize("missing", ["PGBEN_SMTP_HOST", "PGBEN_ADMIN_EMAIL"])
def test_without_a_server_or_a_recipient_there_is_no_mailer(missing: str) -> None:
    assert runtime.mailer(Settings.load(MailServer().settings(**{missing: ""}))) is None

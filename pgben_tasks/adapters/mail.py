"""Mail over SMTP. No error repeats a password."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Final, Literal

from pgben_tasks.domain.alarm import one_line
from pgben_tasks.errors import ConfigurationError, PgbenError, TransientError
from pgben_tasks.ports import Mail

#: Seconds that a server may take for a connection or an answer.
TIMEOUT: Final = 20.0

#: Answers from here on are final; those below may be others in a while (RFC 5321, 4.2.1).
_FINAL: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """A mail server, the login on it, and how the connection is protected."""

    host: str
    port: int
    security: Literal["none", "starttls", "tls"]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    timeout: float = TIMEOUT


class SmtpMailer:
    """Sends text, and pages beside it, to a few recipients; some of it to ``contacts``, too."""

    name: Final = "mail"

    def __init__(
        self,
        server: SmtpServer,
        *,
        sender: str,
        recipients: tuple[str, ...],
        contacts: tuple[str, ...] = (),
    ) -> None:
        """Send through ``server``."""
        self._server = server
        self.sender = sender
        self.recipients = recipients
        self._everybody = tuple(dict.fromkeys((*recipients, *contacts)))

    def describe(self) -> str:
        """Return the server as ``host:port``."""
        return f"{self._server.host}:{self._server.port}"

    def send(self, mail: Mail) -> tuple[str, ...]:
        """Send a mail; return the recipients that the server refused while it accepted others.

        Raises ``ConfigurationError`` for what waiting does not mend, else ``TransientError``.
        """
        message = self._message(mail)
        with _own_errors(self._server), self._connected() as smtp:
            refused = smtp.send_message(message, self.sender, self._recipients_of(mail))
        return tuple(sorted(refused))

    def _recipients_of(self, mail: Mail) -> tuple[str, ...]:
        return self._everybody if mail.to_contacts else self.recipients

    def _message(self, mail: Mail) -> EmailMessage:
        message = EmailMessage()
        domain = self.sender.rpartition("@")[2]
        try:
            message["From"] = Address("pgben", addr_spec=self.sender)
            message["To"] = [Address(addr_spec=one) for one in self._recipients_of(mail)]
        except (ValueError, IndexError, MessageError) as exc:
            raise ConfigurationError(
                "an address of the mail settings is none that mail can be sent to",
                "look at PGBEN_SMTP_FROM and PGBEN_ADMIN_EMAIL",
            ) from exc
        message["Subject"] = one_line(mail.subject)
        message["Date"] = format_datetime(mail.at)
        # The same mail has the same id when it is sent again, so that readers can drop the second.
        message["Message-ID"] = f"<{mail.id}@{domain}>"
        # No vacation message answers a mail that says so (RFC 3834).
        message["Auto-Submitted"] = "auto-generated"
        # Not every server takes eight bits; a body in ASCII passes all of them.
        message.set_content(mail.body, charset="utf-8", cte="quoted-printable")
        if mail.html:
            message.add_alternative(
                mail.html, subtype="html", charset="utf-8", cte="quoted-printable"
            )
            _add_images(message, mail.images)
        return message

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        server = self._server
        where = (server.host, server.port)
        if server.security == "tls":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                *where, timeout=server.timeout, context=_context(server)
            )
        else:
            smtp = smtplib.SMTP(*where, timeout=server.timeout)
        try:
            if server.security == "starttls":
                smtp.starttls(context=_context(server))
            if server.user is not None and server.password is not None:
                _log_in(smtp, server.user, server.password)
            yield smtp
            # The mail was taken: however the server says goodbye, it must not be sent again.
            with suppress(smtplib.SMTPException, OSError):
                smtp.quit()
        finally:
            smtp.close()


def _add_images(message: EmailMessage, images: Mapping[str, bytes]) -> None:
    """Put the images of a page beside it, so that programs show them in it and fetch nothing."""
    page = next(part for part in message.iter_parts() if part.get_content_subtype() == "html")
    for name, image in images.items():
        page.add_related(image, maintype="image", subtype="png", cid=f"<{name}>")


def _log_in(smtp: smtplib.SMTP, user: str, password: str) -> None:
    try:
        smtp.login(user, password)
    except UnicodeError:
        # The error itself holds what could not be written.
        raise ConfigurationError(
            "the login of the mail server has letters that its protocol cannot carry",
            "PGBEN_SMTP_USER and PGBEN_SMTP_PASS must be plain letters, digits and signs (ASCII)",
        ) from None


def _context(server: SmtpServer) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=server.ca_file)
    except OSError as exc:
        raise ConfigurationError(
            f"the certificate authority '{server.ca_file}' cannot be read",
            "PGBEN_SMTP_CA_FILE names a file with certificates in PEM form",
        ) from exc


def _mail_server(server: SmtpServer) -> str:
    return f"the mail server '{server.host}:{server.port}'"


@contextmanager
def _own_errors(server: SmtpServer) -> Iterator[None]:
    """Raise the errors of the libraries as errors of pgben."""
    where = _mail_server(server)
    try:
        yield
    except smtplib.SMTPAuthenticationError as exc:
        # Its text is left out: servers have been seen to repeat what they were told.
        raise _by_code(
            exc.smtp_code,
            f"{where} does not accept the user '{server.user}' (code {exc.smtp_code})",
            "set PGBEN_SMTP_USER and PGBEN_SMTP_PASS (or PGBEN_SMTP_PASS_FILE) to its login",
        ) from None
    except smtplib.SMTPNotSupportedError as exc:
        raise ConfigurationError(
            f"{where} does not offer what the settings ask for: {_answer(str(exc), server)}",
            "PGBEN_SMTP_SECURITY says how the line is protected; a login wants a server with AUTH",
        ) from exc
    except smtplib.SMTPRecipientsRefused as exc:
        code, said = max(exc.recipients.values())
        raise _by_code(
            code,
            f"{where} refuses every recipient: {code} {_answer(said, server)}",
            "look at PGBEN_ADMIN_EMAIL; some servers take mail for others after a login only",
        ) from exc
    except smtplib.SMTPSenderRefused as exc:
        raise _by_code(
            exc.smtp_code,
            f"{where} refuses the sender '{exc.sender}': {exc.smtp_code} "
            f"{_answer(exc.smtp_error, server)}",
            "set PGBEN_SMTP_FROM to an address that this login may use",
        ) from exc
    except smtplib.SMTPResponseException as exc:
        raise _by_code(
            exc.smtp_code,
            f"{where} refuses the mail: {exc.smtp_code} {_answer(exc.smtp_error, server)}",
            "ask whoever runs the mail server",
        ) from exc
    except ssl.SSLCertVerificationError as exc:
        raise ConfigurationError(
            f"the certificate of {where} is not trusted: {exc.verify_message}",
            "set PGBEN_SMTP_CA_FILE to its authority, and PGBEN_SMTP_HOST to the name in it",
        ) from exc
    except ssl.SSLError as exc:
        raise ConfigurationError(
            f"{where} does not speak TLS as the settings expect",
            "PGBEN_SMTP_SECURITY is 'starttls' on most servers' port 587, 'tls' on 465",
        ) from exc
    except UnicodeError as exc:
        raise ConfigurationError(
            f"{where} has a name that no server can have", "look at PGBEN_SMTP_HOST"
        ) from exc
    except (smtplib.SMTPException, OSError) as exc:
        raise TransientError(
            f"{where} does not answer: {_answer(str(exc) or type(exc).__name__, server)}",
            "look at PGBEN_SMTP_HOST and PGBEN_SMTP_PORT, the server and the network",
        ) from exc


def _by_code(code: int, sentence: str, hint: str) -> PgbenError:
    kind = ConfigurationError if code >= _FINAL else TransientError
    return kind(sentence, hint)


def _answer(text: str | bytes, server: SmtpServer) -> str:
    """Return a server's answer as one line, without our password should it repeat that."""
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if server.password:
        said = said.replace(server.password, "…")
    return one_line(said)[:200]

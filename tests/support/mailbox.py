"""A real mail server in the tests' own process: what arrives stays here and is read by tests."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pgben_tasks.embedded.child import free_port, wait_until

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Letter:
    """One mail as it arrived: who the envelope names, and whether the line was protected."""

    recipients: tuple[str, ...]
    protected: bool
    message: EmailMessage

    @property
    def subject(self) -> str:
        # A long one begins on a line of its own, and the parser leaves that line's first space.
        return str(self.message["Subject"]).strip()

    @property
    def body(self) -> str:
        return str(self.message.get_content())


@dataclass
class MailServer:
    """A server that may be stopped and started again on its port.

    ``login`` makes it want one. ``answers`` maps recipients to what it says of them instead of OK.
    """

    security: str = "none"
    certificate: Path | None = None
    login: tuple[str, str] | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    #: What it says of a wrong login, instead of the usual.
    says: str | None = None
    farewell: str = "221 Bye"
    port: int = field(default_factory=free_port)
    letters: list[Letter] = field(default_factory=list)
    _controller: Controller | None = None

    def start(self) -> None:
        """Listen, on the same port as before."""
        context = None
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
        more: dict[str, Any] = {}
        if self.security == "starttls":
            more = {"tls_context": context, "require_starttls": True}
        if self.login is not None:
            # Its own way to insist on a login warns on unprotected lines; ``handle_RCPT`` insists.
            more |= {"authenticator": self._authenticate, "auth_require_tls": False}
        self._controller = Controller(
            self,
            hostname=HOST,
            port=self.port,
            ssl_context=context if self.security == "tls" else None,
            **more,
        )
        self._controller.start()

    def stop(self) -> None:
        """Be away until ``start``."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def settings(self, **changed: str) -> dict[str, str]:
        """Return the settings that send to this server."""
        user, password = self.login or ("", "")
        return {
            "PGBEN_SMTP_HOST": HOST,
            "PGBEN_SMTP_PORT": str(self.port),
            "PGBEN_SMTP_SECURITY": self.security,
            "PGBEN_SMTP_USER": user,
            "PGBEN_SMTP_PASS": password,
            "PGBEN_SMTP_CA_FILE": str(self.certificate or ""),
            "PGBEN_SMTP_FROM": "pgben@example.org",
            "PGBEN_ADMIN_EMAIL": "ana@example.org, bia@example.org",
            "PGBEN_CONTACTS": "Maria da Conceição; maria@example.org; +55 84 99999-0000",
            **changed,
        }

    def await_letter(self, words: str, *, seconds: float) -> Letter:
        """Wait until a mail with these words in its subject or text is here."""

        def found() -> list[Letter]:
            return [one for one in self.letters if words in one.subject or words in one.body]

        if not wait_until(lambda: bool(found()), seconds=seconds):
            here = [one.subject for one in self.letters]
            raise AssertionError(f"no mail with '{words}' in {seconds:.0f} s, only {here}")
        return found()[0]

    # What aiosmtpd calls.

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: Any, session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if self.login is not None and not session.authenticated:
            return "530 5.7.0 Authentication required"
        answer = self.answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(  # noqa: N802 - the library's name
        self, _server: Any, session: Any, envelope: Any
    ) -> str:
        parsed = message_from_bytes(envelope.content, policy=policy.default)
        protected = session.ssl is not None or self.security == "tls"
        assert isinstance(parsed, EmailMessage)
        self.letters.append(Letter(tuple(envelope.rcpt_tos), protected, parsed))
        return "250 OK"

    async def handle_QUIT(  # noqa: N802 - the library's name
        self, _server: Any, _session: Any, _envelope: Any
    ) -> str:
        return self.farewell

    def _authenticate(
        self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any
    ) -> AuthResult:
        user, password = self.login or ("", "")
        right = (data.login, data.password) == (user.encode(), password.encode())
        # Not handled here means that the server answers 535, or what it is told to.
        return AuthResult(success=right, handled=False, message=None if right else self.says)


def self_made_certificate(folder: Path, *, name: str = HOST) -> Path:
    """Write a certificate for this machine's address, and its key, into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail of the tests")])
    now = datetime.now(UTC)
    place = x509.IPAddress(IPv4Address(name)) if name == HOST else x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([place]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"mail-{name}.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file

"""Who may do what: logins, sessions that expire, and failed logins that are slowed down.

Sessions live in the memory of this one process: a restart asks everybody to log in again, and an
account that was removed or changed loses its sessions at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from pgben_tasks.adapters.accounts import Account, Accounts, Role
from pgben_tasks.errors import ConfigurationError

#: Seconds after which a session ends: since the last request, and since its beginning.
IDLE_SECONDS: Final = 8 * 3600.0
LONGEST_SECONDS: Final = 24 * 3600.0
#: More sessions than this at a time are no people's; the oldest ends.
MOST_SESSIONS: Final = 1000
#: For so many seconds a password that was right for the API is not hashed again.
_REMEMBERED_SECONDS: Final = 60.0
#: So many failures in a row cost nothing: typing errors of one person, and of all who share an
#: address.
_FREE_FAILURES: Final = {"name": 3, "address": 30}
#: The longest wait after a failed login; failures are forgotten this long after the last one.
_LONGEST_WAIT: Final = 60.0
_MOST_DOUBLINGS: Final = 7
_FORGOTTEN_AFTER: Final = 900.0
#: Names and addresses that are remembered for failures; more are an attack, and the oldest go.
_MOST_REMEMBERED: Final = 10_000
#: The name of whoever looks where no login is set up.
NOBODY: Final = "nobody"

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever sends a request: a name for the audit trail, and what it may do.

    ``stamp`` is that of the login that was checked (``Logins.stamp``).
    """

    name: str
    role: Role
    stamp: bytes = field(default=b"", repr=False, compare=False)

    @property
    def may_operate(self) -> bool:
        """Whether it may start, cancel and acknowledge."""
        return self.role == "operate"


class Logins(Protocol):
    """Checks names and passwords; slow on purpose, so never called on the event loop."""

    def check(self, name: str, password: str) -> Visitor | None:
        """Return the visitor, None when name or password is wrong."""
        ...

    def stamp(self, name: str) -> bytes | None:
        """Return what changes when the login of ``name`` does; None when it has none."""
        ...


class FileLogins:
    """The logins of PGBEN_CONSOLE_USERS_FILE."""

    def __init__(self, accounts: Accounts) -> None:
        """Use the accounts of a file, which is read again whenever it changes."""
        self._accounts = accounts

    def check(self, name: str, password: str) -> Visitor | None:
        """Return the visitor, None when name or password is wrong."""
        account = self._accounts.check(name, password)
        # Of the very account whose password was right: the file may have changed meanwhile.
        return None if account is None else Visitor(account.name, account.role, _stamp_of(account))

    def stamp(self, name: str) -> bytes | None:
        """Return a digest of the account."""
        account = self._accounts.all().get(name)
        return None if account is None else _stamp_of(account)


def _stamp_of(account: Account) -> bytes:
    text = f"{account.role}\n{account.password_hash.get_secret_value()}"
    return hashlib.sha256(text.encode()).digest()


class FlowerLogins:
    """The logins of Flower's own option ``basic_auth``: whoever has one may watch."""

    def __init__(self, pairs: Sequence[str]) -> None:
        """Use these ``name:password`` texts; raises ``ConfigurationError`` for one that is none."""
        self._passwords: dict[str, bytes] = {}
        for pair in pairs:
            name, colon, password = pair.partition(":")
            if not (name and colon and password):
                raise ConfigurationError(
                    "an entry of basic_auth has no name or no password",
                    "write entries like 'name:password', or use PGBEN_CONSOLE_USERS_FILE",
                )
            self._passwords[name] = password.encode()

    def check(self, name: str, password: str) -> Visitor | None:
        """Return the visitor, None when name or password is wrong."""
        known = self._passwords.get(name, b"")
        same = hmac.compare_digest(known, password.encode(errors="surrogatepass"))
        return Visitor(name, "watch", hashlib.sha256(known).digest()) if same and known else None

    def stamp(self, name: str) -> bytes | None:
        """Return a digest of the password."""
        known = self._passwords.get(name)
        return None if known is None else hashlib.sha256(known).digest()


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Throttle:
    """Slows failed logins down, by name and by address: 1, 2, 4 … up to 60 seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Begin without failures; ``clock`` gives seconds that never go back."""
        self._clock = clock
        self._failures: dict[tuple[str, str], _Failures] = {}

    def wait(self, name: str, address: str) -> float:
        """Return for how many seconds this name or this address must not try again; 0 for none."""
        now = self._clock()
        return max(self._wait(key, now) for key in self._keys(name, address))

    def tried(self, name: str, address: str) -> None:
        """Count a login as failed before it is checked: others may be checked at the same time."""
        now = self._clock()
        for key in self._keys(name, address):
            known = self._failures.pop(key, None)
            forgotten = known is None or now - known.last > _FORGOTTEN_AFTER
            count = 1 if known is None or forgotten else known.count + 1
            # At the end again, so that the oldest stand first.
            self._failures[key] = _Failures(count, now)
            while len(self._failures) > _MOST_REMEMBERED:
                del self._failures[next(iter(self._failures))]

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of a name; those of its address may be somebody else's."""
        of_name, of_address = self._keys(name, address)
        self._failures.pop(of_name, None)
        if of_address in self._failures:
            self._failures[of_address].count -= 1

    def _keys(self, name: str, address: str) -> tuple[tuple[str, str], ...]:
        return ("name", name[:200]), ("address", address)

    def _wait(self, key: tuple[str, str], now: float) -> float:
        known = self._failures.get(key)
        if known is None or now - known.last > _FORGOTTEN_AFTER:
            return 0.0
        # A power of a large number is no number of seconds any more.
        further = min(known.count - _FREE_FAILURES[key[0]], _MOST_DOUBLINGS)
        if further <= 0:
            return 0.0
        return max(known.last + min(2.0 ** (further - 1), _LONGEST_WAIT) - now, 0.0)


@dataclass(slots=True)
class _Session:
    visitor: Visitor
    begun: float
    seen: float


class Sessions:
    """The sessions of people who logged in, by the token in their cookie."""

    def __init__(self, logins: Logins, clock: Clock = time.monotonic) -> None:
        """Begin without sessions."""
        self._logins = logins
        self._clock = clock
        self._sessions: dict[str, _Session] = {}

    def begin(self, visitor: Visitor) -> str:
        """Begin a session; return its token, which nobody can guess."""
        token, now = secrets.token_urlsafe(32), self._clock()
        self._sessions[_digest(token)] = _Session(visitor, now, now)
        while len(self._sessions) > MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return token

    def visitor(self, token: str) -> Visitor | None:
        """Return whose session it is; None when it has ended or its login has changed."""
        key, now = _digest(token), self._clock()
        session = self._sessions.get(key)
        if session is None:
            return None
        if (
            now - session.seen > IDLE_SECONDS
            or now - session.begun > LONGEST_SECONDS
            or self._logins.stamp(session.visitor.name) != session.visitor.stamp
        ):
            del self._sessions[key]
            return None
        session.seen = now
        return session.visitor

    def end(self, token: str) -> None:
        """End a session."""
        self._sessions.pop(_digest(token), None)


@dataclass(slots=True)
class Remembered:
    """Names and passwords of the API that were right a moment ago, by a keyed digest.

    Hashing a password takes a tenth of a second of a processor, and programs send theirs with every
    request.
    """

    logins: Logins
    clock: Clock = time.monotonic
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _known: dict[bytes, tuple[Visitor, float]] = field(default_factory=dict)

    def get(self, name: str, password: str) -> Visitor | None:
        """Return the visitor whose password was right a moment ago, and whose login is the same."""
        key = self._key(name, password)
        found = self._known.get(key)
        if found is None:
            return None
        visitor, until = found
        if self.clock() > until or self.logins.stamp(name) != visitor.stamp:
            del self._known[key]
            return None
        return visitor

    def keep(self, name: str, password: str, visitor: Visitor) -> None:
        """Remember that a password was right."""
        self._known[self._key(name, password)] = visitor, self.clock() + _REMEMBERED_SECONDS
        while len(self._known) > MOST_SESSIONS:
            del self._known[next(iter(self._known))]

    def _key(self, name: str, password: str) -> bytes:
        text = f"{len(name)}:{name}{password}".encode(errors="surrogatepass")
        return hmac.digest(self._secret, text, "sha256")


def basic_credentials(header: str) -> tuple[str, str] | None:
    """Return name and password of an ``Authorization: Basic`` header; None when it is none."""
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    name, colon, password = text.partition(":")
    return (name, password) if colon else None


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches a server that listens on ``address``."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def is_own_host(host: str) -> bool:
    """Return whether a ``Host`` header names this machine: another name's page may not read ours.

    Asked only where there is no login: a name server can point any name at 127.0.0.1.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return is_loopback(name.strip("[]"))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()

"""The console's users: a file with a line ``name role hash`` for each.

Who is logged in, and what a role may do, is the console's matter; here are names, roles and the
argon2id hashes of passwords. No line of the file stands in an error, only its number.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_IRGRP
from typing import Final, Literal, get_args

import argon2
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from pydantic import SecretStr

from pgben_tasks.adapters.keys.secrets import read_secret
from pgben_tasks.errors import ConfigurationError, RequestRefused
from pgben_tasks.files.durable import FILE_MODE, durable_file, temporary_name

Role = Literal["watch", "operate"]

#: Characters of the shortest password that is taken.
SHORTEST_PASSWORD: Final = 10
#: Bytes of the longest: more is nobody's password, and hashing it would cost memory and time.
LONGEST_PASSWORD: Final = 1000
#: Checks at a time, each of 64 MiB; further ones wait.
_CHECKS: Final = 2

_WHAT: Final = "file of the console's users"
_NAME: Final = re.compile(r"[A-Za-z0-9._@+-]{1,60}")
_HASH: Final = re.compile(
    r"\$argon2id\$v=\d+\$m=\d+,t=\d+,p=\d+\$(?P<salt>[A-Za-z0-9+/]+)\$(?P<digest>[A-Za-z0-9+/]+)"
)

#: Those of the library are RFC 9106's for machines with little memory: 64 MiB, three passes, four
#: lanes. 64 MiB is what an attacker needs for every guess, and twice that fits into the console's
#: container; RFC 9106's other choice, 2 GiB, does not.
_HASHER: Final = argon2.PasswordHasher()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One user: what it may do, and the argon2id hash of its password."""

    name: str
    role: Role
    password_hash: SecretStr


class Accounts:
    """The users of one file, which is read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        """Use the file at ``path``; nothing is read yet."""
        self._path = path
        self._known: tuple[tuple[int, ...], dict[str, Account]] | None = None
        self._checks = threading.BoundedSemaphore(_CHECKS)

    def all(self) -> dict[str, Account]:
        """Return every user by name.

        Raises ``ConfigurationError`` for a file that is missing, open to every user of the machine,
        or not written as it must be.
        """
        # Before the file is read: what changes while it is read is read the next time.
        stamp = self._stamp()
        known = self._known
        if known is None or not stamp or known[0] != stamp:
            text = read_secret(self._path, what=_WHAT)
            self._known = known = (stamp, _parsed(text, self._path))
        return dict(known[1])

    def check(self, name: str, password: str) -> Account | None:
        """Return the user whose name and password these are; None when they are nobody's.

        Takes a tenth of a second of a processor on purpose, and as long for a name that does not
        exist: never call it on an event loop. Raises what ``all`` raises.
        """
        account = self.all().get(name)
        given = _bytes(password)
        if len(given) > LONGEST_PASSWORD:
            return None
        with self._checks:
            # Made at the first check, whoever's it is.
            stored = _hash_of_nobody()
            if account is not None:
                stored = account.password_hash.get_secret_value()
            try:
                _HASHER.verify(stored, given)
            except VerifyMismatchError:
                return None
            except VerificationError as exc:
                raise ConfigurationError(
                    f"the password of '{name}' cannot be checked: {exc}",
                    "give the console more memory, or set the password again with `pgben console "
                    "user add NAME --replace`",
                ) from None
        return account

    def add(self, name: str, role: Role, password: str, *, replace: bool = False) -> None:
        """Write a user into the file, which is made where there is none.

        Raises ``RequestRefused`` for a name that is there, without ``replace``;
        ``ConfigurationError`` for a name or a password that is not taken.
        """
        self.require_free(name, replace=replace)
        given = _bytes(password)
        _require_password(password, given)
        found = self._lines() if self._stamp() else []
        line = f"{name} {role} {_HASHER.hash(given)}"
        texts = [line if one and one.name == name else text for one, text in found]
        self._write([*texts, *([] if line in texts else [line])])

    def require_free(self, name: str, *, replace: bool) -> None:
        """Raise what ``add`` would, before anybody is asked for a password."""
        _require_name(name)
        if not replace and self._stamp() and name in self.all():
            raise RequestRefused(
                f"there is a user '{name}' already in '{self._path}'",
                "`pgben console user add … --replace` gives it a new password and role; or choose "
                "another name",
            )

    def remove(self, name: str) -> None:
        """Take a user out of the file; raise ``ConfigurationError`` for one that is not there."""
        found = self._lines()
        kept = [text for one, text in found if not (one and one.name == name)]
        if len(kept) == len(found):
            raise ConfigurationError(
                f"there is no user '{name[:60]}' in '{self._path}'",
                "`pgben console user list` shows the users there are",
            )
        self._write(kept)

    def _lines(self) -> list[tuple[Account | None, str]]:
        """Return every line, with the user that stands in it."""
        text = read_secret(self._path, what=_WHAT)
        _parsed(text, self._path)
        return [(_account(line), line) for line in text.splitlines()]

    def _stamp(self) -> tuple[int, ...]:
        """Return what changes with the file, its mode included; Kubernetes exchanges a link."""
        try:
            found = self._path.stat()
        except OSError:
            # Reading it says why, in our words.
            return ()
        return (
            found.st_dev,
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
            found.st_mode,
        )

    def _write(self, texts: list[str]) -> None:
        # Of a link the file that it leads to.
        path = self._path.resolve()
        temporary = path.with_name(temporary_name(path.name))
        try:
            before = path.stat() if path.exists() else None
            with durable_file(path, temporary=temporary) as file:
                file.write("".join(f"{text}\n" for text in texts).encode())
                if before is not None:
                    _give(temporary, before)
        except OSError as exc:
            raise ConfigurationError(
                f"the {_WHAT} '{self._path}' cannot be written: {os.strerror(exc.errno or 0)}",
                "correct its path, or the owner and mode of its folder",
            ) from exc


def _give(path: Path, before: os.stat_result) -> None:
    """Set owner and group of a new file as they were, and let the group read it where it could.

    Root writes a file that the console's own user must go on reading.
    """
    now = path.stat()
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        os.chown(path, before.st_uid, before.st_gid)
    if before.st_mode & S_IRGRP:
        path.chmod(FILE_MODE | S_IRGRP)


def _parsed(text: str, path: Path) -> dict[str, Account]:
    found: dict[str, Account] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            account = _account(line)
        except ValueError as exc:
            raise _faulty(path, number, str(exc)) from None
        if account is None:
            continue
        if account.name in found:
            raise _faulty(path, number, "this name stands there twice")
        found[account.name] = account
    return found


def _account(line: str) -> Account | None:
    """Return the user of a line, None for a comment; raise ``ValueError`` with what is wrong."""
    words = line.split()
    if not words or words[0].startswith("#"):
        return None
    for is_fine, fault in _RULES:
        if not is_fine(words):
            raise ValueError(fault)
    name, role, password_hash = words
    return Account(name=name, role=_ROLES[role], password_hash=SecretStr(password_hash))


def _is_hash(text: str) -> bool:
    found = _HASH.fullmatch(text)
    if found is None:
        return False
    try:
        argon2.extract_parameters(text)
        for part in found.groups():
            base64.b64decode(part + "=" * (-len(part) % 4), validate=True)
    except (InvalidHashError, binascii.Error):
        return False
    return True


_ROLES: Final[dict[str, Role]] = {role: role for role in get_args(Role)}
#: What the words of a line must be, in the order of looking, and what is wrong otherwise.
_RULES: Final[tuple[tuple[Callable[[list[str]], bool], str], ...]] = (
    (lambda words: len(words) == 3, "a line has a name, a role and a hash"),  # noqa: PLR2004
    (lambda words: _NAME.fullmatch(words[0]) is not None, "this is not a name"),
    (lambda words: words[1] in _ROLES, f"the role is not one of {', '.join(_ROLES)}"),
    (lambda words: _is_hash(words[2]), "this is not an argon2id hash"),
)


def _faulty(path: Path, number: int, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"line {number} of the {_WHAT} '{path}' is wrong: {what}",
        "write it with `pgben console user add`, or take it out",
    )


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            "this is not a name for a user of the console",
            "1 to 60 letters (A to Z, a to z), digits and . _ @ + -",
        )


def _require_password(password: str, given: bytes) -> None:
    if len(unicodedata.normalize("NFC", password)) < SHORTEST_PASSWORD:
        raise ConfigurationError(
            f"the password is shorter than {SHORTEST_PASSWORD} characters",
            "choose a longer one; three or four words are easy to remember",
        )
    if len(given) > LONGEST_PASSWORD:
        raise ConfigurationError(
            f"the password is longer than {LONGEST_PASSWORD} bytes", "choose a shorter one"
        )


def _bytes(password: str) -> bytes:
    """Return a password as it is hashed: one form of an accented letter, whoever typed it."""
    # Texts of requests may have halves of characters, which no form has.
    return unicodedata.normalize("NFC", password).encode(errors="surrogatepass")


@cache
def _hash_of_nobody() -> str:
    """Return a hash that no password fits, as costly as everybody's."""
    return _HASHER.hash(os.urandom(32))

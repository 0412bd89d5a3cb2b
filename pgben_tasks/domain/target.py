"""What is protected, and how one backup of it is named. Nothing here touches a disk or a server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from pgben_tasks.errors import ConfigurationError

TargetKind = Literal["postgres", "bucket"]

#: PostgreSQL's NAMEDATALEN - 1, in bytes.
MAX_NAME_BYTES: Final = 63

#: Instead of a backup's id: the newest verified one.
LATEST: Final = "latest"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_BACKUP_ID = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-f]{6})", re.ASCII)
_STAMP: Final = "%Y%m%dT%H%M%SZ"


def require_utc(moment: datetime) -> datetime:
    """Return ``moment`` in UTC; refuse a naive datetime with ``ValueError``."""
    if moment.tzinfo is None:
        message = f"a moment without a time zone was given: {moment!r}"
        raise ValueError(message)
    return moment.astimezone(UTC)


def may_hold_password(text: str) -> bool:
    """Return whether ``text`` looks like a connection string: then no message repeats it."""
    return any(sign in text for sign in ("=", "://", "@"))


def check_name(name: str) -> str:
    """Return ``name`` when it may name a database or bucket; raise ``ConfigurationError`` else.

    The rule keeps names out of trouble everywhere they go (a path, a key, an argument): ASCII
    letters, digits, ``_``, ``-`` and ``.``, at most 63 bytes. libpq expands ``dbname`` values that
    look like connection strings, so these are refused with a sentence of their own.
    """
    if may_hold_password(name):
        # The value may hold a password, so it is not repeated.
        raise ConfigurationError(
            "a target's name looks like a connection string",
            "name the database only; host, user and password belong in the settings",
        )
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ConfigurationError(
            f"the name '{name[:20]}…' is {len(name.encode())} bytes long, PostgreSQL allows "
            f"{MAX_NAME_BYTES}",
            f"give a name of at most {MAX_NAME_BYTES} bytes",
        )
    if not _NAME.fullmatch(name) or ".." in name:
        raise ConfigurationError(
            f"the name {name!r} has characters that pgben does not take",
            "use letters, digits, '_', '-' and '.', beginning with a letter, a digit or '_'",
        )
    return name


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One protected thing: ``postgres/<name>`` or ``bucket/<name>``."""

    kind: TargetKind
    name: str

    def __post_init__(self) -> None:
        """Refuse unknown kinds and unsafe names."""
        if self.kind not in {"postgres", "bucket"}:
            raise ConfigurationError(
                f"'{self.kind}' is not a kind of target", "use 'postgres/<name>' or 'bucket/<name>'"
            )
        check_name(self.name)

    def __str__(self) -> str:
        """Return the target as operators write it."""
        return f"{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``postgres/<name>`` or ``bucket/<name>``; else raise ``ConfigurationError``."""
        if may_hold_password(text):
            check_name(text)
        kind, slash, name = text.partition("/")
        if not slash:
            raise ConfigurationError(
                f"'{text[:80]}' is not a target", "use 'postgres/<name>' or 'bucket/<name>'"
            )
        return cls(kind, name)  # type: ignore[arg-type]  # __post_init__ checks the kind


@dataclass(frozen=True, slots=True, order=True)
class BackupId:
    """The name of one capture: ``<UTC start>-<6 hex>``, for example ``20261123T050000Z-1f0c9a``.

    The manifest's sequence number, not this name or any clock, says which backup is newer.
    """

    started: datetime
    suffix: str

    @classmethod
    def make(cls, started: datetime, suffix: str) -> BackupId:
        """Return the id of a capture begun at ``started`` (aware); ``suffix`` is 6 hex digits."""
        return cls.parse(f"{require_utc(started).strftime(_STAMP)}-{suffix}")

    @classmethod
    def parse(cls, text: str) -> BackupId:
        """Read an id; raise ``ConfigurationError`` when it is none."""
        match = _BACKUP_ID.fullmatch(text)
        if match is None:
            raise ConfigurationError(
                f"'{text[:80]}' is not a backup id",
                "ids look like 20261123T050000Z-1f0c9a; `pgben list` shows them",
            )
        try:
            started = datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC)
        except ValueError as exc:
            raise ConfigurationError(
                f"'{text}' is not a backup id: its date does not exist",
                "`pgben list` shows the ids",
            ) from exc
        return cls(started, match[2])

    def __str__(self) -> str:
        """Return the id as it stands in paths and on screens."""
        return f"{self.started.strftime(_STAMP)}-{self.suffix}"

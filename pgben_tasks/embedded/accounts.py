"""Which account an embedded server runs under, and whether that account can reach its files.

PostgreSQL refuses to run as root, so a stack started by root runs it as ``nobody``; that account
must be able to pass through every folder above the programs and the data. No
permission is changed for it: where it cannot pass, files are put elsewhere.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgben_tasks.errors import ConfigurationError

#: The uid that POSIX systems on Linux reserve for no one in particular.
NOBODY: Final = 65534


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group that a server runs under."""

    uid: int
    gid: int

    def may(self, mode: os.stat_result, wanted: int) -> bool:
        """Return whether the permission bits ``wanted`` (of 0o7) are granted; ACLs are not read."""
        if mode.st_uid == self.uid:
            granted = mode.st_mode >> 6
        elif mode.st_gid == self.gid:
            granted = mode.st_mode >> 3
        else:
            granted = mode.st_mode
        return granted & wanted == wanted

    def reaches(self, path: Path) -> bool:
        """Return whether the account can pass through ``path`` and every folder above it."""
        real = path.resolve()
        return all(self.may(folder.stat(), 0o1) for folder in (real, *real.parents))

    def reads(self, path: Path) -> bool:
        """Return whether the account can use a folder or file and reach it."""
        info = path.stat()
        wanted = 0o5 if stat.S_ISDIR(info.st_mode) else 0o4
        return self.may(info, wanted) and self.reaches(path.parent)


def server_account() -> Account | None:
    """Return the account for a server that refuses root; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    for entry in pwd.getpwall():
        if entry.pw_uid == NOBODY or entry.pw_name == "nobody":
            return Account(entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "PostgreSQL does not run as root, and there is no user 'nobody' to run it as",
        "run as an ordinary user, or add the user 'nobody'",
    )


def private_base(wanted: Path | None) -> Path:
    """Return the folder below which a stack may make its own: ``wanted``, or for temporary files.

    Raises ``ConfigurationError`` when the servers' account cannot reach it.
    """
    account = server_account()
    places = [wanted] if wanted else [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    for place in places:
        if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
            real = place.resolve()
            if account is None or account.reaches(real):
                return real
    names = ", ".join(f"'{place}'" for place in places)
    raise ConfigurationError(
        f"embedded servers cannot keep their files below {names}",
        "set TMPDIR to a folder that this user can write and every user can pass through",
    )

"""All keys of an installation in one folder: made together once, read from then on.

A set is made in a folder inside the folder, and its files are moved out one by one, the trusted
keys last: a set that was interrupted is finished by the next run or begun anew, and no file that
exists is ever replaced. The escrow key may (and should) be taken away once the set is made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, Literal

from pgben_tasks.adapters.keys import files as keys
from pgben_tasks.adapters.keys.age import parse_recipients
from pgben_tasks.adapters.keys.secrets import read_trusted
from pgben_tasks.adapters.keys.signatures import Trust
from pgben_tasks.domain.documents import PublicKeys, TrustedKey, TrustedKeys
from pgben_tasks.errors import ConfigurationError, RequestRefused
from pgben_tasks.files.durable import FOLDER_MODE, flush_folder
from pgben_tasks.ports import SigningRole

Roles = Literal["single", "separate"]

SIGNING_ROLES: Final[tuple[SigningRole, ...]] = ("backup", "verify", "restore", "maintenance")
OPERATIONS_IDENTITY: Final = "operations-identity.txt"
ESCROW_IDENTITY: Final = "escrow-identity.txt"
INVENTORY_IDENTITY: Final = "inventory-identity.txt"
RECIPIENTS: Final = "recipients.txt"
TRUSTED_KEYS: Final = "trusted-keys.json"
_UNFINISHED: Final = ".unfinished"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """What may be shown of an installation's keys. ``recipients`` are public keys by name."""

    folder: Path
    recipients: Mapping[str, str]
    trusted: tuple[TrustedKey, ...]

    @property
    def roles(self) -> Roles:
        """Whether one signing key serves every role, or each has its own.

        Keys of before may be trusted beside those in use.
        """
        serves_all = any(set(key.roles) == set(SIGNING_ROLES) for key in self.trusted)
        return "single" if serves_all else "separate"

    @property
    def trusted_keys(self) -> Path:
        """The file of public signing keys."""
        return self.folder / TRUSTED_KEYS

    def signing_key(self, role: SigningRole) -> Path:
        """Return the file of the key that signs in this role."""
        return self.folder / _signing_file("all" if self.roles == "single" else role)

    def file(self, name: str) -> Path:
        """Return the file with this name."""
        return self.folder / name


def exists(folder: Path) -> bool:
    """Return whether the folder has a set of keys, finished or about to be."""
    return (folder / TRUSTED_KEYS).exists() or (folder / _UNFINISHED / TRUSTED_KEYS).exists()


def read_or_make(folder: Path, *, roles: Roles, now: datetime) -> tuple[KeySet, bool]:
    """Return the set in ``folder``, made now when there is none; say whether it was made.

    Raises ``RequestRefused`` when a file is in the way or the existing set has other ``roles``,
    ``ConfigurationError`` when the folder cannot be written or a file is damaged.
    """
    made = not (folder / TRUSTED_KEYS).exists()
    if made:
        _make(folder, _names(roles), partial(_fill, roles=roles, now=now))
    found = _read(folder)
    if found.roles != roles:
        has = "one signing key for all roles" if roles == "separate" else "a signing key per role"
        raise RequestRefused(
            f"the keys in '{folder}' have {has}, and existing keys are not replaced",
            "run `pgben init` as it was run the first time, or name an empty folder with --keys",
        )
    return found, made


def read_or_adopt(folder: Path, known: PublicKeys, *, identity: str, now: datetime) -> KeySet:
    """Return the set in ``folder`` that goes on with keys of a lost site, made now if need be.

    It has ``known``, what is left of the old set, ``identity``, the text of an identity file that
    opens what the old site sealed, and a new signing key for all roles: the old signatures stay
    believed, and the recipients are the old ones.

    Raises ``RequestRefused`` when the folder has other keys.
    """
    adopted = read_adopted(folder, known)
    if adopted is not None:
        return adopted
    names = [name for name in _names("single") if name != ESCROW_IDENTITY]
    _make(folder, names, partial(_fill_on, known=known, identity=identity, now=now))
    return _read(folder)


def read_adopted(folder: Path, known: PublicKeys) -> KeySet | None:
    """Return the set in ``folder`` that goes on with ``known`` keys; None when there is none yet.

    Raises ``RequestRefused`` when the folder has other keys.
    """
    if not (folder / TRUSTED_KEYS).exists():
        return None
    found = _read(folder)
    believed = {key.fingerprint for key in found.trusted}
    if found.recipients != known.recipients or not believed >= {
        key.fingerprint for key in known.keys
    }:
        raise RequestRefused(
            f"'{folder}' has keys already, and they do not go on with those of the repository",
            "name an empty folder with --keys; keys that exist are not replaced",
        )
    return found


def _make(folder: Path, names: Sequence[str], fill: Callable[[Path], None]) -> None:
    staging = folder / _UNFINISHED
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        if not (staging / TRUSTED_KEYS).exists():
            shutil.rmtree(staging, ignore_errors=True)
            for name in names:
                _refuse_existing(folder / name)
            fill(staging)
        # The trusted keys stand for the whole set, so they move last.
        for file in sorted(staging.iterdir(), key=lambda one: (one.name == TRUSTED_KEYS, one.name)):
            _refuse_existing(folder / file.name)
            file.rename(folder / file.name)
        flush_folder(folder)
        staging.rmdir()
    except OSError as exc:
        raise ConfigurationError(
            f"the keys cannot be written to '{folder}': {os.strerror(exc.errno or 0)}",
            "choose another folder with --keys, or correct its owner and mode",
        ) from exc


def _fill(staging: Path, roles: Roles, now: datetime) -> None:
    operations = keys.make_age_identity(staging / OPERATIONS_IDENTITY, now=now)
    escrow = keys.make_age_identity(staging / ESCROW_IDENTITY, now=now)
    keys.make_age_identity(staging / INVENTORY_IDENTITY, now=now)
    keys.write_new_file(
        staging / RECIPIENTS, f"# operations\n{operations.public}\n# escrow\n{escrow.public}\n"
    )
    shares: Mapping[str, tuple[SigningRole, ...]] = (
        {"all": SIGNING_ROLES} if roles == "single" else {role: (role,) for role in SIGNING_ROLES}
    )
    trusted = []
    for name, signs in shares.items():
        pair = keys.make_signing_key(staging / _signing_file(name))
        trusted.append(keys.trusted_key(name, signs, pair.public))
    keys.write_trusted_keys(staging / TRUSTED_KEYS, trusted)


def _fill_on(staging: Path, known: PublicKeys, identity: str, now: datetime) -> None:
    keys.write_new_file(staging / OPERATIONS_IDENTITY, identity.rstrip("\n") + "\n")
    keys.make_age_identity(staging / INVENTORY_IDENTITY, now=now)
    named = (f"# {name}\n{public}\n" for name, public in known.recipients.items())
    keys.write_new_file(staging / RECIPIENTS, "".join(named))
    pair = keys.make_signing_key(staging / _signing_file("all"))
    own = keys.trusted_key(f"all, since {now:%Y-%m-%d}", SIGNING_ROLES, pair.public)
    keys.write_trusted_keys(staging / TRUSTED_KEYS, [*known.keys, own])


def _read(folder: Path) -> KeySet:
    path = folder / TRUSTED_KEYS
    Trust.load(path)
    trusted = TrustedKeys.model_validate_json(read_trusted(path, what="trusted keys file"))
    return KeySet(folder=folder, recipients=_recipients(folder), trusted=trusted.keys)


def _recipients(folder: Path) -> dict[str, str]:
    """Read the public keys; the comment before each is its name, as `age -R` allows."""
    found: dict[str, str] = {}
    name = "recipient"
    for line in read_trusted(folder / RECIPIENTS, what="recipients file").splitlines():
        text = line.strip()
        if text.startswith("#"):
            name = text.lstrip("# ")
        elif text:
            if name in found:
                raise ConfigurationError(
                    f"'{folder / RECIPIENTS}' has two keys under the name '{name}'",
                    "write a line '# NAME' before each key: the recovery card shows these names",
                )
            (found[name],) = parse_recipients([text])
    return found


def _names(roles: Roles) -> list[str]:
    signing = ["all"] if roles == "single" else list(SIGNING_ROLES)
    return [
        OPERATIONS_IDENTITY,
        ESCROW_IDENTITY,
        INVENTORY_IDENTITY,
        RECIPIENTS,
        *map(_signing_file, signing),
    ]


def _signing_file(name: str) -> str:
    return "signing-key.pem" if name == "all" else f"signing-key-{name}.pem"


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise RequestRefused(
            f"'{path}' is in the way: it exists, and the folder has no '{TRUSTED_KEYS}'",
            "keys are never replaced; put the missing file back, or name an empty folder",
        )

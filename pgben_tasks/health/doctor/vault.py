"""Checks of the repository and of the keys that it is believed and opened by."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pgben_tasks.adapters.keys.age import parse_recipients, public_keys
from pgben_tasks.adapters.keys.key_set import ESCROW_IDENTITY
from pgben_tasks.adapters.keys.signatures import Signer, Trust
from pgben_tasks.errors import PgbenError
from pgben_tasks.health.doctor.patient import Patient
from pgben_tasks.health.doctor.report import Finding, Unseen, error, ok, warning

#: The reconciler stores audit entries every minute; older ones met a repository that refused them.
_OWED_TOO_LONG: Final = timedelta(minutes=10)


def repository(patient: Patient) -> Iterator[Finding]:
    """Look whether the repository is there and can be read."""
    found = patient.work.repository
    found.check_place()
    targets = found.targets()
    count = sum(len(found.backups(target)) for target in targets)
    yield ok(place=found.describe(), id=found.id, backups=count, targets=len(targets))


def repository_writable(patient: Patient) -> Iterator[Finding]:
    """Look whether the repository takes what workers write, without writing anything.

    A folder is asked for its mode. Elsewhere the audit trail tells: it is stored every minute.
    """
    patient.repository  # noqa: B018 - where there is none, nothing can be written
    parts = urlsplit(patient.settings.repository)
    if parts.scheme == "file" and patient.settings.signing_key_file is not None:
        folder = Path(parts.path)
        if not os.access(folder, os.W_OK | os.X_OK):
            yield error("denied", path=folder)
            return
    owed, age = patient.catalog.unstored_entries()
    if owed and age > _OWED_TOO_LONG:
        yield error("owed", count=owed, minutes=int(age.total_seconds() // 60))
    else:
        yield ok()


def trusted_keys(patient: Patient) -> Iterator[Finding]:
    """Look whether there is a file that says who is believed."""
    path = patient.settings.trusted_keys_file
    if path is None:
        yield error("none")
        return
    Trust.load(path)
    yield ok(path=path)


def signing_key(patient: Patient) -> Iterator[Finding]:
    """Look whether what this process would sign is believed, and in which roles."""
    path = patient.settings.signing_key_file
    if path is None:
        yield warning("none")
        return
    signer = Signer.load(path)
    roles = sorted(patient.trust.roles(signer.fingerprint))
    if roles:
        yield ok(roles=", ".join(roles), fingerprint=signer.fingerprint[:16])
    else:
        yield error("untrusted", fingerprint=signer.fingerprint[:16])


def recipients(patient: Patient) -> Iterator[Finding]:
    """Look to whom backups are sealed."""
    count = len(parse_recipients(patient.settings.age_recipients))
    if not patient.settings.encryption:
        yield warning("off")
    elif count == 0:
        yield error("none")
    elif count == 1:
        yield warning("one")
    else:
        yield ok(count=count)


def identities(patient: Patient) -> Iterator[Finding]:
    """Look whether the secret keys can be read, by their owner only."""
    settings = patient.settings
    paths = [
        path for path in (settings.age_identity_file, settings.inventory_identity_file) if path
    ]
    for path in paths:
        public_keys(path)
    if paths:
        yield ok(files=", ".join(str(path) for path in paths))
    else:
        yield ok("none")


def opening(patient: Patient) -> Iterator[Finding]:
    """Look whether the identity at hand opens what is sealed now."""
    path = patient.settings.age_identity_file
    if path is None or not patient.settings.encryption:
        yield ok("none")
        return
    try:
        own = public_keys(path)
    except PgbenError:
        raise Unseen("identities") from None
    if set(own).isdisjoint(parse_recipients(patient.settings.age_recipients)):
        yield error("foreign", path=path)
    else:
        yield ok(path=path)


def escrow(patient: Patient) -> Iterator[Finding]:
    """Look whether the key that belongs in a safe still lies beside the others."""
    settings = patient.settings
    files = (
        settings.trusted_keys_file,
        settings.age_identity_file,
        settings.signing_key_file,
        settings.inventory_identity_file,
    )
    beside = {path.parent / ESCROW_IDENTITY for path in files if path is not None}
    here = sorted(path for path in beside if path.exists())
    for path in here:
        yield warning("here", path=path)
    if not here:
        yield ok()

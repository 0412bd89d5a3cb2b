"""Checks of the repository, and of the keys that its backups are trusted and opened by."""

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
from pgben_tasks.health.doctor.installation import Installation
from pgben_tasks.health.doctor.report import Result, Unseen, error, ok, warning
from pgben_tasks.health.presence import opens_what_is_sealed
from pgben_tasks.language import translatable as _

#: The reconciler stores audit entries every minute; older ones met a repository that refused them.
_OWED_TOO_LONG: Final = timedelta(minutes=10)


def repository(installation: Installation) -> Iterator[Result]:
    """Check that the repository is there and can be read."""
    found = installation.work.repository
    found.check_place()
    targets = found.targets()
    count = sum(len(found.backups(target)) for target in targets)
    yield ok(
        _("{place} can be read; targets: {targets}, backups: {backups}; its id is {id}"),
        place=found.describe(),
        id=found.id,
        backups=count,
        targets=len(targets),
    )


def repository_place(installation: Installation) -> Iterator[Result]:
    """Check that the repository is not lost together with the buckets that it protects."""
    settings = installation.settings
    parts = urlsplit(settings.repository)
    if parts.scheme == "file" or installation.bucket_host is None:
        yield ok(_("the repository is not on the server of a protected bucket"))
        return
    where = urlsplit(settings.repository_endpoint or "").hostname
    if where != installation.bucket_host:
        yield ok(_("the repository is not on the server of a protected bucket"))
    else:
        yield warning(
            "beside_buckets",
            _(
                "the repository is on the machine of the protected buckets, '{server}', and is "
                "lost together with it"
            ),
            _("keep a copy elsewhere, or put it on another server: PGBEN_REPOSITORY_ENDPOINT"),
            server=where,
        )


def repository_writable(installation: Installation) -> Iterator[Result]:
    """Check that the repository takes what workers write, without writing anything.

    A folder is asked for its mode. Elsewhere the audit trail tells: it is stored every minute.
    """
    installation.repository  # noqa: B018 - where there is none, nothing can be written
    parts = urlsplit(installation.settings.repository)
    if parts.scheme == "file" and installation.settings.signing_key_file is not None:
        folder = Path(parts.path)
        if not os.access(folder, os.W_OK | os.X_OK):
            yield error(
                "denied",
                _("this user may not write to the repository '{path}'"),
                _("give the folder to the workers' user, mode 0700"),
                path=folder,
            )
            return
    owed, age = installation.catalog.unstored_entries()
    if owed and age > _OWED_TOO_LONG:
        yield error(
            "owed",
            _(
                "{count} audit entries wait to be stored in the repository, the oldest for "
                "{minutes} min"
            ),
            _("look at the maintenance worker's log, its store credential and its signing key"),
            count=owed,
            minutes=int(age.total_seconds() // 60),
        )
    else:
        yield ok(_("the repository takes what is written to it"))


def trusted_keys(installation: Installation) -> Iterator[Result]:
    """Check that the file of trusted keys can be read."""
    path = installation.settings.trusted_keys_file
    if path is None:
        yield error(
            "none",
            _("no trusted keys are set, so no backup can be believed"),
            _("set PGBEN_TRUSTED_KEYS_FILE to the file that `pgben init` wrote"),
        )
        return
    Trust.load(path)
    yield ok(_("trusted keys are read from '{path}'"), path=path)


def stored_keys(installation: Installation) -> Iterator[Result]:
    """Check that the repository has the public keys that are trusted and sealed to here."""
    stored = installation.repository.read_public_keys()
    trusted = {(key.public, frozenset(key.roles)) for key in installation.trust.keys}
    recipients = set(parse_recipients(installation.settings.age_recipients))
    if not stored:
        yield warning(
            "none",
            _(
                "the repository has no public keys, so with the recovery card alone no backup "
                "could be believed"
            ),
            _(
                "run `pgben init` once every worker runs this version, and print the recovery "
                "card that it writes"
            ),
        )
        return
    for one in stored:
        same = {(key.public, frozenset(key.roles)) for key in one.keys} == trusted
        # Only what seals has recipients.
        if same and (not recipients or set(one.recipients.values()) == recipients):
            yield ok(
                _("the public keys are in the repository, under the fingerprint {fingerprint}…"),
                fingerprint=one.fingerprint[:16],
            )
            return
    yield warning(
        "other",
        _(
            "the public keys in the repository are not the trusted keys and recipients of these "
            "settings"
        ),
        _(
            "run `pgben init` with the folder of the trusted keys, and print the recovery card "
            "that it writes: older cards are out of date"
        ),
    )


def signing_key(installation: Installation) -> Iterator[Result]:
    """Check that the signing key of this process is trusted, and in which roles."""
    path = installation.settings.signing_key_file
    if path is None:
        yield warning(
            "none",
            _("no signing key is set: this process can look and ask, and write nothing"),
            _("workers need PGBEN_SIGNING_KEY_FILE"),
        )
        return
    signer = Signer.load(path)
    roles = sorted(installation.trust.roles(signer.fingerprint))
    fingerprint = signer.fingerprint[:16]
    if roles:
        yield ok(
            _("the signing key {fingerprint}… is trusted as {roles}"),
            roles=", ".join(roles),
            fingerprint=fingerprint,
        )
    else:
        yield error(
            "untrusted",
            _("the signing key {fingerprint}… is not in the trusted keys file"),
            _("use the key that `pgben init` made, or add its public half on every machine"),
            fingerprint=fingerprint,
        )


def recipients(installation: Installation) -> Iterator[Result]:
    """Check to whom backups are sealed."""
    count = len(parse_recipients(installation.settings.age_recipients))
    if not installation.settings.encryption:
        yield warning(
            "off",
            _("encryption is off: whoever reads the repository reads the data"),
            _("set PGBEN_ENCRYPTION=on and PGBEN_AGE_RECIPIENTS, unless that is meant"),
        )
    elif count == 0:
        yield error(
            "none",
            _("encryption is on and no recipients are set"),
            _("set PGBEN_AGE_RECIPIENTS to the public keys that `pgben init` printed"),
        )
    elif count == 1:
        yield warning(
            "one",
            _(
                "backups are sealed to one recipient only: when its key is lost, they never open "
                "again"
            ),
            _("add the escrow key's public half to PGBEN_AGE_RECIPIENTS"),
        )
    else:
        yield ok(_("backups are sealed to {count} recipients"), count=count)


def identities(installation: Installation) -> Iterator[Result]:
    """Check that the secret keys can be read, by their owner only."""
    settings = installation.settings
    paths = [
        path for path in (settings.age_identity_file, settings.inventory_identity_file) if path
    ]
    for path in paths:
        public_keys(path)
    if paths:
        yield ok(
            _("identities are readable by their owner only: {files}"),
            files=", ".join(str(path) for path in paths),
        )
    else:
        yield ok(_("no identity is set here, as is usual where nothing is restored"))


def opening(installation: Installation) -> Iterator[Result]:
    """Check that the identity at hand opens what is sealed now."""
    path = installation.settings.age_identity_file
    if not installation.settings.encryption:
        yield ok(_("nothing is sealed, so nothing needs to be opened"))
        return
    try:
        opens = opens_what_is_sealed(installation.settings)
    except PgbenError:
        raise Unseen(_("the identity cannot be read")) from None
    if opens is None:
        raise Unseen(
            _("no identity is set here, as is usual where nothing is restored"),
            _("run doctor where backups are restored, with PGBEN_AGE_IDENTITY_FILE"),
        )
    if not opens:
        yield error(
            "foreign",
            _("'{path}' does not open what is sealed now"),
            _("set PGBEN_AGE_IDENTITY_FILE to the identity of one of PGBEN_AGE_RECIPIENTS"),
            path=path,
        )
    else:
        yield ok(_("'{path}' opens what is sealed now"), path=path)


def escrow(installation: Installation) -> Iterator[Result]:
    """Check that the key that belongs in a safe still lies beside the others."""
    settings = installation.settings
    files = (
        settings.trusted_keys_file,
        settings.age_identity_file,
        settings.signing_key_file,
        settings.inventory_identity_file,
    )
    beside = {path.parent / ESCROW_IDENTITY for path in files if path is not None}
    here = sorted(path for path in beside if path.exists())
    for path in here:
        yield warning(
            "here",
            _("the escrow key still lies on this machine: '{path}'"),
            _("copy it to two places that are not this machine, then delete it here"),
            path=path,
        )
    if not here:
        yield ok(_("the escrow key does not lie beside the other keys"))

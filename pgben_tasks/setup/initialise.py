"""What `pgben init` does: catalog, keys, repository, and the papers that go with them.

Beside ``runtime`` in the layers: it builds adapters from settings. Everything here can be run
again: what exists is opened and checked, what is missing is made, no key is ever replaced.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from pgben_tasks import runtime
from pgben_tasks.adapters.catalog.audit import AuditTrail
from pgben_tasks.adapters.catalog.console_login import (
    ConsoleLogin,
    ensure_console_login,
    read_console_login,
)
from pgben_tasks.adapters.catalog.workers import Workers
from pgben_tasks.adapters.keys import key_set
from pgben_tasks.adapters.keys.key_set import KeySet, Roles
from pgben_tasks.adapters.keys.signatures import Trust
from pgben_tasks.adapters.repository.card import has_card
from pgben_tasks.adapters.repository.public_keys import describe_public_keys, store_public_keys
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.adapters.s3.administration import ensure_bucket
from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.domain import layout
from pgben_tasks.domain.documents import PUBLIC_KEYS
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.errors import ConfigurationError, RequestRefused, SignatureInvalid
from pgben_tasks.files.durable import durable_file
from pgben_tasks.operations.repository import evidence
from pgben_tasks.ports import ObjectStore, SigningRole
from pgben_tasks.settings import Settings
from pgben_tasks.setup import recovery_card

#: The file of settings beside the keys.
COMMON_FILE: Final = "pgben.env"
_RECIPIENTS: Final = "PGBEN_AGE_RECIPIENTS"
_TRUSTED: Final = "PGBEN_TRUSTED_KEYS_FILE"
_CONTENT: Final = "PGBEN_AGE_IDENTITY_FILE"
_INVENTORY: Final = "PGBEN_INVENTORY_IDENTITY_FILE"
_SIGNING: Final = "PGBEN_SIGNING_KEY_FILE"

#: Which identities each worker holds (docs/format.md, "who holds what").
_IDENTITIES: Final[Mapping[SigningRole, tuple[str, ...]]] = {
    "backup": (_INVENTORY,),
    "verify": (),
    "restore": (_CONTENT, _INVENTORY),
    "maintenance": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InitResult:
    """What `pgben init` made and found.

    ``made`` names what this run made, in order; ``public_keys`` is the fingerprint of the public
    keys in the repository, None while a worker of an older version may meet them;
    ``environment`` are the settings for a process that holds every key it may hold; ``workers``
    the settings per kind of worker; ``files`` what was written for people. ``catalog_lost`` says
    that the repository was there and its catalog was not, ``cards_outdated`` that recovery cards
    printed before have another fingerprint, or none.
    """

    made: tuple[str, ...]
    repository_id: str
    repository: str
    public_keys: str | None
    keys: KeySet
    environment: Mapping[str, str]
    workers: Mapping[str, Mapping[str, str]]
    files: tuple[Path, ...]
    catalog_lost: bool
    cards_outdated: bool


def initialise(
    settings: Settings,
    *,
    keys_folder: Path,
    roles: Roles,
    now: datetime,
    console_login: Path | None = None,
) -> InitResult:
    """Make catalog, keys and repository, or check those that exist; write the recovery card.

    The public keys are stored in the repository where they are not there yet, as after a change.
    ``console_login`` is a file with the URL of the console's own login at the catalog.

    Raises ``RequestRefused`` when a repository exists and its keys are not in ``keys_folder``.
    """
    folder = keys_folder.absolute()
    made: list[str] = []
    login = _console_login(settings, console_login)
    new_catalog = _make_catalog(settings, made)
    if login is not None and ensure_console_login(runtime.catalog_database(settings), login):
        made.append(f"login '{login.name}' of the console, which only reads the catalog")
    store = runtime.open_store(settings)
    _make_place(settings, store, made)
    present = has_card(store)
    if present and not key_set.exists(folder):
        raise RequestRefused(
            f"there is a repository at '{store.describe()}', and '{folder}' does not hold its keys",
            "give the folder with its keys (--keys): new keys could not read what is there; or "
            "name another place in PGBEN_REPOSITORY",
        )
    keys, new_keys = key_set.read_or_make(folder, roles=roles, now=now)
    if new_keys:
        made.append(f"keys in '{folder}'")
    repository = _open_or_create(store, keys, now, present=present, made=made)
    trail = AuditTrail(runtime.catalog_database(settings), repository.id, repository.audit)
    if not present:
        _anchor(trail, repository)
    catalog_lost = present and new_catalog
    known = len(made)
    public_keys = _store_keys(settings, store, repository, keys, made)
    stored_now = len(made) > known
    if public_keys is not None and not catalog_lost:
        enter_keys(trail, public_keys, who="pgben init")
    environment, workers = _environments(keys)
    files = (
        *_write_environments(keys, environment, workers),
        *_write_card(settings, keys, repository, public_keys, now),
    )
    return InitResult(
        made=tuple(made),
        repository_id=repository.id,
        repository=repository.describe(),
        public_keys=public_keys,
        keys=keys,
        environment=environment,
        workers=workers,
        files=files,
        catalog_lost=catalog_lost,
        cards_outdated=present and stored_now,
    )


def lines(environment: Mapping[str, str]) -> str:
    """Write settings as lines that a shell and systemd read."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items())


def _console_login(settings: Settings, file: Path | None) -> ConsoleLogin | None:
    if file is None:
        return None
    return read_console_login(file, catalog=runtime.catalog_database(settings).name)


def _make_catalog(settings: Settings, made: list[str]) -> bool:
    """Make what the catalog lacks; return whether it is a new one."""
    # A server that is silent is told at once; what is made may take as long as it takes.
    runtime.catalog_database(settings, patience=runtime.PATIENCE).exists()
    database = runtime.catalog_database(settings)
    if database.create():
        made.append(f"catalog database '{database.name}' at {database.server}")
    applied = database.migrate()
    if applied:
        made.append("tables of the catalog")
    return 1 in applied


def _make_place(settings: Settings, store: ObjectStore, made: list[str]) -> None:
    if isinstance(store, DirectoryObjectStore):
        store.make_root()
    elif ensure_bucket(location := runtime.s3_location(settings)):
        made.append(f"bucket '{location.bucket}'")


def _open_or_create(
    store: ObjectStore, keys: KeySet, now: datetime, *, present: bool, made: list[str]
) -> StoreRepository:
    trust = Trust.load(keys.trusted_keys)
    if not present:
        made.append(f"repository at '{store.describe()}'")
        return StoreRepository.create(store, str(uuid4()), now, signer=None, trust=trust)
    repository = StoreRepository.open(store, signer=None, trust=trust)
    for target in repository.targets():
        for backup in repository.backups(target)[-1:]:
            try:
                repository.manifest(target, backup)
            except SignatureInvalid as exc:
                raise ConfigurationError(
                    f"the keys in '{keys.folder}' are not those of the repository at "
                    f"'{repository.describe()}': {exc.sentence}",
                    "give the folder with its keys (--keys), or name another place in "
                    "PGBEN_REPOSITORY",
                ) from exc
    return repository


def _anchor(trail: AuditTrail, repository: StoreRepository) -> None:
    """Enter the digest of a new ``repository.json`` into the audit trail; the tick signs it."""
    trail.append(
        who="pgben init",
        action=evidence.ANCHOR,
        target=EVERYTHING,
        result="made",
        detail=evidence.anchor_of(repository),
    )


def _store_keys(
    settings: Settings,
    store: ObjectStore,
    repository: StoreRepository,
    keys: KeySet,
    made: list[str],
) -> str | None:
    """Store the public keys unless they are there; return their fingerprint.

    None while a worker of an older version may call the first such document foreign.
    """
    workers = Workers(runtime.catalog_database(settings))
    in_use = bool(repository.public_keys())
    if not (in_use or workers.may_use_new_fields(PUBLIC_KEYS, in_use=in_use)):
        return None
    document = describe_public_keys(repository.id, keys.trusted, keys.recipients)
    if store_public_keys(store, document):
        made.append(f"public keys in '{store.describe()}'")
    return document.fingerprint


def enter_keys(trail: AuditTrail, fingerprint: str, *, who: str) -> None:
    """Enter into the audit trail, once, which public keys were stored."""
    trail.append_missing(
        [layout.public_keys_path(fingerprint)],
        who=who,
        action=evidence.PUBLIC_KEYS,
        target=EVERYTHING,
        result="stored",
    )


def _environments(keys: KeySet) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return which settings a process needs, in general and by kind of worker."""
    common = {
        _RECIPIENTS: ",".join(keys.recipients.values()),
        _TRUSTED: str(keys.trusted_keys),
    }
    identities = {
        _CONTENT: str(keys.file(key_set.OPERATIONS_IDENTITY)),
        _INVENTORY: str(keys.file(key_set.INVENTORY_IDENTITY)),
    }
    workers = {
        str(role): {
            **common,
            **{name: identities[name] for name in held},
            _SIGNING: str(keys.signing_key(role)),
        }
        for role, held in _IDENTITIES.items()
    }
    if keys.roles == "separate":
        # A person who lists and asks needs no secret; each worker gets a file of its own.
        return common, workers
    secret = {**identities, _SIGNING: str(keys.signing_key("backup"))}
    # On a new site only the escrow key and the public files may have survived.
    return common | {name: path for name, path in secret.items() if Path(path).exists()}, workers


def _write_environments(
    keys: KeySet, environment: Mapping[str, str], workers: Mapping[str, Mapping[str, str]]
) -> list[Path]:
    """Write the settings beside the keys; files that exist may have been edited and stay."""
    wanted = {COMMON_FILE: environment}
    if keys.roles == "separate":
        wanted |= {f"pgben-{role}.env": settings for role, settings in workers.items()}
    paths = []
    for name, settings in wanted.items():
        path = keys.file(name)
        if not path.exists():
            with durable_file(path, replace=False) as file:
                file.write(lines(settings).encode())
        paths.append(path)
    return paths


def _write_card(
    settings: Settings,
    keys: KeySet,
    repository: StoreRepository,
    public_keys: str | None,
    now: datetime,
) -> list[Path]:
    """Write the recovery card anew: contacts and places may have changed since the last run."""
    card = recovery_card.Card(
        repository=repository.describe(),
        repository_id=repository.id,
        recipients=dict(keys.recipients),
        signing_keys=tuple((key.roles, key.public, key.fingerprint) for key in keys.trusted),
        public_keys=public_keys,
        escrow_file=key_set.ESCROW_IDENTITY,
        contacts=tuple((one.name, one.mail, one.phone) for one in settings.contacts),
        made=now.astimezone(settings.zone),
    )
    pages = {
        "recovery-card.txt": recovery_card.as_text(card, settings.language),
        "recovery-card.html": recovery_card.as_html(card, settings.language),
    }
    for name, page in pages.items():
        with durable_file(keys.file(name)) as file:
            file.write(page.encode())
    return [keys.file(name) for name in pages]

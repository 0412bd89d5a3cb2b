"""Servers, buckets and stores from settings. Nothing is contacted before it is used."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.chat import AppriseChannel, apprise_channels
from pgben_tasks.adapters.history import HistoryFolder
from pgben_tasks.adapters.hooks import SwapHooks
from pgben_tasks.adapters.keys.signatures import Signer, Trust
from pgben_tasks.adapters.mail import SmtpMailer, SmtpServer
from pgben_tasks.adapters.postgres.kept_databases import PostgresKeptDatabases
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.adapters.postgres.swap import PostgresSwap
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.adapters.s3.errors import BUCKET_HINTS, REPOSITORY_HINTS
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.adapters.stores.s3 import S3ObjectStore
from pgben_tasks.domain.target import Target, TargetKind
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.operations.spool import disk_errors, write_durably
from pgben_tasks.ports import ObjectStore
from pgben_tasks.settings import Settings

log = structlog.get_logger(__name__)

#: How long somebody at a terminal waits for the catalog's server before it counts as away.
PATIENCE: Final = timedelta(seconds=4)


def history_folders(settings: Settings) -> list[tuple[TargetKind | None, HistoryFolder]]:
    """Return the folder of the history of each kind of target, or the one folder of both."""
    databases, buckets = settings.backup_dir, settings.minio_backup_dir
    if databases.resolve() == buckets.resolve():
        return [(None, HistoryFolder(databases))]
    return [("postgres", HistoryFolder(databases)), ("bucket", HistoryFolder(buckets))]


def catalog_database(settings: Settings, *, patience: timedelta | None = None) -> CatalogDatabase:
    """Return the catalog's database; ``patience`` is how long its server may be silent."""
    return CatalogDatabase.at(settings.catalog_url.get_secret_value(), patience=patience)


def first_server(settings: Settings) -> PostgresServer:
    """Return the PostgreSQL server of PGBEN_DB_*."""
    password = settings.db_pass.get_secret_value() if settings.db_pass else None
    return PostgresServer(
        host=settings.db_host, port=settings.db_port, user=settings.db_user, password=password
    )


def postgres_servers(settings: Settings) -> dict[Target, PostgresServer]:
    """Return the server of each protected database."""
    first = first_server(settings)
    found = {Target("postgres", name): first for name in settings.db_name}
    for further in settings.servers_file.servers.values() if settings.servers_file else ():
        server = PostgresServer(
            host=further.host,
            port=further.port,
            user=further.user,
            password=further.password.get_secret_value() if further.password else None,
            settings="the file of PGBEN_SERVERS_FILE",
        )
        found |= {Target("postgres", name): server for name in further.databases}
    return found


def bucket_at(
    settings: Settings, name: str, *, patience: timedelta = timedelta(seconds=60)
) -> S3Bucket:
    """Return a bucket of the server of PGBEN_MINIO_*; no request is sent yet.

    ``patience`` is how long a request is repeated while the server does not answer.
    """
    access, secret = settings.minio_access_key, settings.minio_secret_key
    if access is None or secret is None:
        raise ConfigurationError(
            f"no keys for the server of the bucket '{name}' are set",
            "set PGBEN_MINIO_HOST, PGBEN_MINIO_ACCESS_KEY and PGBEN_MINIO_SECRET_KEY",
        )
    return S3Bucket(
        S3Location(
            hints=BUCKET_HINTS,
            endpoint=settings.minio_url,
            bucket=name,
            access_key=access.get_secret_value(),
            secret_key=secret.get_secret_value(),
            region=settings.minio_region,
            ca_file=settings.minio_ca_file,
            addressing=settings.minio_addressing,
            patience=patience,
        )
    )


def protected_buckets(settings: Settings) -> dict[Target, S3Bucket]:
    """Return the protected buckets; none where the secret key is not at hand.

    Workers that only decide about snapshots know which buckets there are, and cannot read them.
    """
    if settings.minio_secret_key is None:
        return {}
    return {target: bucket_at(settings, target.name) for target in settings.bucket_targets()}


def swap_hooks(settings: Settings) -> SwapHooks:
    """Return the commands that run around a swap."""
    before, after = settings.before_swap, settings.after_swap
    return SwapHooks(
        before=before.words if before else (),
        after=after.words if after else (),
        timezone=settings.timezone,
    )


def swap_servers(settings: Settings) -> dict[Target, PostgresSwap]:
    """Return the server that can swap each protected database; nothing is asked yet."""
    return {target: PostgresSwap(server) for target, server in postgres_servers(settings).items()}


def kept_servers(settings: Settings) -> dict[Target, PostgresKeptDatabases]:
    """Return the server where restores of each protected database leave their copies."""
    return {
        target: PostgresKeptDatabases(server)
        for target, server in postgres_servers(settings).items()
    }


def mailer(settings: Settings) -> SmtpMailer | None:
    """Return the mailer; None where no server or no recipient is set."""
    if settings.smtp_host is None or not settings.admin_email:
        return None
    user, password = settings.smtp_user, settings.smtp_pass
    # Most servers let an account write as itself, and people to themselves.
    sender = settings.smtp_from or (user if user and "@" in user else settings.admin_email[0])
    server = SmtpServer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=settings.smtp_security,
        user=user,
        password=password.get_secret_value() if password else None,
        ca_file=settings.smtp_ca_file,
    )
    return SmtpMailer(
        server,
        sender=sender,
        recipients=settings.admin_email,
        contacts=settings.contact_addresses,
    )


def chat_channels(settings: Settings) -> tuple[AppriseChannel, ...]:
    """Return the channels of PGBEN_ALERT_URLS; nothing is contacted."""
    return apprise_channels(one.get_secret_value() for one in settings.alert_urls)


def open_store(settings: Settings) -> ObjectStore:
    """Open the object store of the repository; looks at nothing yet."""
    parts = urlsplit(settings.repository)
    if parts.scheme == "file":
        return DirectoryObjectStore(Path(parts.path))
    return S3ObjectStore(s3_location(settings))


def s3_location(settings: Settings) -> S3Location:
    """Return endpoint, bucket and keys of an ``s3://`` repository."""
    parts = urlsplit(settings.repository)
    access, secret = settings.repository_access_key, settings.repository_secret_key
    if settings.repository_endpoint is None or access is None or secret is None:
        raise ConfigurationError(
            "an s3:// repository needs an endpoint, an access key and a secret key",
            "set PGBEN_REPOSITORY_ENDPOINT, PGBEN_REPOSITORY_ACCESS_KEY and "
            "PGBEN_REPOSITORY_SECRET_KEY",
        )
    return S3Location(
        hints=REPOSITORY_HINTS,
        endpoint=settings.repository_endpoint,
        bucket=parts.netloc,
        prefix=parts.path.strip("/"),
        access_key=access.get_secret_value(),
        secret_key=secret.get_secret_value(),
        ca_file=settings.repository_ca_file,
    )


def open_repository(settings: Settings) -> StoreRepository:
    """Open the repository to store backups in; without recipients nothing could be sealed."""
    trusted = trust(settings)
    if settings.encryption and not settings.age_recipients:
        raise ConfigurationError(
            "encryption is on and no recipients are set",
            "set PGBEN_AGE_RECIPIENTS to the public keys that `pgben init` printed, or "
            "PGBEN_ENCRYPTION=off",
        )
    return StoreRepository.open(open_store(settings), signer=signer(settings), trust=trusted)


def trust(settings: Settings) -> Trust:
    """Read the trusted keys; without them nothing can be believed."""
    if settings.trusted_keys_file is None:
        raise ConfigurationError(
            "no trusted keys are set, so no backup can be believed",
            "load the file that `pgben init` wrote beside the keys, pgben.env; it sets "
            "PGBEN_TRUSTED_KEYS_FILE",
        )
    return Trust.load(settings.trusted_keys_file)


def signer(settings: Settings) -> Signer | None:
    """Read the signing key, where there is one."""
    return Signer.load(settings.signing_key_file) if settings.signing_key_file else None


def node_name(settings: Settings) -> str:
    """Return this node's name: kept in the spool from its first start on, a mismatch is refused."""
    note = settings.spool_dir / "node"
    wanted = settings.node
    with disk_errors(settings.spool_dir):
        settings.spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = note.read_text(encoding="utf-8").strip() if note.exists() else None
    if kept is None:
        kept = wanted or socket.gethostname()
        write_durably(note, f"{kept}\n".encode())
    if wanted is not None and wanted != kept:
        raise ConfigurationError(
            f"PGBEN_NODE is '{wanted}', and the spool '{settings.spool_dir}' belongs to '{kept}'",
            "two nodes must not share a spool; give each its own PGBEN_SPOOL_DIR",
        )
    return kept

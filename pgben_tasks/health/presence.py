"""Whether what is protected is there, and whether this machine can open what is sealed."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Final

from pgben_tasks.adapters.keys.age import parse_recipients, public_keys
from pgben_tasks.adapters.postgres.server import PostgresServer, has_database, inspect_server
from pgben_tasks.domain.outlook import Fault, Presence
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.health.looks import Look
from pgben_tasks.runtime import postgres_servers
from pgben_tasks.runtime.places import bucket_at
from pgben_tasks.settings import Settings

#: How long a request to a bucket's server is repeated: somebody waits for the answer.
BUCKET_PATIENCE: Final = timedelta(seconds=2)


def looks_at_protected(settings: Settings) -> dict[Target, Look[bool] | None]:
    """Begin to ask every protected database and bucket whether it is there; None: not asked.

    The answers are those of ``Look``: False where a server answers and lacks what is asked for.
    """
    found: dict[Target, Look[bool] | None] = {
        target: Look(str(server), partial(_database_is_there, server, target.name))
        for target, server in postgres_servers(settings).items()
    }
    for target in settings.bucket_targets():
        # Workers that only decide about snapshots have no secret key.
        asked = settings.minio_secret_key is not None
        ask = partial(_bucket_is_there, settings, target.name)
        found[target] = Look(settings.minio_url, ask) if asked else None
    return found


def presence(target: Target, look: Look[bool] | None, limit: timedelta) -> Presence:
    """Return what is known of one protected database or bucket, ``limit`` after it was asked."""
    if look is None:
        return Presence(target=str(target), asked=False)
    there = look.outcome(limit)
    if isinstance(there, Fault):
        return Presence(target=str(target), fault=there)
    return Presence(target=str(target), gone=not there)


def _database_is_there(server: PostgresServer, name: str) -> bool:
    try:
        # A connection to the database itself: its server answers without it, too.
        inspect_server(server, name)
    except ConfigurationError:
        if has_database(server, name):
            raise
        return False
    return True


def _bucket_is_there(settings: Settings, name: str) -> bool:
    return bucket_at(settings, name, patience=BUCKET_PATIENCE).inspect().there


def opens_what_is_sealed(settings: Settings) -> bool | None:
    """Return whether the identity that is set here opens what is sealed now; None without one."""
    path = settings.age_identity_file
    if path is None:
        return None
    return not set(public_keys(path)).isdisjoint(parse_recipients(settings.age_recipients))


def check_identity(settings: Settings) -> None:
    """Raise ``ConfigurationError`` where an identity is set here that opens no new backup."""
    if opens_what_is_sealed(settings) is False:
        raise ConfigurationError(
            f"'{settings.age_identity_file}' belongs to none of PGBEN_AGE_RECIPIENTS",
            "set PGBEN_AGE_IDENTITY_FILE to the identity of one of PGBEN_AGE_RECIPIENTS",
        )

"""Whether a dump can be restored with the PostgreSQL clients of this site, and what it needs.

Pure. What was measured of every pair of client and server stands in docs/reliability.md. The rules:
``pg_restore`` reads no archive of a newer ``pg_dump`` (the manual of pg_dump); that of 17 and newer
sets ``transaction_timeout``, which older servers refuse; and an archive compressed with zstd needs
a client that was built with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self

Compression = Literal["zstd:3", "none"]

#: ``pg_restore`` of this major and newer sets ``transaction_timeout``, which older servers refuse.
TRANSACTION_TIMEOUT_MAJOR: Final = 17

_MAJOR: Final = re.compile(r"[0-9]+", re.ASCII)


class ClientFacts(Protocol):
    """What decides whether a client can restore a dump."""

    @property
    def major(self) -> int:
        """The major of its programs."""

    @property
    def compression(self) -> Compression:
        """The best compression that it was built with."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Client:
    """One PostgreSQL client as a worker publishes it."""

    major: int
    version: str
    compression: Compression


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What decides which clients can restore a dump: the major that wrote it, its compression."""

    client_major: int
    compression: Compression

    @classmethod
    def from_versions(
        cls, client_version: str, server_version_num: int, compression: Compression
    ) -> Self:
        """Return the archive that a client of this version made of a server.

        A version that says nothing counts as the server's: no client dumps a newer server.
        """
        found = _MAJOR.match(client_version)
        major = int(found[0]) if found else server_major(server_version_num)
        return cls(client_major=major, compression=compression)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSite:
    """The clients of the workers that restore; None when none was ever published.

    ``living`` are those of workers that send heartbeats. ``current`` is False when no such worker
    does, or when one that is silent can do more than they: whether it comes back is not known.
    """

    clients: tuple[Client, ...] | None
    current: bool
    living: tuple[Client, ...] = ()


#: Where nobody has published anything yet.
UNKNOWN_SITE: Final = RestoreSite(clients=None, current=False)


def server_major(version_num: int) -> int:
    """Return the major of a ``server_version_num``: 170010 is 17."""
    return version_num // 10000


def can_restore(client: ClientFacts, archive: Archive, destination: int) -> bool:
    """Return whether a client can load an archive into a server of the major ``destination``."""
    return (
        client.major >= archive.client_major
        and (destination >= TRANSACTION_TIMEOUT_MAJOR or client.major < TRANSACTION_TIMEOUT_MAJOR)
        and archive.compression in {"none", client.compression}
    )


def can_replace(living: Iterable[ClientFacts], silent: ClientFacts) -> bool:
    """Return whether one of ``living`` restores all that the ``silent`` client does."""
    return any(
        one.major == silent.major and silent.compression in {"none", one.compression}
        for one in living
    )


def missing_client(
    archive: Archive, destination: int, clients: Iterable[ClientFacts] | None
) -> str | None:
    """Return what is needed to restore an archive, None when one of ``clients`` can do it.

    ``clients`` None means that nobody knows which there are; an archive that no client at all can
    load into the server needs something all the same.
    """
    if archive.client_major >= TRANSACTION_TIMEOUT_MAJOR > destination:
        return f"a server of PostgreSQL {TRANSACTION_TIMEOUT_MAJOR} or newer"
    if clients is None or any(can_restore(one, archive, destination) for one in clients):
        return None
    if archive.compression == "none":
        return _fitting_client(archive.client_major, destination)
    return _fitting_client_with_zstd(archive.client_major, destination)


def _fitting_client(lowest: int, destination: int) -> str:
    newest = TRANSACTION_TIMEOUT_MAJOR - 1
    if destination > newest:
        return f"a PostgreSQL client of version {lowest} or newer"
    if lowest == newest:
        return f"a PostgreSQL client of version {lowest}"
    return f"a PostgreSQL client of version {lowest} to {newest}"


def _fitting_client_with_zstd(lowest: int, destination: int) -> str:
    # Whole phrases, by whose patterns translations are found.
    newest = TRANSACTION_TIMEOUT_MAJOR - 1
    if destination > newest:
        return f"a PostgreSQL client of version {lowest} or newer built with zstd"
    if lowest == newest:
        return f"a PostgreSQL client of version {lowest} built with zstd"
    return f"a PostgreSQL client of version {lowest} to {newest} built with zstd"


def install_client(major: int) -> str:
    """Return how to install the client programs of a major."""
    return (
        f"install the package 'postgresql-client-{major}' (Debian, Ubuntu) or 'postgresql{major}' "
        "(Red Hat), or put its programs first on PATH"
    )


def remedy(archive: Archive, destination: int) -> str:
    """Return what to do about an archive that no client at hand can restore."""
    if missing_client(archive, destination, None) is not None:
        return (
            f"where backups and restores run, {install_client(destination)}; then back up again: "
            "this dump can only be restored into a newer server"
        )
    return f"where restores run, {install_client(archive.client_major)}"

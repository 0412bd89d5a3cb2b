"""The workers of this site: their heartbeats, and what each publishes of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Final

from psycopg.types.json import Jsonb

from pgben_tasks import names
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.domain.documents import REVISION
from pgben_tasks.domain.job import HEARTBEAT_EVERY
from pgben_tasks.domain.restorability import (
    UNKNOWN_SITE,
    Client,
    RestoreSite,
    can_replace,
)

#: The row of ``worker`` that shows when the reconciler last ran.
TICK: Final = "tick"
#: The row that shows when a tick last ran that beat had sent.
BEAT: Final = "beat"

_ALIVE: Final = 3 * HEARTBEAT_EVERY
#: How long a worker counts after its last heartbeat: it may be started again, or only be cut off
#: from the catalog. One that was taken out of service counts no longer after that.
_COUNTS_FOR: Final = timedelta(days=1)
_RESTORE: Final = f"{names.QUEUE_RESTORE}.%"


class Workers:
    """The rows of ``worker``, named ``<role>.<node>``."""

    may_sign_needs: Final = True

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def register(self, workers: Sequence[str]) -> None:
        """Write that the workers with these names were just started.

        What waited for them in the memory of a process before is sent again by the next tick. Their
        clients stay known until they are published again; the version may be another one.
        """
        self._database.execute(
            "INSERT INTO worker (name, started_at, heartbeat_at)"
            " SELECT name, clock_timestamp(), clock_timestamp() FROM unnest(%s::text[]) name"
            " ON CONFLICT (name) DO UPDATE SET started_at = EXCLUDED.started_at,"
            " heartbeat_at = EXCLUDED.heartbeat_at, reads = NULL",
            (list(workers),),
        )

    def publish(self, workers: Sequence[str], clients: Sequence[Client]) -> None:
        """Write the PostgreSQL clients of workers, and which documents this version reads."""
        self._database.execute(
            "UPDATE worker SET reads = %s, clients = %s WHERE name = ANY(%s)",
            (REVISION, Jsonb([asdict(one) for one in clients]), list(workers)),
        )

    def send_heartbeat(self, workers: Sequence[str]) -> None:
        """Write a heartbeat of the workers with these names."""
        self._database.execute(
            "INSERT INTO worker (name, started_at, heartbeat_at)"
            " SELECT name, clock_timestamp(), clock_timestamp() FROM unnest(%s::text[]) name"
            " ON CONFLICT (name) DO UPDATE SET heartbeat_at = clock_timestamp()",
            (list(workers),),
        )

    def living(self, *, within: timedelta = _ALIVE) -> list[str]:
        """Return the names of workers whose heartbeat is fresh, or not older than ``within``."""
        rows = self._database.fetch_all(
            "SELECT name FROM worker WHERE name <> ALL(%s)"
            " AND heartbeat_at > clock_timestamp() - %s ORDER BY name",
            ([TICK, BEAT], within),
        )
        return [row["name"] for row in rows]

    def may_use_new_fields(self, revision: int, *, in_use: bool) -> bool:  # noqa: ARG002 - only workers decide
        """Return whether every worker reads documents of ``revision``.

        One that was silent for less than a day counts: it refuses what it cannot read when it is
        back.
        """
        row = self._database.fetch_one(
            "SELECT 1 FROM worker WHERE name <> ALL(%s)"
            " AND heartbeat_at > clock_timestamp() - %s AND coalesce(reads, 1) < %s LIMIT 1",
            ([TICK, BEAT], _COUNTS_FOR, revision),
        )
        return row is None

    def clients_by_worker(self) -> dict[str, tuple[Client, ...]]:
        """Return what each living worker that restores has published, by its name."""
        rows = self._database.fetch_all(
            "SELECT name, clients FROM worker WHERE name LIKE %s AND clients IS NOT NULL"
            " AND heartbeat_at > clock_timestamp() - %s ORDER BY name",
            (_RESTORE, _ALIVE),
        )
        return {row["name"]: tuple(Client(**one) for one in row["clients"]) for row in rows}

    def restore_site(self) -> RestoreSite:
        """Return the clients of the workers that restore, seen within a day of the last of them."""
        rows = self._database.fetch_all(
            "SELECT clients, heartbeat_at > clock_timestamp() - %(alive)s AS lives FROM worker,"
            " (SELECT max(heartbeat_at) AS last FROM worker"
            " WHERE name LIKE %(restore)s AND clients IS NOT NULL) newest"
            " WHERE name LIKE %(restore)s AND clients IS NOT NULL"
            " AND heartbeat_at > newest.last - %(counts)s",
            {"restore": _RESTORE, "alive": _ALIVE, "counts": _COUNTS_FOR},
        )
        if not rows:
            return UNKNOWN_SITE
        every = {Client(**one) for row in rows for one in row["clients"]}
        living = {Client(**one) for row in rows if row["lives"] for one in row["clients"]}
        return RestoreSite(
            clients=tuple(sorted(every)),
            living=tuple(sorted(living)),
            current=any(row["lives"] for row in rows)
            and all(can_replace(living, one) for one in every),
        )

"""Session advisory locks in the catalog: they guard one running step and die with its process.

Every step holds the lock of its job, so that the reconciler can tell a lost step from a slow one.
On top come the locks of the target (docs/architecture.md): ``write`` exclusive for what changes
the repository, ``read`` shared for what relies on it, ``live`` for the live database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal
from uuid import UUID

import psycopg

from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.postgres.server import Connection, Lock, translated
from pgben_tasks.errors import TargetBusy


def job_lock(job: UUID) -> Lock:
    """Return the lock that a running step of ``job`` holds."""
    return Lock(f"job:{job}")


def worker_lock(worker: str) -> Lock:
    """Return the lock that the worker ``<role>.<node>`` holds while it runs."""
    return Lock(f"worker:{worker}")


def target_lock(kind: Literal["write", "read", "live"], target: str, *, shared: bool) -> Lock:
    """Return one of the three locks of a target."""
    return Lock(f"{kind}:{target}", shared)


class HeldLocks:
    """Locks held on one session. Not safe for concurrent use from several threads."""

    def __init__(self, database: CatalogDatabase, locks: Sequence[Lock]) -> None:
        """Take every lock at once or raise ``TargetBusy`` holding none."""
        self._database = database
        self._locks = tuple(locks)
        self._session = self._take()

    def _take(self) -> Connection:
        session = self._database.session()
        try:
            with translated(self._database.server, "taking a lock in the catalog"):
                for lock in self._locks:
                    _lock(session, lock)
        except BaseException:
            session.close()
            raise
        return session

    def keep(self) -> None:
        """Check that the session is open; take the locks again on a new one when it is lost.

        Raises ``TargetBusy`` when somebody else took a lock meanwhile, ``DatabaseUnavailable``
        when the catalog does not answer.
        """
        try:
            self._session.execute("SELECT 1")
        except psycopg.Error:
            self._session.close()
            self._session = self._take()

    def release(self) -> None:
        """End the session and with it every lock."""
        self._session.close()


def _lock(session: Connection, lock: Lock) -> None:
    kind = "_shared" if lock.shared else ""
    row = session.execute(f"SELECT pg_try_advisory_lock{kind}(%s)".encode(), (lock.key,)).fetchone()
    if row is None or not row[0]:
        raise TargetBusy(
            f"the lock '{lock.name}' is held by another process",
            "wait for the other job; `pgben jobs` shows it",
        )


@contextmanager
def holding(database: CatalogDatabase, locks: Sequence[Lock]) -> Iterator[HeldLocks]:
    """Hold ``locks`` for the length of a block."""
    held = HeldLocks(database, locks)
    try:
        yield held
    finally:
        held.release()


def is_free(database: CatalogDatabase, lock: Lock) -> bool:
    """Return whether nobody holds ``lock`` at this moment; it is not taken."""
    high, low = divmod(lock.key % 2**64, 2**32)
    with database.transaction() as cursor:
        row = cursor.execute(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
            " AND classid::bigint = %s AND objid::bigint = %s"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            (high, low),
        ).fetchone()
    return row is None

"""Swap two databases of one server: close, end sessions, rename both in one transaction.

The truth of a swap is in the server's own catalogs, where it happens in one transaction or not at
all. A session that works on a swap holds an advisory lock of that same server, so whoever gets the
lock knows that nothing is under way, and what it then sees is final.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final, Literal

import psycopg
from psycopg import errors, sql

from pgben_tasks.adapters.postgres.obstacles import (
    database_oids,
    holders,
    names_in_the_way,
    shortcomings,
)
from pgben_tasks.adapters.postgres.recreate import finish_database
from pgben_tasks.adapters.postgres.server import (
    Connection,
    Lock,
    PostgresServer,
    scalar,
)
from pgben_tasks.adapters.postgres.tables import prepared_session
from pgben_tasks.domain.documents import PostgresCapture
from pgben_tasks.domain.plan import Occupied
from pgben_tasks.domain.swap import Standing, Swap
from pgben_tasks.domain.target import check_name
from pgben_tasks.errors import (
    PermanentError,
    PgbenError,
    RestoreRefused,
    TargetBusy,
)

#: How long sessions may end their transactions once new ones are kept out; idle ones end at once.
GRACE: Final = timedelta(seconds=15)
_END_WITHIN: Final = timedelta(seconds=20)
_LOCK_TIMEOUT: Final = timedelta(seconds=10)
_POLL_SECONDS: Final = 0.1
_TRIES: Final = 3

_OPEN = "SELECT datallowconn FROM pg_catalog.pg_database WHERE oid = %s"
_SESSIONS = """
SELECT pid, backend_type = 'client backend' AND state NOT IN ('idle', 'disabled')
FROM pg_catalog.pg_stat_activity
WHERE datid = ANY(%s::pg_catalog.oid[]) AND pid <> pg_catalog.pg_backend_pid()
"""
#: Who is connected: the role, and what the application calls itself.
_CONNECTED = """
SELECT concat_ws(' ', usename, '(' || nullif(application_name, '') || ')'), pg_catalog.count(*)
FROM pg_catalog.pg_stat_activity
WHERE datname = %s AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
GROUP BY 1 ORDER BY 1
"""
_SIZE = """
SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = %s
"""
_END = """
SELECT pg_catalog.pg_terminate_backend(pid)
FROM pg_catalog.unnest(%s::pg_catalog.int4[]) AS pid
"""
_COMMENT = "SELECT pg_catalog.shobj_description(%s::pg_catalog.oid, 'pg_database')"
#: A host that vanished is noticed within a minute, and the lock of its session is free then; what
#: was committed stays, whatever the server's own setting is.
_SESSION = """
SELECT pg_catalog.set_config('tcp_keepalives_idle', '20', false),
       pg_catalog.set_config('tcp_keepalives_interval', '10', false),
       pg_catalog.set_config('tcp_keepalives_count', '3', false),
       pg_catalog.set_config('tcp_user_timeout', '40s', false),
       pg_catalog.set_config('synchronous_commit', 'on', false)
"""
#: Since PostgreSQL 14: a session whose client is gone ends also while it waits for a lock.
_NOTICE_LOST_CLIENT = (
    "SELECT pg_catalog.set_config('client_connection_check_interval', '2s', false)"
    " WHERE pg_catalog.current_setting('client_connection_check_interval', true) IS NOT NULL"
)
#: A catalog of pgben is rebuilt, never replaced while its own jobs use it.
_CATALOG = """
SELECT pg_catalog.to_regclass('public.lease') IS NOT NULL
   AND pg_catalog.to_regclass('public.backup_sequence') IS NOT NULL
"""


class PostgresSwap:
    """One server whose databases are swapped (``ports.PostgresSwap``)."""

    def __init__(
        self,
        server: PostgresServer,
        *,
        maintenance_database: str = "postgres",
        grace: timedelta = GRACE,
    ) -> None:
        """Work on ``server`` from ``maintenance_database``, which is never swapped itself.

        ``grace`` is how long running transactions are waited for.
        """
        self._server = server
        self._maintenance = check_name(maintenance_database)
        self._grace = grace

    def blockers(
        self, live: str, aside: str, capture: PostgresCapture | None, *, room: bool
    ) -> tuple[str, ...]:
        """Return everything that stands against ``live``, where it is there, becoming ``aside``."""
        with self._session(f"looking whether '{check_name(live)}' can be replaced") as connection:
            oids = database_oids(connection)
            needed = live in oids and (live == self._maintenance or self._is_catalog(live))
            return (
                *([f"'{live}' is needed by pgben itself and is never replaced"] if needed else ()),
                *names_in_the_way(oids, live, check_name(aside)),
                *holders(connection, live),
                *(shortcomings(connection, self._server, capture, room=room) if capture else ()),
            )

    def occupied(self, live: str) -> Occupied | None:
        """Return who is connected to ``live``, and its bytes; None where there is none."""
        with self._session(f"looking who is connected to '{check_name(live)}'") as connection:
            size = scalar(connection, _SIZE, (live,))
            if size is None:
                return None
            sessions = connection.execute(_CONNECTED, (live,)).fetchall()
            return Occupied(size=int(size), sessions={str(who): int(n) for who, n in sessions})

    def inspect_pair(self, live: str, incoming: str) -> tuple[int | None, int, bool]:
        """Return the oids of both databases, and whether ``live`` takes connections."""
        with self._session("looking at the databases to swap") as connection:
            oids = database_oids(connection)
            if incoming not in oids:
                raise RestoreRefused(
                    f"there is no database '{incoming}' at '{self._server}'",
                    "somebody renamed or removed it; nothing was changed",
                )
            if live not in oids:
                return None, oids[incoming], True
            return oids[live], oids[incoming], _is_open(connection, oids[live])

    def exchange(
        self,
        swap: Swap,
        *,
        hold: Callable[[], None],
        restored: tuple[PostgresCapture, str] | None,
    ) -> None:
        """Carry out ``swap``; when this raises, ``live`` is as it was if the server answers."""
        try:
            with self._locked_session(swap, restored) as connection:
                if restored is not None:
                    self._try_finish(connection, swap, *restored)
                if swap.aside is not None:
                    allow_connections(connection, swap.live, allowed=False)
                self._rename_both(connection, swap, hold, restored)
        except BaseException:
            # The session is over, and with it its lock and whatever was not committed.
            with suppress(PgbenError):
                if self.settle(swap) == "done":
                    # Only the answer to the commit was lost.
                    return
            raise

    def settle(self, swap: Swap) -> Standing | None:
        """Return how ``swap`` ended; one that did not happen leaves ``live`` open as it was."""
        with self._session(f"ending the swap of '{swap.live}'") as connection:
            if not take_swap_lock(connection, swap.live):
                return None
            standing = swap.standing(database_oids(connection))
            if standing == "not done" and swap.was_open and swap.aside is not None:
                allow_connections(connection, swap.live, allowed=True)
            return standing

    def drop(self, swap: Swap) -> Literal["dropped", "gone", "in use"]:
        """Drop the database that ``swap`` set aside, and no other."""
        if swap.aside is None or swap.live_oid is None:
            return "gone"
        with self._session(f"removing '{swap.aside}'") as connection:
            if database_oids(connection).get(swap.aside) != swap.live_oid:
                return "gone"
            if not take_swap_lock(connection, swap.live) or _is_open(connection, swap.live_oid):
                return "in use"
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(swap.aside)))
            return "dropped"

    def _try_finish(
        self, connection: Connection, swap: Swap, capture: PostgresCapture, marker: str
    ) -> None:
        """Check what the server will not accept while everybody can still work."""
        try:
            with connection.transaction(force_rollback=True):
                finish_database(connection, swap.incoming, capture, marker=marker)
        except errors.LockNotAvailable as exc:
            raise self._held_up(swap, exc) from exc

    def _rename_both(
        self,
        connection: Connection,
        swap: Swap,
        hold: Callable[[], None],
        restored: tuple[PostgresCapture, str] | None,
    ) -> None:
        """Rename both, or the only one, in one transaction, as soon as nobody is connected."""
        for remaining in reversed(range(_TRIES)):
            self._end_sessions(connection, swap)
            hold()
            try:
                with connection.transaction():
                    if swap.aside is not None:
                        _rename(connection, swap.live, swap.aside)
                    _rename(connection, swap.incoming, swap.live)
                    if restored is not None:
                        finish_database(connection, swap.live, restored[0], marker=restored[1])
                    allow_connections(connection, swap.live, allowed=True)
                    if swap.standing(database_oids(connection)) != "done":
                        raise RestoreRefused(
                            f"'{swap.incoming}' at '{self._server}' is not the database that was "
                            "to be swapped in",
                            "somebody replaced it meanwhile; nothing was changed",
                        )
            except (errors.ObjectInUse, errors.LockNotAvailable) as exc:
                if remaining:
                    continue
                raise self._held_up(swap, exc) from exc
            except errors.DuplicateDatabase as exc:
                raise TargetBusy(
                    f"somebody made a database '{swap.aside or swap.live}' at '{self._server}' "
                    "meanwhile",
                    "it is tried again shortly, with that database in view",
                ) from exc
            return

    def _held_up(self, swap: Swap, exc: psycopg.Error) -> TargetBusy:
        return TargetBusy(
            f"'{swap.live}' at '{self._server}' could not be swapped: {exc.diag.message_primary}",
            "something on that server keeps hold of it; see pg_stat_activity and pg_locks",
        )

    def _end_sessions(self, connection: Connection, swap: Swap) -> None:
        """Let running transactions end for a while, then end every session that is left."""
        both = [oid for oid in (swap.live_oid, swap.incoming_oid) if oid is not None]
        deadline = time.monotonic() + self._grace.total_seconds()
        while time.monotonic() < deadline:
            if not any(working for _, working in _sessions(connection, both)):
                break
            time.sleep(_POLL_SECONDS)
        deadline = time.monotonic() + _END_WITHIN.total_seconds()
        while left := _sessions(connection, both):
            if time.monotonic() > deadline:
                raise TargetBusy(
                    f"sessions of '{swap.live}' at '{self._server}' that do not end: {len(left)}",
                    "pg_stat_activity shows what they do",
                )
            connection.execute(_END, ([pid for pid, _ in left],))
            time.sleep(_POLL_SECONDS)

    @contextmanager
    def _locked_session(
        self, swap: Swap, restored: tuple[PostgresCapture, str] | None
    ) -> Iterator[Connection]:
        """Hold the lock of a swap that has not happened yet, of the very databases it is about."""
        with self._session(f"swapping '{swap.live}'") as connection:
            if not take_swap_lock(connection, swap.live):
                raise TargetBusy(
                    f"another session already swaps '{swap.live}' at '{self._server}'",
                    "it is tried again shortly",
                )
            oids = database_oids(connection)
            if swap.standing(oids) != "not done" or oids.get(swap.incoming) != swap.incoming_oid:
                raise RestoreRefused(
                    f"'{swap.live}' and '{swap.incoming}' at '{self._server}' are not the "
                    "databases that were to trade places",
                    "somebody renamed, removed or replaced one; nothing was changed",
                )
            if (
                restored is not None
                and scalar(connection, _COMMENT, (swap.incoming_oid,)) != restored[1]
            ):
                raise RestoreRefused(
                    f"'{swap.incoming}' at '{self._server}' is not the copy of this restore",
                    "somebody took its mark away; nothing was changed",
                )
            try:
                yield connection
            finally:
                # The end of the session frees it as well, but only some time later.
                with suppress(psycopg.Error):
                    connection.execute("SELECT pg_catalog.pg_advisory_unlock_all()")

    def _is_catalog(self, database: str) -> bool:
        """Return whether a database holds a catalog; one that cannot be looked into is none."""
        with (
            suppress(PgbenError),
            self._session(f"looking into '{database}'", database=database) as connection,
        ):
            return bool(scalar(connection, _CATALOG))
        return False

    @contextmanager
    def _session(self, doing: str, *, database: str | None = None) -> Iterator[Connection]:
        with prepared_session(
            self._server,
            database or self._maintenance,
            application_name="pgben swap",
            doing=doing,
            lock_timeout=_LOCK_TIMEOUT,
        ) as connection:
            connection.execute(_SESSION)
            with suppress(psycopg.errors.InvalidParameterValue):
                # Not every system can notice; the lock timeout then bounds the wait.
                connection.execute(_NOTICE_LOST_CLIENT)
            yield connection


def take_swap_lock(connection: Connection, live: str) -> bool:
    """Take the lock under which databases of ``live`` change names; return whether it was free.

    The end of the session frees it.
    """
    key = Lock(f"swap:{live}").key
    return bool(scalar(connection, "SELECT pg_catalog.pg_try_advisory_lock(%s)", (key,)))


def _is_open(connection: Connection, oid: int) -> bool:
    is_open = scalar(connection, _OPEN, (oid,))
    if is_open is None:
        message = f"database {oid} vanished"
        raise PermanentError(message, "somebody removed it; nothing was changed")
    return bool(is_open)


def _sessions(connection: Connection, databases: list[int]) -> list[tuple[int, bool]]:
    rows = connection.execute(_SESSIONS, (databases,)).fetchall()
    return [(int(pid), bool(working)) for pid, working in rows]


def _rename(connection: Connection, old: str, new: str) -> None:
    connection.execute(
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
    )


def allow_connections(connection: Connection, name: str, *, allowed: bool) -> None:
    """Let a database take connections, or none."""
    connection.execute(
        sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(
            sql.Identifier(name), sql.Literal(allowed)
        )
    )

"""One protected PostgreSQL database: what must hold before a dump, and the dump itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Final, LiteralString

from pgben_tasks.adapters.postgres import clients as pg_clients, programs as pg_dump
from pgben_tasks.adapters.postgres.capture import LOCK_TIMEOUT, SnapshotCapture, open_capture
from pgben_tasks.adapters.postgres.clients import Installation
from pgben_tasks.adapters.postgres.listing import read_listing
from pgben_tasks.adapters.postgres.references import REFERENCE_TIMEOUT, read_references
from pgben_tasks.adapters.postgres.server import (
    Connection,
    PostgresServer,
    column,
    connect,
    translated,
)
from pgben_tasks.adapters.postgres.tables import list_tables, prepare_session
from pgben_tasks.domain.documents import PostgresCapture
from pgben_tasks.domain.references import Reference, ReferenceLine
from pgben_tasks.domain.restorability import UNKNOWN_SITE, Archive, RestoreSite
from pgben_tasks.domain.target import check_name
from pgben_tasks.errors import CommandFailed, ConfigurationError, IntegrityError, TargetBusy
from pgben_tasks.ports import Capture, ClientTools, Preflight, Progress

DUMP_TIMEOUT: Final = timedelta(hours=8)
_OLDEST_SERVER: Final = 140000

_ROLE = """
SELECT r.rolsuper, r.rolbypassrls, pg_catalog.pg_database_size(pg_catalog.current_database())
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""
_UNREADABLE = """
SELECT t.oid FROM pg_catalog.unnest(%s::pg_catalog.oid[]) AS t(oid)
WHERE NOT pg_catalog.has_table_privilege(t.oid, 'SELECT')
"""
_FILTERED = """
SELECT t.oid FROM pg_catalog.unnest(%s::pg_catalog.oid[]) AS t(oid)
JOIN pg_catalog.pg_class c ON c.oid = t.oid
JOIN pg_catalog.pg_roles r ON r.rolname = current_user
WHERE c.relrowsecurity AND (c.relforcerowsecurity
                            OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'))
"""


class PostgresSource:
    """One database of one server (``ports.PostgresSource``)."""

    def __init__(
        self,
        server: PostgresServer,
        database: str,
        *,
        candidates: Sequence[Installation] | None = None,
        restore_site: Callable[[], RestoreSite] = lambda: UNKNOWN_SITE,
        timeout: timedelta = DUMP_TIMEOUT,
        lock_timeout: timedelta = LOCK_TIMEOUT,
        reference_timeout: timedelta = REFERENCE_TIMEOUT,
    ) -> None:
        """Look at ``database`` of ``server`` with one of ``candidates``, else what is installed.

        ``restore_site`` says which clients the dump must be restorable with; ``timeout`` bounds one
        run of a client program, ``lock_timeout`` one wait for locks, ``reference_timeout`` one
        query for references.
        """
        self._server = server
        self._database = check_name(database)
        self._candidates = candidates
        self._restore_site = restore_site
        self._timeout = timeout
        self._lock_timeout = lock_timeout
        self._reference_timeout = reference_timeout

    def preflight(self) -> Preflight:
        """Check that the server answers, the credentials work, the role sees every row."""
        doing = f"looking at '{self._database}'"
        with (
            connect(self._server, self._database, application_name="pgben preflight") as connection,
            translated(self._server, doing),
        ):
            version = connection.info.server_version
            if version < _OLDEST_SERVER:
                raise ConfigurationError(
                    f"the server '{self._server}' is PostgreSQL {version // 10000}; pgben protects "
                    f"{_OLDEST_SERVER // 10000} and newer",
                    "upgrade the server",
                )
            prepare_session(connection, lock_timeout=self._lock_timeout)
            row = connection.execute(_ROLE).fetchone()
            superuser, bypasses, size = row or (False, False, 0)
            if not superuser:
                self._check_sight(connection, bypasses=bypasses)
            return Preflight(
                server_version=connection.info.parameter_status("server_version") or "",
                server_version_num=version,
                database_bytes=size,
                is_superuser=superuser,
                tools=pg_clients.choose_for_dump(version, self._installed(), self._restore_site()),
            )

    def capture(self, tools: ClientTools) -> AbstractContextManager[SnapshotCapture]:
        """Lock all tables against TRUNCATE and DROP, then export a snapshot."""
        return open_capture(
            self._server,
            self._database,
            dump_compression=tools.compression,
            lock_timeout=self._lock_timeout,
        )

    def dump(
        self,
        capture: Capture,
        destination: Path,
        *,
        tools: ClientTools,
        jobs: int,
        database_bytes: int,
        progress: Progress,
        on_file: Callable[[str], None] | None = None,
    ) -> None:
        """Run ``pg_dump -Fd`` on the capture's snapshot and write ``globals.sql`` beside."""
        # A table's name of several lines could look like a message of pg_dump.
        several_lines = any("\n" in word for table in capture.table_names for word in table)
        try:
            pg_dump.dump(
                tools,
                self._server,
                self._database,
                destination,
                snapshot=capture.snapshot,
                tables=dict(zip(capture.table_names, capture.table_pages, strict=True)),
                database_bytes=database_bytes,
                jobs=jobs,
                lock_wait=self._lock_timeout,
                timeout=self._timeout,
                progress=progress,
                on_file=None if several_lines else on_file,
            )
        except (CommandFailed, TargetBusy):
            # When the capture's session ended, pg_dump only says that the snapshot is gone. Its
            # workers report a refused lock even when the server stopped.
            _require_alive(capture)
            raise
        _require_alive(capture)

    def references(self, capture: Capture, reference: Reference) -> Iterator[ReferenceLine]:
        """Yield the rows of a reference as the capture's snapshot shows them, in any order."""
        return read_references(
            self._server,
            self._database,
            capture.snapshot,
            reference,
            timeout=self._reference_timeout,
        )

    def check_dump(self, dump: Path, capture: PostgresCapture, archive: Archive) -> int:
        """Check that the dump's table of contents names the data of exactly the counted tables."""
        listing = read_listing(dump, pg_clients.choose_for_listing(archive, self._installed()))
        counted = [(table.schema_name, table.table) for table in capture.tables]
        missing = listing.missing(counted)
        if missing or len(listing.table_data) != len(counted):
            names = ", ".join(f"'{schema}.{table}'" for schema, table in missing[:3])
            raise IntegrityError(
                f"the dump holds the data of another number of tables, {len(listing.table_data)}, "
                f"than were counted, {len(counted)}{f'; {names} missing' if names else ''}",
                "this attempt is void; the next makes a new dump",
            )
        return listing.entries

    def _installed(self) -> Sequence[Installation]:
        return pg_clients.find_installations() if self._candidates is None else self._candidates

    def _check_sight(self, connection: Connection, *, bypasses: bool) -> None:
        """Refuse a role that would dump fewer tables or rows than there are."""
        names = {table.oid: f"{table.schema}.{table.name}" for table in list_tables(connection)}
        hidden = _those(connection, _UNREADABLE, names)
        if hidden:
            raise ConfigurationError(
                f"the role '{self._server.user}' may not read {_some(hidden)} of "
                f"'{self._database}'",
                f'GRANT pg_read_all_data TO "{self._server.user}"',
            )
        filtered = [] if bypasses else _those(connection, _FILTERED, names)
        if filtered:
            raise ConfigurationError(
                f"row-level security hides rows of {_some(filtered)} in '{self._database}' from "
                f"the role '{self._server.user}', so a dump would miss them",
                f'ALTER ROLE "{self._server.user}" BYPASSRLS',
            )


def _require_alive(capture: Capture) -> None:
    if isinstance(capture, SnapshotCapture):
        capture.require_alive()


def _those(connection: Connection, query: LiteralString, names: Mapping[int, str]) -> list[str]:
    return [names[oid] for oid in column(connection, query, (list(names),))]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"the table '{names[0]}'{more}"

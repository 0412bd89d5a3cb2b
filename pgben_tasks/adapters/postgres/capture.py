"""Hold a database still for a dump, and describe what ``pg_dump`` does not keep of it.

Every table is locked, then one snapshot is exported. The order is what makes it right. A
``TRUNCATE`` between an exported snapshot and pg_dump's own locks empties the table for the dump and
for the count alike, because truncation ignores snapshots. So the locks come first, the snapshot
after them, and the list of tables, which had to be read before either, is compared with what the
snapshot shows.

A description is read inside the snapshot and as any role that may connect: only catalogs that
everybody may read are queried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, LiteralString

import psycopg
from psycopg import errors, sql

from pgben_tasks.adapters.postgres.server import (
    Connection,
    PostgresServer,
    column,
    connect,
    translated,
)
from pgben_tasks.adapters.postgres.tables import (
    Table,
    count_large_objects,
    count_rows,
    list_tables,
    prepare_session,
    with_rows,
)
from pgben_tasks.domain.documents import Extension, PostgresCapture, Setting, TableCount
from pgben_tasks.errors import PermanentError, TargetBusy

LOCK_TIMEOUT: Final = timedelta(seconds=10)
_TRIES: Final = 3
_TABLES_PER_STATEMENT: Final = 500
_CANCEL_SECONDS: Final = 10.0

#: The moment and the WAL position are read after the snapshot was taken, so neither lies before
#: what the snapshot shows: whoever compares with them errs on the safe side.
_EXPORT = """
SELECT pg_catalog.pg_export_snapshot(), pg_catalog.clock_timestamp(),
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn() END::pg_catalog.text
"""

_BLOCKERS = """
SELECT n.nspname, c.relname, l.pid FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_database d ON d.oid = l.database
WHERE d.datname = pg_catalog.current_database() AND l.mode = 'AccessExclusiveLock'
  AND l.relation = ANY(%s) ORDER BY l.granted DESC LIMIT 1
"""

_PROVIDERS: Final[dict[str, Literal["libc", "icu", "builtin"]]] = {
    "c": "libc",
    "i": "icu",
    "b": "builtin",
}

_V15: Final = 150000
_V16: Final = 160000
_V17: Final = 170000

_DATABASE = """
SELECT d.datname, pg_catalog.pg_encoding_to_char(d.encoding), {provider}, d.datcollate,
       d.datctype, {locale}, {icu_rules}, {collation_version},
       pg_catalog.pg_get_userbyid(d.datdba), d.datacl::pg_catalog.text[],
       pg_catalog.shobj_description(d.oid, 'pg_database'), d.datconnlimit, t.spcname,
       pg_catalog.pg_database_size(d.oid)
FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
WHERE d.datname = pg_catalog.current_database()
"""

_SETTINGS = """
SELECT r.rolname, entry.text
FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole,
LATERAL unnest(s.setconfig) WITH ORDINALITY AS entry(text, place)
WHERE d.datname = pg_catalog.current_database()
ORDER BY r.rolname NULLS FIRST, entry.place
"""

#: Owners, grantees and policies of this database, of the database itself, and the roles of its
#: settings. The bootstrap superuser (oid 10) is pinned: what it owns is recorded nowhere, so it is
#: always named. Predefined roles exist on every server.
_ROLES = """
WITH this AS (SELECT oid FROM pg_catalog.pg_database
              WHERE datname = pg_catalog.current_database()),
named AS (
    SELECT s.refobjid AS oid FROM pg_catalog.pg_shdepend s, this
    WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
      AND (s.dbid = this.oid OR s.dbid = 0 AND s.objid = this.oid
           AND s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass)
    UNION SELECT d.datdba FROM pg_catalog.pg_database d, this WHERE d.oid = this.oid
    UNION SELECT s.setrole FROM pg_catalog.pg_db_role_setting s, this
          WHERE s.setdatabase = this.oid
    UNION SELECT 10
)
SELECT r.rolname FROM pg_catalog.pg_roles r JOIN named ON named.oid = r.oid
WHERE r.rolname !~ '^pg_' ORDER BY r.rolname
"""

_TABLESPACES = """
SELECT DISTINCT t.spcname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
WHERE t.spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1
"""

_EXTENSIONS = "SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY extname"
_SLOTS = """
SELECT slot_name FROM pg_catalog.pg_replication_slots
WHERE database = pg_catalog.current_database() ORDER BY 1
"""
_SUBSCRIPTIONS = """
SELECT s.subname FROM pg_catalog.pg_subscription s
JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
WHERE d.datname = pg_catalog.current_database() ORDER BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    name: str
    moment: datetime
    lsn: str
    tables: tuple[Table, ...]


class SnapshotCapture:
    """An open capture (``ports.Capture``). Its session must live until pg_dump has ended."""

    def __init__(
        self,
        connection: Connection,
        server: PostgresServer,
        snapshot: _Snapshot,
        *,
        dump_compression: Literal["zstd:3", "none"],
    ) -> None:
        """Read from ``snapshot``, which lasts as long as ``connection``'s transaction."""
        self._connection = connection
        self._server = server
        self._snapshot = snapshot
        self._dump_compression = dump_compression
        self._tables = with_rows(snapshot.tables)

    @property
    def snapshot(self) -> str:
        """The exported snapshot's name, for ``pg_dump --snapshot``."""
        return self._snapshot.name

    @property
    def table_names(self) -> tuple[tuple[str, str], ...]:
        """(schema, table) of every table that is dumped with rows, sorted."""
        return tuple((table.schema, table.name) for table in self._tables)

    @property
    def table_pages(self) -> tuple[int, ...]:
        """About how many pages each of these tables has, in the same order."""
        return tuple(table.pages for table in self._tables)

    def cancel(self) -> None:
        """End a count that runs in another thread; it raises there."""
        # A session that is gone counts no more either.
        with suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=_CANCEL_SECONDS)

    def count(self, *, on_table: Callable[[], None] | None = None) -> tuple[TableCount, ...]:
        """Return every table's rows inside the snapshot; sorted by schema and table."""
        with translated(self._server, "counting rows in the snapshot"):
            return count_rows(self._connection, self._tables, on_table=on_table)

    def describe(self, tables: tuple[TableCount, ...]) -> PostgresCapture:
        """Describe the database as the snapshot shows it; check the table list once more."""
        with translated(self._server, "reading the snapshot"):
            listed = list_tables(self._connection)
            counted = tuple((table.schema_name, table.table) for table in tables)
            if listed != self._snapshot.tables or counted != self.table_names:
                raise PermanentError(
                    "the tables that were counted are not those that were locked and dumped",
                    "the dump was given up; start the backup again",
                )
            return _describe(
                self._connection,
                snapshot=self._snapshot.name,
                snapshot_time=self._snapshot.moment,
                lsn=self._snapshot.lsn,
                dump_compression=self._dump_compression,
                tables=tables,
            )

    def require_alive(self) -> None:
        """Raise ``DatabaseUnavailable`` when the session that holds the locks is gone."""
        with translated(self._server, "holding the snapshot"):
            self._connection.execute("SELECT 1")


@contextmanager
def open_capture(
    server: PostgresServer,
    database: str,
    *,
    dump_compression: Literal["zstd:3", "none"],
    lock_timeout: timedelta = LOCK_TIMEOUT,
) -> Iterator[SnapshotCapture]:
    """Lock every table of ``database``, export a snapshot and hold both.

    Raises ``TargetBusy`` when a table stays locked by somebody else, or when tables keep coming
    and going, through three tries of ``lock_timeout`` each.
    """
    connection = connect(server, database, application_name="pgben capture")
    with closing(connection):
        with translated(server, "taking the snapshot"):
            prepare_session(connection, lock_timeout=lock_timeout)
            snapshot = _take(connection, database)
            connection.execute("SELECT pg_catalog.set_config('lock_timeout', '0', false)")
        yield SnapshotCapture(connection, server, snapshot, dump_compression=dump_compression)


def _take(connection: Connection, database: str) -> _Snapshot:
    why = ""
    for _ in range(_TRIES):
        tables = list_tables(connection)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            # LOCK TABLE takes no snapshot, so the transaction still has none after it.
            _lock(connection, tables)
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            connection.execute("ROLLBACK")
            why = _blocker(connection, tables)
            continue
        except (errors.UndefinedTable, errors.InvalidSchemaName):
            connection.execute("ROLLBACK")
            why = "tables are being dropped"
            continue
        name, moment, lsn = connection.execute(_EXPORT).fetchone() or ("", datetime.now(UTC), "")
        if list_tables(connection) == tables:
            return _Snapshot(name=name, moment=moment.astimezone(UTC), lsn=lsn, tables=tables)
        connection.execute("ROLLBACK")
        why = "tables are being created, renamed or dropped"
    raise TargetBusy(
        f"the tables of '{database}' could not be held still: {why}",
        "wait for migrations and maintenance to end; the backup is tried again",
    )


def _lock(connection: Connection, tables: Sequence[Table]) -> None:
    for start in range(0, len(tables), _TABLES_PER_STATEMENT):
        some = tables[start : start + _TABLES_PER_STATEMENT]
        names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(table.identifier) for table in some)
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))


def _blocker(connection: Connection, tables: Sequence[Table]) -> str:
    """Return which table kept us waiting, and which process holds or waits for it."""
    row = connection.execute(_BLOCKERS, ([table.oid for table in tables],)).fetchone()
    if row is None:
        return "a table was locked by another session"
    return f"'{row[0]}.{row[1]}' is locked by the server process {row[2]}"


def _describe(  # What only the snapshot's owner knows is handed in.
    connection: Connection,
    *,
    snapshot: str,
    snapshot_time: datetime,
    lsn: str,
    dump_compression: Literal["zstd:3", "none"],
    tables: tuple[TableCount, ...],
) -> PostgresCapture:
    """Return what the connection's database is like."""
    row = connection.execute(_database_query(connection.info.server_version)).fetchone()
    if row is None:
        message = "the current database is not in pg_database"
        raise LookupError(message)
    (name, encoding, provider, collate, ctype, locale, icu_rules, collation_version, *more) = row
    owner, acl, comment, connection_limit, tablespace, size = more
    return PostgresCapture(
        database=name,
        server_version=connection.info.parameter_status("server_version") or "",
        server_version_num=connection.info.server_version,
        encoding=encoding,
        locale_provider=_PROVIDERS[provider],
        collate=collate,
        ctype=ctype,
        locale=locale,
        icu_rules=icu_rules,
        collation_version=collation_version,
        owner=owner,
        acl=None if acl is None else tuple(acl),
        settings=_settings(connection),
        comment=comment,
        connection_limit=connection_limit,
        tablespace=tablespace,
        tablespaces=tuple(column(connection, _TABLESPACES)),
        extensions=tuple(
            Extension(name=extension, version=version)
            for extension, version in connection.execute(_EXTENSIONS).fetchall()
        ),
        roles=tuple(column(connection, _ROLES)),
        large_objects=count_large_objects(connection),
        replication_slots=tuple(column(connection, _SLOTS)),
        subscriptions=tuple(column(connection, _SUBSCRIPTIONS)),
        lsn=lsn,
        snapshot_time=snapshot_time,
        snapshot=snapshot,
        dump_compression=dump_compression,
        database_bytes=size,
        tables=tables,
    )


def _database_query(version: int) -> LiteralString:
    """Return the query of ``pg_database`` with the columns that this server's version has."""
    locale: LiteralString = "NULL"
    if version >= _V17:
        locale = "d.datlocale"
    elif version >= _V15:
        locale = "d.daticulocale"
    return _DATABASE.format(
        provider="d.datlocprovider::pg_catalog.text" if version >= _V15 else "'c'",
        locale=locale,
        icu_rules="d.daticurules" if version >= _V16 else "NULL",
        collation_version="d.datcollversion" if version >= _V15 else "NULL",
    )


def _settings(connection: Connection) -> tuple[Setting, ...]:
    entries = [
        (role, *text.partition("=")) for role, text in connection.execute(_SETTINGS).fetchall()
    ]
    return tuple(
        Setting(role=role or "", name=name, value=value) for role, name, _, value in entries
    )

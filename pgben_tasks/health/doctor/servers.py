"""Checks of the protected servers and of the client programs that dump and restore them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Final

from pgben_tasks.adapters.postgres import facts as server_facts
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.domain.known_holes import known_holes
from pgben_tasks.errors import DatabaseUnavailable, PgbenError
from pgben_tasks.health.doctor.patient import Patient
from pgben_tasks.health.doctor.report import FAILED, Finding, Unseen, error, ok, warning

#: Further apart than this, decisions about ages and windows go wrong.
_APART: Final = timedelta(minutes=5)


def postgres(patient: Patient) -> Iterator[Finding]:
    """Look whether every protected database answers and may be dumped whole."""
    for target, found in patient.examined.items():
        if isinstance(found, PgbenError):
            yield error(FAILED, why=found.sentence, remedy=found.hint)
        else:
            server = patient.addresses[target]
            yield ok(target=target, server=server, version=found.server_version)


def role(patient: Patient) -> Iterator[Finding]:
    """Look whether the role may also restore."""
    for target, found in patient.servers.items():
        user = patient.addresses[target].user
        if found.is_superuser:
            yield ok(target=target, user=user)
        else:
            yield warning("limited", target=target, user=user)


def clients(patient: Patient) -> Iterator[Finding]:
    """Look which client programs serve each database, and whether they compress well."""
    for target, found in patient.servers.items():
        facts = {
            "target": target,
            "version": found.tools.version,
            "folder": found.tools.pg_dump.parent,
        }
        yield ok(**facts) if found.tools.compression != "none" else warning("plain", **facts)


def holes(patient: Patient) -> Iterator[Finding]:
    """Look for releases with holes that are known, of servers and of client programs."""
    # A server with several databases, and clients that serve several servers, are told once.
    releases = dict.fromkeys(
        release
        for target, found in patient.servers.items()
        for release in (
            ("server", str(patient.addresses[target]), found.server_version),
            ("client", str(found.tools.pg_dump.parent), found.tools.version),
        )
    )
    told = False
    for what, where, version in releases:
        for name, mended in known_holes(version).items():
            told = True
            yield warning(what, where=where, version=version, hole=name, mended=mended)
    if not told:
        yield ok()


def clocks(patient: Patient) -> Iterator[Finding]:
    """Look whether this machine, the catalog and the protected servers agree on the time."""
    database = patient.work.database
    asked: dict[PostgresServer, str] = {}
    if patient.catalog_fault is None:
        asked[database.server] = database.name
    for target, server in patient.addresses.items():
        if not isinstance(patient.examined[target], DatabaseUnavailable):
            asked.setdefault(server, target.name)
    ahead: dict[PostgresServer, timedelta] = {}
    for server, name in asked.items():
        # The check of a server tells why it does not answer.
        with suppress(PgbenError):
            ahead[server] = server_facts.inspect_server(server, name).ahead
    if not ahead:
        raise Unseen("postgres")
    apart = {server: by for server, by in ahead.items() if abs(by) > _APART}
    for server, by in apart.items():
        yield error("apart", server=server, seconds=round(by.total_seconds()))
    if not apart:
        yield ok(seconds=f"{max(abs(by) for by in ahead.values()).total_seconds():.1f}")

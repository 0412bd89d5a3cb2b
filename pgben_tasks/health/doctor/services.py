"""Checks of what pgben relies on: settings, catalog, broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pgben_tasks.adapters.postgres import facts as server_facts
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.adapters.redis import BrokerFacts
from pgben_tasks.errors import PgbenError
from pgben_tasks.health.doctor.patient import Patient
from pgben_tasks.health.doctor.report import Finding, Unseen, error, ok, warning

#: What Celery needs, and the oldest release that is still looked after.
_OLDEST_REDIS: Final = (6, 2)


def settings(patient: Patient) -> Iterator[Finding]:
    """Say that the settings were read, and what was left aside."""
    rows = patient.settings.rows()
    yield ok(count=sum(row.origin != "default" for row in rows), all=len(rows))
    if patient.settings.ignored:
        yield warning("ignored", names=", ".join(patient.settings.ignored))
    if patient.settings.retired:
        yield warning("retired", names=", ".join(patient.settings.retired))


def catalog(patient: Patient) -> Iterator[Finding]:
    """Look whether the catalog answers and has the tables of this version."""
    if patient.catalog_fault is not None:
        raise patient.catalog_fault
    database = patient.work.database
    yield ok(name=database.name, server=database.server)


def catalog_place(patient: Patient) -> Iterator[Finding]:
    """Look whether the catalog falls together with a server that it describes."""
    database = patient.work.database
    there = [server for server in patient.addresses.values() if _same(patient, server)]
    if there:
        yield warning("same", name=database.name, server=there[0])
    else:
        yield ok(name=database.name)


def _same(patient: Patient, server: PostgresServer) -> bool:
    own = patient.work.database.server
    if (server.host, server.port) == (own.host, own.port):
        return True
    if patient.catalog_fault is not None:
        return False
    identities = []
    for one, name in ((own, patient.work.database.name), (server, "postgres")):
        try:
            identities.append(server_facts.inspect_server(one, name).identity)
        except PgbenError:
            return False
    # One server may have two names.
    return identities[0] is not None and identities[0] == identities[1]


def broker(patient: Patient) -> Iterator[Finding]:
    """Look whether Redis answers and is new enough."""
    facts = patient.broker
    if isinstance(facts, PgbenError):
        raise facts
    version = tuple(int(part) for part in facts.version.split(".")[:2] if part.isdigit())
    if version < _OLDEST_REDIS:
        yield error("old", version=facts.version)
    else:
        yield ok(version=facts.version)


def broker_memory(patient: Patient) -> Iterator[Finding]:
    """Look whether Redis keeps what it was given: no eviction, an append-only file that grows."""
    facts = _seen(patient)
    if facts.eviction != "noeviction":
        yield error("evicts", policy=facts.eviction)
    if not facts.append_only:
        yield error("volatile")
    elif not facts.last_write_ok:
        yield error("unwritten")
    elif facts.eviction == "noeviction":
        yield ok()


def queues(patient: Patient) -> Iterator[Finding]:
    """Look whether messages wait in a queue that nobody reads."""
    facts = _seen(patient)
    patient.catalog  # noqa: B018 - without it nobody knows who reads
    living = {name.partition(".")[0] for name in patient.work.recovery.live_workers()}
    unread = [name for name, count in facts.queues.items() if count and name not in living]
    for name in unread:
        yield warning("unread", queue=name, count=facts.queues[name])
    if not unread:
        yield ok(lengths=", ".join(f"{name} {count}" for name, count in facts.queues.items()))


def _seen(patient: Patient) -> BrokerFacts:
    if isinstance(patient.broker, PgbenError):
        raise Unseen("broker")
    return patient.broker

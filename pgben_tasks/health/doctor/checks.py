"""Which checks there are, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.health.doctor import buckets, duty, machine, servers, services, vault
from pgben_tasks.health.doctor.patient import Patient
from pgben_tasks.health.doctor.report import FAILED, Finding, Result, run
from pgben_tasks.runtime import Workplace

CHECKS: Final[dict[str, Callable[[Patient], Iterable[Finding]]]] = {
    "settings": services.settings,
    "catalog": services.catalog,
    "catalog_place": services.catalog_place,
    "broker": services.broker,
    "broker_memory": services.broker_memory,
    "queues": services.queues,
    "repository": vault.repository,
    "repository_writable": vault.repository_writable,
    "trusted_keys": vault.trusted_keys,
    "signing_key": vault.signing_key,
    "recipients": vault.recipients,
    "identities": vault.identities,
    "opening": vault.opening,
    "escrow": vault.escrow,
    "postgres": servers.postgres,
    "role": servers.role,
    "clients": servers.clients,
    "holes": servers.holes,
    "clocks": servers.clocks,
    "buckets": buckets.buckets,
    "spool": machine.spool,
    "spool_room": machine.spool_room,
    "node": machine.node,
    "disks": machine.disks,
    "workers": duty.workers,
    "tick": duty.tick,
    "mail": duty.mail,
    "backups": duty.backups,
    "verifications": duty.verifications,
}


def examine(work: Callable[[], Workplace]) -> Iterator[Result]:
    """Run every check; settings that cannot be read are a result too, and the only one."""
    try:
        patient = Patient(work())
    except ConfigurationError as exc:
        facts = {"why": exc.sentence, "remedy": exc.hint}
        yield Result(check="settings", status="error", word=FAILED, facts=facts)
        return
    yield from run((name, partial(check, patient)) for name, check in CHECKS.items())

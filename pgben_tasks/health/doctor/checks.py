"""Which checks there are, in the order in which their results are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.health.doctor import activity, machine, protected, repository, services
from pgben_tasks.health.doctor.installation import Installation
from pgben_tasks.health.doctor.report import Result, failed, run
from pgben_tasks.runtime import Workplace

CHECKS: Final[dict[str, Callable[[Installation], Iterable[Result]]]] = {
    "settings": services.settings,
    "catalog": services.catalog,
    "catalog_place": services.catalog_place,
    "broker": services.broker,
    "broker_memory": services.broker_memory,
    "queues": services.queues,
    "repository": repository.repository,
    "repository_writable": repository.repository_writable,
    "trusted_keys": repository.trusted_keys,
    "signing_key": repository.signing_key,
    "recipients": repository.recipients,
    "identities": repository.identities,
    "opening": repository.opening,
    "escrow": repository.escrow,
    "postgres": protected.postgres,
    "role": protected.role,
    "clients": protected.clients,
    "holes": protected.holes,
    "clocks": protected.clocks,
    "buckets": protected.buckets,
    "spool": machine.spool,
    "spool_room": machine.spool_room,
    "node": machine.node,
    "disks": machine.disks,
    "workers": activity.workers,
    "tick": activity.tick,
    "mail": activity.mail,
    "backups": activity.backups,
    "verifications": activity.verifications,
}


def examine(work: Callable[[], Workplace]) -> Iterator[Result]:
    """Run every check; settings that cannot be read are a result too, and the only one."""
    try:
        installation = Installation(work())
    except ConfigurationError as exc:
        yield replace(failed(exc), check="settings")
        return
    yield from run((name, partial(check, installation)) for name, check in CHECKS.items())

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
    check.__name__: check
    for check in (
        services.settings,
        services.catalog,
        services.catalog_place,
        services.broker,
        services.broker_memory,
        services.queues,
        services.set_aside,
        repository.repository,
        repository.repository_writable,
        repository.trusted_keys,
        repository.signing_key,
        repository.recipients,
        repository.identities,
        repository.opening,
        repository.escrow,
        protected.postgres,
        protected.role,
        protected.clients,
        protected.restorable,
        protected.holes,
        protected.clocks,
        protected.buckets,
        machine.spool,
        machine.spool_room,
        machine.node,
        machine.disks,
        activity.workers,
        activity.tick,
        activity.mail,
        activity.backups,
        activity.verifications,
    )
}


def examine(work: Callable[[], Workplace]) -> Iterator[Result]:
    """Run every check; settings that cannot be read are a result too, and the only one."""
    try:
        installation = Installation(work())
    except ConfigurationError as exc:
        yield replace(failed(exc), check="settings")
        return
    yield from run((name, partial(check, installation)) for name, check in CHECKS.items())

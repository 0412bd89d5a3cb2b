"""Which checks there are, in the order in which their results are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.health.doctor import (
    activity,
    buckets,
    machine,
    protected,
    repository,
    services,
)
from pgben_tasks.health.doctor.installation import Installation
from pgben_tasks.health.doctor.report import Check, Result, failed, run
from pgben_tasks.language import translatable as _
from pgben_tasks.runtime import Workplace

#: Each with what it examines, in words that go on after "not examined:".
CHECKS: Final[dict[str, tuple[str, Callable[[Installation], Iterable[Result]]]]] = {
    check.__name__: (subject, check)
    for subject, check in (
        (_("the settings"), services.settings),
        (_("the catalog"), services.catalog),
        (_("the place of the catalog"), services.catalog_place),
        (_("the broker"), services.broker),
        (_("what the broker keeps"), services.broker_memory),
        (_("messages that wait"), services.queues),
        (_("messages that were set aside"), services.set_aside),
        (_("the repository"), repository.repository),
        (_("the place of the repository"), repository.repository_place),
        (_("whether the repository can be written to"), repository.repository_writable),
        (_("the trusted keys"), repository.trusted_keys),
        (_("the public keys in the repository"), repository.stored_keys),
        (_("the signing key"), repository.signing_key),
        (_("the recipients"), repository.recipients),
        (_("the identities"), repository.identities),
        (_("what the identity opens"), repository.opening),
        (_("the escrow key"), repository.escrow),
        (_("the databases"), protected.postgres),
        (_("the role's rights"), protected.role),
        (_("the client programs"), protected.clients),
        (_("what can be restored"), protected.restorable),
        (_("known holes"), protected.holes),
        (_("the clock"), protected.clocks),
        (_("the buckets"), buckets.buckets),
        (_("the key's rights"), buckets.bucket_key),
        (_("the spool"), machine.spool),
        (_("room in the spool"), machine.spool_room),
        (_("the node"), machine.node),
        (_("room for what comes"), machine.space),
        (_("the commands around a swap"), machine.hooks),
        (_("the workers"), activity.workers),
        (_("the reconciler"), activity.tick),
        (_("mail"), activity.mail),
        (_("the files of the history"), activity.history),
        (_("the channels of alarms"), activity.channels),
        (_("the pings"), activity.heartbeat),
        (_("the backups"), activity.backups),
        (_("the verifications"), activity.verifications),
    )
}


def examine(work: Callable[[], Workplace]) -> Iterator[Result]:
    """Run every check; settings that cannot be read are a result too, and the only one."""
    try:
        installation = Installation(work())
    except ConfigurationError as exc:
        yield replace(failed(exc), check="settings")
        return
    installation.ask()
    yield from run(
        Check(name=name, subject=subject, examine=partial(check, installation))
        for name, (subject, check) in CHECKS.items()
    )

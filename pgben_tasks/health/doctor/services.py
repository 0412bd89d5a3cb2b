"""Checks of what pgben relies on: settings, catalog, broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pgben_tasks.adapters.postgres.server import PostgresServer, inspect_server
from pgben_tasks.adapters.redis import BrokerFacts
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import DatabaseUnavailable, PgbenError
from pgben_tasks.health.doctor.installation import Installation
from pgben_tasks.health.doctor.report import Result, Unseen, error, ok, warning
from pgben_tasks.language import translatable as _

#: How many messages that were set aside are shown.
_SHOWN: Final = 5
#: The oldest release that Celery works with and that still gets fixes.
_OLDEST_REDIS: Final = (6, 2)


def settings(installation: Installation) -> Iterator[Result]:
    """Return how many settings are set, what was left aside, and which values are doubtful."""
    rows = installation.settings.rows()
    yield ok(
        _("{count} of {all} settings are set, the others have their defaults"),
        count=sum(row.origin != "default" for row in rows),
        all=len(rows),
    )
    if installation.settings.ignored:
        yield warning(
            "ignored",
            _("variables of Kubernetes' service links are left aside: {names}"),
            _("set enableServiceLinks to false in the pods, as k8s/ does"),
            names=", ".join(installation.settings.ignored),
        )
    if installation.settings.retired:
        yield warning(
            "retired",
            _("settings that nothing obeys were retired and are left aside: {names}"),
            _("take them out of the environment"),
            names=", ".join(installation.settings.retired),
        )
    for doubt in installation.settings.doubtful:
        yield warning("doubtful", doubt.sentence, doubt.hint, **doubt.facts)


def catalog(installation: Installation) -> Iterator[Result]:
    """Check that the catalog answers and has the tables of this version."""
    if installation.catalog_fault is not None:
        raise installation.catalog_fault
    database = installation.work.database
    yield ok(
        _("the catalog '{name}' at {server} answers and is up to date"),
        name=database.name,
        server=database.server,
    )


def catalog_place(installation: Installation) -> Iterator[Result]:
    """Check that the catalog is not lost together with a server that it describes."""
    database = installation.work.database
    there = [
        server
        for target, server in installation.addresses.items()
        if _same(installation, target, server)
    ]
    if there:
        yield warning(
            "same",
            _(
                "the catalog '{name}' is on the protected server {server} and is lost together "
                "with it"
            ),
            _("put it on another server: PGBEN_CATALOG_URL, then `pgben init`"),
            name=database.name,
            server=there[0],
        )
    elif database.server.host == installation.bucket_host:
        yield warning(
            "beside_buckets",
            _(
                "the catalog '{name}' is on the machine of the protected buckets, '{server}', and "
                "is lost together with it"
            ),
            _("put it on another server: PGBEN_CATALOG_URL, then `pgben init`"),
            name=database.name,
            server=database.server.host,
        )
    else:
        yield ok(_("the catalog '{name}' is on a server of its own"), name=database.name)


def _same(installation: Installation, target: Target, server: PostgresServer) -> bool:
    own = installation.work.database.server
    if (server.host, server.port) == (own.host, own.port):
        return True
    # Whoever does not answer is not asked once more, and waited for.
    away = isinstance(installation.examined[target], DatabaseUnavailable)
    if away or installation.catalog_fault is not None:
        return False
    identities = []
    for one, name in ((own, installation.work.database.name), (server, "postgres")):
        try:
            identities.append(inspect_server(one, name).identity)
        except PgbenError:
            return False
    # One server may have two names.
    return identities[0] is not None and identities[0] == identities[1]


def broker(installation: Installation) -> Iterator[Result]:
    """Check that Redis answers and is new enough."""
    facts = installation.broker
    if isinstance(facts, PgbenError):
        raise facts
    version = tuple(int(part) for part in facts.version.split(".")[:2] if part.isdigit())
    if version < _OLDEST_REDIS:
        yield error(
            "old",
            _("Redis {version} is older than 6.2"),
            _("upgrade Redis to 6.2 or newer"),
            version=facts.version,
        )
    else:
        yield ok(_("Redis {version} answers"), version=facts.version)


def broker_memory(installation: Installation) -> Iterator[Result]:
    """Check that Redis keeps what it was given: no eviction, an append-only file that grows."""
    facts = _answering_broker(installation)
    if facts.eviction != "noeviction":
        yield error(
            "evicts",
            _("Redis may throw messages away: its maxmemory-policy is '{policy}'"),
            _("set 'maxmemory-policy noeviction' in redis.conf, on an instance of pgben's own"),
            policy=facts.eviction,
        )
    if not facts.append_only:
        yield error(
            "volatile",
            _("Redis forgets its messages when it is restarted"),
            _("set 'appendonly yes' and 'appendfsync everysec' in redis.conf"),
        )
    elif not facts.last_write_ok:
        yield error(
            "unwritten",
            _("Redis cannot write its append-only file"),
            _("look at the disk of Redis, its owner and its log"),
        )
    elif facts.eviction == "noeviction":
        yield ok(_("Redis keeps what it is given: append-only file, no eviction"))


def queues(installation: Installation) -> Iterator[Result]:
    """Check that no message waits in a queue that nobody reads."""
    facts = _answering_broker(installation)
    installation.catalog  # noqa: B018 - without it nobody knows who reads
    living = {name.partition(".")[0] for name in installation.work.workers.living()}
    unread = [name for name, count in facts.queues.items() if count and name not in living]
    for name in unread:
        yield warning(
            "unread",
            _("no worker reads the queue '{queue}'; messages that wait in it: {count}"),
            _("start one with `python -m workers {queue}`"),
            queue=name,
            count=facts.queues[name],
        )
    if not unread:
        yield ok(
            _("messages that wait: {lengths}"),
            lengths=", ".join(f"{name} {count}" for name, count in facts.queues.items()),
        )


def set_aside(installation: Installation) -> Iterator[Result]:
    """Check that no message was set aside that the tick has not recorded."""
    found = _answering_broker(installation).set_aside
    for one in found[:_SHOWN]:
        yield warning(
            "waits",
            _("a message of the queue '{queue}' was set aside at {at}: {why}"),
            _("the tick records it in the audit trail; find out who can write to the broker"),
            queue=one.queue,
            at=one.at.astimezone(installation.work.zone).isoformat(" ", "seconds"),
            why=one.why,
        )
    if not found:
        yield ok(_("no message waits that was set aside"))


def _answering_broker(installation: Installation) -> BrokerFacts:
    if isinstance(installation.broker, PgbenError):
        raise Unseen(_("Redis does not answer"))
    return installation.broker

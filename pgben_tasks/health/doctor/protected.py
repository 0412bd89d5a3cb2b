"""Checks of the protected databases, of the client programs that dump them, and of clocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Final

from pgben_tasks.adapters.postgres.server import PostgresServer, has_database, inspect_server
from pgben_tasks.domain.known_holes import known_holes
from pgben_tasks.domain.restorability import Archive, missing_client, remedy, server_major
from pgben_tasks.domain.states import GOOD_LABELS, State
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import ConfigurationError, DatabaseUnavailable, PgbenError
from pgben_tasks.health.doctor.installation import Installation
from pgben_tasks.health.doctor.report import (
    MEND_FIRST,
    Result,
    error,
    failed,
    ok,
    unseen,
    warning,
)
from pgben_tasks.health.restorability import indexed_backups
from pgben_tasks.language import translatable as _
from pgben_tasks.ports import Preflight

#: Further apart than this, decisions about ages and windows go wrong.
_APART: Final = timedelta(minutes=5)


def postgres(installation: Installation) -> Iterator[Result]:
    """Check that every protected database answers and may be dumped whole."""
    for target, found in installation.examined.items():
        server = installation.addresses[target]
        if isinstance(found, ConfigurationError) and _is_gone(server, target.name):
            yield error(
                "missing",
                _("{target} does not exist at {server}"),
                _(
                    "bring it back with `pgben restore {name} --in-place --confirm {name}`, or "
                    "correct PGBEN_DB_NAME"
                ),
                target=target,
                server=server,
                name=target.name,
            )
        elif isinstance(found, PgbenError):
            yield failed(found)
        else:
            yield ok(
                _("{target} answers at {server}, PostgreSQL {version}, and can be dumped"),
                target=target,
                server=server,
                version=found.server_version,
            )


def _is_gone(server: PostgresServer, name: str) -> bool:
    try:
        return not has_database(server, name)
    except PgbenError:
        return False


def role(installation: Installation) -> Iterator[Result]:
    """Check that the role may also restore."""
    for target, found in installation.servers.items():
        user = installation.addresses[target].user
        if found.is_superuser:
            yield ok(_("'{user}' may dump and restore {target}"), target=target, user=user)
        else:
            yield warning(
                "limited",
                _("'{user}' is no superuser: it may dump {target} and not restore it"),
                _("give restore workers a superuser in PGBEN_DB_USER"),
                target=target,
                user=user,
            )
    yield from installation.unexamined()


def clients(installation: Installation) -> Iterator[Result]:
    """Check which client programs serve each database, and whether they compress well."""
    for target, found in installation.servers.items():
        facts = {
            "target": target,
            "version": found.tools.version,
            "folder": found.tools.pg_dump.parent,
        }
        if found.tools.compression != "none":
            yield ok(_("{target} is dumped by the clients {version} in '{folder}'"), **facts)
        else:
            yield warning(
                "plain",
                _(
                    "{target} is dumped by clients {version} in '{folder}' that were built "
                    "without zstd"
                ),
                _(
                    "install the clients of PostgreSQL's own packages: dumps need half the room "
                    "then"
                ),
                **facts,
            )
    yield from installation.unexamined()


def restorable(installation: Installation) -> Iterator[Result]:
    """Check that the newest dump and the next one can be restored by the workers that restore."""
    installation.catalog  # noqa: B018 - only the catalog knows their clients
    site = installation.restore_site
    if site.clients is None:
        yield warning(
            "unknown",
            _("no restore worker has published its clients, so what it can restore is not known"),
            _("start one with `python -m workers restore`, or all with `python -m workers all`"),
        )
    elif not site.current:
        yield warning(
            "last",
            _(
                "a restore worker is silent; what can be restored is judged by the clients that it "
                "published last"
            ),
            _(
                "start it with `python -m workers restore`; one that was taken out of service "
                "counts for another day"
            ),
        )
    for target, found in installation.servers.items():
        yield from _restorable(installation, target, found)
    yield from installation.unexamined()


def _restorable(installation: Installation, target: Target, found: Preflight) -> Iterator[Result]:
    site, destination = installation.restore_site, server_major(found.server_version_num)
    rows = indexed_backups(installation.work, target) if not installation.repository_fault else []
    whole = [row for row in rows if row.state in {*GOOD_LABELS, State.NOT_RESTORABLE.label}]
    lacking = [row for row in whole if row.state == State.NOT_RESTORABLE.label]
    next_one = Archive(client_major=found.tools.major, compression=found.tools.compression)
    facts = {"target": target}
    if whole[:1] == lacking[:1] and lacking:
        archive = lacking[0].archive or next_one
        yield error(
            "newest",
            _("the newest backup of {target} is not restorable here: it needs {needs}"),
            "{remedy}",
            **facts,
            needs=lacking[0].needs,
            remedy=remedy(archive, destination),
        )
    elif lacking:
        yield warning(
            "older",
            _("older backups of {target} are not restorable here: {count}, first {backup}"),
            _("see what each needs with `pgben list`"),
            **facts,
            count=len(lacking),
            backup=lacking[0].id,
        )
    needed = missing_client(next_one, destination, site.clients)
    if needed is not None:
        yield error(
            "next",
            _("a dump of {target} by clients {version} could not be restored: it needs {needs}"),
            "{remedy}",
            **facts,
            version=found.tools.version,
            needs=needed,
            remedy=remedy(next_one, destination),
        )
        return
    for name, clients in installation.work.workers.clients_by_worker().items():
        own = missing_client(next_one, destination, clients)
        if own is not None:
            yield warning(
                "unfit",
                _("'{worker}' cannot restore {target}, and a restore that it takes fails: {needs}"),
                _("install the same clients on every restore worker"),
                **facts,
                worker=name,
                needs=own,
            )
    if not lacking and site.clients is not None:
        yield ok(_("dumps of {target} can be restored by the restore workers' clients"), **facts)


def holes(installation: Installation) -> Iterator[Result]:
    """Check for releases with known holes, of servers and of client programs."""
    # A server with several databases, and clients that serve several servers, are told once.
    releases = dict.fromkeys(
        release
        for target, found in installation.servers.items()
        for release in (
            ("server", str(installation.addresses[target]), found.server_version),
            ("client", str(found.tools.pg_dump.parent), found.tools.version),
        )
    )
    texts = {
        "server": (
            _("the server {where} is PostgreSQL {version}, which has {hole}"),
            _("upgrade it to {mended} or newer"),
        ),
        "client": (
            _("the client programs in '{where}' are of {version}, which has {hole}"),
            _("upgrade them to {mended} or newer"),
        ),
    }
    found_one = False
    for what, where, version in releases:
        for name, mended in known_holes(version).items():
            found_one = True
            facts = {"where": where, "version": version, "hole": name, "mended": mended}
            yield warning(what, *texts[what], **facts)
    if releases and not found_one:
        yield ok(_("no release with a known hole is in use"))
    yield from installation.unexamined()
    if installation.settings.bucket_targets():
        yield unseen(
            _("servers of buckets do not say their release"),
            _("compare it with the notes of its maker"),
            [installation.settings.minio_url],
        )


def clocks(installation: Installation) -> Iterator[Result]:
    """Check that this machine, the catalog and the servers that are protected agree on the time."""
    ahead = _clocks(installation)
    apart = {server: by for server, by in ahead.items() if abs(by) > _APART}
    for clock, by in apart.items():
        yield error(
            "apart",
            _("the clock of {server} is {seconds} s ahead of this machine's"),
            _("run NTP on every machine (chrony, systemd-timesyncd)"),
            server=clock,
            seconds=round(by.total_seconds()),
        )
    if ahead and not apart:
        yield ok(
            _("the clocks agree to within {seconds} s"),
            seconds=f"{max(abs(by) for by in ahead.values()).total_seconds():.1f}",
        )
    silent = [
        target for target, server in installation.addresses.items() if str(server) not in ahead
    ]
    if silent:
        yield unseen(_("the server does not answer as it should"), MEND_FIRST, silent)
    if installation.settings.minio_url not in ahead:
        yield from installation.unexamined_buckets()


def _clocks(installation: Installation) -> dict[str, timedelta]:
    """Return how far the clocks of servers are ahead, of those that tell; their checks say why."""
    database = installation.work.database
    asked: dict[PostgresServer, str] = {}
    if installation.catalog_fault is None:
        asked[database.server] = database.name
    for target in sorted(installation.examined, key=lambda one: one not in installation.servers):
        if not isinstance(installation.examined[target], DatabaseUnavailable):
            asked.setdefault(installation.addresses[target], target.name)
    ahead: dict[str, timedelta] = {}
    for server, name in asked.items():
        with suppress(PgbenError):
            ahead[str(server)] = inspect_server(server, name).ahead
    for facts in installation.bucket_facts.values():
        if facts.ahead is not None:
            ahead[installation.settings.minio_url] = facts.ahead
    return ahead

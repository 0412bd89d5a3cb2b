"""What is at the servers of a new site already, and what of it a bootstrap has made itself.

Nothing here writes to a server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from pgben_tasks import runtime
from pgben_tasks.adapters.catalog.index import BackupIndex
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.postgres.server import list_databases
from pgben_tasks.domain.job import Job
from pgben_tasks.operations.points.restore import PART
from pgben_tasks.runtime.places import bucket_at
from pgben_tasks.settings import Settings

#: A bootstrap has two for each database and bucket.
_JOBS: Final = 10_000
#: How many names of what is in the way are shown.
_SHOWN: Final = 5


class Obstacle(NamedTuple):
    """What stands in the way of a bootstrap, and what to do about it."""

    sentence: str
    hint: str


def job_key(repository: str, point: str = "") -> str:
    """Return the key of the restore of a point that a bootstrap asks for, or how all begin."""
    return f"bootstrap:{repository}:{point}"


def inspect_catalog(settings: Settings, repository: str) -> tuple[Job | None, list[Obstacle]]:
    """Return the restore of a bootstrap that was begun with this catalog, or what is wrong."""
    database = runtime.catalog_database(settings, patience=runtime.PATIENCE)
    if not database.exists() or database.is_blank():
        return None, []
    ledger, name = Ledger(database), f"'{database.name}' at {database.server}"
    if database.is_current():
        jobs = ledger.jobs(limit=_JOBS)
        begun = next((one for one in jobs if one.key.startswith(job_key(repository))), None)
        if begun is not None:
            return begun, [] if begun.state == "succeeded" else list(_of_others(jobs, repository))
        if not jobs and not BackupIndex(database, repository).known():
            # One that was interrupted before it wrote anything.
            return None, []
    return None, [
        Obstacle(
            f"the database {name} is there already, and it is no catalog of a bootstrap that was "
            "begun",
            "an installation that lost less than everything goes on with `pgben catalog rebuild` "
            "and `pgben restore --all`; else name another catalog in PGBEN_CATALOG_URL",
        )
    ]


def _of_others(jobs: Sequence[Job], repository: str) -> Iterator[Obstacle]:
    """Yield what stands against going on where the installation is in use by now."""
    others = [
        one for one in jobs if not one.key.startswith(job_key(repository)) and PART not in one.key
    ]
    if others:
        yield Obstacle(
            "a bootstrap that did not end well was begun with this catalog, and other jobs were "
            f"asked for since, the last a {others[0].kind} of '{others[0].target}'",
            "what is in use is not replaced: stop the workers and beat, then go on with "
            "`pgben restore --all`, or with single targets",
        )


def not_empty(settings: Settings, *, begun: bool) -> list[Obstacle]:
    """Return what is at the new servers already; what a ``begun`` bootstrap made is not meant.

    Raises ``TransientError`` for a server that is away, ``ConfigurationError`` for credentials.
    """
    return [*_databases(settings, begun=begun), *_buckets(settings, begun=begun)]


def _own_databases(settings: Settings, *, begun: bool) -> Callable[[str], bool]:
    """Return what says whether a database is the catalog, or of a bootstrap that was begun."""
    own = {runtime.catalog_database(settings).name} if is_catalog_beside(settings) else set()
    if not begun:
        return own.__contains__
    own |= set(settings.db_name)
    endings = ("restored", "replaced")
    made = tuple(f"{name}_{ending}_" for name in settings.db_name for ending in endings)
    return lambda name: name in own or name.startswith(("pgben_unfinished_", *made))


def _own_buckets(settings: Settings, *, begun: bool) -> Callable[[str], bool]:
    """Return what says whether a bucket is the repository's, or of a bootstrap that was begun."""
    own: set[str] = set()
    if settings.repository.startswith("s3://"):
        place = runtime.s3_location(settings)
        own |= {place.bucket} if place.endpoint == settings.minio_url else set()
    if not begun:
        return own.__contains__
    own |= set(settings.buckets)
    made = tuple(f"{name}-" for name in settings.buckets)
    return lambda name: name in own or name.startswith(made)


def is_catalog_beside(settings: Settings) -> bool:
    """Return whether the catalog is on the server of the databases."""
    catalog = runtime.catalog_database(settings).server
    return (catalog.host, catalog.port) == (settings.db_host, settings.db_port)


def _databases(settings: Settings, *, begun: bool) -> Iterator[Obstacle]:
    server = replace(runtime.first_server(settings), patience=runtime.PATIENCE)
    yield from _not_empty(
        f"the PostgreSQL server '{server}'",
        "databases",
        list_databases(server),
        _own_databases(settings, begun=begun),
    )


def _buckets(settings: Settings, *, begun: bool) -> Iterator[Obstacle]:
    bucket = bucket_at(settings, settings.buckets[0], patience=runtime.PATIENCE)
    yield from _not_empty(
        f"the S3 server '{settings.minio_url}'",
        "buckets",
        bucket.neighbours(),
        _own_buckets(settings, begun=begun),
    )


def _not_empty(
    server: str, what: str, found: Iterable[str], is_ours: Callable[[str], bool]
) -> Iterator[Obstacle]:
    names = [f"'{name}'" for name in found if not is_ours(name)]
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield Obstacle(
            f"{server} is not empty: it has the {what} {', '.join(names[:_SHOWN])}{more}",
            "a bootstrap begins with new servers; to restore beside what there is, set "
            "PGBEN_TRUSTED_KEYS_FILE and use `pgben restore`",
        )

"""What `pgben bootstrap` looks at before it changes anything: a repository and two empty servers.

Beside ``direct`` in the layers. Nothing here writes to a server or to the repository.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pgben_tasks import runtime
from pgben_tasks.adapters.keys import key_set
from pgben_tasks.adapters.keys.age import parse_identities, public_halves
from pgben_tasks.adapters.keys.files import write_new_file, write_trusted_keys
from pgben_tasks.adapters.keys.key_set import OPERATIONS_IDENTITY, TRUSTED_KEYS
from pgben_tasks.adapters.repository.public_keys import trusted_from_repository
from pgben_tasks.contracts import RestoreAllRequest
from pgben_tasks.direct.place import DirectPlace
from pgben_tasks.domain.documents import PublicKeys, TrustedKey
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.plan import RestorePlan
from pgben_tasks.domain.points import KnownPoint, choose_point
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.operations.points.plan import plan_of_point
from pgben_tasks.operations.repository.points import surveyed_points
from pgben_tasks.ports import Repository
from pgben_tasks.settings import Settings
from pgben_tasks.setup import new_servers
from pgben_tasks.setup.new_servers import Obstacle, is_catalog_beside, job_key

#: Settings about what the repository decides, or what the keys' folder will hold.
DECIDED: Final = frozenset(
    {
        "PGBEN_DB_NAME",
        "PGBEN_BUCKETS",
        "PGBEN_AGE_RECIPIENTS",
        "PGBEN_AGE_IDENTITY_FILE",
        "PGBEN_INVENTORY_IDENTITY_FILE",
        "PGBEN_SIGNING_KEY_FILE",
        "PGBEN_TRUSTED_KEYS_FILE",
    }
)
_REFERENCES: Final = "PGBEN_REFERENCES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a person brings to a new site.

    ``environment`` are settings, with their secrets, about the repository and the new servers;
    ``identity`` is the text of an identity file, ``fingerprint`` that of the recovery card.
    ``keys`` is the folder for the keys, ``wanted`` the recovery point, None for the newest verified
    one.
    """

    environment: Mapping[str, str] = field(repr=False)
    identity: str = field(repr=False)
    fingerprint: str
    keys: Path
    wanted: BackupId | datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSite:
    """What was found: ``settings`` protect what the recovery point has, and have no keys yet.

    ``opened_by`` are the purposes of the identity, ``passed_over`` newer points with the reason why
    none of them is taken, ``roles`` those that databases of the point need. ``job`` is the restore
    of a bootstrap that was begun before.
    """

    answers: Answers
    environment: Mapping[str, str] = field(repr=False)
    settings: Settings
    known: PublicKeys
    opened_by: tuple[str, ...]
    point: BackupId
    plan: RestorePlan
    passed_over: Mapping[str, str]
    roles: tuple[str, ...]
    job: Job | None
    obstacles: tuple[Obstacle, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every database and bucket that comes back."""
        return tuple(dict.fromkeys(one.target.name for one in self.plan.parts))

    @property
    def catalog_beside(self) -> bool:
        """Whether the catalog goes to the server of the databases."""
        return is_catalog_beside(self.settings)


def inspect(answers: Answers) -> NewSite:
    """Look at everything that a bootstrap needs; nothing is changed.

    What stands in the way at the new servers is in ``obstacles``. Raises ``ConfigurationError`` for
    answers that are wrong, ``BackupNotFound`` and ``RestoreRefused`` when there is nothing to
    restore, ``TransientError`` for a server that is away.
    """
    environment = _own_settings(answers.environment)
    without_names = {name: text for name, text in environment.items() if name != _REFERENCES}
    first = Settings.load(without_names)
    _require_one_server(first)
    known = trusted_from_repository(runtime.open_store(first), answers.fingerprint)
    opened_by = _opened_by(answers.identity, known)
    adopted = key_set.read_adopted(answers.keys.absolute(), known)
    # What a bootstrap before has signed is believed, too.
    trusted = known.keys if adopted is None else adopted.trusted
    with _temporary_keys(answers.identity, known, trusted) as keys:
        repository = DirectPlace(Settings.load({**without_names, **keys})).repository
        job, against = new_servers.inspect_catalog(first, known.repository)
        point, passed_over = _choose(repository, answers.wanted, job)
        environment |= _members(point)
        settings = Settings.load(environment)
        against += new_servers.not_empty(settings, begun=job is not None)
        with DirectPlace(Settings.load({**environment, **keys})).tools() as tools:
            plan = plan_of_point(point, tools)
    manifests = [
        repository.manifest(Target.parse(one.target), BackupId.parse(one.backup))
        for one in point.members
    ]
    if job is None:
        against += _against_the_plan(plan)
    elif job.state == "succeeded" and job.key != job_key(known.repository, str(point.id)):
        against.append(
            Obstacle(
                "a bootstrap to these servers has ended well, with another recovery point",
                "the installation is there: `pgben restore --all` brings other points back",
            )
        )
    return NewSite(
        answers=answers,
        environment=environment,
        settings=settings,
        known=known,
        opened_by=opened_by,
        point=point.id,
        plan=plan,
        passed_over=passed_over,
        roles=tuple(
            sorted({role for one in manifests if one.postgres for role in one.database.roles})
        ),
        job=job,
        obstacles=tuple(against),
    )


def _own_settings(given: Mapping[str, str]) -> dict[str, str]:
    """Return the settings with secrets in place of the files that hold them."""
    texts = Settings.texts({name: text for name, text in given.items() if name not in DECIDED})
    return dict(texts)


def _require_one_server(settings: Settings) -> None:
    if settings.servers_file is not None:
        raise ConfigurationError(
            "PGBEN_SERVERS_FILE is set, and a bootstrap brings every database to one server",
            "take it out of the environment; databases can be moved to further servers later",
        )


def _opened_by(identity: str, known: PublicKeys) -> tuple[str, ...]:
    """Return for which recipients the identity stands; raise when it opens nothing."""
    held = public_halves(parse_identities(identity, "--identity"))
    found = tuple(name for name, public in known.recipients.items() if public in held)
    if not found:
        names = ", ".join(f"'{name}'" for name in known.recipients)
        raise ConfigurationError(
            f"the identity opens none of these backups: they are sealed to {names}, and it is the "
            "secret half of neither",
            "give the escrow key, or the operations key, of this installation; the recovery card "
            "shows the public half of each, and `age-keygen -y FILE` that of an identity",
        )
    return found


@contextmanager
def _temporary_keys(
    identity: str, known: PublicKeys, trusted: Sequence[TrustedKey]
) -> Iterator[dict[str, str]]:
    """Yield settings that name files with the identity and the trusted keys, removed at the end."""
    with TemporaryDirectory(prefix="pgben-bootstrap-") as name:
        folder = Path(name)
        write_new_file(folder / OPERATIONS_IDENTITY, f"{identity.rstrip()}\n")
        write_trusted_keys(folder / TRUSTED_KEYS, trusted)
        yield {
            "PGBEN_AGE_RECIPIENTS": ",".join(known.recipients.values()),
            "PGBEN_AGE_IDENTITY_FILE": str(folder / OPERATIONS_IDENTITY),
            "PGBEN_TRUSTED_KEYS_FILE": str(folder / TRUSTED_KEYS),
        }


def _choose(
    repository: Repository, wanted: BackupId | datetime | None, begun: Job | None
) -> tuple[KnownPoint, dict[str, str]]:
    """Return the recovery point, and the newer ones that are not taken with their states.

    Unless another is ``wanted``, it is that of a bootstrap that was ``begun`` while it is whole.
    """
    found = surveyed_points(repository)
    if wanted is None and begun is not None:
        before = RestoreAllRequest.parse(begun.request).point
        if any(one.good for one in found.points if str(one.id) == before):
            wanted = BackupId.parse(before)
    point = choose_point(found.points, wanted)
    passed = {str(one.id): one.state for one in found.points if one.id > point.id and not one.good}
    passed |= {str(one): "cannot be believed" for one, _ in found.unreadable if one > point.id}
    return point, dict(sorted(passed.items()))


def _members(point: KnownPoint) -> dict[str, str]:
    """Return the settings that protect what a recovery point has."""
    targets = [Target.parse(one.target) for one in point.members]
    kinds = {"PGBEN_DB_NAME": "postgres", "PGBEN_BUCKETS": "bucket"}
    return {
        name: ",".join(target.name for target in targets if target.kind == kind)
        for name, kind in kinds.items()
    }


def _against_the_plan(plan: RestorePlan) -> Iterator[Obstacle]:
    """Yield what stands against the restore; one that was begun meets its own copies there."""
    for what in dict.fromkeys(plan.obstacles_in_place):
        yield Obstacle(
            what, "correct it at the new server, or name another one; nothing was changed"
        )


def as_json(site: NewSite) -> dict[str, Any]:
    """Return what was found as plain JSON."""
    plan = site.plan.to_json()
    return {
        "repository": site.known.repository,
        "identity": list(site.opened_by),
        "point": plan["point"],
        "moment": plan["moment"],
        "passed_over": dict(site.passed_over),
        "parts": plan["parts"],
        "roles": list(site.roles),
        "postgres": str(runtime.first_server(site.settings)),
        "s3": site.settings.minio_url,
        "catalog": str(runtime.catalog_database(site.settings).server),
        "catalog_beside": site.catalog_beside,
        "spool_needed_bytes": plan["spool_needed_bytes"],
        "spool_free_bytes": plan["spool_free_bytes"],
        "goes_on": site.job is not None,
        "obstacles": [{"sentence": one.sentence, "hint": one.hint} for one in site.obstacles],
    }

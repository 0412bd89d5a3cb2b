"""Redis, workers, the catalog and the protected server are gone; repository and keys are left."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from pgben_tasks import runtime
from pgben_tasks.adapters.keys.key_set import ESCROW_IDENTITY
from pgben_tasks.embedded.data.compare import contents
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.operations.repository.rebuild import read_trail
from pgben_tasks.operations.toolbox import NoProgress
from pgben_tasks.ports import ObjectStore
from pgben_tasks.settings import Settings
from tests.support.commands import Ran
from tests.support.deployment import DATABASE, TARGET, Deployment, plain_dump

pytestmark = pytest.mark.unmeasured

#: All that a person brings to a new site, beside the address of its server.
KEPT = (
    "PGBEN_REPOSITORY",
    "PGBEN_REPOSITORY_ENDPOINT",
    "PGBEN_REPOSITORY_ACCESS_KEY",
    "PGBEN_REPOSITORY_SECRET_KEY",
    "PGBEN_TRUSTED_KEYS_FILE",
    "PGBEN_REDIS_URL",
    "PGBEN_CATALOG_URL",
    "PGBEN_DB_NAME",
)


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with Deployment.build(PGBEN_PACK_SIZE="256KiB") as built:
        yield built


def backup_of(ran: Ran) -> str:
    (job,) = ran.json["jobs"]
    return str(job["backup"])


def states(ran: Ran) -> dict[str, tuple[str, str | None]]:
    """Return the state and the suspicion of every backup of a listing."""
    assert ran.code == 0, ran.err
    return {one["backup"]: (one["state"], one["suspect"]) for one in ran.json["backups"]}


def damage(store: ObjectStore, key: str) -> None:
    """Flip the last bit of a stored object."""
    data = b"".join(store.stream(key))
    store.delete(key)
    store.put(key, data[:-1] + bytes([data[-1] ^ 1]))


def text_of(server: EmbeddedPostgres) -> list[str]:
    """Dump the database as text; the roles of a policy come in the order of their OIDs there."""

    def ordered(match: re.Match[str]) -> str:
        return f" TO {', '.join(sorted(match[1].split(', ')))} USING"

    return [
        re.sub(r" TO ([\w, ]+) USING", ordered, line) if line.startswith("CREATE POLICY") else line
        for line in plain_dump(server, DATABASE)
    ]


def server_settings(server: EmbeddedPostgres) -> Mapping[str, str]:
    return {
        "PGBEN_DB_HOST": server.host,
        "PGBEN_DB_PORT": str(server.port),
        "PGBEN_DB_USER": server.user,
        "PGBEN_DB_PASS": server.password,
    }


@pytest.mark.timeout(280)
def test_repository_and_keys_bring_back_the_database_and_then_the_catalog(
    deployment: Deployment,
) -> None:
    worker = deployment.start("all", name="worker")
    damaged = backup_of(deployment.pgben("backup", DATABASE, "--json"))
    good = backup_of(deployment.pgben("backup", DATABASE, "--json"))
    rows = contents(deployment.stack.postgres.dsn(), DATABASE)
    text = text_of(deployment.stack.postgres)
    with deployment.stack.postgres.connect(DATABASE) as connection:
        connection.execute("TRUNCATE cidadao CASCADE")
    shrunk = deployment.pgben("backup", DATABASE, "--json")
    assert shrunk.code == 4, shrunk.err
    suspect = backup_of(shrunk)
    store = runtime.open_store(deployment.work.settings)
    damage(store, next(pack for pack in deployment.stored_packs() if f"/{damaged}/" in pack))
    assert deployment.pgben("verify", "--level", "full").code == 5
    # One whose worker died between commit and read-back: nobody ever said a word about it.
    unverified = backup_of(deployment.pgben("backup", DATABASE, "--json"))
    for said in list(store.list(f"verifications/{TARGET}/{unverified}/")):
        store.delete(said.key)
    deployment.work.trail.store_missing()
    numbers = {
        str(one): deployment.work.repository.manifest(TARGET, one).sequence
        for one in deployment.work.repository.backups(TARGET)
    }
    assert sorted(numbers.values()) == [1, 2, 3, 4]

    worker.send(signal.SIGKILL, tree=True)
    for lost in (deployment.stack.redis, deployment.catalog, deployment.stack.postgres):
        lost.kill()
    site = EmbeddedPostgres.start(supervisor=deployment.stack.supervisor)
    bare = replace(
        deployment,
        environment={
            **{name: deployment.environment[name] for name in KEPT},
            **server_settings(site),
            "PGBEN_AGE_IDENTITY_FILE": str(deployment.stack.folder / "keys" / ESCROW_IDENTITY),
            "PGBEN_SPOOL_DIR": str(deployment.stack.folder / "new-spool"),
        },
    )

    restored = bare.pgben("restore", DATABASE, "--direct", "--into", DATABASE, "--json")

    assert restored.code == 0, restored.err
    assert backup_of(restored) == good
    assert contents(site.dsn(), DATABASE) == rows
    assert text_of(site) == text
    direct = states(bare.pgben("list", "--direct", "--json"))

    # A new Redis and a new, empty server for the catalog; keys and repository are the old ones.
    deployment.stack.redis.restart()
    environment = {
        **deployment.environment,
        **server_settings(site),
        "PGBEN_CATALOG_URL": site.url("pgben_catalog"),
        "PGBEN_SPOOL_DIR": str(deployment.stack.folder / "new-spool"),
        "PGBEN_NODE": "node-b",
    }
    anew = replace(
        deployment, environment=environment, work=runtime.Workplace(Settings.load(environment))
    )
    rebuilt = anew.pgben("catalog", "rebuild", "--json")

    assert rebuilt.code == 0, rebuilt.err
    shown = states(anew.pgben("list", "--json"))
    assert {backup: state for backup, (state, _) in shown.items()} == {
        damaged: "damaged",
        good: "verified",
        suspect: "verified",
        unverified: "unverified",
    }
    assert shown == direct
    assert shown[suspect][1] is not None
    assert shown[good][1] is None

    anew.start("all", name="worker-anew")
    next_one = anew.pgben("backup", DATABASE, "--json")
    assert next_one.code == 0, next_one.err
    assert next_one.json["jobs"][0]["result"]["sequence"] == 5
    assert states(anew.pgben("list", "--json"))[backup_of(next_one)] == ("verified", None)
    anew.work.trail.store_missing()
    trail = read_trail(anew.work.repository, NoProgress())
    assert trail.findings == ()
    actions = [entry.action for entry in trail.entries]
    begun = actions.index("catalog rebuild")
    assert begun == rebuilt.json["audit"]["taken_up"] > 0
    assert actions[begun:] == ["catalog rebuild", "backup", "statement", "backup"]

"""What the version before wrote is verified, restored and brought to its end by this one."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty
from typing import Any, Final
from uuid import UUID

import pytest
from psycopg import sql

from pgben_tasks import runtime
from pgben_tasks.adapters.postgres import clients as pg_clients
from pgben_tasks.adapters.postgres.destination import PostgresDestination
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON, request_model
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.job import Job, JobKind
from pgben_tasks.domain.target import Target
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.operations.toolbox import NoProgress, Toolbox
from pgben_tasks.runtime import process
from pgben_tasks.settings import Settings
from pgben_tasks.setup.initialise import InitResult, initialise
from pgben_tasks.tasks import reconciler
from tests.support.memory_bucket import MemoryBucket
from tests.support.timetables import NOTHING_SCHEDULED

FIXTURE: Final = Path(__file__).parents[1] / "fixtures" / "upgrade"
FACTS: Final[dict[str, Any]] = json.loads((FIXTURE / "facts.json").read_text("utf-8"))
DATABASE: Final = Target("postgres", "prefeitura")
BUCKET: Final = Target("bucket", "pgben-documents")
NODE: Final = "node-a"


def backups_of(target: Target) -> list[dict[str, Any]]:
    """Return the verified backups of a target, with what it held when each was made."""
    return [one for one in FACTS["backups"] if one["target"] == str(target) and one["id"]]


@dataclass
class Upgraded:
    """The old installation in a folder of its own, after `pgben init` of this version."""

    server: EmbeddedPostgres
    work: runtime.Workplace
    tools: Toolbox = field(repr=False)
    made: InitResult
    #: Every row of jobs and backups, before and after.
    before: dict[str, list[Any]]
    after: dict[str, list[Any]]
    #: The state of each job, after.
    jobs: Mapping[str, str]

    def run(self, kind: JobKind, request: JSON, *, tools: Toolbox | None = None) -> Job:
        """Run a whole chain in this process."""
        asked = {"requested_by": "test", **request}
        job = in_process.new_job(
            kind,
            request_model(kind, request["target"]).parse(asked),
            target=request["target"],
            node=NODE,
            now=datetime.now(UTC),
            context={"into": request["into"]} if "into" in request else {},
        )
        used = tools or self.tools
        row = in_process.MemoryRow(job, used.clock)
        return in_process.Chain(row, used, NoProgress()).run()


@pytest.fixture(scope="module")
def upgraded(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upgraded]:
    folder = tmp_path_factory.mktemp("upgrade")
    for part in ("keys", "repository", "spool"):
        shutil.copytree(FIXTURE / part, folder / part)
    for path in folder.rglob("*"):
        # Git keeps no modes, and keys that everybody may read are refused.
        path.chmod(0o700 if path.is_dir() else 0o600)
    catalog = f"upgrade_{secrets.token_hex(6)}"
    with postgres.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(catalog)))
    with postgres.connect(catalog) as connection:
        connection.execute((FIXTURE / "catalog.sql").read_bytes())
        before = rows_of(connection)
    environment = {
        "PGBEN_DB_HOST": postgres.host,
        "PGBEN_DB_PORT": str(postgres.port),
        "PGBEN_DB_USER": postgres.user,
        "PGBEN_DB_PASS": postgres.password,
        "PGBEN_DB_NAME": DATABASE.name,
        "PGBEN_CATALOG_URL": postgres.url(catalog),
        "PGBEN_REPOSITORY": f"file://{folder / 'repository'}",
        "PGBEN_SPOOL_DIR": str(folder / "spool"),
        "PGBEN_BACKUP_DIR": str(folder / "history"),
        "PGBEN_NODE": NODE,
        **NOTHING_SCHEDULED,
    }
    made = initialise(
        Settings.load(environment),
        keys_folder=folder / "keys",
        roles="single",
        now=datetime.now(UTC),
    )
    work = runtime.Workplace(Settings.load({**made.environment, **environment}))
    client = pg_clients.inspect_client(postgres.bin_dir, "bundled")
    assert client is not None
    address = runtime.postgres_servers(work.settings)[DATABASE]
    tools = replace(
        work.tools,
        protected=frozenset({DATABASE, BUCKET}),
        destinations={DATABASE: PostgresDestination(address, candidates=(client,))},
    )
    with postgres.connect(catalog) as connection:
        after = rows_of(connection, before)
    jobs = {str(job.id): job.state for job in work.ledger.jobs(limit=100)}
    yield Upgraded(postgres, work, tools, made, before, after, jobs)
    tools.codec.close()  # type: ignore[attr-defined]  # the real codec has children
    drop(postgres, catalog)


@pytest.fixture
def copy(postgres: EmbeddedPostgres) -> Iterator[str]:
    name = f"copy_{secrets.token_hex(6)}"
    yield name
    drop(postgres, name)


@pytest.fixture
def broker_in_memory(upgraded: Upgraded) -> Iterator[None]:
    """Let tasks of this process work in the old installation, with a broker in memory."""
    app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    process._workplace = upgraded.work
    yield
    for queue in ("backup", "verify", "maintenance", f"backup.{NODE}"):
        messages(queue)
    runtime.forget()


def drop(server: EmbeddedPostgres, name: str) -> None:
    with server.connect() as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


def rows_of(connection: Any, like: dict[str, list[Any]] | None = None) -> dict[str, list[Any]]:
    """Return every row of jobs and backups; only the columns that the rows of ``like`` have."""
    tables = ("job", "attempt", "step", "lease", "backup", "backup_sequence", "audit")
    connection.execute("SET search_path = public")
    found = {}
    for table in tables:
        query = f"SELECT to_jsonb(t) FROM {table} t"  # noqa: S608 - constant names
        rows = [row for (row,) in connection.execute(query).fetchall()]
        known = {name for row in (like or {}).get(table, rows) for name in row}
        found[table] = sorted(({k: row[k] for k in known} for row in rows), key=repr_of)
    return found


def repr_of(row: dict[str, Any]) -> str:
    """Return a text by which rows are sorted."""
    return json.dumps(row, sort_keys=True)


def messages(queue: str) -> list[Any]:
    """Take every message from a queue."""
    found: list[Any] = []
    with app.connection() as connection, connection.SimpleQueue(queue) as waiting:
        while True:
            try:
                message = waiting.get_nowait()
            except Empty:
                return found
            message.ack()
            found.append(message)


def sent(queue: str, task: str) -> list[Any]:
    """Return the bodies of a task's messages; a tick of a later day sends others as well."""
    return [one.payload for one in messages(queue) if one.headers["task"] == task]


def test_init_keeps_every_job_backup_and_audit_entry(upgraded: Upgraded) -> None:
    assert upgraded.work.database.is_current()
    assert not upgraded.made.catalog_lost
    entries = upgraded.after["audit"]
    keys = [row for row in entries if row["action"] == "keys"]
    assert [row["detail"] for row in keys] == [f"keys/{upgraded.made.public_keys}.json"]
    kept = {**upgraded.after, "audit": [row for row in entries if row not in keys]}
    assert kept == upgraded.before
    assert upgraded.jobs == FACTS["jobs"]
    assert set(upgraded.jobs.values()) == {
        "succeeded",
        "refused",
        "cancelled",
        "queued",
        "waiting",
    }


@pytest.mark.parametrize("target", [DATABASE, BUCKET], ids=str)
def test_every_stored_byte_is_verified(upgraded: Upgraded, target: Target) -> None:
    result = upgraded.run("verify", {"target": str(target), "level": "full"}).result
    assert (result["state"], result["findings_total"]) == ("clean", 0)
    packs = (FIXTURE / "repository" / "packs" / target.kind).rglob("*.age")
    assert result["bytes_read"] >= sum(path.stat().st_size for path in packs) > 0


@pytest.mark.parametrize("backup", backups_of(DATABASE), ids=lambda one: one["id"])
def test_a_database_is_restored_row_by_row(
    upgraded: Upgraded, copy: str, backup: dict[str, Any]
) -> None:
    upgraded.run("restore", {"target": str(DATABASE), "backup": backup["id"], "into": copy})
    with upgraded.server.connect(copy) as connection:
        for table, rows in backup["held"].items():
            found = connection.execute(
                sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(table))
            )
            assert sorted(row[0] for row in found) == sorted(rows), table


@pytest.mark.parametrize("backup", backups_of(BUCKET), ids=lambda one: one["id"])
def test_a_bucket_is_restored_with_metadata_and_tags(
    upgraded: Upgraded, backup: dict[str, Any]
) -> None:
    copy = MemoryBucket("copia")
    tools = replace(
        upgraded.tools,
        buckets={BUCKET: MemoryBucket(BUCKET.name)},
        other_bucket=lambda _name: copy,
    )
    upgraded.run(
        "restore",
        {"target": str(BUCKET), "backup": backup["id"], "into": "copia"},
        tools=tools,
    )
    assert {key: object_of(copy, key) for key in keys_of(copy)} == backup["held"]


def keys_of(bucket: MemoryBucket) -> list[str]:
    return [one.key for one in bucket.list()]


def object_of(bucket: MemoryBucket, key: str) -> dict[str, Any]:
    with bucket.fetch(key) as got:
        text = b"".join(got.chunks).decode()
        facts = got.facts
    return {
        "text": text,
        "content_type": dict(facts.headers).get("content-type"),
        "metadata": dict(facts.metadata),
        "tags": dict(bucket.tags(key)),
    }


@pytest.mark.usefixtures("broker_in_memory")
def test_the_waiting_job_goes_on_at_its_step_and_ends_verified(upgraded: Upgraded) -> None:
    work = upgraded.work
    job = UUID(FACTS["waiting"])
    assert work.ledger.job(job).step == "pgben.backup.postgres.prune"
    # The worker of the new version starts on the node of the old one, whose spool is there.
    work.workers.register([f"backup.{NODE}", f"maintenance.{NODE}"])
    assert reconciler.tick(work, app)["taken_over"] == 1
    ((arguments, _, links),) = sent("maintenance", "pgben.backup.postgres.prune")
    (ref,) = arguments
    ref = app.tasks["pgben.backup.postgres.prune"].apply(args=(ref,), throw=True).get()
    assert [link["task"] for link in links["chain"]] == ["pgben.backup.postgres.record"]
    outcome = app.tasks["pgben.backup.postgres.record"].apply(args=(ref,), throw=True).get()
    assert (outcome["state"], outcome["result"]["state"]) == ("succeeded", "verified")
    ended = work.ledger.job(job)
    assert (ended.state, ended.attempt) == ("succeeded", 1)
    assert not (work.tools.spool / "jobs" / str(job)).exists()
    states = {one.id: one.state for one in work.index.backups(DATABASE)}
    assert states[str(ended.backup)] == "verified"


@pytest.mark.usefixtures("broker_in_memory")
def test_the_queued_job_is_sent_again_and_ends(upgraded: Upgraded) -> None:
    work = upgraded.work
    with work.database.transaction() as cursor:
        # A message that is younger than this is not sent again yet.
        cursor.execute(
            "UPDATE job SET published_at = NULL, created_at = created_at - interval '1 hour'"
            " WHERE id = %s",
            (FACTS["queued"],),
        )
    reconciler.tick(work, app)
    ((arguments, _, _),) = sent("verify", "pgben.verify.run")
    outcome = app.tasks["pgben.verify.run"].apply(args=arguments, throw=True).get()
    assert (outcome["job"], outcome["state"]) == (FACTS["queued"], "succeeded")

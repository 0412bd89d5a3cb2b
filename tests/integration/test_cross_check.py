"""Rows and objects of a recovery point are compared, and each planted fault is told, no other."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.keys.key_set import INVENTORY_IDENTITY
from pgben_tasks.adapters.packs.codec import AgeObjectCodec
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.adapters.s3.errors import BUCKET_HINTS
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.direct.chain import Chain
from pgben_tasks.domain.alarm import alarm_of_job
from pgben_tasks.domain.documents import CrossCheck, Manifest, RecoveryPoint
from pgben_tasks.domain.references import Fault, Reference
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.embedded.data.documents import BucketClient, Cipher, store
from pgben_tasks.embedded.data.fill import fill
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import IntegrityError, StepWaits
from pgben_tasks.operations.points import form
from pgben_tasks.operations.points.check import open_faults
from pgben_tasks.operations.toolbox import NoProgress, Run
from pgben_tasks.settings import Settings
from tests.support.bucketshop import TARGET as BUCKET, BucketShop
from tests.support.pointshop import PointShop
from tests.support.troubled_bucket import TroubledBucket
from tests.support.workshop import Workshop

#: More than there are rows.
EVERY_DOCUMENT = 10_000
NEEDS = ("iv", "hash")
READY = Path(__file__).parents[2] / "deploy" / "references" / "pgben.toml"


def reference(name: str = "documento", **fields: Any) -> Reference:
    values: dict[str, Any] = {
        "name": name,
        "database": "postgres",
        "bucket": BUCKET.name,
        "table": "plat.documento",
        "key": "caminho",
        "row": "id",
        "size": "tamanho",
        "hash": "hash_arquivo",
        "hash_in": "hash",
        "where": "removed_at IS NULL",
        "needs": NEEDS,
    }
    return Reference.model_validate({**values, **fields})


@dataclass
class Platform:
    """A table whose rows name objects of a bucket, and recovery points of both."""

    points: PointShop

    @property
    def bucket(self) -> BucketShop:
        return self.points.buckets

    def use(self, *references: Reference) -> None:
        self.points.tools = replace(self.points.tools, references=references)

    def execute(self, statement: str, *values: object) -> None:
        with self.bucket.shop.server.connect("postgres") as connection:
            connection.execute(statement.encode(), values)

    def execute_in(self, statement: str, *values: object) -> None:
        """Execute a statement in the protected database."""
        with self.bucket.shop.server.connect(self.bucket.shop.target.name) as connection:
            connection.execute(statement.encode(), values)

    def add(self, key: str, data: bytes, **metadata: str) -> None:
        """Store a document and its row as the platform does."""
        digest = hashlib.sha256(b"plain " + data).hexdigest()
        known = {"iv": "0f", "hash": digest, **metadata}
        self.bucket.put(key, data, metadata={name: one for name, one in known.items() if one})
        self.execute(
            "INSERT INTO plat.documento (caminho, tamanho, hash_arquivo) VALUES (%s, %s, %s)",
            *(key, len(data), digest.upper()),
        )

    def form(self) -> tuple[CrossCheck | None, dict[str, Any]]:
        chain = self.points.chain()
        point = self.points.form(chain)
        return point.check, chain.job.result

    def faults(self, folder: Path) -> list[Fault]:
        newest = max(self.points.tools.repository.points())
        return list(open_faults(self.points.tools, self.document(newest), folder))

    def document(self, point: BackupId) -> RecoveryPoint:
        return self.points.tools.repository.point(point)


@pytest.fixture
def platform(shop: BucketShop) -> Iterator[Platform]:
    made = Platform(PointShop(shop))
    made.execute("CREATE SCHEMA plat")
    try:
        made.execute(
            "CREATE TABLE plat.documento (id serial PRIMARY KEY, caminho text, tamanho bigint,"
            " hash_arquivo text, removed_at timestamptz)"
        )
        made.use(reference())
        for number in range(5):
            made.add(f"cidadão/{number}/rg.jpg", b"document %d" % number)
        yield made
    finally:
        made.execute("DROP SCHEMA plat CASCADE")


def test_where_every_row_has_its_document_nothing_is_told(platform: Platform) -> None:
    platform.execute("INSERT INTO plat.documento (caminho) VALUES (NULL)")
    platform.execute("INSERT INTO plat.documento (caminho, removed_at) VALUES ('removed', now())")
    check, result = platform.form()
    assert check is not None
    assert check.faults is None
    assert (check.references, check.objects, check.rows, check.orphan) == (5, 5, 0, 0)
    assert "suspect" not in result
    backups = platform.points.tools.repository.backups(platform.bucket.shop.target)
    manifest = platform.points.tools.repository.manifest(platform.bucket.shop.target, backups[0])
    assert manifest.references is not None
    assert manifest.references.count == 5
    platform.bucket.shop.verify(level="full")


def test_each_planted_fault_is_told_and_no_other(platform: Platform, tmp_path: Path) -> None:
    for number in range(30):
        platform.add(f"outro/{number}", b"another %d" % number)
    platform.points.form()
    key = "cidadão/{}/rg.jpg".format
    # So many that the faults are a small share: else the snapshot itself would be suspect.
    bucket = platform.bucket.bucket
    bucket.delete(key(0))
    platform.add(key(1), b"truncated")
    platform.execute("DELETE FROM plat.documento WHERE id = (SELECT max(id) FROM plat.documento)")
    # Other bytes: the same ones, stored again in the second of the first, look unchanged.
    platform.bucket.put(key(2), b"dokument 2")
    platform.bucket.put("nobody's", b"orphan")
    platform.execute("UPDATE plat.documento SET hash_arquivo = 'ff' WHERE caminho = %s", key(3))
    platform.execute("INSERT INTO plat.documento (caminho) VALUES ('never stored')")
    check, result = platform.form()
    assert check is not None
    assert check.model_dump(exclude={"faults"}) == {
        "references": 36,
        "objects": 35,
        "missing": 2,
        "unreadable": 0,
        "size": 1,
        "hash": 2,
        "metadata": 1,
        "orphan": 1,
        "recoverable": 1,
    }
    told = {(one.kind, one.key): one for one in platform.faults(tmp_path)}
    assert set(told) == {
        ("missing", key(0)),
        ("size", key(1)),
        ("hash", key(1)),
        ("metadata", key(2)),
        ("hash", key(3)),
        ("missing", "never stored"),
        ("orphan", "nobody's"),
    }
    gone = told["missing", key(0)]
    assert (gone.reference, gone.row) == ("documento", "1")
    # What was deleted in between is in the snapshot before, and named with it.
    (before,) = [
        one
        for one in platform.points.tools.repository.backups(BUCKET)
        if one != max(platform.points.tools.repository.backups(BUCKET))
    ]
    assert gone.backup == str(before)
    assert told["missing", "never stored"].backup is None
    assert told["metadata", key(2)].expected == "iv, hash"
    assert result["suspect"].startswith("rows whose objects are not as they say: 6 (missing 2, ")
    assert not any(text in str(result) for text in ("cidad", "nobody", "never")), "no personal data"


def test_an_alarm_comes_when_faults_grow_and_not_while_they_stay(platform: Platform) -> None:
    platform.execute("INSERT INTO plat.documento (caminho) VALUES ('one')")
    chain = platform.points.chain()
    platform.points.form(chain)
    alarm = alarm_of_job(chain.job)
    assert alarm is not None
    assert alarm.kind == "faulty"
    assert "suspect" not in platform.form()[1]
    platform.execute("INSERT INTO plat.documento (caminho) VALUES ('two')")
    assert platform.form()[1]["suspect"].endswith("2 (missing 2), before 1")
    platform.execute("DELETE FROM plat.documento WHERE caminho IN ('one', 'two')")
    check, result = platform.form()
    assert (check and check.rows, result.get("suspect")) == (0, None)


def test_hashes_of_stored_bytes_and_queries_are_compared_as_well(platform: Platform) -> None:
    digest = hashlib.sha256(b"thumbnail").hexdigest()
    platform.bucket.put("thumbnails/1.jpg", b"thumbnail")
    query = (
        "SELECT 'thumbnails/' || id || '.jpg' AS k, id, %s::text AS h FROM plat.documento"
        " WHERE id = (SELECT min(id) FROM plat.documento) -- the first"
    )
    of_stored = reference(
        "miniatura",
        table=None,
        where=None,
        query=query.replace("%s", f"'{digest}'"),
        key="k",
        hash="h",
        size=None,
        hash_in=None,
        needs=(),
    )
    platform.execute("UPDATE plat.documento SET id = id - (SELECT min(id) - 1 FROM plat.documento)")
    platform.use(reference(), of_stored)
    check, _ = platform.form()
    assert check is not None
    assert (check.references, check.rows, check.orphan) == (6, 0, 0)
    platform.bucket.put("thumbnails/1.jpg", b"thumbnai!")
    check, _ = platform.form()
    assert check is not None
    assert (check.hash, check.rows) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"table": "plat.absent"}, 'relation "plat.absent" does not exist'),
        ({"table": "documento"}, 'relation "documento" does not exist'),
        ({"key": "absent"}, "column q.absent does not exist"),
        ({"size": "hash_arquivo"}, "a value does not fit what its column is read as"),
        ({"where": "no such word"}, "syntax error"),
        (
            {"table": None, "where": None, "query": "SELECT plat.grow() AS caminho", "size": None},
            "cannot execute INSERT in a read-only transaction",
        ),
    ],
)
def test_references_that_cannot_be_read_are_told_and_fail_no_backup(
    platform: Platform, fields: dict[str, Any], why: str
) -> None:
    platform.execute(
        "CREATE FUNCTION plat.grow() RETURNS text LANGUAGE sql AS"
        " 'INSERT INTO plat.documento (caminho) VALUES (''x'') RETURNING caminho'"
    )
    if "query" in fields:
        fields = {**fields, "row": None, "hash": None, "hash_in": None}
    platform.use(reference(**fields))
    check, result = platform.form()
    assert check is None
    assert result["suspect"].startswith("rows and objects were not compared: the references of ")
    (job,) = [job for job in platform.points.ledger.jobs() if job.target == "postgres/postgres"]
    assert why in job.result["references_not_read"]
    # The server's message would quote the value, which is somebody's data.
    assert hashlib.sha256(b"plain document 0").hexdigest().upper() not in str(job)
    assert result["state"] == "verified"


def test_a_query_that_never_ends_is_given_up(platform: Platform) -> None:
    target = platform.bucket.shop.target
    source = platform.points.tools.sources[target]
    assert isinstance(source, PostgresSource)
    hasty = PostgresSource(
        source._server,
        source._database,
        candidates=source._candidates,
        reference_timeout=timedelta(milliseconds=200),
    )
    platform.points.tools = replace(platform.points.tools, sources={target: hasty})
    platform.use(reference(where="pg_catalog.pg_sleep(60) IS NOT NULL"))
    check, _ = platform.form()
    assert check is None
    (job,) = [job for job in platform.points.ledger.jobs() if job.target == str(target)]
    assert "take longer than" in job.result["references_not_read"]


def before_the_join(platform: Platform) -> Chain:
    """Return the chain of a point whose members are all there."""
    chain = platform.points.chain()
    while "join" not in (chain.job.step or ""):
        try:
            chain.step()
        except StepWaits:
            platform.points.work_all()
    return chain


@pytest.mark.parametrize("inventories", [True, False])
def test_the_identity_of_inventories_is_enough_and_without_it_the_point_is_unchecked(
    platform: Platform, *, inventories: bool
) -> None:
    chain = before_the_join(platform)
    whole = chain.tools.objects
    assert isinstance(whole, AgeObjectCodec)
    identity = platform.bucket.shop.keys.file(INVENTORY_IDENTITY) if inventories else None
    codec = AgeObjectCodec(whole._pool, chain.tools.codec.recipients, inventory_identity=identity)
    chain.tools = replace(chain.tools, objects=codec)
    chain.rest()
    point = platform.points.point(chain.job.result["point"])
    assert point.good
    if inventories:
        assert (point.check and point.check.references) == 5
    else:
        assert point.check is None
        assert chain.job.result["suspect"].startswith("rows and objects were not compared: ")


def test_a_step_that_runs_again_after_its_point_was_stored_keeps_the_list(
    platform: Platform, tmp_path: Path
) -> None:
    platform.execute("INSERT INTO plat.documento (caminho) VALUES ('one')")
    chain = platform.points.chain()
    platform.points.form(chain)
    suspect = chain.job.result["suspect"]
    assert chain.step("pgben.backup.all.join").result["suspect"] == suspect
    assert [one.key for one in platform.faults(tmp_path)] == ["one"]


def test_rules_that_are_not_those_of_the_dump_compare_nothing(platform: Platform) -> None:
    chain = before_the_join(platform)
    for others in ((), (reference("another"),), (reference(), reference("another"))):
        chain.tools = replace(chain.tools, references=others)
        _, told = form._checked(
            run_of(chain),
            chain.tools,
            BackupId.make(chain.tools.clock.now(), "0a0b0c"),
            members(chain),
        )
        assert "are not those of PGBEN_REFERENCES on this worker" in told["not_checked"]


def members(chain: Chain) -> list[Manifest]:
    return [
        chain.tools.repository.manifest(Target.parse(target), BackupId.parse(backup))
        for target, backup in chain.job.context["members"].items()
    ]


def run_of(chain: Chain) -> Run:
    return Run(
        job=chain.job,
        ledger=chain.row,
        progress=NoProgress(),
        folder=chain.folder,
        try_lock=chain.row.try_lock,
    )


def test_a_list_of_faults_that_was_changed_is_not_read(platform: Platform, tmp_path: Path) -> None:
    platform.execute("INSERT INTO plat.documento (caminho) VALUES ('one')")
    platform.form()
    newest = max(platform.points.tools.repository.points())
    (file,) = (platform.bucket.shop.repository / "recovery-points").glob("*.faults.*")
    clean = platform.bucket.shop.run("verify", {"target": None})
    assert clean.result["not_covered"] == []
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="verification found faults, 1 in all"):
        platform.bucket.shop.run("verify", {"target": None, "level": "full"})
    with pytest.raises(IntegrityError):
        list(open_faults(platform.points.tools, platform.document(newest), tmp_path))
    file.unlink()
    with pytest.raises(IntegrityError, match="the list of faults .* is gone"):
        list(open_faults(platform.points.tools, platform.document(newest), tmp_path))
    platform.points.tools.repository.remove_point(newest)
    assert list((platform.bucket.shop.repository / "recovery-points").glob(f"{newest}*")) == []


def test_references_leave_with_their_backup(platform: Platform) -> None:
    platform.points.form()
    target = platform.bucket.shop.target
    (backup,) = platform.points.tools.repository.backups(target)
    assert list(platform.points.tools.repository.inventories(target))
    assert platform.points.tools.repository.stray(target) == []
    platform.points.tools.repository.remove_manifest(target, backup)
    assert platform.points.tools.repository.inventories(target) == {}


def test_a_role_that_may_not_read_a_table_is_told(platform: Platform) -> None:
    statement = sql.SQL("CREATE FUNCTION plat.closed() RETURNS text LANGUAGE plpgsql AS {}").format(
        sql.Literal("BEGIN RAISE insufficient_privilege USING MESSAGE = 'no right'; END")
    )
    with platform.bucket.shop.server.connect("postgres") as connection:
        connection.execute(statement)
    platform.use(reference(where="plat.closed() IS NULL"))
    platform.form()
    (job,) = [job for job in platform.points.ledger.jobs() if job.target == "postgres/postgres"]
    assert "no right" in job.result["references_not_read"]


def test_the_ready_file_fits_the_tables_of_the_platform(platform: Platform) -> None:
    """With its tables as field notes describe them: names, columns and the removal mark."""
    settings = Settings.load({"PGBEN_REFERENCES": str(READY)})
    assert settings.references is not None
    ready = [
        one.model_copy(update={"database": "postgres", "bucket": BUCKET.name})
        for one in settings.references.references
    ]
    tables = {
        "documentos": "caminho text, thumbnail text, tamanho int, removed_at timestamptz",
        "documento_comprobatorio": "caminho_arquivo text, tamanho_arquivo bigint",
        "feedback_anexo": "caminho_arquivo text, tamanho numeric",
    }
    sealed = {"auth-tag": "00"}
    keys = {
        "documentos": "um.pdf",
        "documento_comprobatorio": "dois.pdf",
        "feedback_anexo": "3.png",
    }
    try:
        for name, columns in tables.items():
            platform.execute(f"CREATE TABLE public.{name} (id uuid, {columns}, hash_arquivo text)")
            key, size, *_ = columns.replace(",", " ").split()[::2]
            size = "tamanho" if size == "thumbnail" else size
            data = name.encode()
            digest = hashlib.sha256(data).hexdigest()
            platform.bucket.put(keys[name], data, metadata={"iv": "0f", "hash": digest, **sealed})
            platform.execute(
                f"INSERT INTO public.{name} ({key}, {size}, hash_arquivo)"  # noqa: S608 - our own names
                " VALUES (%s, %s, %s)",
                *(keys[name], len(data), digest),
            )
        platform.execute("UPDATE public.documentos SET thumbnail = 'thumbnails/1.jpg'")
        platform.execute("INSERT INTO public.documentos (caminho, removed_at) VALUES ('x', now())")
        platform.bucket.put("thumbnails/1.jpg", b"small")
        platform.use(*ready)
        check, _ = platform.form()
        assert check is not None
        assert (check.references, check.rows, check.objects) == (4, 0, 9)
        platform.bucket.put(keys["feedback_anexo"], b"feedback_anexO", metadata={"iv": "0f"})
        check, _ = platform.form()
        assert (check and check.metadata) == 1
    finally:
        for name in tables:
            platform.execute(f"DROP TABLE IF EXISTS public.{name}")


@pytest.fixture
def demo(
    postgres: EmbeddedPostgres, fresh_database: str, protected_s3: EmbeddedS3, tmp_path: Path
) -> Iterator[tuple[Platform, BucketClient]]:
    """Yield the demo's platform on real servers: encrypted documents, and rows that know them."""
    fill(postgres.dsn(), database=fresh_database, megabytes=1)
    client = BucketClient(protected_s3, f"documents-{secrets.token_hex(6)}")
    protected_s3.make_bucket(client.bucket)
    store(
        postgres.dsn(), database=fresh_database, client=client, cipher=Cipher(), most=EVERY_DOCUMENT
    )
    location = S3Location(
        endpoint=protected_s3.endpoint,
        bucket=client.bucket,
        access_key=protected_s3.access_key,
        secret_key=protected_s3.secret_key,
        hints=BUCKET_HINTS,
    )
    with Workshop.open(tmp_path / "shop", postgres, fresh_database) as workshop:
        made = Platform(PointShop(BucketShop(workshop, S3Bucket(location), TroubledBucket)))
        paper = reference(
            database=fresh_database,
            table="public.documento",
            where=None,
            needs=("iv", "auth-tag"),
        )
        unsaid = {"name": "miniatura", "key": "thumbnail", "size": None, "hash": None}
        made.use(paper, paper.model_copy(update={**unsaid, "hash_in": None}))
        yield made, client


def test_the_demos_data_have_no_fault_and_each_planted_one_is_found(
    demo: tuple[Platform, BucketClient], tmp_path: Path
) -> None:
    platform, client = demo
    check, result = platform.form()
    assert check is not None
    assert (check.faults, check.orphan, "suspect" in result) == (None, 0, False)
    assert check.references == check.objects > 50

    papers = sorted(key for key in client.listed() if not key.startswith("thumbnails/"))
    deleted, truncated, stripped, misread = papers[3], papers[9], papers[20], papers[30]
    client.delete(deleted)
    whole = client.get(truncated)
    client.put(truncated, replace(whole, data=whole.data[:-1]))
    client.put(stripped, replace(client.get(stripped), metadata={}, data=b"x" * 10))
    client.put("nobody's", whole)
    platform.execute_in("UPDATE documento SET hash_arquivo = 'ff' WHERE caminho = %s", misread)
    platform.execute_in("UPDATE documento SET tamanho = 10 WHERE caminho = %s", stripped)
    check, _ = platform.form()
    assert check is not None
    assert {(one.kind, one.key) for one in platform.faults(tmp_path)} == {
        ("missing", deleted),
        ("size", truncated),
        ("metadata", stripped),
        ("hash", stripped),
        ("hash", misread),
        ("orphan", "nobody's"),
    }
    assert check.recoverable == 1

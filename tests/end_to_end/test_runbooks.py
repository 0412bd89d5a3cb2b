"""Every page of docs/runbooks, followed on real servers in the situation that it is about.

One installation goes through all of them, one after the other: what a page leaves is what the next
one begins with. Commands are typed as the English page has them; a unit test holds that the
Portuguese one has the same.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from pgben_tasks import names, runtime
from pgben_tasks.adapters.keys.files import make_age_identity, make_signing_key
from pgben_tasks.adapters.keys.key_set import (
    ESCROW_IDENTITY,
    INVENTORY_IDENTITY,
    OPERATIONS_IDENTITY,
    RECIPIENTS,
    TRUSTED_KEYS,
)
from pgben_tasks.app import create_app
from pgben_tasks.embedded.child import Child
from pgben_tasks.embedded.data.compare import TableContent, contents
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.embedded.stack import PROTECTED_BUCKET
from pgben_tasks.ports import Bucket
from pgben_tasks.runtime.places import bucket_at
from pgben_tasks.settings import Settings
from tests.support import bucketshop
from tests.support.commands import Ran
from tests.support.deployment import (
    BUCKET,
    DATABASE,
    PAPERS,
    TARGET,
    Deployment,
    Settled,
    fill_bucket,
)
from tests.support.needs import needs
from tests.support.reader import Reader
from tests.support.runbooks import Follower, Runbook

pytestmark = [pytest.mark.unmeasured, pytest.mark.timeout(280)]

#: Where the pages say that things are.
KEYS = "/etc/pgben/keys"
SETTINGS = f"{KEYS}/pgben.env"
SITE = "/etc/pgben/site.env"
SIGNING_KEY = "signing-key.pem"
IN_THE_SAFE = {ESCROW_IDENTITY, RECIPIENTS, TRUSTED_KEYS}
KEY_SETTINGS = (
    "PGBEN_AGE_IDENTITY_FILE",
    "PGBEN_AGE_RECIPIENTS",
    "PGBEN_INVENTORY_IDENTITY_FILE",
    "PGBEN_SIGNING_KEY_FILE",
    "PGBEN_TRUSTED_KEYS_FILE",
)
#: The id of a backup in a list; of one that is verified, without a note.
ID = r"\d{8}T\d{6}Z-[0-9a-f]{6}"
GOOD = rf"^\S+ +({ID}) .* verified +\S+ \S+ +\S+ +\d+ *$"


class Site:
    """The installation, one worker of it, and what it protects."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.server: EmbeddedPostgres = deployment.stack.postgres
        self.documents: EmbeddedS3 = deployment.stack.documents
        self.worker: Child | None = None
        self._workers = 0
        deployment.write_settings()

    @property
    def keys(self) -> Path:
        return self.deployment.stack.folder / "keys"

    @property
    def settings(self) -> Settings:
        return Settings.load(self.deployment.environment)

    @property
    def bucket(self) -> Bucket:
        return bucket_at(self.settings, PROTECTED_BUCKET)

    def rows(self) -> dict[str, TableContent]:
        return contents(self.server.dsn(), DATABASE)

    def sql(self, statement: str, database: str = DATABASE) -> None:
        with self.server.connect(database) as connection:
            connection.execute(statement.encode())

    def pgben(self, *arguments: str, changed: Settled | None = None) -> Ran:
        return self.deployment.pgben(*arguments, changed=changed)

    def restart(self, **changed: str) -> None:
        """Write the settings of every process: what the pages tell to do elsewhere."""
        self.deployment.environment |= changed
        self.deployment.write_settings()
        self.start()

    def start(self) -> None:
        """Start the worker again."""
        if self.worker is not None:
            # Nothing runs; its orderly end is another test's, and takes seconds.
            self.worker.kill()
        self._workers += 1
        self.worker = self.deployment.start("all", name=f"worker-{self._workers}")
        # As beat does, which would do it every few seconds of each page.
        beat = create_app(self.deployment.environment["PGBEN_REDIS_URL"])
        beat.send_task(names.TICK, queue=names.QUEUE_MAINTENANCE, expires=60).get(timeout=30)

    def secret(self, name: str, value: str) -> str:
        """Write a file with a password, and return its path."""
        file = self.deployment.stack.folder / name
        file.write_text(value, encoding="utf-8")
        file.chmod(0o600)
        return str(file)

    @contextmanager
    def follow(self, name: str, *sections: int) -> Iterator[Follower]:
        """Open a page, or some of its sections; at the end all of it was typed and seen."""
        page = Runbook.read(name)
        page = page.only(*sections) if sections else page
        file = self.deployment.settings_file
        here = {SETTINGS: file, SITE: file, KEYS: self.keys}
        with Reader(self.deployment.stack.folder, files=here) as reader:
            follower = Follower(page, reader)
            yield follower
            follower.close()


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the folder of the spool: a small disk of its own, where mounting is allowed."""
    folder = tmp_path_factory.mktemp("spool")
    folder.chmod(0o700)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and not subprocess.run(mounting, check=False, timeout=60).returncode
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=60)


@pytest.fixture
def small_disk(spool: Path) -> Path:
    if not spool.is_mount():
        pytest.skip("mounting is not allowed here")
    return spool


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, spool: Path) -> Iterator[Site]:
    file = tmp_path_factory.mktemp("settings") / "references.toml"
    file.write_text(PAPERS, encoding="utf-8")
    with Deployment.build(
        bucket=True,
        megabytes=1,
        PGBEN_REFERENCES=str(file),
        PGBEN_POINT_SETTLE="0",
        PGBEN_PACK_SIZE="256KiB",
        PGBEN_SPOOL_DIR=str(spool),
    ) as built:
        made = Site(built)
        fill_bucket(made.bucket, 30)
        made.sql("CREATE TABLE papers (id serial, path text, bytes bigint)")
        with made.server.connect(DATABASE) as connection:
            for one in made.bucket.list():
                line = "INSERT INTO papers (path, bytes) VALUES (%s, %s)"
                connection.execute(line, (one.key, one.size))
        made.start()
        done = made.pgben("backup", "--all")
        assert done.code == 0, done.all
        yield made


def test_a_corrupted_database_comes_back_and_so_does_a_dropped_one(site: Site) -> None:
    good = site.rows()
    site.sql("TRUNCATE cidadao CASCADE")
    ruined = site.rows()
    assert site.pgben("backup", DATABASE).code == 4
    with site.follow("database-corrupted") as page:
        page.see(site.pgben("status"))
        page.next()
        page.known["ID"] = page.pick(page.next(), GOOD)
        page.next()
        restored = page.next()
        assert site.rows() == good
        page.next(2)
        page.known["JOB"] = page.pick(restored, r"^job +(\S+)$")
        page.next()
        assert site.rows() == ruined
        site.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)", "postgres")
        page.see(site.pgben("status"))
        page.again("pgben restore")
    assert site.rows() == good


def test_lost_files_come_back_and_rows_without_theirs_are_named(site: Site) -> None:
    bucket = site.bucket
    good = bucketshop.contents(bucket)
    for key in sorted(good)[::3]:
        bucket.delete(key)
    changed = sorted(good)[1]
    bucket.put(changed, iter([b"x"]), size=1, headers={}, metadata={}, tags={})
    assert site.pgben("backup", str(BUCKET)).code == 4
    site.sql("INSERT INTO papers (path, bytes) VALUES ('never/stored.pdf', 9)")
    with site.follow("files-lost") as page:
        page.see(site.pgben("status"))
        history = page.next(2)
        assert re.search(rf"{ID}.*suspect", history.out)
        page.known["ID"] = page.pick(page.next(), GOOD)
        assert changed in page.next().out
        page.next()
        assert bucketshop.contents(bucket) == good
        page.next()
        page.known["POINT"] = page.pick(page.next(code=4), rf"^recovery point +({ID})$")
        page.next(2)
        rows = site.deployment.stack.folder / "rows.csv"
        assert "never/stored.pdf" in rows.read_text(encoding="utf-8")
        rows.unlink()
        site.sql("DELETE FROM papers WHERE path = 'never/stored.pdf'")
        page.next(2)


CAUSES = {"database-backup-fails": DATABASE, "bucket-backup-fails": str(BUCKET)}
DONE = 4


def test_a_wrong_password_of_the_database_is_told(site: Site) -> None:
    password = sql.Literal(site.server.password).as_string()
    with site.follow("database-backup-fails", 1, DONE) as page:
        with site.server.connect() as connection:
            connection.execute("ALTER ROLE postgres PASSWORD 'another'")
            page.see(failed(site.pgben("backup", DATABASE), code=2))
            connection.execute(f"ALTER ROLE postgres PASSWORD {password}".encode())
        page.next(2)


def test_a_wrong_secret_key_of_the_bucket_is_told(site: Site) -> None:
    # The server with the documents takes any key; that of the repository does not.
    checking = site.deployment.stack.s3
    wrong = {
        "PGBEN_MINIO_HOST": checking.endpoint,
        "PGBEN_MINIO_ACCESS_KEY": checking.access_key,
        "PGBEN_MINIO_SECRET_KEY": "wrong",
    }
    with site.follow("bucket-backup-fails", 1, DONE) as page:
        page.see(failed(site.pgben("doctor", changed=wrong), code=1))
        page.next(2)


@pytest.mark.parametrize("name", CAUSES)
def test_an_unavailable_server_is_told(site: Site, name: str) -> None:
    server = site.server if name == "database-backup-fails" else site.documents
    with site.follow(name, 2, DONE) as page:
        server.stop()
        page.next(2, code=1)
        server.restart()
        page.next()


@pytest.mark.parametrize("name", CAUSES)
def test_a_full_disk_of_a_backup_is_told(site: Site, small_disk: Path, name: str) -> None:
    with site.follow(name, 3, DONE) as page:
        # The first snapshot of a bucket does not tell what the next one needs.
        assert site.pgben("backup", CAUSES[name]).code == 0
        with full(small_disk):
            page.see(failed(site.pgben("backup", CAUSES[name]), code=3))
        page.next(3)


def test_a_full_disk_of_a_restore_is_told(site: Site, small_disk: Path) -> None:
    with site.follow("restore-fails", 3, DONE) as page:
        with full(small_disk):
            page.see(failed(site.pgben("restore", DATABASE), code=1))
        page.next(4)


def failed(ran: Ran, *, code: int) -> Ran:
    assert ran.code == code, ran.all
    return ran


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a disk, and give the room back at the end."""
    filling = disk / "filling"
    with filling.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(64 * 1024))
    try:
        yield
    finally:
        filling.unlink()


def test_a_damaged_backup_is_told_and_an_older_one_comes_back(site: Site) -> None:
    made = site.pgben("backup", DATABASE, "--json").json["jobs"][0]["backup"]
    store = runtime.open_store(site.settings)
    pack = next(key for key in site.deployment.stored_packs() if f"/{made}/" in key)
    data = b"".join(store.stream(pack))
    store.delete(pack)
    store.put(pack, data[:-1] + bytes([data[-1] ^ 1]))
    with site.follow("restore-fails", 1, DONE) as page:
        page.see(failed(site.pgben("restore", DATABASE), code=5))
        page.next(2, code=5)
        page.known["ID"] = page.pick(page.next(), GOOD)
        assert page.known["ID"] != made
        page.next(2)
        store.delete(pack)
        store.put(pack, data)
        page.known["OTHER"] = made
        page.next()


def test_missing_permissions_are_told(site: Site) -> None:
    site.sql("CREATE ROLE weak LOGIN PASSWORD 'weak'")
    weak = {"PGBEN_DB_USER": "weak", "PGBEN_DB_PASS": "weak"}
    with site.follow("restore-fails", 2, DONE) as page:
        refused = failed(site.pgben("restore", DATABASE, "--direct", changed=weak), code=2)
        page.see(refused)
        (hint,) = re.findall(r"ALTER ROLE \"weak\" SUPERUSER", refused.err)
        site.sql(hint)
        again = site.pgben("restore", DATABASE, "--direct", changed=weak)
        assert again.code == 0, again.all
        page.next(3)


def test_the_database_moves_to_a_newer_major(site: Site) -> None:
    old = site.server
    new = EmbeddedPostgres.start(major=18, supervisor=site.deployment.stack.supervisor)
    with site.follow("postgresql-upgrade") as page:
        file = site.secret("new-password", new.password)
        page.known |= {"HOST": new.host, "PORT": str(new.port), "FILE": file}
        page.next(4)
        page.next(code=3)
        # The embedded server of 18 has no such package; nothing in the database needs it.
        site.sql("DROP EXTENSION pgcrypto")
        page.again("pgben backup pgben")
        page.again("pgben plan")
        page.next()
        assert contents(new.dsn(), DATABASE) == site.rows()
        site.server = new
        site.restart(
            PGBEN_DB_HOST=new.host, PGBEN_DB_PORT=str(new.port), PGBEN_DB_PASS=new.password
        )
        old.stop()
        page.next(2)
        page.next()


def test_the_documents_move_to_another_product(site: Site) -> None:
    good = bucketshop.contents(site.bucket)
    new = EmbeddedS3.start(kind="moto", supervisor=site.deployment.stack.supervisor)
    with site.follow("leaving-minio") as page:
        file = site.secret("new-secret-key", new.secret_key)
        page.known |= {"URL": new.endpoint, "KEY": new.access_key, "FILE": file}
        page.next(7)
        site.restart(
            PGBEN_MINIO_HOST=new.endpoint,
            PGBEN_MINIO_ACCESS_KEY=new.access_key,
            PGBEN_MINIO_SECRET_KEY=new.secret_key,
        )
        site.documents.stop()
        site.documents = new
        assert bucketshop.contents(site.bucket) == good
        page.known["ID"] = page.pick(page.next(code=4), rf"^backup +({ID})$")
        page.next(3)


@needs("openssl")
def test_lost_keys_are_made_anew(site: Site) -> None:
    old = site.pgben("list", DATABASE, "--json").json["backups"][0]["backup"]
    with site.follow("lost-key") as page:
        identity = site.keys / OPERATIONS_IDENTITY
        identity.unlink()
        page.see(site.pgben("doctor"))
        page.known["FILE"] = str(site.keys / ESCROW_IDENTITY)
        page.next(4)
        # What age-keygen does.
        make_age_identity(site.keys / INVENTORY_IDENTITY, now=datetime.now(UTC))
        page.known["KEY"] = make_age_identity(identity, now=datetime.now(UTC)).public
        said = page.next(3)
        sealed_to = page.pick(said, "^PGBEN_AGE_RECIPIENTS=(.+)$")
        site.restart(PGBEN_AGE_RECIPIENTS=sealed_to)
        page.next(3)
        refused = site.pgben("restore", DATABASE, "--backup", old)
        assert refused.code != 0
        page.see(refused)

        (site.keys / SIGNING_KEY).unlink()
        page.see(site.pgben("doctor"))
        page.next(3)
        public, digest = page.next().out.strip(), page.next().out.split()[0]
        before = trusted_keys(site)
        added = {**before[0], "name": "new", "public": public, "fingerprint": digest}
        trust(site, *before, added)
        page.next()
        site.restart()
        page.next(2)

        trust(site, added)
        page.next(2)


def trusted_keys(site: Site) -> list[dict[str, Any]]:
    """Return the entries of the file that decides whose signatures are believed."""
    document = json.loads((site.keys / TRUSTED_KEYS).read_text(encoding="utf-8"))
    return list(document["keys"])


def trust(site: Site, *keys: dict[str, Any]) -> None:
    """Write that file as a person does with an editor."""
    document = {"format": 1, "keys": keys}
    (site.keys / TRUSTED_KEYS).write_text(json.dumps(document), encoding="utf-8")


def test_a_lost_repository_is_begun_anew(site: Site) -> None:
    store = runtime.open_store(site.settings)
    for one in list(store.list("")):
        store.delete(one.key)
    with site.follow("lost-repository") as page:
        page.next()
        page.next(code=1)
        place = f"{site.deployment.environment['PGBEN_REPOSITORY']}/new"
        page.known["URL"] = place
        page.next(2)
        catalog = site.deployment.environment["PGBEN_CATALOG_URL"]
        site.restart(PGBEN_REPOSITORY=place, PGBEN_CATALOG_URL=f"{catalog}_new")
        page.next(3)


def test_everything_comes_back_from_repository_and_safe(site: Site) -> None:
    deployment, stack = site.deployment, site.deployment.stack
    rows, objects = site.rows(), bucketshop.contents(site.bucket)
    for process in deployment.processes:
        process.kill()
    for lost in (site.server, site.documents, stack.redis, deployment.catalog):
        lost.kill()
    for file in site.keys.iterdir():
        if file.name not in IN_THE_SAFE:
            file.unlink()

    server = EmbeddedPostgres.start(major=site.server.major, supervisor=stack.supervisor)
    documents = EmbeddedS3.start(kind="moto", supervisor=stack.supervisor)
    stack.redis.restart()
    for name in KEY_SETTINGS:
        del deployment.environment[name]
    deployment.environment |= {
        "PGBEN_NODE": "node-b",
        "PGBEN_SPOOL_DIR": str(stack.folder / "new-spool"),
        "PGBEN_DB_HOST": server.host,
        "PGBEN_DB_PORT": str(server.port),
        "PGBEN_DB_PASS": server.password,
        "PGBEN_MINIO_HOST": documents.endpoint,
        "PGBEN_MINIO_ACCESS_KEY": documents.access_key,
        "PGBEN_MINIO_SECRET_KEY": documents.secret_key,
        "PGBEN_CATALOG_URL": server.url("pgben_catalog"),
    }
    deployment.write_settings()
    site.server = server
    with site.follow("everything-lost") as page:
        page.see(page.reader.type("pgben points"))
        page.next(5)
        listed = page.next()
        page.known["POINT"] = page.pick(listed, rf"^({ID}) ")
        page.known["ID"] = page.pick(listed, rf"{TARGET} +({ID})")
        page.known["OTHER"] = page.pick(listed, rf"{BUCKET} +({ID})")
        page.next(5)
        assert site.rows() == rows
        # The page sends to another for this, whose own test types its commands.
        made = make_signing_key(site.keys / SIGNING_KEY)
        known = trusted_keys(site)
        public = base64.b64encode(made.public).decode()
        trust(
            site,
            *known,
            {**known[0], "name": "anew", "public": public, "fingerprint": made.fingerprint},
        )
        said = page.next()
        page.next()
        printed = re.findall(r"^(PGBEN_\w+)=(.+)$", said.out, re.MULTILINE)
        site.restart(**dict(printed), PGBEN_AGE_IDENTITY_FILE=str(site.keys / ESCROW_IDENTITY))
        assert bucketshop.contents(site.bucket) == objects
        page.next()
        page.known["NEW"] = page.pick(page.next(code=4), rf"^backup +({ID})$")
        page.next(2)
        page.next(2)

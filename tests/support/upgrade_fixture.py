"""Writes the fixture of ``tests/integration/test_upgrade.py``: run by the version to upgrade from.

    <old checkout>/.venv/bin/python tests/support/upgrade_fixture.py tests/fixtures/upgrade

It uses the command line, the worker and the embedded servers only, so that the next version can
be asked the same way. It writes a repository with its keys, the catalog as SQL, the spool of the
one node, and what database and bucket held at each backup. The keys protect nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from minio import Minio
from minio.commonconfig import Tags
from psycopg import sql

from pgben_tasks.embedded.child import Command, wait_until
from pgben_tasks.embedded.stack import PROTECTED_BUCKET, EmbeddedStack

DATABASE: Final = "prefeitura"
TABLES: Final = ("cidadao", "pedido", "vazia")
SCHEMA: Final = """
CREATE TABLE cidadao (id int PRIMARY KEY, nome text NOT NULL, nascimento date);
INSERT INTO cidadao SELECT g, 'José da Conceição ' || md5(g::text), '1960-01-01'::date + g
    FROM generate_series(1, 40) g;
CREATE TABLE pedido (
    id int PRIMARY KEY, cidadao int REFERENCES cidadao, anexo bytea, valor numeric
);
INSERT INTO pedido SELECT g, g, decode(md5(g::text), 'hex'), g * 1.5 FROM generate_series(1, 40) g;
CREATE TABLE vazia (id int);
CREATE VIEW devedor AS SELECT nome, sum(valor) FROM cidadao JOIN pedido ON cidadao = cidadao.id
    GROUP BY nome;
"""
LATER: Final = """
DELETE FROM pedido WHERE id <= 5;
UPDATE cidadao SET nome = 'Maria das Graças' WHERE id = 7;
INSERT INTO pedido SELECT g, 1, NULL, g FROM generate_series(41, 50) g;
"""
#: Long enough for a slow machine, short enough to notice a hang.
PATIENCE: Final = 120.0


class OldInstallation:
    """Servers, an initialised installation, and the processes of the version that runs this."""

    def __init__(self, stack: EmbeddedStack, folder: Path) -> None:
        """Keep what is to be saved below ``folder``."""
        self.stack = stack
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path[1:]),
            "LANG": "C.UTF-8",
            "LOGNAME": "operador",
            **stack.environment(database=DATABASE, node="node-a"),
            "PGBEN_REPOSITORY": f"file://{folder / 'repository'}",
            "PGBEN_SPOOL_DIR": str(folder / "spool"),
            "PGBEN_LANGUAGE": "en",
            # Nothing begins by itself but on the 29th of February.
            "PGBEN_SCHEDULE_POSTGRES": "0 0 29 2 *",
            "PGBEN_SCHEDULE_BUCKETS": "0 0 29 2 *",
            "PGBEN_SCHEDULE_VERIFY": "0 0 29 2 *",
        }
        for name in ("PGBEN_REPOSITORY_ENDPOINT", "PGBEN_REPOSITORY_ACCESS_KEY"):
            del self.environment[name]
        del self.environment["PGBEN_REPOSITORY_SECRET_KEY"]

    def pgben(self, *arguments: str, code: int = 0) -> Any:
        """Run a command; return what it prints as JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "pgben_tasks.cli.main", *arguments, "--json"],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode != code:
            raise SystemExit(f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout)

    @contextmanager
    def worker(self, role: str) -> Iterator[None]:
        """Run a worker until the block ends."""
        process = self.stack.supervisor.spawn(
            f"{role}-worker",
            Command(
                argv=(sys.executable, "-m", "workers", role, "--loglevel=INFO"),
                environment=self.environment,
                folder=self.folder,
            ),
        )
        wait_until(lambda: "worker_ready" in process.log.read_text(), seconds=PATIENCE)
        yield
        process.stop(seconds=PATIENCE)

    def tick(self) -> None:
        """Ask for one run of the reconciler, which stores the audit trail in the repository."""
        ask = "from pgben_tasks.app import app; app.send_task('pgben.maintenance.tick')"
        subprocess.run([sys.executable, "-c", ask], env=self.environment, timeout=60, check=True)
        stored = self.folder / "repository" / "audit"
        if not wait_until(stored.exists, seconds=PATIENCE):
            raise SystemExit("the audit trail does not reach the repository")

    def sql(self, script: str) -> None:
        """Change the protected database."""
        with self.stack.postgres.connect(DATABASE) as connection:
            connection.execute(script.encode())

    def rows(self) -> dict[str, list[str]]:
        """Return every row of the protected database as text."""
        with self.stack.postgres.connect(DATABASE) as connection:
            return {
                table: [
                    row[0]
                    for row in connection.execute(
                        sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(table))
                    )
                ]
                for table in TABLES
            }


class Documents:
    """The protected bucket, filled as an application fills it."""

    def __init__(self, stack: EmbeddedStack) -> None:
        """Connect to its server."""
        server = stack.documents
        self.client = Minio(
            server.endpoint.removeprefix("http://"),
            access_key=server.access_key,
            secret_key=server.secret_key,
            secure=False,
            region="us-east-1",
        )
        self.expected: dict[str, dict[str, Any]] = {}

    def put(self, key: str, text: str, *, tagged: str = "") -> None:
        """Store an object with metadata, and with a tag where one is named."""
        data = text.encode()
        tags = Tags.new_object_tags()
        if tagged:
            tags["setor"] = tagged
        headers: dict[str, Any] = {"x-amz-meta-protocolo": f"p-{len(text)}"}
        self.client.put_object(
            PROTECTED_BUCKET,
            key,
            BytesIO(data),
            len(data),
            content_type="text/plain; charset=utf-8",
            metadata=headers,
            tags=tags or None,
        )
        self.expected[key] = {
            "text": text,
            "content_type": "text/plain; charset=utf-8",
            "metadata": {"protocolo": f"p-{len(text)}"},
            "tags": {"setor": tagged} if tagged else {},
        }

    def remove(self, key: str) -> None:
        """Delete an object."""
        self.client.remove_object(PROTECTED_BUCKET, key)
        del self.expected[key]


def write(stack: EmbeddedStack, folder: Path) -> Mapping[str, Any]:
    """Make the history; return what the test compares with."""
    old = OldInstallation(stack, folder)
    with stack.postgres.connect() as connection:
        connection.execute(f'CREATE DATABASE "{DATABASE}"'.encode())
    old.sql(SCHEMA)
    documents = Documents(stack)
    for number in range(18):
        documents.put(f"documentos/{number % 3}/{number:02}.txt", f"petição {number}\n" * number)
    documents.put("documentos/ação é.txt", "com acento", tagged="arquivo")
    documents.put("vazio", "", tagged="obras")
    ready = old.pgben("init", "--keys", str(folder / "keys"))
    old.environment |= ready["environment"]
    bucket = f"bucket/{PROTECTED_BUCKET}"
    backups: list[dict[str, Any]] = []

    def back_up() -> None:
        for target, held in ((DATABASE, old.rows()), (bucket, dict(documents.expected))):
            (job,) = old.pgben("backup", target)["jobs"]
            backups.append({"target": job["target"], "id": job["backup"], "held": held})

    with old.worker("all"):
        back_up()
        old.sql(LATER)
        documents.put("documentos/0/00.txt", "corrigido", tagged="obras")
        documents.remove("documentos/1/01.txt")
        back_up()
        old.pgben("verify", "--level", "full")
        old.pgben("restore", DATABASE, "--into", "copia")
        old.pgben("restore", DATABASE, "--into", "copia", code=3)
        old.tick()
    with old.worker("backup"):
        # No maintenance worker: the job waits for its fourth step.
        (job,) = old.pgben("backup", DATABASE, "--no-wait")["jobs"]
        if not wait_until(lambda: _waits(old, job["job"]), seconds=PATIENCE):
            raise SystemExit("the backup does not wait for its fourth step")
        backups.append({"target": f"postgres/{DATABASE}", "id": None, "held": old.rows()})
    cancelled = old.pgben("backup", bucket, "--no-wait")["jobs"][0]["job"]
    old.pgben("cancel", cancelled)
    queued = old.pgben("verify", DATABASE, "--no-wait")["jobs"][0]["job"]
    return {
        "waiting": job["job"],
        "queued": queued,
        "jobs": {one["job"]: one["state"] for one in old.pgben("jobs")["jobs"]},
        "backups": backups,
    }


def _waits(old: OldInstallation, job: str) -> bool:
    (shown,) = old.pgben("jobs", job)["jobs"]
    return bool(shown["state"] == "waiting" and shown["step"] == "pgben.backup.postgres.prune")


def catalog_dump(stack: EmbeddedStack) -> str:
    """Return the catalog as SQL that any client can run."""
    postgres = stack.postgres
    done = subprocess.run(
        [
            str(postgres.bin_dir / "pg_dump"),
            "--inserts",
            "--no-owner",
            "--no-privileges",
            f"--dbname={postgres.url('pgben_catalog')}",
        ],
        env={"LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    # What begins with a backslash speaks to psql alone.
    kept = (line for line in done.stdout.splitlines(keepends=True) if not line.startswith("\\"))
    return "".join(kept)


def main() -> None:
    """Write the fixture into the folder that is named."""
    target = Path(sys.argv[1]).resolve()
    with EmbeddedStack.start(protected=True) as stack:
        folder = stack.folder / "fixture"
        folder.mkdir(mode=0o700)
        facts = write(stack, folder)
        for part in ("keys", "repository", "spool"):
            shutil.rmtree(target / part, ignore_errors=True)
            # The card and the settings speak of this machine's folders.
            shutil.copytree(
                folder / part,
                target / part,
                ignore=shutil.ignore_patterns("recovery-card.*", "pgben.env"),
            )
        (target / "catalog.sql").write_text(catalog_dump(stack), encoding="utf-8")
        (target / "facts.json").write_text(
            json.dumps(facts, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()

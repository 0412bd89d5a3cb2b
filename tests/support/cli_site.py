"""One installation for tests of the command line: real catalog and repository, no workers."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pgben_tasks import names, runtime
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.keys.signatures import Signer, Trust
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.domain.job import Job
from pgben_tasks.ports import ObjectStore
from pgben_tasks.settings import Settings
from tests.support import commands, samples
from tests.support.commands import Ran

CANARY = "canary-5b1c"
UNKNOWN = "20200101T000000Z-abcdef"
WAIT = timedelta(minutes=5)


@dataclass
class Site:
    """One installation: its environment and its folders."""

    folder: Path
    environment: dict[str, str]
    others: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def start(self, *arguments: str, **changed: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pgben_tasks.cli.main", *arguments],
            env=self.others | self.environment | changed,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **changed: str) -> Ran:
        return commands.run(*arguments, environment=self.others | self.environment | changed)

    def on_a_terminal(self, *arguments: str) -> list[str]:
        return commands.on_a_terminal(*arguments, environment=self.others | self.environment)

    def init(self, *arguments: str, **changed: str) -> Ran:
        said = self.run("init", "--keys", str(self.keys), *arguments, **changed)
        if said.code == 0:
            self.use_keys()
        return said

    def use_keys(self) -> None:
        for line in (self.keys / "pgben.env").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            self.environment[name] = value

    @property
    def ledger(self) -> Ledger:
        return Ledger(runtime.catalog_database(Settings.load(self.environment)))

    def job(self, kind: Any = "backup", target: str = "postgres/pgben") -> Job:
        return self.ledger.request(
            kind,
            target=target,
            key=secrets.token_hex(8),
            request={},
            requested_by="test",
            published=True,
        )[0]

    def play(self, job: Job, result: dict[str, Any], error: dict[str, str] | None = None) -> None:
        """Do to the ledger what a worker with a chain of one step would do."""
        step = names.BACKUP_POSTGRES_RECORD
        ref = self.ledger.claim(
            job.id,
            node="node",
            first_step=step,
            lease=(job.target, secrets.token_hex(4)),
            context={},
            root_task="root",
            wait=WAIT,
        )
        ref = self.ledger.begin_step(ref, step, node="node")
        if error is None:
            self.ledger.end_step(ref, step, result=result, following=None, wait=WAIT)
        else:
            state: Any = "refused" if error["type"] == "RestoreRefused" else "failed"
            self.ledger.fail(ref, state=state, error=error)


def promptly(attempt: Callable[[], float], *, within: float) -> None:
    """Fail unless one of five attempts took less than ``within`` seconds; each returns its own.

    What waits for something waits every time; a busy machine that stalls delays single attempts.
    """
    took: list[float] = []
    while len(took) < 5:
        took.append(attempt())
        if took[-1] < within:
            return
    raise AssertionError(f"took {took} seconds, never less than {within}")


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PGBEN_")}


def a_backup(site: Site, store: ObjectStore | None = None, **fields: Any) -> str:
    """Store and commit a small backup in the site's repository; give its id.

    The repository is the folder of the site, unless it is in another ``store``.
    """
    store = store or DirectoryObjectStore(site.repository)
    repository = StoreRepository.open(
        store,
        signer=Signer.load(site.keys / "signing-key.pem"),
        trust=Trust.load(site.keys / "trusted-keys.json"),
    )
    pack = samples.pack()
    store.put(pack.path, b"sealed")
    manifest = samples.manifest(repository=repository.id, packs=(pack,), **fields)
    digest = repository.commit(manifest)
    statement = {"repository": repository.id, "manifest": digest, "kind": "full", "opened": True}
    repository.record(samples.verification(**statement))
    return manifest.backup

"""A small installation with two verified backups, made once and put back before every test.

Chains run here step by step against the real ledger, as the task base runs them, but without
Celery, so that a test can stop between two steps or crash inside one.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from psycopg import sql

from pgben_tasks import canvases, runtime
from pgben_tasks.adapters.catalog.ledger import Ledger
from pgben_tasks.adapters.catalog.ledger_row import LedgerRow
from pgben_tasks.adapters.keys.signatures import Signer, Trust
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.contracts import REQUESTS, JobRef
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.failures import error_record, failed_state
from pgben_tasks.domain.job import Job, JobKind
from pgben_tasks.domain.target import Target
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.operations import spool
from pgben_tasks.operations.toolbox import NoProgress, Toolbox
from pgben_tasks.ports import Clock, Sharing, StoredObject
from tests.support.workshop import Workshop

#: Small enough that the little database needs several packs.
PACK_SIZE = 8 * 1024
_WAIT = timedelta(minutes=30)

#: The same rows every time, and text that does not compress.
FILL_PEDIDO = """
INSERT INTO pedido SELECT g, g, md5(g::text) || md5((-g)::text) FROM generate_series(1, 400) g
"""

SCHEMA = f"""
CREATE TABLE cidadao (id int PRIMARY KEY, nome text NOT NULL, nascimento date);
INSERT INTO cidadao SELECT g, 'José da Conceição ' || md5(g::text), '1960-01-01'::date + g
    FROM generate_series(1, 400) g;
CREATE TABLE pedido (id int PRIMARY KEY, cidadao int REFERENCES cidadao, texto text);
{FILL_PEDIDO};
CREATE TABLE pagamento (id int, valor numeric);
INSERT INTO pagamento SELECT g, g * 1.5 FROM generate_series(1, 50) g;
CREATE TABLE vazia (id int);
"""  # noqa: S608 - both parts are written here


class Crash(BaseException):
    """The process died here: nothing after this point was done, and nothing was cleaned up."""


class WatchedStore(DirectoryObjectStore):
    """A store on a disk that tells before and after each write, and may be made to fail then.

    ``clock`` shows what a test wants the store's clock to show; None is the disk's own.
    """

    clock: Clock | None = None

    def __init__(self, root: Path) -> None:
        """Watch nothing yet."""
        super().__init__(root)
        self.written: list[str] = []
        self.before: Callable[[str], None] = lambda _key: None
        self.after: Callable[[str], None] = lambda _key: None

    def put(self, key: str, data: bytes) -> None:
        """Store, telling."""
        self.before(key)
        super().put(key, data)
        self.written.append(key)
        self.after(key)

    def put_file(
        self, key: str, path: Path, *, advance: Callable[[int], None] | None = None
    ) -> None:
        """Store, telling."""
        self.before(key)
        super().put_file(key, path, advance=advance)
        self.written.append(key)
        self.after(key)

    def now(self) -> datetime:
        """Return the time."""
        return super().now() if self.clock is None else self.clock.now()

    def packs(self) -> list[StoredObject]:
        """Return every stored pack."""
        return list(self.list("packs/"))


class OwnRow(LedgerRow):
    """The row of the ledger that a running step owns; ``before_hold`` may take it away."""

    def __init__(self, ledger: Ledger, ref: JobRef) -> None:
        """Own the row; the target's other locks are ``free``."""
        super().__init__(ledger, ref, node="workshop", wait=_WAIT)
        self.before_hold: Callable[[], None] = lambda: None
        self.free = True
        #: An error after which the task base would try the step again.
        self.keep_on: type[Exception] | None = None

    def hold(self) -> None:
        """Raise ``FenceLost`` unless the row is still this step's."""
        self.before_hold()
        super().hold()

    @contextmanager
    def try_lock(self, _kind: str) -> Iterator[bool]:
        """Take a lock if it is free."""
        yield self.free

    def fail(self, step: str, error: Exception) -> None:
        """End the job, or its step only."""
        if self.keep_on is not None and isinstance(error, self.keep_on):
            self._ledger.release_step(self.ref, step, state="retrying", wait=_WAIT)
        else:
            record = error_record(error, step)
            self._ledger.fail(self.ref, state=failed_state(error), error=record)


class Chain(in_process.Chain):
    """One job of the ledger: its steps run when told, in the order of its chain."""

    row: OwnRow

    def __init__(
        self,
        tools: Toolbox,
        ledger: Ledger,
        ref: JobRef,
        sharing: Callable[[JobRef], Sharing | None] = lambda _ref: None,
    ) -> None:
        """Begin where the ledger says; ``sharing`` shares a step, by its reference."""
        super().__init__(
            OwnRow(ledger, ref), tools, NoProgress(), sharing=lambda: self.sharing(self.ref)
        )
        self.ledger = ledger
        self.sharing = sharing

    @property
    def ref(self) -> JobRef:
        """The reference under which the job runs."""
        return self.row.ref

    @ref.setter
    def ref(self, ref: JobRef) -> None:
        self.row.ref = ref

    def step(self, name: str | None = None, *, keep_on: type[Exception] | None = None) -> Job:
        """Run a step; as the task base does, remove what is left when it ends the job."""
        self.row.keep_on = keep_on
        try:
            return super().step(name)
        except Exception:
            if self.job.ended:
                runtime.abandon(self.job, self.tools)
            raise


@dataclass
class Installation:
    """A workshop with a watched store, two backups, and the way back to that state."""

    shop: Workshop
    store: WatchedStore
    tools: Toolbox
    pristine: Path
    backups: tuple[Manifest, ...] = ()
    copies: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, server: EmbeddedPostgres) -> Self:
        """Make the database, the installation and the backups."""
        database = f"made_{secrets.token_hex(6)}"
        with server.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        with server.connect(database) as connection:
            connection.execute(SCHEMA)
        shop = Workshop.open(folder, server, database)
        store = WatchedStore(shop.repository)
        signing, trusted = shop.work.settings.signing_key_file, shop.work.settings.trusted_keys_file
        assert signing is not None
        assert trusted is not None
        tools = replace(
            shop.tools,
            repository=StoreRepository.open(
                store, signer=Signer.load(signing), trust=Trust.load(trusted)
            ),
            limits=replace(shop.tools.limits, pack_size=PACK_SIZE),
        )
        made = cls(shop=shop, store=store, tools=tools, pristine=folder / "pristine")
        made.backups = (made.backup(), made.backup())
        shutil.copytree(shop.repository, made.pristine)
        made._sql("CREATE TABLE pristine AS SELECT * FROM backup")
        return made

    def __enter__(self) -> Self:
        """Return the installation."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take everything away."""
        self.drop_copies()
        self.shop.close()
        self._drop(self.target.name)

    @property
    def target(self) -> Target:
        """The protected database."""
        return self.shop.target

    @property
    def ledger(self) -> Ledger:
        """The job ledger."""
        return self.shop.work.ledger

    @property
    def repository(self) -> Path:
        """The repository's folder."""
        return self.shop.repository

    def reset(self) -> None:
        """Put repository and catalog back to two verified backups and no job."""
        shutil.rmtree(self.repository)
        shutil.copytree(self.pristine, self.repository)
        self._sql(
            "TRUNCATE job, swap, restored_database, alarm, channel, ping, worker, audit, report"
            " CASCADE;"
            " DELETE FROM backup; INSERT INTO backup SELECT * FROM pristine;"
            " UPDATE backup_sequence SET last = 2"
        )
        self.store.written.clear()
        self.store.before = self.store.after = lambda _key: None
        self.store.clock = None
        spool.sweep(self.tools.spool, keep=list)

    def chain(
        self,
        kind: JobKind,
        *,
        tools: Toolbox | None = None,
        **request: Any,
    ) -> Chain:
        """Ask for a job and claim it."""
        target = str(self.target)
        asked = REQUESTS[kind].parse({"target": target, **request})
        job, _ = self.ledger.request(
            kind,
            target=target,
            key=secrets.token_hex(8),
            request=asked.model_dump(mode="json"),
            requested_by="test",
        )
        into = request.get("into")
        ref = self.ledger.claim(
            job.id,
            node="workshop",
            first_step=canvases.first_step(kind),
            lease=(target, secrets.token_hex(4)),
            context={"into": into} if into else {},
            root_task="root",
            wait=_WAIT,
        )
        return Chain(tools=tools or self.tools, ledger=self.ledger, ref=ref)

    def backup(self) -> Manifest:
        """Back up and give the manifest."""
        job = self.chain("backup").rest()
        return self.manifest(job.backup or "")

    def restore(self, **request: Any) -> Chain:
        """Begin a restore into a new database of its own name."""
        into = request.pop("into", None) or self.free_name()
        return self.chain("restore", into=into, **request)

    def free_name(self) -> str:
        """Name a database that is dropped after the test."""
        self.copies.append(f"copy_{secrets.token_hex(6)}")
        return self.copies[-1]

    def manifest(self, backup: str) -> Manifest:
        """Read a manifest as the repository gives it."""
        found = next(
            one for one in self.tools.repository.backups(self.target) if str(one) == backup
        )
        return self.tools.repository.manifest(self.target, found)

    def manifest_file(self, manifest: Manifest) -> Path:
        """Return where a manifest lies."""
        return self.repository / "backups" / manifest.target / manifest.backup / "manifest.json"

    def pack_files(self, manifest: Manifest) -> list[Path]:
        """Return where the packs of a backup lie."""
        return [self.repository / pack.path for pack in manifest.packs]

    def files(self, *, below: str = "") -> dict[str, bytes]:
        """Return every file of the repository."""
        folder = self.repository / below
        return {
            str(path.relative_to(self.repository)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def state(self, backup: str) -> str:
        """Return what the catalog's index holds of a backup."""
        found = self.shop.work.index.backups(self.target, expired=True)
        return {one.id: one.state for one in found}.get(backup, "unknown")

    def databases(self) -> set[str]:
        """Name every database of the server."""
        with self.shop.server.connect() as connection:
            return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}

    def run_sql(self, statement: str, *values: Any, database: str = "") -> list[Any]:
        """Run statements in the protected database, or another; give the rows of the last."""
        with self.shop.server.connect(database or self.target.name) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def drop_copies(self) -> None:
        """Drop the databases that tests restored."""
        for name in self.copies:
            self._drop(name)
        self.copies.clear()

    def _drop(self, name: str) -> None:
        with self.shop.server.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def _sql(self, script: str) -> None:
        with self.shop.work.database.transaction() as cursor:
            cursor.execute(script.encode())


def only(found: Iterable[Any]) -> Any:
    """Return the one thing there is."""
    (one,) = found
    return one

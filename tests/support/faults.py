"""Single faults in a repository, and whether a full verification finds them.

By hand, with the figures of docs/reliability.md: ``python -m tests.support.faults 500`` (random
faults), ``python -m tests.support.faults every-byte`` (each byte of a small repository in turn).
"""

from __future__ import annotations

import logging
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import structlog
from psycopg import sql

from pgben_tasks.adapters.catalog.absent import AbsentTrail, ForgetfulIndex
from pgben_tasks.adapters.keys.signatures import Signer, Trust
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.contracts import VerifyRequest
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.documents import Finding
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import PgbenError
from pgben_tasks.operations.toolbox import NoProgress, Toolbox, TrailRecord
from tests.support.bucketshop import TARGET as BUCKET, BucketShop
from tests.support.memory_bucket import MemoryBucket
from tests.support.memory_store import MemoryObjectStore
from tests.support.workshop import Workshop

#: What is done to a file's bytes; None removes it.
FAULTS: Final[Mapping[str, Callable[[bytes, random.Random], bytes | None]]] = {
    "a flipped bit": lambda data, chance: _flipped(data, chance.randrange(len(data)), chance),
    "a cut": lambda data, chance: data[: chance.randrange(len(data))],
    "something appended": lambda data, chance: data + chance.randbytes(chance.randrange(1, 9)),
    "other bytes": lambda data, chance: chance.randbytes(len(data)),
    "zeros": lambda data, _chance: bytes(len(data)),
    "removed": lambda _data, _chance: None,
}


#: A file, what is done to it, and what its bytes become.
Fault = tuple[str, str, bytes | None]


@dataclass
class KnownTrail(AbsentTrail):
    """A trail whose catalog is known and is never written to."""

    known: TrailRecord | None

    def record(self) -> TrailRecord | None:  # type: ignore[override]
        """Return what the catalog knew."""
        return self.known


@dataclass(frozen=True)
class Repository:
    """Every file of a repository, and the tools that verify it, with or without its catalog."""

    files: Mapping[str, bytes]
    tools: Toolbox
    signer: Signer
    trust: Trust
    record: TrailRecord | None

    def without_catalog(self) -> Self:
        """Return the same without what only the catalog knows."""
        return replace(self, record=None)

    def found(self, files: Mapping[str, bytes], *, level: str = "full") -> list[Finding]:
        """Verify everything; what cannot even be opened is a finding of its own."""
        store = MemoryObjectStore()
        for key, data in files.items():
            store._objects[key] = (data, datetime.now(UTC))
        try:
            repository = StoreRepository.open(store, signer=self.signer, trust=self.trust)
            tools = replace(self.tools, repository=repository, trail=KnownTrail(self.record))
            request = VerifyRequest.parse({"level": level, "requested_by": "test"})
            job = in_process.new_job(
                "verify",
                request,
                target=EVERYTHING,
                node="faults",
                now=datetime.now(UTC),
                context={},
            )
            row = in_process.MemoryRow(job, tools.clock)
            chain = in_process.Chain(row, tools, NoProgress())
            result: dict[str, Any] = chain.step().result
        except PgbenError as exc:
            return [Finding(kind="invalid", path="repository", detail=exc.sentence)]
        return [Finding(**one) for one in result["findings"]]


def _flipped(data: bytes, place: int, chance: random.Random) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


@contextmanager
def repository(
    folder: Path, server: EmbeddedPostgres, *, small: bool = False
) -> Iterator[Repository]:
    """Yield a repository of a database and a bucket with backups, statements and an audit trail.

    ``small`` has one backup of each, as few bytes as that takes.
    """
    database = f"faults_{secrets.token_hex(5)}"
    with server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    with server.connect(database) as connection:
        connection.execute("CREATE TABLE cidadao AS SELECT g AS id FROM generate_series(1, 9) g")
    try:
        with Workshop.open(folder, server, database) as shop:
            yield _made(shop, small=small)
    finally:
        with server.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
            )


def _made(shop: Workshop, *, small: bool) -> Repository:
    documents = BucketShop(shop, MemoryBucket(BUCKET.name), MemoryBucket)
    for night in range(1 if small else 3):
        documents.put(f"a/{night}", f"documento {night}".encode() * (1 if small else 500))
        shop.backup()
        documents.snapshot()
        if not small:
            shop.verify(level="quick")
    # `pgben init` anchored repository.json; this makes statements of a full look.
    everything = frozenset({shop.target, BUCKET})
    tools = replace(documents.tools, protected=everything)
    request = VerifyRequest.parse({"level": "full", "requested_by": "test"})
    job = in_process.new_job(
        "verify", request, target=EVERYTHING, node="faults", now=datetime.now(UTC), context={}
    )
    in_process.Chain(in_process.MemoryRow(job, tools.clock), tools, NoProgress()).run()
    shop.work.trail.store_missing()
    settings = shop.work.settings
    assert settings.signing_key_file is not None
    assert settings.trusted_keys_file is not None
    files = {
        str(path.relative_to(shop.repository)): path.read_bytes()
        for path in sorted(shop.repository.rglob("*"))
        if path.is_file()
    }
    return Repository(
        files=files,
        # Digests prove bytes; to open packs as well would only take time.
        tools=replace(tools, index=ForgetfulIndex(), codec=_Closed(tools.codec)),
        signer=Signer.load(settings.signing_key_file),
        trust=Trust.load(settings.trusted_keys_file),
        record=shop.work.trail.record(),
    )


class _Closed:
    """A codec without an identity."""

    def __init__(self, codec: object) -> None:
        self._codec = codec

    def can_open(self, _recipients: object) -> bool:
        """Return False."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)


def random_faults(files: Mapping[str, bytes], count: int, seed: int) -> Iterator[Fault]:
    """Yield faults of every kind, each file as likely as any other."""
    chance = random.Random(seed)
    names = sorted(files)
    while count:
        name, fault = chance.choice(names), chance.choice(sorted(FAULTS))
        changed = FAULTS[fault](files[name], chance)
        if changed != files[name]:
            count -= 1
            yield name, fault, changed


def every_byte(files: Mapping[str, bytes]) -> Iterator[Fault]:
    """Yield every byte of every file with one bit flipped, a different one for each place."""
    for name, data in sorted(files.items()):
        for place in range(len(data)):
            changed = data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]
            yield name, f"byte {place}", changed


def missed(
    made: Repository, faults: Iterable[Fault], *, level: str = "full"
) -> tuple[int, list[tuple[str, str]]]:
    """Return how many faults were tried, and those that a verification did not find."""
    tried, unseen = 0, []
    for name, fault, changed in faults:
        files = {**made.files, name: changed or b""}
        if changed is None:
            del files[name]
        tried += 1
        if not made.found(files, level=level):
            unseen.append((name, fault))
    return tried, unseen


def kind_of(name: str) -> str:
    """Return what kind of file a path is, for the table."""
    folder, _, last = name.partition("/")[0], "", name.rpartition("/")[2]
    if last.startswith("inventory"):
        return "inventory"
    signature = " (signature)" if last.endswith(".sig") else ""
    return f"{folder}{signature}"


def main(what: str) -> int:
    """Print how many faults were found, by kind of file; return 1 when one was not."""
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=quiet)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgben-faults-")))
        server = stack.enter_context(EmbeddedPostgres.start())
        small = what == "every-byte"
        made = stack.enter_context(repository(folder / "shop", server, small=small))
        clean = made.found(made.files)
        faults = list(every_byte(made.files) if small else random_faults(made.files, int(what), 11))
        begun = time.monotonic()
        tried, unseen = missed(made, faults)
        seconds = time.monotonic() - begun
    by_kind = Counter(kind_of(name) for name, _, _ in faults)
    lost = Counter(kind_of(name) for name, _ in unseen)
    size = sum(map(len, made.files.values()))
    sys.stdout.write(f"{len(made.files)} files, {size} bytes; findings of the clean one: {clean}\n")
    for kind, count in sorted(by_kind.items()):
        sys.stdout.write(f"| {kind} | {count} | {count - lost[kind]} |\n")
    sys.stdout.write(f"{tried} faults, {tried - len(unseen)} found, {seconds:.0f} s\n")
    for name, fault in unseen[:20]:
        sys.stdout.write(f"missed: {fault} in {name}\n")
    return int(bool(unseen or clean))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Which client restores which server into which: every pair tried with real servers.

``make conformance`` prints the table of docs/reliability.md. Each cell is one site: its only client
dumps a server and restores into a server, of the same major or a newer one, and what pgben says
beforehand is compared with what really happens. By hand: ``python -m tests.support.majors 14 15``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pgben_tasks.adapters.postgres.clients import (
    Installation,
    choose_for_dump,
    find_installations,
)
from pgben_tasks.adapters.postgres.destination import PostgresDestination
from pgben_tasks.adapters.postgres.programs import restore_argv
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.domain.documents import PostgresCapture
from pgben_tasks.domain.restorability import Archive, missing_client
from pgben_tasks.embedded.data.compare import contents
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.operations.toolbox import NoProgress
from tests.support.npm_postgres import PINNED, NpmPostgres

MAJORS: Final = (14, 15, 16, 17, 18)
_DATABASE: Final = "matriz"
_MARKER: Final = "pgben: unfinished restore, matrix"
#: A little of what dumps are made of; hash partitions, identities and large objects among it.
_SCRIPT: Final = """
CREATE EXTENSION pg_trgm;
CREATE TYPE situacao AS ENUM ('aberta', 'concluída');
CREATE TABLE cidadao (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, nome text NOT NULL,
    situacao situacao DEFAULT 'aberta', dados jsonb, soma int GENERATED ALWAYS AS (1 + 1) STORED);
INSERT INTO cidadao (nome, dados) SELECT 'José ' || g, jsonb_build_object('n', g)
    FROM generate_series(1, 500) g;
CREATE INDEX ON cidadao USING gin (nome gin_trgm_ops);
CREATE TABLE pedido (id int, cidadao int REFERENCES cidadao) PARTITION BY HASH (id);
CREATE TABLE pedido_0 PARTITION OF pedido FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE pedido_1 PARTITION OF pedido FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO pedido SELECT g, g FROM generate_series(1, 300) g;
CREATE VIEW abertas AS SELECT * FROM cidadao WHERE situacao = 'aberta';
CREATE FUNCTION dobro(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE MATERIALIZED VIEW resumo AS SELECT count(*) AS n FROM pedido;
SELECT lo_from_bytea(0, 'um objeto grande');
ALTER TABLE cidadao ENABLE ROW LEVEL SECURITY;
CREATE POLICY todos ON cidadao USING (true);
"""

Outcome = Literal["restores equal", "not restorable, said", "no dump, said"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What became of one try; ``fault`` is set where pgben and the programs disagree."""

    source: int
    client: str
    destination: int
    outcome: Outcome | None
    fault: str = ""

    @property
    def text(self) -> str:
        """Return the cell of the table."""
        return self.outcome or f"FAULT: {self.fault}"


@dataclass(frozen=True)
class Servers:
    """One server of each major, each with the same database."""

    by_major: dict[int, EmbeddedPostgres]

    def address(self, major: int) -> PostgresServer:
        """Return a server's address as the adapters take it."""
        server = self.by_major[major]
        return PostgresServer(
            host=server.host, port=server.port, user=server.user, password=server.password
        )


def start(majors: Sequence[int], stack: ExitStack) -> Servers:
    """Start a server of each major and fill it."""
    found: dict[int, EmbeddedPostgres] = {}
    for major in majors:
        server = (
            NpmPostgres.start_major(major)
            if major in PINNED
            else EmbeddedPostgres.start(major=major)
        )
        found[major] = stack.enter_context(server)
        with server.connect() as connection:
            connection.execute(f'CREATE DATABASE "{_DATABASE}"'.encode())
        with server.connect(_DATABASE) as connection:
            connection.execute(_SCRIPT.encode())
    return Servers(found)


def cells(servers: Servers, source: int, client: Installation, folder: Path) -> Iterator[Cell]:
    """Yield what becomes of a dump of ``source`` by ``client``, for each destination."""
    destinations = [major for major in servers.by_major if major >= source]
    name = f"{client.version}{'' if client.compression != 'none' else ' without zstd'}"
    address = servers.address(source)
    try:
        tools = choose_for_dump(source * 10000, [client])
    except ConfigurationError:
        for destination in destinations:
            yield Cell(source=source, client=name, destination=destination, outcome="no dump, said")
        return
    made = PostgresSource(address, _DATABASE, candidates=[client])
    dump = folder / f"{source}-{client.version}-{client.compression[:4]}"
    with made.capture(tools) as capture:
        made.dump(
            capture, dump, tools=tools, jobs=2, database_bytes=8_000_000, progress=NoProgress()
        )
        described = capture.describe(capture.count())
    archive = Archive.from_versions(
        tools.version, described.server_version_num, described.dump_compression
    )
    made.check_dump(dump, described, archive)
    for destination in destinations:
        outcome, fault = _restored(servers, source, destination, client, archive, described, dump)
        yield Cell(
            source=source, client=name, destination=destination, outcome=outcome, fault=fault
        )


def _restored(
    servers: Servers,
    source: int,
    destination: int,
    client: Installation,
    archive: Archive,
    described: PostgresCapture,
    dump: Path,
) -> tuple[Outcome | None, str]:
    said = missing_client(archive, destination, [client])
    there = PostgresDestination(servers.address(destination), candidates=[client])
    copy = f"copia_de_{source}"
    if said is not None:
        try:
            there.preflight(copy, described, archive)
        except ConfigurationError as exc:
            if said not in exc.sentence:
                return None, f"the restore says something else: {exc.sentence}"
        else:
            return None, "the restore does not refuse it"
        if _loads(servers, destination, client, dump):
            return None, f"pg_restore loads it all the same, although it needs {said}"
        return "not restorable, said", ""
    tools = there.preflight(copy, described, archive)
    there.create(copy, described, marker=_MARKER)
    try:
        there.load(copy, dump, tools=tools, jobs=2, progress=NoProgress())
        there.finish(copy, described, marker=_MARKER)
        original = contents(servers.by_major[source].dsn(), _DATABASE)
        if contents(servers.by_major[destination].dsn(), copy) != original:
            return None, "the copy differs"
    finally:
        _drop(servers.by_major[destination], copy)
    return "restores equal", ""


def _loads(servers: Servers, destination: int, client: Installation, dump: Path) -> bool:
    """Return whether pg_restore, left to itself, loads the dump without an error."""
    server = servers.by_major[destination]
    name = "contra_o_aviso"
    with server.connect() as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0'.encode())
    tools = choose_for_dump(client.major * 10000, [client])
    try:
        done = subprocess.run(
            restore_argv(tools, database=name, dump=dump, jobs=1, tablespaces=True),
            env={
                "LC_ALL": "C",
                **servers.address(destination).environment(name, application_name="matrix"),
            },
            capture_output=True,
            check=False,
            timeout=120,
        )
    finally:
        _drop(server, name)
    return done.returncode == 0


def _drop(server: EmbeddedPostgres, name: str) -> None:
    with server.connect() as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def clients() -> list[Installation]:
    """Return one client of each major and build on this machine, oldest first."""
    found: dict[tuple[int, str], Installation] = {}
    for one in sorted(find_installations(), key=lambda one: one.preference):
        found.setdefault((one.major, one.compression), one)
    return [found[key] for key in sorted(found)]


def table(found: Sequence[Cell], majors: Sequence[int]) -> str:
    """Return the cells as Markdown: a line for each server and client, a column for each goal."""
    lines = [
        "| server | client | " + " | ".join(f"into {major}" for major in majors) + " |",
        "|---|---|" + "---|" * len(majors),
    ]
    rows = dict.fromkeys((cell.source, cell.client) for cell in found)
    by_place = {(cell.source, cell.client, cell.destination): cell.text for cell in found}
    for source, client in rows:
        texts = [by_place.get((source, client, major), "–") for major in majors]
        lines.append(f"| {source} | {client} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main(sources: Sequence[int]) -> int:
    """Print the table; return 1 when what pgben says differs from what happens."""
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="pgben-majors-") as name:
        Path(name).chmod(0o755)
        servers = start(MAJORS, stack)
        found = [
            cell
            for source in sources
            for client in clients()
            for cell in cells(servers, source, client, Path(name))
        ]
    sys.stdout.write(table(found, MAJORS) + "\n")
    return int(any(cell.fault for cell in found))


if __name__ == "__main__":
    try:
        sys.exit(main([int(word) for word in sys.argv[1:]] or MAJORS))
    except KeyboardInterrupt:
        sys.exit("interrupted: the servers are stopped, and there is no table")

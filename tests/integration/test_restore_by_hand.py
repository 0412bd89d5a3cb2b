"""A stranger restores a backup with docs/format.md alone, by commands or in plain Python.

The commands are taken out of the document, so that what a person reads is what runs here. pgben
makes the backup; from then on only files, the recovery card's facts and a new server are used.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgben_tasks.adapters.keys.signatures import Trust
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.embedded.data.fill import DATABASE_ROLES, fill
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from tests.support.needs import needs
from tests.support.workshop import Workshop

PAGE = Path(__file__).parents[2] / "docs" / "format.md"
FENCE = re.compile(
    r"^```(?P<language>\w+) (?P<name>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
BLOCKS = {match["name"]: match["text"] for match in FENCE.finditer(PAGE.read_text("utf-8"))}
ASSIGNED = re.compile(r"(?:^|\s)([A-Z_]+)=", re.MULTILINE)

#: PostgreSQL 17 compresses its dumps with zstd; the build of 18 cannot, so its packs do it.
SUFFIXES = {17: ".tar.age", 18: ".tar.zst.age"}


@dataclass(frozen=True)
class Stranger:
    """Somebody with a repository, a key, a recovery card and an empty server of the same major."""

    folder: Path
    values: dict[str, str]
    capture: dict[str, Any]
    trusted_keys: Path
    server: EmbeddedPostgres

    def sh(self, *names: str) -> str:
        """Run blocks of the page, one after the other, in one shell that stops at any failure."""
        values = "".join(f"export {name}={shlex.quote(one)}\n" for name, one in self.values.items())
        return self._run(["sh", "-eu", "-c", values + "".join(BLOCKS[name] for name in names)])

    def python(self) -> str:
        """Run the page's program, out of reach of this project's code."""
        program = self.folder / "unpack.py"
        program.write_text(BLOCKS["unpack_program"], encoding="utf-8")
        named = ("REPOSITORY", "REPOSITORY_ID", "TARGET", "BACKUP", "IDENTITY")
        arguments = [self.values[name] for name in named]
        return self._run(
            [sys.executable, "-I", str(program), *arguments, str(self.trusted_keys), "dump"]
        )

    def _run(self, argv: list[str]) -> str:
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env={"PATH": f"{self.server.bin_dir}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
        if done.returncode != 0:
            raise Failed(done.stdout)
        return done.stdout


class Failed(Exception):
    """A command of the page ended with a status other than 0."""


@dataclass(frozen=True)
class Original:
    """A backup whose maker is not asked any more, and what its database looked like."""

    shop: Workshop
    manifest: Manifest
    dump: str


@pytest.fixture(scope="module", params=[17, 18], ids=["client-with-zstd", "client-without-zstd"])
def original(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Original]:
    with EmbeddedPostgres.start(major=request.param) as server:
        with server.connect() as connection:
            # Another provider of locales for the second server, so that both kinds are typed.
            builtin = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
            connection.execute(
                f"CREATE DATABASE pgben TEMPLATE template0 {builtin if server.major == 18 else ''}"
            )
        fill(server.dsn(), database="pgben", megabytes=3)
        folder = tmp_path_factory.mktemp("installation")
        # Packs of 64 KiB: large members of their own, and several packs of small ones.
        with Workshop.open(folder, server, "pgben", settings={"PGBEN_PACK_SIZE": "64KiB"}) as shop:
            manifest = shop.backup()
            yield Original(shop, manifest, dump_of(server))


@pytest.fixture(scope="module")
def empty_server(original: Original) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.start(major=original.shop.server.major) as server:
        yield server


@pytest.fixture
def stranger(
    original: Original, empty_server: EmbeddedPostgres, tmp_path: Path
) -> Iterator[Stranger]:
    path = original.shop.repository / f"backups/postgres/pgben/{original.manifest.backup}"
    manifest = json.loads((path / "manifest.json").read_bytes())
    trusted = original.shop.keys.trusted_keys
    yield Stranger(
        folder=tmp_path,
        values={
            "REPOSITORY": str(original.shop.repository),
            "TARGET": "postgres/pgben",
            "BACKUP": path.name,
            "IDENTITY": str(original.shop.escrow_identity),
            "NEWDB": "pgben",
            **database_values(manifest["postgres"], empty_server),
            "PGHOST": empty_server.host,
            "PGPORT": str(empty_server.port),
            "PGUSER": empty_server.user,
            "PGPASSWORD": empty_server.password,
            "REPOSITORY_ID": original.shop.tools.repository.id,
            "PUBLIC_KEY": json.loads(trusted.read_bytes())["keys"][0]["public"],
            "FINGERPRINT": printed_fingerprint(trusted.with_name("recovery-card.txt")),
        },
        capture=manifest["postgres"],
        trusted_keys=trusted,
        server=empty_server,
    )
    with empty_server.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS pgben WITH (FORCE)")
        for role in DATABASE_ROLES:
            connection.execute(f"DROP ROLE IF EXISTS {role}")


def printed_fingerprint(card: Path) -> str:
    """Return the fingerprint of the public keys, in groups as the recovery card prints it."""
    groups = re.findall(r"(?:[0-9a-f]{4} ){15}[0-9a-f]{4}", card.read_text("utf-8"))
    assert len(groups) == 1
    return str(groups[0])


def database_values(capture: dict[str, Any], server: EmbeddedPostgres) -> dict[str, str]:
    """Read the manifest as the page's table of values says."""
    with server.connect() as connection:
        rows = connection.execute("SELECT rolname FROM pg_roles").fetchall()
    options = [f"--locale-provider={capture['locale_provider']}"]
    if capture["locale_provider"] == "builtin":
        options.append(f"--builtin-locale={capture['locale']}")
    return {
        "OWNER": capture["owner"],
        "ENCODING": capture["encoding"],
        "COLLATE": capture["collate"],
        "CTYPE": capture["ctype"],
        "LOCALE_OPTIONS": " ".join(options),
        # pg_dump prints the roles of a policy in the order in which the cluster made them, so
        # that dumps compare only when they are made in the same order.
        "ROLES": " ".join(
            sorted(set(capture["roles"]) - {row[0] for row in rows}, key=DATABASE_ROLES.index)
        ),
    }


def type_the_properties(server: EmbeddedPostgres, capture: dict[str, Any]) -> None:
    """Type what the page's last table says of the database itself."""
    privileges = {"C": "CREATE", "T": "TEMPORARY", "c": "CONNECT"}
    statements = []
    for setting in capture["settings"]:
        whose = (
            f'ROLE "{setting["role"]}" IN DATABASE pgben' if setting["role"] else "DATABASE pgben"
        )
        statements.append(f"ALTER {whose} SET \"{setting['name']}\" TO '{setting['value']}'")
    statements.append("REVOKE ALL ON DATABASE pgben FROM PUBLIC")
    for entry in capture["acl"]:
        grantee, granted, _ = re.split("[=/]", entry)
        words = ", ".join(privileges[letter] for letter in granted)
        statements.append(f"GRANT {words} ON DATABASE pgben TO {grantee or 'PUBLIC'}")
    statements.append(f"ALTER DATABASE pgben CONNECTION LIMIT {capture['connection_limit']}")
    statements.append(f"COMMENT ON DATABASE pgben IS '{capture['comment']}'")
    with server.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def dump_of(server: EmbeddedPostgres) -> str:
    """Dump the database and its properties as plain text, without what differs in every run."""
    done = subprocess.run(
        [str(server.bin_dir / "pg_dump"), "--format=plain", "--create", "--no-password", "pgben"],
        env={
            "LC_ALL": "C",
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGUSER": server.user,
            "PGPASSWORD": server.password,
        },
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=120,
    )
    differing = re.compile(r"^(\\(un)?restrict .*|-- Dumped (from|by) .*)$", re.MULTILINE)
    return differing.sub("", done.stdout)


def packs_of(original: Original) -> list[Path]:
    return [original.shop.repository / pack.path for pack in original.manifest.packs]


def test_the_suffixes_of_packs_tell_what_was_done_to_them(original: Original) -> None:
    expected = SUFFIXES[original.shop.server.major]
    names = [path.name for path in packs_of(original)]
    assert names == [f"{number}{expected}" for number in range(1, len(names) + 1)]
    assert len(names) > 2


def test_the_page_and_this_test_set_the_same_variables(stranger: Stranger) -> None:
    written = ASSIGNED.findall(BLOCKS["values"]) + ASSIGNED.findall(BLOCKS["signer"])
    assert sorted(written) == sorted(stranger.values)


def test_every_block_of_commands_is_run_here() -> None:
    assert set(BLOCKS) == {
        *("values", "check", "unpack", "load", "count", "signer", "keys", "signature"),
        "unpack_program",
    }


@needs("age", "zstd")
def test_a_backup_restores_with_command_line_tools_alone(
    original: Original, stranger: Stranger
) -> None:
    stranger.sh("check", "unpack", "load", "count")
    type_the_properties(stranger.server, stranger.capture)
    assert dump_of(stranger.server) == original.dump


def test_a_backup_restores_with_plain_python_alone(original: Original, stranger: Stranger) -> None:
    said = stranger.python()
    stranger.sh("check", "load", "count")
    assert f"{len(original.manifest.packs)} packs, signed by 'all'" in said
    type_the_properties(stranger.server, stranger.capture)
    assert dump_of(stranger.server) == original.dump


def test_roles_come_back_without_the_right_to_log_in(stranger: Stranger) -> None:
    stranger.python()
    stranger.sh("load")
    with stranger.server.connect() as connection:
        rows = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'pgben%' AND NOT rolcanlogin"
        ).fetchall()
    assert {row[0] for row in rows} == set(DATABASE_ROLES)


def test_the_counting_commands_find_a_missing_row(stranger: Stranger) -> None:
    stranger.python()
    stranger.sh("check", "load", "count")
    with psycopg.connect(**stranger.server.dsn("pgben")) as connection:
        connection.execute("DELETE FROM auditoria.evento WHERE ctid = '(0,1)'")
    with pytest.raises(Failed, match=r"auditoria\.evento has \d+ rows instead of \d+"):
        stranger.sh("count")


def test_the_checking_commands_find_a_flipped_byte(original: Original, stranger: Stranger) -> None:
    pack = packs_of(original)[0]
    whole = pack.read_bytes()
    pack.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    try:
        with pytest.raises(Failed, match="FAILED"):
            stranger.sh("check")
        with pytest.raises(Failed, match="is damaged"):
            stranger.python()
    finally:
        pack.write_bytes(whole)


@pytest.mark.parametrize("typed", [str, str.upper], ids=["as-printed", "in-capitals"])
def test_the_trusted_keys_are_made_from_the_repository_and_the_card(
    original: Original, stranger: Stranger, typed: Callable[[str], str]
) -> None:
    stranger.values["FINGERPRINT"] = typed(stranger.values["FINGERPRINT"])
    stranger.sh("keys")
    made = stranger.folder / "trusted-keys.json"
    made.chmod(0o600)
    assert Trust.load(made).keys == tuple(
        key.model_copy(update={"roles": tuple(sorted(key.roles))})
        for key in Trust.load(stranger.trusted_keys).keys
    )
    said = replace(stranger, trusted_keys=made).python()
    assert f"{len(original.manifest.packs)} packs, signed by 'all'" in said


def test_keys_with_another_fingerprint_are_not_taken_by_hand(
    original: Original, stranger: Stranger
) -> None:
    (stored,) = (original.shop.repository / "keys").iterdir()
    data = stored.read_bytes()
    stored.write_bytes(data.replace(b'"public":"', b'"public":"A', 1))
    try:
        with pytest.raises(Failed, match="FAILED"):
            stranger.sh("keys")
    finally:
        stored.write_bytes(data)
    typed = stranger.values["FINGERPRINT"]
    for mistyped in ("", typed[:-1], ("1" if typed[0] == "0" else "0") + typed[1:]):
        stranger.values["FINGERPRINT"] = mistyped
        with pytest.raises(Failed):
            stranger.sh("keys")
    assert not (stranger.folder / "trusted-keys.json").exists()


@needs("openssl")
def test_openssl_accepts_the_signature(stranger: Stranger) -> None:
    assert "Signature Verified Successfully" in stranger.sh("signature")


@needs("openssl")
@pytest.mark.parametrize("name", ["REPOSITORY_ID", "PUBLIC_KEY"])
def test_a_signature_for_another_repository_or_by_another_key_is_refused(
    stranger: Stranger, name: str
) -> None:
    value = stranger.values[name]
    # One key in 64 begins with an A already.
    other = "B" if value.startswith("A") else "A"
    stranger.values[name] = value[1:-1] if name == "REPOSITORY_ID" else other + value[1:]
    with pytest.raises(Failed):
        stranger.sh("signature")


def test_python_refuses_a_backup_that_was_moved_to_another_repository(stranger: Stranger) -> None:
    stranger.values["REPOSITORY_ID"] = "another-repository"
    with pytest.raises(Failed, match="InvalidSignature"):
        stranger.python()

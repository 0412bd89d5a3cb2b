"""The parts of the embedded servers and the demonstration data that need no server."""

from __future__ import annotations

import os
import socket
import zlib
from pathlib import Path

import pytest

from pgben_tasks.embedded.accounts import Account
from pgben_tasks.embedded.binaries import parse_redis_version, postgres_install
from pgben_tasks.embedded.child import LOOPBACK, PORTS, free_port
from pgben_tasks.embedded.data.rows import ROWS_PER_CITIZEN, Population
from pgben_tasks.embedded.data.text import with_check_digits
from pgben_tasks.errors import ConfigurationError

STRANGER = Account(uid=64_000, gid=64_000)


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("Redis server v=6.2.14 sha=00000000:0 malloc=libc bits=64 build=1", (6, 2)),
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", (7, 0)),
        ("Valkey server v=8.1.1 sha=00000000:0", (8, 1)),
        ("command not understood", (0, 0)),
    ],
)
def test_the_version_of_redis_is_read(printed: str, version: tuple[int, int]) -> None:
    assert parse_redis_version(printed) == version


def test_an_unknown_major_of_postgresql_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="no embedded PostgreSQL 9") as refused:
        postgres_install(9)
    assert "17 and 18" in refused.value.hint


def test_a_private_folder_above_keeps_a_stranger_out(tmp_path: Path) -> None:
    program = tmp_path / "venv" / "program"
    program.parent.mkdir(mode=0o755)
    program.touch(mode=0o755)
    tmp_path.chmod(0o700)
    owner = Account(os.getuid(), os.getgid())
    assert owner.may(tmp_path.stat(), 0o7)
    assert not STRANGER.reads(program)


@pytest.mark.parametrize(("mode", "may"), [(0o755, True), (0o711, True), (0o750, False)])
def test_passing_through_a_folder_needs_its_x_for_others(
    tmp_path: Path, mode: int, *, may: bool
) -> None:
    tmp_path.chmod(mode)
    assert STRANGER.may(tmp_path.stat(), 0o1) is may


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    assert port in PORTS
    with socket.create_server((LOOPBACK, port)):
        pass


def test_a_cpf_gets_its_check_digits() -> None:
    assert with_check_digits("529982247") == "52998224725"
    assert with_check_digits("111444777") == "11144477735"


def rows(citizens: int, seed: int) -> dict[str, list[list[str]]]:
    return {
        table: [line.removesuffix("\n").split("\t") for line in lines]
        for table, _columns, lines in Population(citizens, seed).tables()
    }


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert rows(30, seed=1) == rows(30, seed=1)
    assert rows(30, seed=1) != rows(30, seed=2)


def test_every_line_has_a_value_for_every_column() -> None:
    for _table, columns, lines in Population(40, 7).tables():
        for line in lines:
            assert len(line.removesuffix("\n").split("\t")) == len(columns)
            assert "\\" not in line.replace("\\N", "")


def test_references_lead_to_rows_that_come_earlier() -> None:
    tables = rows(60, seed=3)
    citizens = {row[0] for row in tables["cidadao"]}
    requests = {row[0] for row in tables["solicitacao"]}
    assert {row[2] for row in tables["solicitacao"]} <= citizens
    assert {row[1] for row in tables["documento"]} <= requests
    assert {row[2] for row in tables["pagamento"]} <= requests
    earlier: set[str] = set()
    for row in tables["cidadao"]:
        assert row[12] == "\\N" or row[12] in earlier
        earlier.add(row[0])


def test_the_number_of_rows_per_citizen_is_as_announced() -> None:
    total = sum(len(lines) for lines in rows(400, seed=5).values())
    assert 0.8 < total / (400 * ROWS_PER_CITIZEN) < 1.2


def test_the_text_is_varied_and_not_padding() -> None:
    text = "\n".join("\t".join(row) for table in rows(300, seed=9).values() for row in table)
    packed = zlib.compress(text.encode(), 6)
    assert 2.5 < len(text.encode()) / len(packed) < 6
    assert all(word in text for word in ("ção", "ã", "é", "Rua"))

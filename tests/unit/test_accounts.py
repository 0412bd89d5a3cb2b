"""The console's users: who is in the file, whose password is right, and what a file may be."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import argon2
import pytest

from pgben_tasks.adapters.accounts import LONGEST_PASSWORD, Accounts
from pgben_tasks.errors import ConfigurationError, RequestRefused
from pgben_tasks.files.durable import durable_file

PASSWORD = "senha é de maçã"
OTHER = "another pass word"
#: Hashed once, cheaply, and everywhere alike: it is in the names of tests.
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(
    PASSWORD, salt=b"sixteen bytes of"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


@pytest.fixture
def users(path: Path) -> Accounts:
    return Accounts(path)


def write(path: Path, text: str, mode: int = 0o600) -> None:
    with durable_file(path) as file:
        file.write(text.encode())
    path.chmod(mode)


def names(users: Accounts) -> dict[str, str]:
    return {name: one.role for name, one in users.all().items()}


def test_whoever_was_added_is_let_in_with_the_password_and_no_other(
    path: Path, users: Accounts
) -> None:
    users.add("maria@example.org", "operate", PASSWORD)
    users.add("tv-1", "watch", OTHER)
    found = users.check("maria@example.org", PASSWORD)
    assert found is not None
    assert (found.name, found.role) == ("maria@example.org", "operate")
    assert users.check("maria@example.org", OTHER) is None
    assert users.check("tv-1", PASSWORD) is None
    assert users.check("nobody", PASSWORD) is None
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text("utf-8").count("$argon2id$") == 2


def test_a_password_stands_nowhere(path: Path, users: Accounts) -> None:
    write(path, f"maria watch {HASH}\n")
    assert HASH not in repr(users.all())
    assert HASH not in str(users.all())


def test_accents_are_the_same_however_a_keyboard_makes_them(path: Path, users: Accounts) -> None:
    write(path, f"maria watch {HASH}\n")
    assert users.check("maria", "senha é de maçã") is not None
    assert users.check("maria", "senha e\N{COMBINING ACUTE ACCENT} de maçã") is not None
    assert users.check("maria", "senha e de maca") is None
    # What a request may hold and no keyboard gives.
    assert users.check("maria", "senha \udcff") is None


def test_an_endless_password_is_not_hashed(path: Path, users: Accounts) -> None:
    longest = "x" * LONGEST_PASSWORD
    users.add("maria", "watch", longest)
    assert users.check("maria", longest) is not None
    began = time.process_time()
    for _ in range(5):
        assert users.check("maria", "é" * LONGEST_PASSWORD) is None
    endless = time.process_time() - began
    began = time.process_time()
    users.check("maria", OTHER)
    assert endless < time.process_time() - began
    with pytest.raises(ConfigurationError, match="longer than 1000 bytes"):
        users.add("ana", "watch", longest + "x")


def test_a_name_that_does_not_exist_costs_as_much_as_one_that_does(users: Accounts) -> None:
    users.add("maria", "watch", PASSWORD)
    users.check("maria", OTHER)

    def spent(name: str) -> float:
        began = time.process_time()
        users.check(name, OTHER)
        return time.process_time() - began

    known, unknown = (min(spent(name) for _ in range(3)) for name in ("maria", "nobody"))
    assert 0.5 < unknown / known < 2


def test_comments_and_blank_lines_stay_where_they_are(path: Path, users: Accounts) -> None:
    write(path, f"# the team\n\nana watch {HASH}\n  # the screen in the hall\ntv watch {HASH}\n")
    assert names(users) == {"ana": "watch", "tv": "watch"}
    users.add("ana", "operate", PASSWORD, replace=True)
    users.remove("tv")
    comment, blank, ana, screen = path.read_text("utf-8").splitlines()
    assert (comment, blank, screen) == ("# the team", "", "  # the screen in the hall")
    assert ana.startswith("ana operate $argon2id$")
    assert names(users) == {"ana": "operate"}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("maria watch", "a name, a role and a hash"),
        (f"maria watch {HASH} more", "a name, a role and a hash"),
        (f"maria admin {HASH}", "not one of watch, operate"),
        (f"mária watch {HASH}", "not a name"),
        (f"{'x' * 61} watch {HASH}", "not a name"),
        ("maria watch secret-in-the-clear", "not an argon2id hash"),
        (f"maria watch {HASH.replace('argon2id', 'argon2i')}", "not an argon2id hash"),
        (f"maria watch {HASH[:-2]}", "not an argon2id hash"),
        (f"maria watch {HASH.rpartition('$')[0]}", "not an argon2id hash"),
        (f"ana operate {HASH}", "twice"),
    ],
)
def test_a_faulty_line_is_named_by_its_number_and_never_shown(
    line: str, what: str, path: Path, users: Accounts
) -> None:
    write(path, f"# first\nana watch {HASH}\n{line}\n")
    for use in (users.all, lambda: users.check("ana", PASSWORD), lambda: users.remove("ana")):
        with pytest.raises(ConfigurationError, match=what) as caught:
            use()
        said = str(caught.value)
        assert "line 3" in said
        assert str(path) in said
        assert not [word for word in line.split()[2:] if word in said]


@pytest.mark.parametrize(
    ("mode", "accepted"), [(0o600, True), (0o400, True), (0o440, True), (0o604, False)]
)
def test_a_file_that_every_user_may_read_is_refused(
    mode: int, accepted: bool, path: Path, users: Accounts
) -> None:
    write(path, f"ana watch {HASH}\n", mode)
    if accepted:
        assert names(users) == {"ana": "watch"}
        return
    with pytest.raises(ConfigurationError, match="open to every user"):
        users.all()
    with pytest.raises(ConfigurationError, match="open to every user"):
        users.add("tv", "watch", PASSWORD)


def test_a_file_that_becomes_open_later_is_refused_from_then_on(
    path: Path, users: Accounts
) -> None:
    write(path, f"ana watch {HASH}\n")
    assert names(users) == {"ana": "watch"}
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to every user"):
        users.all()


def test_a_missing_file_is_a_fault_and_an_empty_one_lets_nobody_in(
    path: Path, users: Accounts
) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        users.all()
    write(path, "")
    assert users.all() == {}
    assert users.check("", "") is None
    path.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        users.all()


def exchanged(path: Path) -> None:
    write(path, f"tv watch {HASH}\n")


def in_place(path: Path) -> None:
    path.write_text(f"tv watch {HASH}\n", encoding="utf-8")


@pytest.mark.parametrize("change", [exchanged, in_place])
def test_a_change_is_seen_with_the_next_question(
    change: Callable[[Path], None], path: Path, users: Accounts
) -> None:
    write(path, f"ana watch {HASH}\n")
    assert names(users) == {"ana": "watch"}
    change(path)
    assert names(users) == {"tv": "watch"}


def test_a_secret_that_kubernetes_exchanges_is_read_again(tmp_path: Path) -> None:
    for version, name in (("..1", "ana"), ("..2", "tva")):
        (tmp_path / version).mkdir()
        write(tmp_path / version / "users", f"{name} watch {HASH}\n", 0o440)
        os.utime(tmp_path / version / "users", (1, 1))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "users").symlink_to("..data/users")
    users = Accounts(tmp_path / "users")
    assert names(users) == {"ana": "watch"}
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert names(users) == {"tva": "watch"}


def test_an_unchanged_file_is_not_read_again(path: Path, users: Accounts) -> None:
    write(path, f"ana watch {HASH}\n")
    known = users.all()
    assert users.all()["ana"] is known["ana"]
    known.clear()
    assert names(users) == {"ana": "watch"}


def test_a_name_that_is_there_is_refused_unless_it_is_to_be_replaced(
    path: Path, users: Accounts
) -> None:
    write(path, f"ana watch {HASH}\n")
    before = path.read_bytes()
    with pytest.raises(RequestRefused, match="already"):
        users.add("ana", "operate", OTHER)
    assert path.read_bytes() == before
    users.add("ana", "operate", OTHER, replace=True)
    assert names(users) == {"ana": "operate"}
    assert users.check("ana", PASSWORD) is None
    assert users.check("ana", OTHER) is not None


@pytest.mark.parametrize("name", ["", "ana maria", "#ana", "ana:x", "ana\n", "x" * 61])
def test_a_name_that_no_line_can_hold_is_not_taken(name: str, path: Path, users: Accounts) -> None:
    with pytest.raises(ConfigurationError, match="not a name"):
        users.add(name, "watch", PASSWORD)
    assert not path.exists()


def test_a_short_password_is_not_taken(path: Path, users: Accounts) -> None:
    with pytest.raises(ConfigurationError, match="shorter than 10 characters") as caught:
        users.add("ana", "watch", "123456789")
    assert "123456789" not in str(caught.value)
    assert not path.exists()


def test_nobody_unknown_can_be_removed(path: Path, users: Accounts) -> None:
    write(path, f"ana watch {HASH}\n")
    with pytest.raises(ConfigurationError, match="no user 'tv'"):
        users.remove("tv")
    assert names(users) == {"ana": "watch"}


def test_a_group_that_may_read_the_file_goes_on_reading_it(path: Path, users: Accounts) -> None:
    write(path, f"ana watch {HASH}\n", 0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    before = path.stat()
    users.remove("ana")
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    users = Accounts(tmp_path / "missing" / "users")
    with pytest.raises(ConfigurationError, match="cannot be written: No such file"):
        users.add("ana", "watch", PASSWORD)

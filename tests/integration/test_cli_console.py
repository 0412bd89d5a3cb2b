"""`pgben console user`: who may log in to the console, and passwords that nobody else sees."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from pgben_tasks.adapters.accounts import Accounts
from tests.support import commands
from tests.support.cli_site import clean_environment
from tests.support.commands import Ran

PASSWORD = "canário de 2026"
ADD = ("console", "user", "add", "maria")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users"


def run(file: Path, *arguments: str) -> Ran:
    environment = {**clean_environment(), "PGBEN_CONSOLE_USERS_FILE": str(file)}
    return commands.run(*arguments, environment=environment)


def piped(file: Path, *arguments: str, text: bytes) -> Ran:
    """Run a command whose standard input is a pipe with ``text``."""
    done = subprocess.run(
        [sys.executable, "-m", "pgben_tasks.cli.main", *arguments, "--file", str(file)],
        env=clean_environment(),
        input=text,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def typed(file: Path, *answers: str) -> tuple[int, bytes]:
    """Add maria at a terminal with these answers to what is asked; return the code and the screen.

    The command is ended as by Ctrl-C where it asks for more.
    """
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pgben_tasks.cli.main", *ADD, "--operate", "--file", str(file)],
        env={**clean_environment(), "TERM": "dumb"},
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        # What is not shown is read from the terminal itself.
        preexec_fn=lambda: fcntl.ioctl(end, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads
    )
    os.close(end)
    shown, asked = bytearray(), 0
    left = list(answers)
    while select.select([terminal], [], [], 60)[0]:
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            break
        if shown.count(b": ") > asked:
            asked = shown.count(b": ")
            os.write(terminal, f"{left.pop(0)}\n".encode() if left else b"\x03")
    os.close(terminal)
    return process.wait(timeout=60), bytes(shown)


def may(file: Path, password: str) -> str | None:
    found = Accounts(file).check("maria", password)
    return None if found is None else found.role


def test_a_password_of_a_file_lets_in_and_the_list_shows_who_may_what(
    file: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text(f"{PASSWORD}\n", encoding="utf-8")
    added = run(file, *ADD, "--operate", "--password-file", str(secret))
    assert added.code == 0, added.err
    assert may(file, PASSWORD) == "operate"
    listed = run(file, "console", "user", "list", "--json")
    assert listed.json == {"users": [{"name": "maria", "role": "operate"}]}
    shown = run(file, "console", "user", "list")
    assert shown.out.split()[-2:] == ["maria", "operate"]
    assert "argon2" not in shown.all + listed.all + added.all
    removed = run(file, "console", "user", "remove", "maria")
    assert removed.code == 0, removed.err
    assert "nobody may log in" in run(file, "console", "user", "list").err
    assert run(file, "console", "user", "remove", "maria").code == 2


def test_a_password_comes_from_a_pipe(file: Path) -> None:
    assert piped(file, *ADD, "--watch", text=f"{PASSWORD}\n".encode()).code == 0
    assert may(file, PASSWORD) == "watch"
    again = piped(file, *ADD, "--operate", text=b"")
    assert again.code == 3
    assert "--replace" in again.err
    replaced = piped(file, *ADD, "--operate", "--replace", text=b"another password")
    assert replaced.code == 0, replaced.err
    assert (may(file, PASSWORD), may(file, "another password")) == (None, "operate")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "shorter than 10 characters"),
        (b"short-1\n", "shorter than 10 characters"),
        (b"secret-\xff-secret", "not text in UTF-8"),
        (b"secret-" * 200, "longer than 1000 bytes"),
    ],
)
def test_a_password_that_is_not_taken_is_not_repeated(text: bytes, said: str, file: Path) -> None:
    ended = piped(file, *ADD, "--watch", text=text)
    assert ended.code == 2
    assert said in ended.err
    assert "secret-" not in ended.all
    assert "short-1" not in ended.all
    assert not file.exists()


def test_at_a_terminal_the_password_is_asked_twice_and_not_shown(file: Path) -> None:
    code, shown = typed(file, PASSWORD, PASSWORD)
    assert code == 0, shown
    assert PASSWORD.encode() not in shown
    assert shown.count(b": ") == 2
    assert may(file, PASSWORD) == "operate"


def test_at_a_terminal_two_different_passwords_are_asked_again(file: Path) -> None:
    code, shown = typed(file, PASSWORD, "something else")
    assert code != 0
    assert b"do not match" in shown
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*ADD,), "--operate"),
        ((*ADD, "--operate", "--watch"), "--operate"),
        (("console", "user", "add", "ana maria", "--watch"), "A to Z"),
        ((*ADD, "--watch", "--password-file", "/nonexistent"), "cannot be read"),
    ],
)
def test_wrong_usage_is_explained(arguments: tuple[str, ...], said: str, file: Path) -> None:
    ended = run(file, *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert not file.exists()


def test_a_password_is_never_an_argument(file: Path) -> None:
    assert run(file, *ADD, "--watch", PASSWORD).code == 2
    assert run(file, *ADD, "--watch", "--password", PASSWORD).code == 2


def test_without_the_setting_it_says_what_to_set() -> None:
    ended = commands.run("console", "user", "list", environment=clean_environment())
    assert ended.code == 2
    assert "PGBEN_CONSOLE_USERS_FILE" in ended.err
    assert "--file" in ended.err


def test_a_faulty_file_is_an_error_for_scripts_too(file: Path) -> None:
    file.touch(mode=0o600)
    file.write_text("maria watch s3cret\n", encoding="utf-8")
    ended = run(file, "console", "user", "list", "--json")
    assert ended.code == 2
    assert "line 1" in ended.json["error"]["sentence"]
    assert "s3cret" not in ended.all

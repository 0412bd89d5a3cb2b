"""Completion in real shells: installed where each of them reads it, in a home of its own."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sysconfig
import termios
from pathlib import Path

import pytest

from pgben_tasks.embedded.child import wait_until
from tests.support.needs import needs

pytestmark = pytest.mark.unmeasured

SHELLS = {
    "bash": (".bash_completions/pgben.sh", ".bashrc"),
    "zsh": (".zfunc/_pgben", ".zshrc"),
    "fish": (".config/fish/completions/pgben.fish",),
}
each_shell = pytest.mark.parametrize(
    "shell", [pytest.param(shell, marks=needs(shell)) for shell in SHELLS]
)


def surroundings(home: Path) -> dict[str, str]:
    """Return an environment with pgben on PATH, and none of its settings."""
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    return {"HOME": str(home), "PATH": path, "TERM": "dumb", "LANG": "C.UTF-8"}


def run(shell: str, line: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    # A second command keeps the shell from becoming the first.
    return subprocess.run(
        [shell, "-c", f"{line}; exit $?" if shell != "fish" else f"{line}; exit $status"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def typed(shell: str, keys: str, environment: dict[str, str], *, until: str) -> str:
    """Type keys at the prompt of an interactive shell; return what a terminal gets of it."""
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe(shell, [shell, "-i"], environment)  # noqa: S606 - it is the shell
    shown = ""

    def has_shown(what: str) -> bool:
        nonlocal shown
        if select.select([terminal], [], [], 0)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
        return what in shown

    def edits() -> bool:
        return has_shown("") and not termios.tcgetattr(terminal)[3] & termios.ICANON

    try:
        # Before the shell edits lines by itself, a tab is a character like any other.
        assert wait_until(edits, seconds=30), shown
        os.write(terminal, keys.encode())
        wait_until(lambda: has_shown(until), seconds=30)
        return shown
    finally:
        os.kill(process, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(process, 0)


@each_shell
def test_a_shell_completes_commands_and_options(shell: str, tmp_path: Path) -> None:
    environment = surroundings(tmp_path)
    done = run(shell, "pgben --install-completion", environment)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert f"{shell} completion installed in {tmp_path / SHELLS[shell][0]}" in done.stderr
    installed = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert set(SHELLS[shell]) <= installed

    if shell == "fish":
        done = run(shell, "complete -C 'pgben acknowledge --reas'", environment)
        assert done.stdout.startswith("--reason\t"), done.stderr
        return
    # The line is printed, not run: Ctrl-A goes to its beginning.
    keys = "pgben acknow\t--reas\t\x01echo do''ne: \r"
    shown = typed(shell, keys, environment, until="done: pgben acknowledge --reason")
    assert "done: pgben acknowledge --reason" in shown


@needs("bash")
def test_completion_that_cannot_be_installed_is_said_in_a_sentence() -> None:
    environment = surroundings(Path(os.devnull))
    done = run("bash", "pgben --install-completion", environment)
    assert done.returncode == 2
    assert done.stderr.startswith("error: completion cannot be installed: ")
    assert "HINT: `pgben --show-completion` prints it" in done.stderr


@needs("bash")
def test_the_completion_that_is_shown_is_the_one_that_is_installed(tmp_path: Path) -> None:
    environment = surroundings(tmp_path)
    shown = run("bash", "pgben --show-completion", environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "complete -o default -F _pgben_completion pgben" in shown.stdout
    assert list(tmp_path.iterdir()) == []

"""Run command lines of pgben as processes of their own, without importing everything each time.

A server imports once what the commands need, and forks for each of them: a command has its own
environment, folder, output and end, and nothing that it leaves in memory reaches the next one.
Tests of signals, pipes or of the interpreter itself start ``python -m pgben_tasks.cli.main``.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Final

from tests.support import forks

ROOT: Final = Path(__file__).parents[2]
#: Not imported ahead: what reads the environment when it is imported, and whole other programs.
_LATER: Final = (
    *("pgben_tasks.app", "pgben_tasks.client", "pgben_tasks.tasks", "pgben_tasks.embedded"),
    *("pgben_tasks.cli.demo", "pgben_tasks.adapters.process_exec", "pgben_tasks.console"),
)


@dataclass(frozen=True)
class Ran:
    """How a command line ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it said to machines."""
        return json.loads(self.out)

    @property
    def all(self) -> str:
        """Everything that a person saw."""
        return self.out + self.err


def run(
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path = ROOT,
    timeout: float = 60,
    out: IO[bytes] | None = None,
) -> Ran:
    """Run ``pgben`` with these arguments, in exactly this environment.

    What it writes to standard output is returned, or goes to ``out``. Raises ``TimeoutError``,
    after it killed the command, when it takes longer than ``timeout`` seconds.
    """
    request = {"arguments": arguments, "environment": dict(environment), "folder": str(folder)}
    with (
        socket.socket(socket.AF_UNIX) as connection,
        tempfile.TemporaryFile("w+", encoding="utf-8") as kept,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
    ):
        connection.connect(_server(measured="COVERAGE_PROCESS_CONFIG" in os.environ))
        answers = forks.ask(connection, request, [(out or kept).fileno(), err.fileno()])
        process = int(answers.readline())
        connection.settimeout(timeout)
        try:
            status = answers.readline()
        except TimeoutError:
            os.kill(process, signal.SIGKILL)
            raise
        kept.seek(0)
        err.seek(0)
        return Ran(os.waitstatus_to_exitcode(int(status)), kept.read(), err.read())


def install(folder: Path) -> None:
    """Write a program ``pgben`` for shells into a folder: each run is a fork as of ``run``."""
    server = _server(measured="COVERAGE_PROCESS_CONFIG" in os.environ)
    typed = shlex.join([sys.executable, "-IS", forks.__file__, server])
    program = folder / "pgben"
    program.write_text(f'#!/bin/sh\nexec {typed} "$@"\n', encoding="utf-8")
    program.chmod(0o755)


def on_a_terminal(*arguments: str, environment: Mapping[str, str]) -> list[str]:
    """Run ``pgben`` on a terminal of 80 columns, without colours; return the lines it shows."""
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 80))
    shown = bytearray()

    def read() -> None:
        # The terminal is gone when its last user is.
        with suppress(OSError):
            while piece := os.read(terminal, 65536):
                shown.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(end, "w+b", buffering=0) as out:
        said = run(*arguments, environment={**environment, "TERM": "dumb"}, out=out)
    reader.join()
    os.close(terminal)
    assert said.code == 0, said.err
    return shown.decode().splitlines()


@cache
def _server(*, measured: bool) -> str:
    """Start the server of this process; return the address of its socket."""
    folder = tempfile.TemporaryDirectory(prefix="pgben-commands-")
    address = str(Path(folder.name) / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.commands", str(listener.fileno())],
            # Its end is ours: the pipe closes.
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )

    def end() -> None:
        process.communicate(timeout=60)
        folder.cleanup()

    atexit.register(end)
    return address


def _import_ahead() -> None:
    for path in sorted((ROOT / "pgben_tasks").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith(_LATER) and not name.endswith("__main__"):
            importlib.import_module(name)
    for name in ("celery", "kombu.transport.redis", "celery.backends.redis", "typer.rich_utils"):
        importlib.import_module(name)
    assert "pgben_tasks.app" not in sys.modules


def _serve(listener: socket.socket) -> None:
    """Fork for every command that is asked for, until whoever started this has ended."""
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _watch(connection)
            os._exit(0)
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


def _watch(connection: socket.socket) -> None:
    """Fork once more, and tell the process id and how it ended; the fork leaves by its exit."""
    head, files, _, _ = socket.recv_fds(connection, forks.LENGTH, 2)
    wanted = int.from_bytes(head)
    body = b""
    while len(body) < wanted:
        body += connection.recv(wanted - len(body))
    request = json.loads(body)
    process = os.fork()
    if process == 0:
        connection.close()
        _become(request, files)
    connection.sendall(f"{process}\n".encode())
    _, status = os.waitpid(process, 0)
    with suppress(BrokenPipeError):
        connection.sendall(f"{status}\n".encode())


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Be the command: never returns."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, *files)):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    time.tzset()
    sys.argv = ["pgben", *request["arguments"]]
    code = importlib.import_module("pgben_tasks.cli.main").main()
    # All that sys.exit does but the taking apart of every module, which takes longer than most
    # commands.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _import_ahead()
    # Nothing of it is looked through, and copied, by the commands.
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as _listener:
        _serve(_listener)

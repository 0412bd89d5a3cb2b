"""Start and stop servers as children of a supervisor that outlives a killed parent.

``Supervisor`` is the parent's end of ``supervisor.py``; ``Child`` is one server process. What a
particular server needs does not belong here.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pgben_tasks.embedded.accounts import Account, private_base
from pgben_tasks.errors import CommandFailed

LOOPBACK: Final = "127.0.0.1"
#: Ports below the range that the kernel hands out to outgoing connections, so that a server that
#: was stopped finds its port free again.
PORTS: Final = range(15_000, 32_000)
#: Seconds that one request to the supervisor may take, and that it may take to clean up.
REQUEST_TIMEOUT: Final = 30.0
CLOSE_TIMEOUT: Final = 30.0
#: The time between two looks, in seconds, grows with the time that was waited.
_POLL_SECONDS: Final = 0.02
_POLL_SECONDS_MOST: Final = 0.25
_POLL_SHARE: Final = 0.1
_LOG_TAIL: Final = 1_500


def free_port() -> int:
    """Return a loopback port that no process listens on at this moment.

    Another process may take it before the caller does; the server then fails to bind, and its
    start is repeated with another port.
    """
    for _ in range(200):
        port = secrets.choice(PORTS)
        with socket.socket() as attempt:
            try:
                attempt.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise CommandFailed(
        f"no free port was found on '{LOOPBACK}' in 200 tries",
        "stop servers that are no longer needed",
    )


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Check ``condition``, ever more rarely; return whether it became true in time."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        if waited > seconds:
            return False
        time.sleep(min(max(_POLL_SECONDS, waited * _POLL_SHARE), _POLL_SECONDS_MOST))
    return True


class Closable(ABC):
    """Something that ``close`` ends, and so does leaving its ``with`` block."""

    @abstractmethod
    def close(self) -> None:
        """End it; calling this again does nothing."""

    def __enter__(self) -> Self:
        """Return what runs."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to start: ``environment`` is all it gets, ``gentle`` is what asks it to end.

    The gentle signal is also what the program receives when the supervisor itself dies.
    """

    argv: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    account: Account | None = None
    gentle: signal.Signals = signal.SIGTERM
    folder: Path = Path("/")


class Supervisor(Closable):
    """The process that owns embedded servers and their folder, and removes both at the end.

    Its end begins when ``close`` is called or this process ends in any way, SIGKILL included.
    Safe to use from several threads.
    """

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        """Take the running program and this end of its socket; see ``start``."""
        self._process = process
        self._connection = connection
        self._replies = connection.makefile("rb")
        self._lock = threading.Lock()
        self._requests = 0
        self._owner = os.getpid()
        self.folder = Path(self._reply(0)["folder"])

    @classmethod
    def start(cls, base: Path | None = None) -> Supervisor:
        """Start a supervisor with a new private folder below ``base`` (default: temporary files).

        Raises ``ConfigurationError`` when the servers' user cannot reach ``base``.
        """
        program = Path(__file__).with_name("supervisor.py")
        place = private_base(base)
        ours, theirs = socket.socketpair()
        ours.settimeout(REQUEST_TIMEOUT)
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [
                    *(sys.executable, "-I", "-S", str(program)),
                    *(str(place), str(os.getpid())),
                ],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                # Ctrl-C goes to the terminal's process group; the supervisor must outlive it.
                start_new_session=True,
            )
        try:
            return cls(process, ours)
        except (OSError, ValueError) as exc:
            ours.close()
            process.kill()
            process.wait(timeout=CLOSE_TIMEOUT)
            raise CommandFailed(
                "the supervisor of the embedded servers did not start",
                "see whether there is room for temporary files",
            ) from exc

    def spawn(self, name: str, command: Command) -> Child:
        """Start a program in a session of its own, its output in ``<folder>/<name>.log``."""
        log = self.folder / f"{name}.log"
        pid = self.start_program(command, log)
        return Child(supervisor=self, pid=pid, name=name, log=log, command=command)

    def start_program(self, command: Command, log: Path) -> int:
        """Start a program in a session of its own, its output appended to ``log``."""
        reply = self.request(
            do="start",
            argv=list(command.argv),
            env=command.environment,
            cwd=str(command.folder),
            log=str(log),
            user=command.account.uid if command.account else None,
            group=command.account.gid if command.account else None,
            gentle=int(command.gentle),
        )
        return int(reply["pid"])

    def run(self, name: str, command: Command, *, seconds: float = 60.0) -> None:
        """Run a program to its end; ``CommandFailed`` unless it exits with 0 in time."""
        child = self.spawn(name, command)
        if not wait_until(lambda: not child.alive, seconds=seconds):
            child.kill()
        if child.status != 0:
            raise CommandFailed(
                f"'{name}' ended with status {child.status}: {child.tail()}",
                "the end of its log above says what is missing",
            )

    def request(self, **request: object) -> dict[str, Any]:
        """Send one request and return its reply; ``CommandFailed`` when the supervisor refuses."""
        with self._lock:
            self._requests += 1
            number = self._requests
            try:
                self._connection.sendall(json.dumps({**request, "id": number}).encode() + b"\n")
                reply = self._reply(number)
            except (OSError, ValueError) as exc:
                raise CommandFailed(
                    "the supervisor of the embedded servers is gone", "start them again"
                ) from exc
        if "error" in reply:
            raise CommandFailed(f"an embedded server cannot be handled: {reply['error']}")
        return reply

    def _reply(self, number: int) -> dict[str, Any]:
        """Read replies up to the one wanted: an interrupted request leaves its own behind."""
        while True:
            line = self._replies.readline()
            if not line:
                raise ConnectionResetError
            reply: dict[str, Any] = json.loads(line)
            if reply["id"] == number:
                return reply

    def close(self) -> None:
        """End all servers and remove the folder; calling it again does nothing."""
        if os.getpid() != self._owner:
            # A forked child leaves its parent's servers alone.
            return
        with suppress(OSError):
            # Wakes up threads that wait for a reply.
            self._connection.shutdown(socket.SHUT_RDWR)
        self._replies.close()
        self._connection.close()
        try:
            self._process.wait(timeout=CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=CLOSE_TIMEOUT)
        # A supervisor that was itself killed leaves its folder behind.
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(slots=True, kw_only=True)
class Child:
    """One process that the supervisor started, and started again if ``start_again`` was called."""

    supervisor: Supervisor
    pid: int
    name: str
    log: Path
    command: Command

    def start_again(self) -> None:
        """Start the program anew after its process has ended; nothing waits until it is ready."""
        self.pid = self.supervisor.start_program(self.command, self.log)

    @property
    def status(self) -> int | None:
        """The exit status, negative after a signal; None while the process runs."""
        status: int | None = self.supervisor.request(do="poll", pid=self.pid)["status"]
        return status

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.status is None

    def send(self, number: signal.Signals, *, tree: bool = False) -> None:
        """Send a signal to the process or, with ``tree``, to all that descends from it too."""
        self.supervisor.request(do="signal", pid=self.pid, signal=int(number), tree=tree)

    def stop(self, number: signal.Signals | None = None, *, seconds: float = 10.0) -> None:
        """Ask the process to end; kill its tree when it has not after ``seconds``."""
        self.send(self.command.gentle if number is None else number)
        if not wait_until(lambda: not self.alive, seconds=seconds):
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL to the whole tree and wait until the process is gone."""
        self.send(signal.SIGKILL, tree=True)
        if not wait_until(lambda: not self.alive, seconds=REQUEST_TIMEOUT):
            raise CommandFailed(f"process {self.pid} of '{self.name}' cannot be killed")

    def tail(self) -> str:
        """Return the end of the log on one line."""
        try:
            text = self.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
        except FileNotFoundError:
            return "no output"
        return " | ".join(text.split("\n")).strip(" |") or "no output"

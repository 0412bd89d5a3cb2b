"""The supervisor of one set of embedded servers: a program of its own, standard library only.

It is started as ``python -I -S supervisor.py BASE PARENT`` with a socket to its parent as standard
input. It makes one private folder below ``BASE``, starts servers when asked, and waits. When the
socket closes or the parent is gone, for whatever reason, SIGKILL included, it ends every process
that descends from it, removes the shared memory these left and removes the folder. There is no
other way of cleaning up, so the way that tests use every day is the one that a killed parent needs.

Requests and replies are JSON objects, one per line; ``child.py`` holds the other end. Nothing of
pgben may be imported here: the program runs isolated and starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
IPC_RMID: Final = 0
#: How often (seconds) the parent's existence is checked: a forked child of the parent may hold
#: the other end of the socket open, and then its closing alone would never be seen.
PARENT_CHECK_SECONDS: Final = 0.5
#: How long (seconds) servers may take to end after their gentle signal, and after SIGKILL.
_STOP_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.02


class _Child:
    """One started server, with the signal that asks it to end."""

    def __init__(self, process: subprocess.Popen[bytes], gentle: int) -> None:
        self.process = process
        self.gentle = gentle
        self.status: int | None = None


class Supervisor:
    """Starts servers, and ends all of them and what descends from them."""

    def __init__(self, folder: Path, libc: ctypes.CDLL | None) -> None:
        """Look after ``folder``; ``libc`` is None where Linux's process controls do not exist."""
        self._folder = folder
        self._libc = libc
        self._children: dict[int, _Child] = {}
        self._killed: set[int] = set()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request of the parent; a failure is returned as an error."""
        self.reap()
        actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "start": self._start,
            "signal": self._signal,
            "poll": self._poll,
        }
        try:
            reply = actions[request["do"]](request)
        except (OSError, subprocess.SubprocessError, ValueError, KeyError) as exc:
            reply = {"error": f"{type(exc).__name__}: {exc}"}
        return {"id": request["id"], **reply}

    def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        user: int | None = request["user"]
        gentle: int = request["gentle"]
        supervisor, libc = os.getpid(), self._libc

        def die_with_supervisor() -> None:
            if libc is not None:
                libc.prctl(PR_SET_PDEATHSIG, gentle)
                if os.getppid() != supervisor:
                    os._exit(1)

        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(  # noqa: S603  # argv comes from our own parent
                request["argv"],
                env=request["env"],
                cwd=request["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=user,
                group=request["group"],
                extra_groups=None if user is None else [],
                # This process has one thread, so code between fork and exec is safe.
                preexec_fn=die_with_supervisor,  # noqa: PLW1509
            )
        finally:
            os.close(log)
        self._children[process.pid] = _Child(process, gentle)
        return {"pid": process.pid}

    def _signal(self, request: dict[str, Any]) -> dict[str, Any]:
        child = self._children[request["pid"]]
        if child.status is None:
            tree = self._descendants(child.process.pid) if request["tree"] else []
            # The parent first: a running postmaster would start its helpers anew.
            for pid in (child.process.pid, *tree):
                self._kill(pid, request["signal"])
        return {}

    def _poll(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"status": self._children[request["pid"]].status}

    def reap(self) -> None:
        """Collect ended children, adopted orphans included, so that none stays a zombie."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.get(pid)
            if child is not None:
                child.status = child.process.returncode = os.waitstatus_to_exitcode(status)

    def end(self) -> None:
        """End every server and whatever descends from this process, then remove all traces."""
        for pid, child in self._children.items():
            if child.status is None:
                self._kill(pid, child.gentle)
        for _ in self._until(_STOP_SECONDS):
            if all(child.status is not None for child in self._children.values()):
                break
        for _ in self._until(_STOP_SECONDS):
            remaining = self._descendants(os.getpid())
            if not remaining:
                break
            for pid in remaining:
                self._kill(pid, signal.SIGKILL)
        self._remove_shared_memory()
        for _ in self._until(_STOP_SECONDS):
            shutil.rmtree(self._folder, ignore_errors=True)
            if not self._folder.exists():
                break

    def _until(self, seconds: float) -> Iterator[None]:
        """Reap and yield every few milliseconds until the time is up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.reap()
            yield
            time.sleep(_POLL_SECONDS)

    def _kill(self, pid: int, number: int) -> None:
        self._killed.add(pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

    def _descendants(self, root: int) -> list[int]:
        """Return every running process below ``root``, with orphans, which this process adopts."""
        parents: dict[int, int] = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # The command's name stands in parentheses and may hold spaces.
                state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(entry.parent.name)] = int(parent)
        if not parents:
            return [pid for pid, child in self._children.items() if child.status is None]
        found: list[int] = []
        level = {root}
        while level:
            level = {pid for pid, parent in parents.items() if parent in level}
            found += level
        return found

    def _remove_shared_memory(self) -> None:
        """Remove the System V segments that killed postmasters left, which outlive processes."""
        table = Path("/proc/sysvipc/shm")
        if self._libc is None or not table.exists():
            return
        for line in table.read_text().splitlines()[1:]:
            _key, segment, _mode, _size, creator, _last, attached = line.split()[:7]
            if attached == "0" and int(creator) in self._killed | self._children.keys():
                self._libc.shmctl(int(segment), IPC_RMID, None)


def serve(connection: socket.socket, supervisor: Supervisor, parent: int) -> None:
    """Answer requests until the connection closes or the parent is gone."""
    connection.settimeout(PARENT_CHECK_SECONDS)
    waiting = b""
    while os.getppid() == parent:
        try:
            received = connection.recv(1 << 16)
        except TimeoutError:
            supervisor.reap()
            continue
        except ConnectionError:
            return
        if not received:
            return
        *lines, waiting = (waiting + received).split(b"\n")
        for line in lines:
            reply = supervisor.answer(json.loads(line))
            connection.sendall(json.dumps(reply).encode() + b"\n")


def _linux() -> ctypes.CDLL | None:
    """Adopt orphans of this process's descendants, and return the C library; None elsewhere."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    return libc


def _leave(*_: object) -> None:
    raise SystemExit


def main() -> None:
    """Run until the parent is gone, then clean up."""
    # Handlers instead of SIG_IGN, because a started program would inherit that.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGTERM, _leave)
    base, parent = Path(sys.argv[1]), int(sys.argv[2])
    with socket.socket(fileno=0) as connection:
        folder = Path(tempfile.mkdtemp(prefix="pgben-", dir=base))
        supervisor = Supervisor(folder, _linux())
        try:
            # Root's PostgreSQL runs as another user, who must be able to pass through.
            folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
            hello = {"id": 0, "folder": str(folder)}
            with contextlib.suppress(ConnectionError):
                connection.sendall(json.dumps(hello).encode() + b"\n")
                serve(connection, supervisor, parent)
        finally:
            signal.signal(signal.SIGTERM, lambda *_: None)
            supervisor.end()


if __name__ == "__main__":
    main()

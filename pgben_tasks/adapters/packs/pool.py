"""A few child processes that seal and open packs, kept running, one caller at a time.

The parent-death signal fires when the *thread* that started a child ends, so all children are
started by one thread that lives as long as the pool, whoever asks.
"""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import IO, Any, Final

import pgben_tasks
from pgben_tasks import errors
from pgben_tasks.errors import PermanentError, PgbenError, TransientError

#: How many packs are sealed or opened at a time; each has a child of its own.
PACK_CHILDREN: Final = 2
#: A child reports at least once a MiB; silence this long (seconds) means that its disk hangs.
_SILENCE_SECONDS: Final = 600.0
#: Seconds a child may take to start, and to end once its input has ended.
_START_LIMIT: Final = 60.0
_STOP_LIMIT: Final = 5.0
_READ_SIZE: Final = 64 * 1024
#: The variables of the environment that a child inherits.
_KEPT_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
_ERRORS: Final[dict[str, type[PgbenError]]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, PgbenError)
}


class PackPool:
    """Starts children when they are first needed and replaces those that died."""

    def __init__(self, children: int) -> None:
        """Allow ``children`` at once; none is started yet."""
        self._children = children
        self._lock = Lock()
        self._reset()

    def ask(self, request: dict[str, Any], advance: Callable[[int], None]) -> dict[str, Any]:
        """Return a child's answer to one request; waits for a free child.

        Raises the error that the child reports, ``TransientError`` when it dies, and whatever
        ``advance`` raises; in the last two cases the child is ended.
        """
        self._follow_fork()
        with self._free:
            child = self._take()
            try:
                answer = child.converse(request, advance)
            except BaseException:
                child.end()
                raise
            self._idle.put(child)
        if "error" in answer:
            name, sentence, hint = answer["error"]
            raise _ERRORS.get(name, PermanentError)(sentence, hint)
        done: dict[str, Any] = answer["done"]
        return done

    def end_spare_children(self) -> None:
        """End all idle children but one: several packs at a time are the exception."""
        self._follow_fork()
        kept: _Child | None = None
        with suppress(queue.Empty):
            while True:
                child = self._idle.get_nowait()
                if kept is None:
                    kept = child
                else:
                    child.finish()
        if kept is not None:
            self._idle.put(kept)

    def close(self) -> None:
        """End all idle children and the thread that started them."""
        self._follow_fork()
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().finish()
        self._starter.shutdown(wait=True)
        self._reset()

    def _reset(self) -> None:
        self._owner = os.getpid()
        self._idle: queue.LifoQueue[_Child] = queue.LifoQueue()
        self._free = BoundedSemaphore(self._children)
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pack-starter")

    def _follow_fork(self) -> None:
        """Begin anew in a forked process: threads and children stayed with the parent."""
        with self._lock:
            if self._owner != os.getpid():
                self._reset()

    def _take(self) -> _Child:
        with suppress(queue.Empty):
            while True:
                child = self._idle.get_nowait()
                if child.alive:
                    return child
                child.end()
        return self._starter.submit(_Child).result(timeout=_START_LIMIT)


class _Child:
    """One child process and the lines between it and us."""

    def __init__(self) -> None:
        self._process = _start()
        self._unread = b""

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def converse(self, request: dict[str, Any], advance: Callable[[int], None]) -> dict[str, Any]:
        """Send a request, pass progress on, return the final answer."""
        line = memoryview(json.dumps(request).encode() + b"\n")
        try:
            while line:
                line = line[os.write(_pipe(self._process.stdin), line) :]
        except OSError as exc:
            raise self._died() from exc
        while True:
            message: dict[str, Any] = json.loads(self._line())
            if "advance" not in message:
                return message
            advance(message["advance"])

    def finish(self) -> None:
        """End an idle child by the end of its input; wait for it."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_STOP_LIMIT)
        self.end()

    def end(self) -> None:
        """Kill the child, wait for it, close its pipes."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_STOP_LIMIT)

    def _line(self) -> bytes:
        answers = _pipe(self._process.stdout)
        poll = select.poll()
        poll.register(answers, select.POLLIN)
        while b"\n" not in self._unread:
            if not poll.poll(_SILENCE_SECONDS * 1000):
                raise TransientError(
                    f"the process that makes packs said nothing for {_SILENCE_SECONDS:.0f} seconds",
                    "look at the disk of the spool",
                )
            data = os.read(answers, _READ_SIZE)
            if not data:
                raise self._died()
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _died(self) -> TransientError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_STOP_LIMIT)
        status = self._process.poll()
        said = b""
        if status is not None and self._process.stderr is not None:
            said = self._process.stderr.read(_READ_SIZE).strip().rpartition(b"\n")[2]
        last = f": {said[:200].decode(errors='replace')}" if said else ""
        return TransientError(
            f"the process that makes packs ended with status {status}{last}",
            "a signal or lack of memory ends it; start the job again",
        )


def _pipe(stream: IO[bytes] | None) -> int:
    if stream is None:
        message = "the child was started without pipes"
        raise RuntimeError(message)
    return stream.fileno()


def _start() -> subprocess.Popen[bytes]:
    root = Path(pgben_tasks.__file__).parent.parent
    environment = {
        name: value
        for name, value in os.environ.items()
        # Coverage is measured in the children, too.
        if name in _KEPT_ENVIRONMENT or name.startswith("COVERAGE_")
    }
    # No module of the working directory is imported by the child; its search path is ours.
    environment |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(root), "PYTHONUTF8": "1"}
    return subprocess.Popen(  # noqa: S603  # our own module, no shell, no outside input
        [sys.executable, "-m", "pgben_tasks.adapters.packs.child", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        # A Ctrl-C in the terminal is for the parent; the child ends with it in good order.
        process_group=0,
    )

"""Runs a child program so that it never outlives us and its failure is never missed.

What programs mean and how their arguments are built lives elsewhere. A child is started through
``process_exec.py``, which ties it to the thread that calls ``run``; that thread waits here until
the child has ended, so any thread that is not itself abandoned will do, and the main thread of a
worker process is the one to use.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Final, Literal

from pgben_tasks.errors import CommandFailed, PgbenError

Stdout = Literal["drop", "capture", "join"]

_WRAPPER: Final = Path(__file__).with_name("process_exec.py").resolve()
#: Seconds between two calls of ``check``, and between two looks at a child that closed stderr.
_CHECK_EVERY: Final = 0.25
_POLL_EVERY: Final = 0.01
_READ_SIZE: Final = 65536
#: How long a group may take to end after SIGTERM.
_GRACE: Final = timedelta(seconds=5)
_TAIL_LINES: Final = 200
_LINE_CHARACTERS: Final = 2000
_SHOWN_LINES: Final = 5
_SECRET_ENDINGS: Final = ("PASSWORD", "PASS", "SECRET", "SECRET_KEY", "TOKEN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a child ended: negative ``returncode`` is the signal that killed it.

    ``stderr_tail`` holds the last lines of its error stream (and of its other output, where that
    was joined), scrubbed of every secret that stood in its environment; ``stdout`` is empty unless
    it was asked for.
    """

    program: str
    returncode: int
    stderr_tail: tuple[str, ...]
    stdout: bytes


def run(  # Each argument is one fact about the child; none has a partner.
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    timeout: timedelta,
    check: Callable[[], None] | None = None,
    on_line: Callable[[str], None] | None = None,
    stdout: Stdout = "drop",
    explain: Callable[[Completed], PgbenError | None] | None = None,
) -> Completed:
    """Run ``argv`` (an absolute program first) to its end and return how it ended.

    ``env`` is the child's whole environment. ``check`` is called about four times a second; what
    it raises stops the child and goes on to the caller. ``on_line`` gets each line of standard
    error, in the calling thread. Standard output is dropped, captured, or joined to standard error.
    Every process of the child's group has been killed when this returns or raises. A status other
    than 0 raises what ``explain`` makes of it, else ``CommandFailed``; so does a child that runs
    longer than ``timeout``.
    """
    child = _Child(argv, env=env, cwd=cwd, stdout=stdout)
    try:
        returncode = child.wait(timeout=timeout, check=check, on_line=on_line)
    except BaseException:
        child.stop()
        raise
    completed = Completed(
        program=Path(argv[0]).name,
        returncode=returncode,
        stderr_tail=tuple(child.tail),
        stdout=b"".join(child.stdout),
    )
    if returncode != 0:
        raise (explain(completed) if explain else None) or failure(completed)
    return completed


def failure(
    completed: Completed, *, lines: Sequence[str] | None = None, hint: str = ""
) -> CommandFailed:
    """Return a child's failure as an error; ``lines`` replaces the last lines of its stderr."""
    how = (
        f"ended with status {completed.returncode}"
        if completed.returncode > 0
        else f"was killed by {_signal_name(-completed.returncode)}"
    )
    words = " | ".join(completed.stderr_tail[-_SHOWN_LINES:] if lines is None else lines)
    said = f": {words}" if words else " without a word"
    return CommandFailed(f"'{completed.program}' {how}{said}", hint)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Child:
    """One started child, its group and the threads that empty its pipes."""

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: Stdout
    ) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.stdout: list[bytes] = []
        self._name = Path(argv[0]).name
        self._secrets = _secrets(env)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._silent = False
        wrapper = [sys.executable, "-I", "-S", str(_WRAPPER), str(os.getpid())]
        self._popen = subprocess.Popen(  # noqa: S603  # Arguments are built by adapters, no shell.
            [*wrapper, *argv],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if stdout == "drop" else subprocess.PIPE,
            stderr=subprocess.STDOUT if stdout == "join" else subprocess.PIPE,
            start_new_session=True,
        )
        drain_stdout = self._drain_lines if stdout == "join" else self._drain_stdout
        self._drains = [
            (pipe, threading.Thread(target=drain, args=(pipe,), daemon=True))
            for drain, pipe in (
                (self._drain_lines, self._popen.stderr),
                (drain_stdout, self._popen.stdout),
            )
            if pipe is not None
        ]
        for _, thread in self._drains:
            thread.start()

    def wait(
        self,
        *,
        timeout: timedelta,
        check: Callable[[], None] | None,
        on_line: Callable[[str], None] | None,
    ) -> int:
        """Follow the child to its end; return its status."""
        deadline = time.monotonic() + timeout.total_seconds()
        next_check = 0.0
        while (status := self._status()) is None:
            now = time.monotonic()
            if now >= deadline:
                raise CommandFailed(
                    f"'{self._name}' did not end within {timeout} and was stopped",
                    "look at what the server was busy with, or raise the time limit",
                )
            if check is not None and now >= next_check:
                check()
                next_check = time.monotonic() + _CHECK_EVERY
            self._take_lines(_CHECK_EVERY, on_line)
        self._end_group()
        self._take_lines(0, on_line)
        return status

    def stop(self) -> None:
        """End the whole group: politely, so that servers hear of it, then by force."""
        self._signal_group(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE.total_seconds()
        while time.monotonic() < deadline and self._alive():
            time.sleep(0.02)
        self._end_group()

    def _alive(self) -> bool:
        try:
            return self._status() is None
        except CommandFailed:
            return False

    def _status(self) -> int | None:
        """Return the leader's status if it has ended, without reaping it: its group id stays ours.

        ``Popen`` takes a status that somebody else collected for 0; here that is a failure.
        """
        try:
            ended = os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError as exc:
            raise CommandFailed(
                f"the exit status of '{self._name}' was lost",
                "something in this process ignores SIGCHLD or waits for children it does not own",
            ) from exc
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _end_group(self) -> None:
        """Kill what is left of the group, collect the leader, let the pipes run dry."""
        self._signal_group(signal.SIGKILL)
        self._popen.wait()
        for _, thread in self._drains:
            thread.join(timeout=_GRACE.total_seconds())
        for pipe, thread in self._drains:
            # A pipe that a process outside the group still holds is left to its thread.
            if not thread.is_alive():
                pipe.close()

    def _signal_group(self, number: signal.Signals) -> None:
        # Until the leader is collected, no other group can have its id.
        if self._popen.returncode is None:
            try:
                os.killpg(self._popen.pid, number)
            except (ProcessLookupError, PermissionError):
                # Nothing is left in the group, or only zombies (macOS answers EPERM for those).
                return

    def _take_lines(self, seconds: float, on_line: Callable[[str], None] | None) -> None:
        """Hand over the lines that came; wait up to ``seconds`` for the first.

        The end of the stream wakes this at once, because mostly the child ends with it.
        """
        if self._silent:
            time.sleep(min(seconds, _POLL_EVERY))
            return
        try:
            line = self._lines.get(timeout=seconds) if seconds else self._lines.get_nowait()
            while line is not None:
                self.tail.append(line)
                if on_line is not None:
                    on_line(line)
                line = self._lines.get_nowait()
            self._silent = True
        except queue.Empty:
            return

    def _drain_lines(self, pipe: IO[bytes]) -> None:
        begins = True
        for raw in iter(lambda: pipe.readline(_READ_SIZE), b""):
            if begins:
                line = raw.decode(errors="backslashreplace").rstrip("\r\n")
                self._lines.put(_scrub(line, self._secrets)[:_LINE_CHARACTERS])
            # The rest of a longer line is left out: it may begin inside a secret.
            begins = raw.endswith(b"\n")
        self._lines.put(None)

    def _drain_stdout(self, pipe: IO[bytes]) -> None:
        self.stdout.extend(iter(lambda: pipe.read(_READ_SIZE), b""))


def _secrets(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values in ``env`` that must never be shown, longest first."""
    values = {value for name, value in env.items() if name.endswith(_SECRET_ENDINGS) and value}
    return tuple(sorted(values, key=len, reverse=True))


def _scrub(line: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        line = line.replace(secret, "***")
    return line

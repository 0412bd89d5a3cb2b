"""How much processor time and memory trees of processes take, read from /proc. Linux only."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

PROC: Final = Path("/proc")
#: Seconds between two looks at memory: looking takes some of the time that is measured.
_POLL_SECONDS: Final = 0.25
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def measure_program(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdout: int | None = None,
    stderr: int | None = None,
) -> tuple[float, Meter]:
    """Run a program to its end; return its wall seconds and what it took."""
    began = time.perf_counter()
    with subprocess.Popen(argv, env=environment, stdout=stdout, stderr=stderr) as process:
        with Meter(process.pid) as meter:
            # Not collected yet, so that its figures can still be read.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            seconds = time.perf_counter() - began
        if process.wait() != 0:
            raise SystemExit(f"'{argv[0]}' ended with status {process.returncode}")
    return seconds, meter


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    #: User and system seconds, with those of ended children that it waited for.
    cpu: float
    #: Resident bytes.
    memory: int


class Meter:
    """Measures the tree below ``root`` from entering to leaving.

    ``cpu`` are seconds of all its processes, those that ended included; ``peak`` is the largest
    sum of their resident memory that was seen, in bytes. Pages that processes share are counted in
    each of them, so it errs on the high side.
    """

    def __init__(self, root: int) -> None:
        """Prepare to measure the process ``root`` and all that descends from it."""
        self._root = root
        self._begun = 0.0
        self.cpu = 0.0
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._begun, self.peak = _usage(self._root)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; the figures are there from now on."""
        self._stop.set()
        self._thread.join()
        self.cpu = _usage(self._root)[0] - self._begun

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self.peak = max(self.peak, _usage(self._root)[1])


def _usage(root: int) -> tuple[float, int]:
    """Return the sums of processor seconds and resident bytes of a tree."""
    processes = dict(_processes())
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    tree = [root]
    for pid in tree:
        tree.extend(children.get(pid, ()))
    found = [processes[pid] for pid in tree if pid in processes]
    return sum(one.cpu for one in found), sum(one.memory for one in found)


def _processes() -> Iterator[tuple[int, _Process]]:
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in parentheses may hold anything, so what follows its end is read.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        cpu = sum(int(ticks) for ticks in fields[11:15]) / _TICKS
        yield int(entry.name), _Process(int(fields[1]), cpu, int(fields[21]) * _PAGE)

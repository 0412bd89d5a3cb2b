"""``pg_dump -Fd -j2`` alone, with the chain's client and compression: the yardstick."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import Final

from benchmarks.meter import Meter
from benchmarks.places import Ground
from benchmarks.rounds import Measured

JOBS: Final = 2


class PlainDump:
    """Dumps into a folder; nothing is counted, checked, sealed, stored or even flushed to disk."""

    name = f"pg_dump -Fd -j{JOBS}"

    def __init__(self, on: Ground) -> None:
        """Dump the database of ``on``."""
        self._on = on

    def run(self) -> Measured:
        """Dump once."""
        destination = self._on.folder / "plain-dump"
        tools = self._on.client
        argv = (
            *(str(tools.pg_dump), "--format=directory", f"--jobs={JOBS}"),
            *(f"--compress={tools.compression}", "--no-sync", f"--file={destination}"),
        )
        began = time.perf_counter()
        with subprocess.Popen(argv, env=self._on.connection()) as process:
            with Meter(process.pid) as meter:
                # Not collected yet, so that its figures can still be read.
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                seconds = time.perf_counter() - began
            if process.wait() != 0:
                raise SystemExit(f"pg_dump ended with status {process.returncode}")
        stored = sum(path.stat().st_size for path in destination.iterdir())
        shutil.rmtree(destination)
        return Measured(seconds=seconds, cpu=meter.cpu, memory=meter.peak, stored=stored)

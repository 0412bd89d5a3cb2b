"""``pg_dump -Fd -j2`` alone, with the chain's client and compression: the yardstick."""

from __future__ import annotations

import shutil
from typing import Final

from benchmarks.meter import measure_program
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
        seconds, meter = measure_program(argv, self._on.connection())
        stored = sum(path.stat().st_size for path in destination.iterdir())
        shutil.rmtree(destination)
        return Measured(seconds=seconds, cpu=meter.cpu, memory=meter.peak, stored=stored)

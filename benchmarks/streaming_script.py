"""The fastest backup one could script: ``pg_dump -Fd -j2``, each file uploaded once it is finished.

Nothing is counted, hashed, packed, sealed or committed, and no roles are kept. What it takes beside
``pg_dump`` alone is the price of the S3 server on the same processors: no chain can be below it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.places import Ground
from benchmarks.plain_dump import JOBS
from benchmarks.rounds import Measured
from benchmarks.script import location_of, run_program, store_at

_DONE: Final = re.compile(r"finished item (\d+) TABLE DATA")


class StreamingScript:
    """Runs the program; what it stored is removed again, unmeasured."""

    name = f"pg_dump -Fd -j{JOBS}, upload beside"

    def __init__(self, on: Ground) -> None:
        """Back up the database of ``on`` to its S3 server."""
        self._on = on
        self._location = location_of(on, prefix="streaming")

    def run(self) -> Measured:
        """Run it once."""
        tools = self._on.client
        dump = self._on.folder / "streamed-dump"
        order = {
            "argv": [
                *(str(tools.pg_dump), "--format=directory", f"--jobs={JOBS}", "--verbose"),
                *(f"--compress={tools.compression}", "--no-sync", f"--file={dump}"),
            ],
            "dump": str(dump),
            "suffix": ".dat" if tools.compression == "none" else ".dat.zst",
            "location": self._location,
        }
        figures, memory = run_program("benchmarks.streaming_script", self._on, order)
        stored = sum(path.stat().st_size for path in dump.iterdir())
        store = store_at(self._location)
        for path in dump.iterdir():
            store.delete(path.name)
        shutil.rmtree(dump)
        return Measured(
            seconds=figures["seconds"], cpu=figures["cpu"], memory=memory, stored=stored
        )


def main() -> None:
    """Dump and upload; write how long it took and what processor time it cost."""
    order = json.load(sys.stdin)
    dump = Path(order["dump"])
    store = store_at(order["location"])
    spent = sum(os.times()[:4])
    began = time.perf_counter()
    stored = set()
    with ThreadPoolExecutor(2) as pool:
        with subprocess.Popen(order["argv"], stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr or ():
                if found := _DONE.search(line):
                    name = found[1] + order["suffix"]
                    stored.add(name)
                    pool.submit(store.put_file, name, dump / name)
        if process.returncode != 0:
            raise SystemExit(process.returncode)
        for path in dump.iterdir():
            if path.name not in stored:
                pool.submit(store.put_file, path.name, path)
    json.dump(
        {"seconds": time.perf_counter() - began, "cpu": sum(os.times()[:4]) - spent}, sys.stdout
    )


if __name__ == "__main__":
    main()

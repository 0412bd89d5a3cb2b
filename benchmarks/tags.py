"""A night without changes on a server that keeps tags: with all of them read, and with few."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.chain import Chain
from benchmarks.documents import BUCKET, WARM_UP, Documents
from benchmarks.meter import measure_program
from benchmarks.places import Installation, servers
from benchmarks.report import Bar, Part, verdicts
from benchmarks.rounds import Measured, run_rounds

WITH: Final = "snapshot, nothing changed, all tags read"
WITHOUT: Final = "snapshot, nothing changed, tags for 1 s"
SCRIPT: Final = "script with minio-py, all tags read"
_BARS: Final = (Bar(subject=WITH, yardstick=SCRIPT, most=1.00),)
_ROOT: Final = Path(__file__).parents[1]


class _Script:
    """The script, which stores nothing and only prints what it read."""

    name = SCRIPT

    def __init__(self, documents: Documents) -> None:
        """Read the tags of ``documents``."""
        self._documents = documents

    def run(self) -> Measured:
        """Run it once."""
        server = self._documents.server
        environment = {
            "PATH": os.defpath,
            "PYTHONPATH": str(_ROOT),
            "ENDPOINT": server.endpoint,
            "ACCESS_KEY": server.access_key,
            "SECRET_KEY": server.secret_key,
        }
        argv = (sys.executable, "-m", "benchmarks.tags_script", BUCKET)
        seconds, meter = measure_program(argv, environment, stdout=subprocess.DEVNULL)
        return Measured(seconds=seconds, cpu=meter.cpu, memory=meter.peak, stored=0)


def measure(objects: int, rounds: int, *, tell: Callable[[str], None]) -> Part:
    """Fill a bucket with ``objects``, a third of them with a tag, and measure unchanged nights."""
    tell(f"filling a bucket with {objects} documents with tags …")
    with servers() as on:
        documents = Documents.make(objects, on.stack.supervisor, tagged=True)
        nights = []
        for name, label, settings in (
            ("tags", WITH, {}),
            ("fewtags", WITHOUT, {"PGBEN_TAG_BUDGET": "1s"}),
        ):
            at = Installation.make(on, name, **documents.settings(), **settings)
            for bucket in (WARM_UP, BUCKET):
                Chain(label, at, f"bucket/{bucket}").run()
            nights.append(Chain(label, at, f"bucket/{BUCKET}"))
        # What runs first is not measured: it fetches what was stored minutes ago once more.
        documents.settle()
        found = run_rounds([*nights, _Script(documents)], rounds, tell=tell)
    return Part(
        title=f"{objects} objects, a third with a tag, on ministack; {rounds} rounds",
        found=found,
        judged=verdicts(_BARS, found),
        facts={"objects": objects, "rounds": rounds},
    )

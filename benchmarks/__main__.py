"""Runs the benchmark: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.chain import Chain
from benchmarks.meter import PROC
from benchmarks.places import Installation, ground
from benchmarks.plain_dump import PlainDump
from benchmarks.report import MEBIBYTE, Bar, document, lines, machine, verdicts
from benchmarks.rounds import Subject, run_rounds
from benchmarks.script import Script
from benchmarks.streaming_script import StreamingScript

SEALED: Final = "chain, sealed"
UNSEALED: Final = "chain, unsealed"
#: What the project promises (docs/performance.md).
BARS: Final = (
    Bar(subject=SEALED, yardstick=PlainDump.name, most=1.30),
    Bar(subject=UNSEALED, yardstick=PlainDump.name, most=1.15),
    Bar(subject=SEALED, yardstick=Script.name, most=1.00),
    Bar(subject=UNSEALED, yardstick=Script.name, most=1.00),
)

_EXAMPLES: Final = """
examples:
  make bench
  make bench ARGS="--megabytes 200 --rounds 3"
  make bench ARGS="--json bench.json"
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure backups against pg_dump alone and against a script, and say whether bars hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=main.__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the database (1000)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    asked = parser.parse_args(arguments)
    if asked.megabytes < 1 or asked.rounds < 1:
        parser.error("sizes and rounds are at least 1")
    if not (PROC / "self" / "stat").exists():
        parser.error("processor time and memory are read from /proc, which this system lacks")
    _tell(f"filling a database of about {asked.megabytes} MB …")
    began = time.monotonic()
    with ground(asked.megabytes) as on:
        subjects: list[Subject] = [
            PlainDump(on),
            Chain(SEALED, Installation.make(on, "sealed")),
            Chain(UNSEALED, Installation.make(on, "unsealed", PGBEN_ENCRYPTION="off")),
            Script(on),
            StreamingScript(on),
        ]
        found = run_rounds(subjects, asked.rounds, tell=_tell)
        judged = verdicts(BARS, found)
        facts = {
            "database_bytes": on.filled.bytes,
            "tables": on.filled.tables,
            "rows": on.filled.rows,
            "server": on.stack.postgres.version,
            "client": on.client.version,
            "compression": on.client.compression,
            "rounds": asked.rounds,
        }
    here = machine()
    print(
        f"\n{facts['database_bytes'] / MEBIBYTE:.0f} MiB, {facts['tables']} tables, "
        f"{facts['rows']} rows; PostgreSQL {facts['server']}, pg_dump {facts['client']}, "
        f"{facts['compression']}; {here['processors']} processors ({here['model']}), "
        f"{here['memory_bytes'] / 1024**3:.0f} GiB of memory, Python {here['python']}; "
        f"{asked.rounds} rounds, {time.monotonic() - began:.0f} s in all\n"
    )
    for line in lines(found, judged):
        print(line)
    if asked.json is not None:
        text = json.dumps(document(found, judged, **facts), indent=2)
        asked.json.write_text(text + "\n", encoding="utf-8")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

"""Backups of a database against ``pg_dump`` alone and against scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks.chain import Chain
from benchmarks.places import Installation, ground
from benchmarks.plain_dump import PlainDump
from benchmarks.report import MEBIBYTE, Bar, Part, verdicts
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


def measure(megabytes: int, rounds: int, *, tell: Callable[[str], None]) -> Part:
    """Fill a database with about ``megabytes`` and back it up in every way."""
    tell(f"filling a database of about {megabytes} MB …")
    with ground(megabytes) as on:
        subjects: list[Subject] = [
            PlainDump(on),
            Chain(SEALED, Installation.make(on, "sealed")),
            Chain(UNSEALED, Installation.make(on, "unsealed", PGBEN_ENCRYPTION="off")),
            Script(on),
            StreamingScript(on),
        ]
        found = run_rounds(subjects, rounds, tell=tell)
        facts = {
            "database_bytes": on.filled.bytes,
            "tables": on.filled.tables,
            "rows": on.filled.rows,
            "server": on.stack.postgres.version,
            "client": on.client.version,
            "compression": on.client.compression,
            "rounds": rounds,
        }
    return Part(
        title=(
            f"{on.filled.bytes / MEBIBYTE:.0f} MiB, {facts['tables']} tables, "
            f"{facts['rows']} rows; PostgreSQL {facts['server']}, pg_dump {facts['client']}, "
            f"{facts['compression']}; {rounds} rounds"
        ),
        found=found,
        judged=verdicts(BARS, found),
        facts=facts,
    )

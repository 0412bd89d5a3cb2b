"""Runs the benchmarks: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import bucket, churn, client, digests, memory, postgres, restore, tags
from benchmarks.meter import PROC
from benchmarks.report import Part, document, lines, machine

_PARTS: Final = (
    "postgres",
    "bucket",
    "restore",
    "tags",
    "shared",
    "churn",
    "memory",
    "client",
    "digests",
)

_EXAMPLES: Final = """
parts (all of them unless some are named):
  postgres  backups of a database against pg_dump alone and against scripts
  bucket    snapshots of a bucket against rclone sync
  restore   a database and a bucket brought back against pg_restore and rclone copy
  tags      an unchanged night that reads every tag against a script that does
  shared    a first snapshot that two processes share against one that one makes
  churn     what thirty nights of changes add to a repository
  memory    what snapshots of very many objects, and of a very large one, take of it, and
            to compare as many rows with them
  client    what one request of the buckets' client costs in processor time
  digests   what it costs to ask which objects are new

examples:
  make bench
  make bench ARGS="postgres --megabytes 200 --rounds 3"
  make bench ARGS="bucket --objects 2000 --rounds 3"
  make bench ARGS="restore --rounds 3"
  make bench ARGS="--json bench.json"
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure backups against other ways to make them, and say whether bars hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=main.__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(_PARTS))
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the database (1000)")
    parser.add_argument("--objects", type=int, default=20_000, help="objects of the bucket (20000)")
    parser.add_argument(
        "--keys", type=int, default=1_000_000, help="keys of the simulated listing (1000000)"
    )
    parser.add_argument(
        "--gibibytes", type=int, default=20, help="size of the one large object (20)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.parts) - set(_PARTS)):
        parser.error(f"there is no part '{unknown[0]}', only {', '.join(_PARTS)}")
    if min(asked.megabytes, asked.objects, asked.keys, asked.gibibytes, asked.rounds) < 1:
        parser.error("sizes and rounds are at least 1")
    if not (PROC / "self" / "stat").exists():
        parser.error("processor time and memory are read from /proc, which this system lacks")
    here = machine()
    print(
        f"{here['processors']} processors ({here['model']}), "
        f"{here['memory_bytes'] / 1024**3:.0f} GiB of memory, Python {here['python']}"
    )
    told: dict[str, Any] = {"machine": here}
    for name in asked.parts or _PARTS:
        began = time.monotonic()
        if name == "churn":
            bytes_ = churn.measure(asked.objects, tell=_tell)
            said, told[name] = [churn.sentence(bytes_)], bytes_
        elif name == "client":
            told[name] = client.measure()
            said = [f"{what}: {each:.3f} ms of processor" for what, each in told[name].items()]
        elif name == "digests":
            told[name] = digests.measure(asked.keys, asked.objects, asked.rounds)
            said = [f"{way}: {each:.2f} s of processor" for way, each in told[name].items()]
        elif name == "memory":
            told[name] = memory.measure(asked.keys, asked.gibibytes, tell=_tell)
            said = [memory.sentence(case, found) for case, found in told[name].items()]
        else:
            part = _part(name, asked)
            said, told[name] = list(lines(part)), document(part)
        print(f"\n{name}, {time.monotonic() - began:.0f} s in all", *said, sep="\n", flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _part(name: str, asked: argparse.Namespace) -> Part:
    """Measure a part that alternates subjects in rounds."""
    if name == "postgres":
        return postgres.measure(asked.megabytes, asked.rounds, tell=_tell)
    if name == "restore":
        return restore.measure(asked.megabytes, asked.objects, asked.rounds, tell=_tell)
    of_buckets = {
        "bucket": bucket.measure,
        "tags": tags.measure,
        "shared": bucket.measure_shared,
    }
    return of_buckets[name](asked.objects, asked.rounds, tell=_tell)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

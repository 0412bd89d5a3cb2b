"""How much memory snapshots take: of very many objects, and of one that is very large.

The operations run in a process of their own, over a bucket that is only computed, on the real
repository, spool and key files. The first snapshot has no inventory before it; the second one has
to sort its listing, to join it with the whole inventory before, and to empty half-used packs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.meter import Meter
from benchmarks.places import Installation, servers
from benchmarks.report import MEBIBYTE
from benchmarks.simulated import SimulatedBucket
from pgben_tasks.contracts import request_model
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.target import Target
from pgben_tasks.operations.toolbox import NoProgress
from pgben_tasks.runtime import Workplace
from pgben_tasks.settings import Settings

#: What the project promises, in bytes.
MOST: Final = 300 * 1000 * 1000
_ROOT: Final = Path(__file__).parents[1]
_NAME: Final = "simulated"


def measure(keys: int, gibibytes: int, *, tell: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Run both; return seconds and the largest memory of the processes, in bytes."""
    found = {}
    with servers() as on:
        cases: dict[str, dict[str, Any]] = {
            f"{keys} keys, two snapshots": {"number": keys, "large": 0, "nights": 2},
            f"one object of {gibibytes} GiB": {
                "number": 0,
                "large": gibibytes * 1024**3,
                "nights": 1,
            },
        }
        for name, case in cases.items():
            at = Installation.prepare(
                on,
                f"memory{case['number']}",
                PGBEN_MINIO_HOST=on.stack.s3.endpoint,
                PGBEN_MINIO_ACCESS_KEY=on.stack.s3.access_key,
                PGBEN_MINIO_SECRET_KEY=on.stack.s3.secret_key,
                PGBEN_BUCKETS=_NAME,
            )
            found[name] = _measured(case, at, on.folder)
            tell(f"{name}: {found[name]['memory'] / MEBIBYTE:.0f} MiB")
    return found


def sentence(name: str, found: Mapping[str, Any]) -> str:
    """Return one line about whether the bar holds."""
    word = "holds" if found["memory"] <= MOST else "is missed"
    return (
        f"{word}: {name} took {found['memory'] / 1e6:.0f} MB of memory and "
        f"{found['seconds']:.0f} s; at most {MOST / 1e6:.0f} MB"
    )


def _measured(case: dict[str, Any], environment: dict[str, str], folder: Path) -> dict[str, Any]:
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.memory"],
        env={**environment, "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.PIPE,
        cwd=folder,
    )
    with Meter(process.pid) as meter:
        process.communicate(json.dumps(case).encode())
    if process.returncode != 0:
        raise SystemExit(f"the snapshots ended with status {process.returncode}")
    return {"seconds": time.monotonic() - began, "memory": meter.peak}


def main() -> None:
    """Take the snapshots that the order on standard input asks for."""
    order = json.load(sys.stdin)
    target = Target("bucket", _NAME)
    bucket = SimulatedBucket(_NAME, number=order["number"], large=order["large"])
    work = Workplace(Settings.load())
    tools = replace(work.tools, buckets={target: bucket})
    request = request_model("backup", str(target)).parse({"target": str(target)})
    for _ in range(order["nights"]):
        job = in_process.new_job(
            "backup", request, target=str(target), node=work.node, now=datetime.now(UTC), context={}
        )
        in_process.Chain(in_process.MemoryRow(job, tools.clock), tools, NoProgress()).run()
        bucket.overwrite()


if __name__ == "__main__":
    main()
